"""What a run says and leaves behind: progress bar, metrics.jsonl, TensorBoard events, summary.json.

Values of steps stay tensors until a few steps are written together, so that logging does not make the device wait. The
loss is checked then, and always before a checkpoint: a run whose loss is no longer finite stops with its last good
checkpoint kept. On resume the lines after the checkpoint are cut off, so that the file is that of one unbroken run.
"""

from __future__ import annotations

import json
import math
import os
import sys
import time
from collections.abc import Mapping, Sequence
from itertools import takewhile
from pathlib import Path
from typing import Any

from torch import Tensor

from _runtime.config import CommonConfig, as_dict
from _runtime.launch import Run
from _runtime.models import timm_arguments

FLUSH_EVERY = 20  # steps
FIXED = ("data", "evaluate_on", "batch_size", "seed", "encoder")  # what a step number counts; the same after a resume

Number = float | int | Tensor


class NonFiniteLoss(RuntimeError):
    """The loss became NaN or infinite."""


class RunLog:
    """The log of one run, on every rank: all check the loss, rank 0 writes."""

    def __init__(self, config: CommonConfig, run: Run, *, total_steps: int, step: int, seconds: float) -> None:
        self.config, self.folder, self.run = config, Path(str(config.out)), run
        self.step, self.total = step, total_steps
        self.waiting: list[tuple[int, dict[str, Number]]] = []
        self.mark: float | None = None  # when the last step ended, unless something else came between
        self.images, self.stepping = 0, 0.0  # images and seconds of the steps since the last event
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
        self.board = SummaryWriter(str(self.folder / "tensorboard"), purge_step=self.step + 1 if self.step else None)
        self.bar = tqdm(total=self.total, initial=self.step, unit="step", dynamic_ncols=True, mininterval=0.5)

    @property
    def seconds(self) -> float:
        """Seconds spent on the run, those before a resume included."""
        return self.before + time.perf_counter() - self.started

    def train(self, step: int, values: Mapping[str, Number], *, images: int) -> None:
        """Notes what a training step measured; `images` is what this rank saw."""
        self.waiting.append((step, {k: v.detach() if isinstance(v, Tensor) else v for k, v in values.items()}))
        now = time.perf_counter()
        if self.mark is not None:
            self.images, self.stepping = self.images + images * self.run.world_size, self.stepping + now - self.mark
        self.mark = now
        if self.bar is not None:
            self.bar.update(1)
        if len(self.waiting) >= FLUSH_EVERY:
            self.flush()

    def require_finite(self, step: int, embedding: Tensor) -> None:
        """Stops before a loss is made of NaN, where looking is free: on a GPU the loss is looked at in `flush`."""
        if embedding.device.type == "cpu" and not embedding.isfinite().all():
            self.give_up(step, math.nan)

    def flush(self) -> None:
        """Turns what waits into numbers, checks the losses, writes."""
        records: list[dict[str, Any]] = [
            {"step": step, **{k: float(v) for k, v in values.items()}} for step, values in self.waiting
        ]
        self.waiting.clear()
        good = list(takewhile(lambda record: math.isfinite(record["loss"]), records))
        self.write(good)
        if len(good) < len(records):
            self.give_up(records[len(good)]["step"], records[len(good)]["loss"])
        if good and self.bar is not None:
            self.bar.set_postfix(loss=f"{good[-1]['loss']:.3f}", refresh=False)

    def give_up(self, step: int, loss: float) -> None:
        """Ends a run that no longer learns."""
        self.close()
        raise NonFiniteLoss(
            f"the loss is {loss} at step {step}. The last good checkpoint is kept in {self.folder / 'checkpoints'}; "
            "use a lower --lr or --precision fp32, and --resume"
        )

    def evaluate(self, step: int, values: Mapping[str, Any], *, warnings: Sequence[str] = ()) -> None:
        """Writes the result of an evaluation and the speed of the steps before it; says what looks wrong."""
        self.flush()
        speed = {"images_per_second": round(self.images / self.stepping, 1)} if self.images else {}
        self.images, self.stepping, self.mark = 0, 0.0, None
        self.write([{"step": step, **values, **speed, **({"warnings": list(warnings)} if warnings else {})}])
        self.say(self.line(values))
        for warning in warnings:
            self.say(f"warning: {warning}")

    def line(self, values: Mapping[str, Any]) -> str:
        """An evaluation in words: its kNN accuracy beside what needs no learning, the loss and the speed so far."""
        rivals = {"before training": self.first("knn"), **(self.first("baselines") or {})}
        beside = ", ".join(f"{name} {100 * value:.1f}" for name, value in rivals.items() if value is not None)
        said = [f"epoch {values['epoch']:>3}"]
        said += [f"kNN {100 * values['knn']:.1f} % ({beside})"] if "knn" in values else []
        said += [f"{name.replace('_', ' ')} {100 * value:.1f} %" for name, value in accuracies(values).items()]
        for name, form in (("loss", "loss {:.4f}"), ("images_per_second", "{:.0f} images/s")):
            last = next((record[name] for record in reversed(self.records) if name in record), None)
            said += [] if last is None else [form.format(last)]
        return "  ".join(said)

    def write(self, records: list[dict[str, Any]]) -> None:
        """Appends to metrics.jsonl and to TensorBoard's events."""
        if not self.run.is_main or not records:
            return
        self.records += records
        with open(self.folder / "metrics.jsonl", "a") as file:
            file.write("".join(json.dumps(record) + "\n" for record in records))
        for record in records:
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

    def stop(self, step: int) -> None:
        """Ends a run that is to be continued."""
        self.flush()
        self.say(f"stopped after step {step} of {self.total}, saved; the same command with --resume continues it")
        self.close()

    def close(self) -> None:
        if self.bar is not None:
            self.bar.close()
            self.board.close()
            self.bar = None


def accuracies(record: Mapping[str, Any]) -> dict[str, float]:
    """What an evaluation measured besides the kNN accuracy: other fractions between 0 and 1, by name."""
    return {k: v for k, v in record.items() if isinstance(v, float) and k not in ("knn", "images_per_second")}


def start_folder(config: CommonConfig, run: Run) -> Path:
    """The run folder. One that holds a run already is not overwritten, and is continued only on request."""
    folder = Path(str(config.out))
    if run.is_main and not config.resume and (folder / "metrics.jsonl").exists():
        raise FileExistsError(f"--out: {folder} holds a run; --resume continues it, another --out starts a new one")
    if config.resume and (folder / "config.json").exists():
        before, now = json.loads((folder / "config.json").read_text()), as_dict(config)
        for name in FIXED:
            if before.get(name) != now[name]:
                flag = f"--{name.replace('_', '-')}"
                raise ValueError(
                    f"{flag}: the run to resume has {before.get(name)}, got {now[name]}; it cannot change"
                )
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
