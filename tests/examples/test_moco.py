"""The trainer as one runs it: a few steps on one and on two ranks, stopped, killed and resumed."""

import dataclasses
import json
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import moco
import pytest
import torch
from _runtime.config import parse
from _runtime.launch import launch
from _runtime.log import NonFiniteLoss, read_metrics

from tests.examples.conftest import EXAMPLES
from tests.examples.test_data import write_cifar, write_folder

QUICK = [
    "--device",
    "cpu",
    "--workers",
    "0",
    "--batch-size",
    "12",
    "--epochs",
    "4",
    "--queue-size",
    "64",
    "--evaluate-on",
    "test",
]
PER_BATCH, EPOCH_STEPS, STEPS = 11, 5, 20  # 55 training images: steps of 12 and a last one of 7


@pytest.fixture(autouse=True)
def _one_thread(monkeypatch: pytest.MonkeyPatch) -> None:
    """Sums in another order would be other numbers."""
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    torch.set_num_threads(1)


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> str:
    """Small data for runs of a second: an archive of CIFAR-10's format."""
    return f"cifar10:{write_cifar(tmp_path_factory.mktemp('cifar'), PER_BATCH)[0]}"


def train(out: Path, *flags: str) -> None:
    launch(moco.main, parse("moco", moco.PRESETS, [*QUICK, "--out", str(out), *flags]))


def command(out: Path, *flags: str, ranks: int = 1) -> list[str]:
    torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(ranks)]
    return [
        *(torchrun if ranks > 1 else [sys.executable]),
        str(EXAMPLES / "moco.py"),
        *QUICK,
        "--out",
        str(out),
        *flags,
    ]


def numbers(out: Path) -> list[dict[str, Any]]:
    """All that a run measured, but for its speed."""
    return [{k: v for k, v in r.items() if k != "images_per_second"} for r in read_metrics(out)]


@pytest.fixture(scope="module")
def finished(tmp_path_factory: pytest.TempPathFactory, cifar: str) -> Path:
    torch.set_num_threads(1)
    out = tmp_path_factory.mktemp("moco") / "run"
    train(out, "--data", cifar)
    return out


def test_the_run_folder_holds_all_that_is_promised(finished: Path):
    names = {path.name for path in finished.iterdir()}
    assert names >= {"config.json", "metrics.jsonl", "tensorboard", "checkpoints"}
    assert names >= {"curves.png", "views.png", "summary.json", "encoder.safetensors"}
    summary = json.loads((finished / "summary.json").read_text())
    promised = "method preset seed world_size epochs knn_initial knn linear loss feature_std seconds images_per_second"
    assert set(summary) >= {*promised.split(), "versions", "commit"}
    assert all(0 <= summary[name] <= 1 for name in ("knn_initial", "knn", "linear"))
    assert summary["world_size"] == 1
    records = read_metrics(finished)
    assert [r["step"] for r in records if "loss" in r] == [*range(1, STEPS + 1)]
    assert [r["step"] for r in records if "knn" in r] == [0, 5, 10, 15, 20]


def test_timm_loads_the_encoder(finished: Path):
    import timm

    arguments = json.loads((finished / "summary.json").read_text())["timm"]
    encoder = timm.create_model(**arguments, checkpoint_path=str(finished / "encoder.safetensors"))
    state = torch.load(next((finished / "checkpoints").glob("step-000000020-*")), weights_only=True)
    weights = state["parts"]["online"]
    assert all(torch.equal(value, weights[f"encoder.{name}"]) for name, value in encoder.state_dict().items())
    assert encoder.eval()(torch.zeros(2, 3, 32, 32)).shape == (2, 128)


def test_a_run_stopped_in_an_epoch_and_resumed_has_the_same_numbers(finished: Path, tmp_path: Path, cifar: str):
    for flags in (["--max-steps", "3"], ["--max-steps", "5"], ["--max-steps", "14", "--checkpoint-steps", "4"], []):
        train(tmp_path, "--data", cifar, "--resume", *flags)
    assert numbers(tmp_path) == numbers(finished)


