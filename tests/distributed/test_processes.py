"""run_distributed: results, tracebacks, a hard deadline, and no orphan."""

from __future__ import annotations

import os
import subprocess
import sys
import time
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
    for file in tmp_path.iterdir():
        for pid in map(int, file.read_text().split()):
            assert not _alive(pid)


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
