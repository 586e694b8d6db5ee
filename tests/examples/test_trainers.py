"""Every trainer as one runs it: a few steps on one and on two processes, resumed, and with the paper's numbers."""

from __future__ import annotations

import importlib
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
from _runtime.config import parse
from _runtime.launch import launch
from _runtime.log import read_metrics

from tests.examples.conftest import EXAMPLES
from tests.examples.finished import write_finished_run
from tests.examples.float64 import in_float64
from tests.examples.test_data import write_cifar, write_folder
from tests.examples.trainers import TRAINED, TRAINERS, Trainer

QUICK = ("--device", "cpu", "--workers", "0", "--batch-size", "12", "--epochs", "2", "--evaluate-on", "test")
FLOAT32 = [t for t in TRAINERS if t.name in {"simclr", "simsiam"} and not t.mode]  # compared as users run them, too
together = pytest.mark.xdist_group("two processes")  # those that look at the same runs run where these were made
every = pytest.mark.parametrize("trainer", [pytest.param(t, id=f"{t.name} {t.mode}".strip()) for t in TRAINERS])


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums in another order would be other numbers."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Small data for runs of a second: 55 images in CIFAR-10's format, so that the last batch is uneven."""
    return f"cifar10:{write_cifar(tmp_path_factory.mktemp('cifar'), 11)[0]}"


def flags_of(trainer: Trainer, out: Path) -> list[str]:
    """The flags of a quick run into `out`, where they ask for it with a finished run beside it."""
    given = (str(write_finished_run(out.parent / "trained")) if flag == TRAINED else flag for flag in trainer.flags)
    return [*QUICK, *given, "--out", str(out)]


def train(trainer: Trainer, out: Path, *flags: str, exact: bool = False) -> None:
    module = importlib.import_module(trainer.name)
    config = parse(trainer.name, module.PRESETS, [*flags_of(trainer, out), *flags])
    with in_float64(exact):
        launch(module.main, config)


def train_in_two(trainer: Trainer, out: Path, *flags: str) -> None:
    run_in_two(str(EXAMPLES / f"{trainer.name}.py"), *flags_of(trainer, out), *flags)


def run_in_two(*command: str) -> None:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    root = EXAMPLES.parent
    done = subprocess.run([*torchrun, *command], check=False, capture_output=True, text=True, timeout=400, cwd=root)
    assert done.returncode == 0, done.stderr


@pytest.fixture(scope="module")
def trained_in_two(tmp_path_factory: pytest.TempPathFactory, cifar: str) -> Path:
    """A folder with a run of two processes of every trainer, an epoch each."""
    out = tmp_path_factory.mktemp("two")
    runs = [
        (t.name, [*flags_of(t, out / folder), "--data", cifar, "--epochs", "1", *t.invariant], exact)
        for t, folder, exact in [
            *((t, folder_of(t), bool(t.invariant)) for t in TRAINERS),
            *((t, f"{folder_of(t)}-float32", False) for t in FLOAT32),
        ]
    ]
    (out / "runs.json").write_text(json.dumps(runs))
    run_in_two("-m", "tests.examples.train_each", str(out / "runs.json"))
    return out


def folder_of(trainer: Trainer) -> str:
    return f"{trainer.name}-{trainer.mode}"


def numbers(out: Path) -> list[dict[str, Any]]:
    """All that a run measured, but for its speed."""
    return [{k: v for k, v in r.items() if k != "images_per_second"} for r in read_metrics(out)]


@every
def test_a_run_and_the_same_run_stopped_and_resumed(trainer: Trainer, tmp_path: Path, cifar: str) -> None:
    train(trainer, tmp_path / "whole", "--data", cifar)
    for flags in (["--max-steps", "3"], ["--max-steps", "7"], []):
        train(trainer, tmp_path / "parts", "--data", cifar, "--resume", *flags)
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")
    summary = json.loads((tmp_path / "whole" / "summary.json").read_text())
    assert summary["method"] == trainer.name
    names = {path.name for path in (tmp_path / "whole").iterdir()}
    assert names >= {"curves.png", "views.png", "encoder.safetensors", "checkpoints", "tensorboard", "config.json"}


@together
@every
def test_two_processes(trainer: Trainer, trained_in_two: Path, tmp_path: Path, cifar: str) -> None:
    """They run, see all images, and take one process's steps where nothing is each rank's own."""
    losses = [r["loss"] for r in numbers(trained_in_two / folder_of(trainer)) if "loss" in r]
    assert len(losses) == 5
    if trainer.invariant:
        train(trainer, tmp_path / "one", "--data", cifar, "--epochs", "1", *trainer.invariant, exact=True)
        alone = [r["loss"] for r in numbers(tmp_path / "one") if "loss" in r]
        assert losses == pytest.approx(alone, abs=1e-9)


@together
@pytest.mark.parametrize("trainer", FLOAT32, ids=lambda t: t.name)
def test_two_processes_in_float32(trainer: Trainer, trained_in_two: Path, tmp_path: Path, cifar: str) -> None:
    train(trainer, tmp_path / "one", "--data", cifar, "--epochs", "1", *trainer.invariant)
    alone = [r["loss"] for r in numbers(tmp_path / "one") if "loss" in r]
    losses = [r["loss"] for r in numbers(trained_in_two / f"{folder_of(trainer)}-float32") if "loss" in r]
    assert len(losses) == 5
    assert losses == pytest.approx(alone, abs=1e-4)


@pytest.mark.slow
@every
def test_two_processes_resume_with_the_same_numbers(trainer: Trainer, tmp_path: Path, cifar: str) -> None:
    train_in_two(trainer, tmp_path / "whole", "--data", cifar)
    train_in_two(trainer, tmp_path / "parts", "--data", cifar, "--max-steps", "7")
    train_in_two(trainer, tmp_path / "parts", "--data", cifar, "--resume")
    assert numbers(tmp_path / "parts") == numbers(tmp_path / "whole")


@pytest.mark.parametrize("trainer", [t for t in TRAINERS if not t.mode], ids=lambda t: t.name)
def test_the_papers_numbers_build_and_step_once(trainer: Trainer, tmp_path: Path) -> None:
    data = f"folder:{write_folder(tmp_path / 'images', 6)}"
    small = ("--data", data, "--batch-size", "4", "--max-steps", "1", "--image-size", "64", *trainer.paper)
    train(trainer, tmp_path / "run", "--preset", "paper", *small)
    assert [r["step"] for r in numbers(tmp_path / "run") if "loss" in r] == [1]
