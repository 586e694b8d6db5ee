"""Triton's kernels without a GPU: interpreted against float64, compiled for GPUs, chosen only where they can run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from contrastive_ops import clip_loss, info_nce
from contrastive_ops.kernels import _dispatch, _passes
from tests.benchmarks import gpu, gpu_trainers
from tests.examples.trainers import TRAINERS

ROOT = Path(__file__).parents[2]
SHARED = 99 * 1024  # bytes of shared memory that one program may take on the smallest of these GPUs (8.6, 8.9)
STEPS = ["--preset", "digits", "--device", "cuda", "--precision", "bf16", "--max-steps", "3"]
HALF = ("fp16", 128)  # compiles as bf16 does
needs_triton = pytest.mark.skipif(find_spec("triton") is None, reason="triton is not installed: it comes with CUDA")


def _child(*command: str, seconds: int, **environment: str) -> str:
    """What a process of its own prints; Triton reads its variables when it is imported, and others import it too."""
    together = {**os.environ, "OMP_NUM_THREADS": "1", **environment}
    run = [sys.executable, "-m", *command]
    done = subprocess.run(run, check=False, cwd=ROOT, env=together, capture_output=True, text=True, timeout=seconds)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@needs_triton
def test_the_interpreter_finds_what_float64_finds() -> None:
    command = ("pytest", "-q", "-n", "0", "tests/kernels/interpreted.py", "-x")
    printed = _child(*command, seconds=300, TRITON_INTERPRET="1")
    assert " passed" in printed and " skipped" not in printed


@pytest.mark.slow
@needs_triton
def test_the_interpreter_finds_what_float64_finds_in_more_rows() -> None:
    command = ("pytest", "-q", "-n", "0", "tests/kernels/interpreted.py", "-x", "-m", "slow")
    assert " passed" in _child(*command, seconds=1800, TRITON_INTERPRET="1")


def _compiled(architectures: str, dtype: str, width: int, cache: Path, seconds: int) -> None:
    command = ("tests.kernels.offline", architectures, dtype, str(width))
    lines = [json.loads(line) for line in _child(*command, seconds=seconds, TRITON_CACHE_DIR=str(cache)).splitlines()]
    assert len(lines) == 5 * len(architectures.split(","))
    for line in lines:
        assert line["shared"] <= SHARED and line["bytes"] > 0, line
        assert line["tensor_cores"] == (dtype != "fp32"), line  # float32 products are exact ones


@needs_triton
def test_the_kernels_compile_for_a_gpu(tmp_path: Path) -> None:
    _compiled("90", "bf16", 24, tmp_path, seconds=200)


@pytest.mark.slow
@needs_triton
@pytest.mark.parametrize(
    ("dtype", "width"),
    [
        *(("fp32", width) for width in (1, 96, 513, 1024)),
        *(("bf16", width) for width in (1, 128, 513, 1024)),
        ("fp16", 96),
    ],
)
def test_the_kernels_compile_for_every_gpu(dtype: str, width: int, tmp_path: Path) -> None:
    _compiled("80,90,100", dtype, width, tmp_path, seconds=900)


def test_without_a_gpu_nobody_imports_them() -> None:
    script = (
        "import sys, torch, contrastive_ops as co; x = torch.randn(4, 3, requires_grad=True);"
        "co.info_nce(x, x).backward(); co.nt_xent(x, x).backward();"
        "print([name for name in sys.modules if name.startswith('contrastive_ops.kernels._triton')])"
    )
    done = subprocess.run([sys.executable, "-c", script], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU here: the command would run for minutes")
def test_the_gpu_benchmark_says_that_there_is_no_gpu(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gpu.main(["--out", str(tmp_path / "gpu.json")]) == 2
    assert capsys.readouterr().out == gpu.MISSING + "\n" and not list(tmp_path.iterdir())


def test_the_gpu_benchmark_runs_every_trainer(tmp_path: Path) -> None:
    names = gpu_trainers.trainers()
    assert {t.name for t in TRAINERS} == set(names) and names[-1] == "linear_probe"
    for name in names:
        line = gpu_trainers.command(name, tmp_path, "cuda")
        assert (ROOT / line[0]).exists() and line[1:9] == STEPS


@pytest.mark.parametrize("found", [True, False])
def test_a_machine_without_a_compiler_does_without_triton(found: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setattr(_dispatch.sysconfig, "get_paths", lambda: {"include": str(ROOT / "tests" / "kernels")})
    assert not _dispatch._can_build()
    monkeypatch.undo()
    monkeypatch.setattr(_dispatch.Path, "exists", lambda path: True)
    monkeypatch.setattr(_dispatch.shutil, "which", lambda name: name if found else None)
    assert _dispatch._can_build() == found


def test_torch_takes_what_the_kernels_do_not() -> None:
    assert _dispatch.passes(torch.empty(2, 3)) is _passes
    with FakeTensorMode():
        for x in (torch.empty(2, 3, dtype=torch.float64, device="cuda"), torch.empty(2, 1025, device="cuda")):
            assert _dispatch.passes(x) is _passes
        assert _dispatch.passes(torch.empty(2, 0, device="cuda")) is _passes


@pytest.mark.skipif(not _dispatch.TRITON_IS_HERE, reason="no CUDA in torch, or no triton that can build")
@pytest.mark.filterwarnings("ignore:User provided device_type of 'cuda':UserWarning")
def test_a_gpu_takes_the_kernels() -> None:
    from contrastive_ops.kernels import _triton_passes

    with FakeTensorMode():  # shapes, dtypes and devices without values: a CUDA tensor where there is no CUDA
        x, y, queue = (torch.randn(n, 8, device="cuda") for n in (5, 5, 9))
        assert _dispatch.passes(x) is _triton_passes
        with _Operators() as called:
            loss = info_nce(x, y, queue, block_size=2) + clip_loss(x, y, 10.0, block_size=2)
        assert loss.device.type == "cuda" and len(called.names) >= 2, called.names


class _Operators(TorchDispatchMode):
    """Collects the names of the operators of this package that run below it."""

    def __init__(self) -> None:
        super().__init__()
        self.names: list[str] = []

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        self.names += [function.name()] if function.namespace == "contrastive_ops" else []
        return function(*args, **(kwargs or {}))


def test_the_choice_can_be_made_by_name() -> None:
    with _dispatch.using("torch"):
        assert _dispatch.passes(torch.empty(2, 3)) is _passes
    assert _dispatch._chosen is None
