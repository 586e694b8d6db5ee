"""How a run begins, or goes on: the newest checkpoint, the log that belongs to it, and the first evaluation."""

from __future__ import annotations

from typing import NamedTuple

from torch import nn

from _runtime.checkpoint import Checkpoints
from _runtime.config import CommonConfig
from _runtime.data import steps_per_epoch
from _runtime.evaluate import Evaluation
from _runtime.launch import Run
from _runtime.log import RunLog


class Begun(NamedTuple):
    """The log, the steps made so far, those of an epoch, and those of the whole run."""

    log: RunLog
    step: int
    epoch_steps: int
    steps: int


def begin(
    config: CommonConfig,
    run: Run,
    checkpoints: Checkpoints,
    evaluation: Evaluation,
    encoder: nn.Module,
    *,
    images: int,
) -> Begun:
    """Resumes where `--resume` says so; a new run first evaluates what no training has touched."""
    step, seconds = checkpoints.resume() if config.resume else (0, 0.0)
    epoch_steps = steps_per_epoch(images, config.batch_size)
    log = RunLog(config, run, total_steps=config.epochs * epoch_steps, step=step, seconds=seconds)
    if step == 0:
        log.evaluate(0, {"epoch": 0, "knn": evaluation.knn(encoder), "baselines": evaluation.baselines()})
    return Begun(log, step, epoch_steps, config.epochs * epoch_steps)
