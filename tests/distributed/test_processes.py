"""run_distributed: results, tracebacks, a hard deadline, and no orphan."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
import torch.distributed as dist

from contrastive_ops.testing import run_distributed


def _double(rank: int, x: torch.Tensor) -> torch.Tensor:
    return x * rank


def _fail(rank: int) -> None:
    if rank == 1:
        raise KeyError("the reason")
    dist.barrier()  # would wait forever


def _hang(rank: int, folder: str) -> None:
    child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(600)"])
    Path(folder, f"{rank}").write_text(f"{os.getpid()} {child.pid}")
    time.sleep(600)


def _surroundings(rank: int) -> str:
    print(f"rank {rank} was here", flush=True)
    return os.environ["CONTRASTIVE_OPS_TEST"]


def _alive(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def test_results_come_back_by_rank() -> None:
    results = run_distributed(_double, 2, torch.tensor([1.0, 2.0]))
    assert [r.tolist() for r in results] == [[0.0, 0.0], [1.0, 2.0]]


def test_a_failure_shows_its_traceback_and_frees_the_others() -> None:
    start = time.monotonic()
    with pytest.raises(RuntimeError, match="the reason") as caught:
        run_distributed(_fail, 2)
    assert "rank 1" in str(caught.value)
    assert "KeyError" in str(caught.value)
    assert time.monotonic() - start < 55


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_the_deadline_ends_everything_that_was_started(tmp_path: Path) -> None:
    with pytest.raises(TimeoutError, match="_hang"):  # the stack of the rank that hangs is in the message
        run_distributed(_hang, 1, str(tmp_path), timeout=15)
    assert not any(map(_alive, _started(tmp_path)))


def test_variables_and_output_are_those_of_the_moment(
    monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    for value in ("first", "second"):
        monkeypatch.setenv("CONTRASTIVE_OPS_TEST", value)
        assert run_distributed(_surroundings, 1) == [value]
        assert capfd.readouterr().out == "rank 0 was here\n"


@pytest.mark.skipif(sys.platform != "linux", reason="looks processes up in /proc")
def test_nothing_outlives_the_one_that_started_it(tmp_path: Path) -> None:
    """It cannot clean up after itself when it is killed."""
    script = "from tests.distributed.test_processes import _hang, run_distributed;"
    call = f"run_distributed(_hang, 2, {str(tmp_path)!r}, timeout=100)"
    with subprocess.Popen([sys.executable, "-c", script + call], cwd=Path(__file__).parents[2]) as parent:
        try:
            _wait(lambda: len(_started(tmp_path)) == 4, 60)
        finally:
            parent.kill()
    _wait(lambda: not any(map(_alive, _started(tmp_path))), 10)


def _started(folder: Path) -> list[int]:
    return [int(pid) for file in folder.iterdir() for pid in file.read_text().split()]


def _wait(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.05)


def test_bad_arguments_start_nothing() -> None:
    for call, argument in (
        (lambda: run_distributed("fn", 2), "fn"),
        (lambda: run_distributed(lambda rank: rank, 2), "fn"),
        (lambda: run_distributed(_double, 0), "world_size"),
        (lambda: run_distributed(_double, 2, timeout=-1), "timeout"),
        (lambda: run_distributed(_double, 2, threads=0), "threads"),
    ):
        with pytest.raises((TypeError, ValueError), match=argument):
            call()