@pytest.mark.parametrize("stop", [signal.SIGKILL, signal.SIGTERM, pytest.param(signal.SIGINT, marks=pytest.mark.slow)])
def test_a_run_killed_and_resumed_has_the_same_numbers(
    finished: Path, tmp_path: Path, cifar: str, stop: signal.Signals
):
    # many epochs, so that it is still running; none of the numbers compared depends on how many (the step schedule)
    long = ["--data", cifar, "--schedule", "step", "--checkpoint-steps", "2"]
    with subprocess.Popen(command(tmp_path, *long, "--epochs", "2000"), stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while len(read_metrics(tmp_path)) < 7 and time.monotonic() < deadline and process.poll() is None:
            time.sleep(0.01)
        process.send_signal(stop)
        said = process.communicate(timeout=60)[1]
    made = max(record["step"] for record in read_metrics(tmp_path))
    assert made > 3, said
    train(tmp_path, *long, "--epochs", "2000", "--resume", "--max-steps", str(made + 6))
    train(tmp_path / "reference", *long, "--epochs", "2000", "--max-steps", str(made + 6))
    assert numbers(tmp_path) == numbers(tmp_path / "reference")


def test_two_ranks_resume_exactly_and_one_goes_on(tmp_path: Path, cifar: str):
    flags = ["--data", cifar, "--epochs", "1", "--checkpoint-steps", "3"]
    run_ranks(tmp_path / "whole", *flags)
    shutil.copytree(tmp_path / "whole", tmp_path / "resumed")
    next((tmp_path / "resumed" / "checkpoints").glob("step-000000005-*")).unlink()
    one = shutil.copytree(tmp_path / "resumed", tmp_path / "one")
    run_ranks(tmp_path / "resumed", *flags, "--resume")
    assert numbers(tmp_path / "resumed") == numbers(tmp_path / "whole")
    assert json.loads((tmp_path / "resumed" / "summary.json").read_text())["world_size"] == 2
    train(one, *flags, "--resume")
    assert numbers(one)[:4] == numbers(tmp_path / "whole")[:4]
    assert len(numbers(one)) == len(numbers(tmp_path / "whole"))


def run_ranks(out: Path, *flags: str) -> None:
    done = subprocess.run(command(out, *flags, ranks=2), check=False, capture_output=True, text=True, timeout=100)
    assert done.returncode == 0, done.stderr


def test_a_folder_of_images_and_averaged_weights(tmp_path: Path):
    data = f"folder:{write_folder(tmp_path / 'images', 20)}"
    train(
        tmp_path / "run", "--data", data, "--views", "moco-v2", "--preset", "v1", "--ema-decay", "0.5", "--epochs", "1"
    )
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["preset"] == "v1"
    assert summary["knn"] == 1  # dark against bright


def test_a_loss_that_is_not_finite_stops_the_run_and_keeps_the_last_checkpoint(tmp_path: Path, cifar: str):
    train(tmp_path, "--data", cifar, "--max-steps", "2")
    kept = list((tmp_path / "checkpoints").iterdir())
    with pytest.raises(NonFiniteLoss, match="the loss is nan at step 4. The last good checkpoint is kept"):
        train(tmp_path, "--data", cifar, "--resume", "--lr", "1e38")
    assert list((tmp_path / "checkpoints").iterdir()) == kept


def test_no_run_is_overwritten_or_continued_as_another(tmp_path: Path, cifar: str):
    train(tmp_path, "--data", cifar, "--max-steps", "1")
    with pytest.raises(FileExistsError, match="holds a run; --resume continues it"):
        train(tmp_path, "--data", cifar)
    with pytest.raises(ValueError, match="--batch-size: the run to resume has 12, got 9"):
        train(tmp_path, "--data", cifar, "--resume", "--batch-size", "9")


def test_negative_controls_run_and_the_log_says_what_is_wrong(tmp_path: Path, cifar: str):
    flags = ["--no-stop-gradient", "--momentum", "0", "--epochs", "11", "--precision", "bf16"]
    train(tmp_path, "--data", cifar, *flags)
    assert "warnings" in numbers(tmp_path)[-1]


def test_presets_give_the_defaults_and_flags_win():
    v1 = parse("moco", moco.PRESETS, ["--preset", "v1", "--lr", "0.5"])
    v2 = parse("moco", moco.PRESETS, [])
    assert (v1.temperature, v1.head_layers, v1.schedule, v1.lr) == (0.07, 1, "step", 0.5)
    assert (v2.temperature, v2.head_layers, v2.schedule, v2.preset) == (0.2, 2, "cosine", "digits")
    assert str(v1.out) == "runs/moco-v1-seed0"
    paper = parse("moco", moco.PRESETS, ["--preset=paper"])
    assert (paper.queue_size, paper.momentum, paper.lr, paper.encoder) == (65536, 0.999, 0.03, "resnet50")
    digits, named = moco.PRESETS["digits"], moco.PRESETS["v2"]
    assert dataclasses.asdict(digits) == dataclasses.asdict(named)


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        (["--preset", "v3"], r"--preset: expected one of digits, v2, v1, .*; got 'v3'"),
        (["--epochs", "0"], "--epochs: expected at least 1, got 0"),
        (["--ema-decay", "1"], r"--ema-decay: expected a number in \[0, 1\), got 1"),
    ],
)
def test_a_wrong_flag_is_named(flags: list[str], said: str):
    with pytest.raises(SystemExit, match=said):
        parse("moco", moco.PRESETS, flags)


def test_half_precision_on_a_cpu_is_an_error_that_helps(tmp_path: Path, cifar: str):
    with pytest.raises(ValueError, match="--precision: fp16 needs a GPU, got device cpu; use bf16 or fp32"):
        train(tmp_path, "--data", cifar, "--precision", "fp16")
