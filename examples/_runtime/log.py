"""What a run says and leaves behind: progress bar, metrics.jsonl, TensorBoard events, summary.json.

Values of steps stay tensors until a few steps are written together, so that logging does not make the device wait. The
loss is checked then, and always before a checkpoint: a run whose loss is no longer finite stops with its last good
checkpoint kept. On resume the lines after the checkpoint are cut off, so that the file is that of one unbroken run.
"""

from __future__ import annotations

import json
import math
import os
import platform
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from _runtime.config import CommonConfig, as_dict
from _runtime.launch import Run
from _runtime.models import timm_arguments

FLUSH_EVERY = 20  # steps

Number = float | int | Tensor


class NonFiniteLoss(RuntimeError):
    """The loss became NaN or infinite."""


class RunLog:
    """The log of one run, on every rank: all check the loss, rank 0 writes."""

    def __init__(self, config: CommonConfig, run: Run, *, total_steps: int, step: int, seconds: float) -> None:
        self.folder, self.run, self.step, self.total = Path(str(config.out)), run, step, total_steps
        self.waiting: list[tuple[int, dict[str, Number]]] = []
        self.started, self.before = time.perf_counter(), seconds
        self.records: list[dict[str, Any]] = []
        self.bar: Any = None
        if run.is_main:
            self.open(config)

    def open(self, config: CommonConfig) -> None:
        """Starts the files of the run folder, or continues those of the checkpoint's step."""
        from torch.utils.tensorboard import SummaryWriter
        from tqdm import tqdm

        write_json(self.folder / "config.json", {**as_dict(config), "timm": timm_arguments(config.encoder)})
        self.records = [r for r in read_metrics(self.folder) if self.step and r["step"] <= self.step]
        write_text(self.folder / "metrics.jsonl", "".join(json.dumps(r) + "\n" for r in self.records))
        self.file = open(self.folder / "metrics.jsonl", "a", buffering=1)  # noqa: SIM115 (closed in close)
        self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step + 1 if self.step else None)
        self.bar = tqdm(total=self.total, initial=self.step, unit="step", dynamic_ncols=True, mininterval=0.5)

    @property
    def seconds(self) -> float:
        """Seconds spent on the run, those before a resume included."""
        return self.before + time.perf_counter() - self.started

    def train(self, step: int, values: Mapping[str, Number]) -> None:
        """Notes what a training step measured."""
        self.waiting.append((step, {k: v.detach() if isinstance(v, Tensor) else v for k, v in values.items()}))
        if self.bar is not None:
            self.bar.update(1)
        if len(self.waiting) >= FLUSH_EVERY:
            self.flush()

    def flush(self) -> None:
        """Turns what waits into numbers, checks the losses, writes."""
        for step, values in self.waiting:
            record = {"step": step, **{name: float(value) for name, value in values.items()}}
            if not math.isfinite(record["loss"]):
                self.close()
                raise NonFiniteLoss(
                    f"the loss is {record['loss']} at step {step}. The last good checkpoint is kept in "
                    f"{self.folder / 'checkpoints'}; lower --lr, or use --precision bf16 or fp32, and --resume"
                )
            self.write(record)
        if self.waiting and self.bar is not None:
            self.bar.set_postfix(loss=f"{record['loss']:.3f}", refresh=False)
        self.waiting.clear()

    def event(self, step: int, values: Mapping[str, Any]) -> None:
        """Writes a record that is not of a training step, such as an evaluation."""
        self.flush()
        self.write({"step": step, **values})

    def write(self, record: dict[str, Any]) -> None:
        if not self.run.is_main:
            return
        self.records.append(record)
        self.file.write(json.dumps(record) + "\n")
        for name, value in record.items():
            if name != "step" and isinstance(value, (int, float)):
                self.board.add_scalar(name, value, record["step"])

    def say(self, text: str) -> None:
        """Prints a line above the progress bar, on rank 0."""
        if self.bar is not None:
            self.bar.write(text, file=sys.stdout)
            sys.stdout.flush()

    def first(self, name: str) -> Any:
        """The first value recorded under a name, e.g. the kNN accuracy before training; None on other ranks."""
        return next((r[name] for r in self.records if name in r), None)

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.file.close()
            self.board.close()
            self.bar = None


def start_folder(config: CommonConfig, run: Run) -> Path:
    """The run folder. One that holds a run already is not overwritten, and is continued only on request."""
    folder = Path(str(config.out))
    taken = (folder / "metrics.jsonl").exists()
    if taken and not config.resume and run.is_main:
        raise FileExistsError(f"--out: {folder} holds a run; --resume continues it, another --out starts a new one")
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def read_metrics(folder: Path) -> list[dict[str, Any]]:
    """The records of metrics.jsonl; a last line that a crash cut off is left out."""
    path, records = folder / "metrics.jsonl", []
    for line in path.read_text().splitlines() if path.exists() else []:
        try:
            records.append(json.loads(line))
        except json.JSONDecodeError:
            break
    return records


def write_text(path: Path, text: str) -> None:
    """Writes a whole file or nothing."""
    unfinished = path.with_name("unfinished-" + path.name)
    with open(unfinished, "w") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(unfinished, path)


def write_json(path: Path, value: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(value, indent=2) + "\n")


def versions() -> dict[str, str]:
    """What the numbers were computed with."""
    from importlib.metadata import version

    names = ("contrastive-ops", "torch", "timm", "torch-ema")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def commit() -> str:
    """The commit of the source tree, with a + where files differ from it; empty outside of one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if dirty.strip() else "")
