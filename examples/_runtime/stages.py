"""A teacher, a student, and the same student alone: three trainings of one command.

What is finished is not run again, and what was stopped goes on.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal, TypeVar

import torch
from torch import Tensor

from _runtime.classifier import Classifier, Student, create_classifier, load_classifier, save_classifier
from _runtime.config import CommonConfig
from _runtime.evaluate import Evaluation
from _runtime.launch import Run
from _runtime.log import RunLog, start_folder
from _runtime.results import finish
from contrastive_ops import CollapseMonitor, all_gather


@dataclass(frozen=True)
class StudentConfig(CommonConfig):
    """The flags of a student, of those it is measured by, and of how all of them are trained."""

    encoder: str = "micro"  # the student's: micro (a tenth of tiny's weights), tiny, or any model name of timm
    teacher_encoder: str = "tiny"  # the teacher's, if it is trained here
    teacher: Path | None = None  # the folder of a finished run of this file that teaches; by default one is trained
    alone: Path | None = None  # likewise of the student alone, to compare with
    epochs: int = 25  # passes over the training images, in each training
    lr: float = 2e-3  # the peak learning rate
    views: Literal["digits-v2", "crop-flip", "none"] = "digits-v2"  # the recipe of augmentation
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd with momentum 0.9
    weight_decay: float = 1e-2  # of all parameters
    schedule: Literal["cosine", "step-30-60-90"] = "cosine"  # to 0, or a tenth at each of these percents of the run
    warmup: float = 0.1  # part of the run in which the learning rate rises from 0
    kd_temperature: float = 4.0  # T of the distillation of logits


def create_student(config: StudentConfig, labels: Tensor, teacher: Classifier | None, *, dim: int | None) -> Student:
    """The student that the flags ask for, on the CPU; with linear heads to width dim where one is given."""
    classifier = create_classifier(config.encoder, labels, compiled=config.compile)
    return Student(classifier, teacher, dim=dim)


StudentConfigT = TypeVar("StudentConfigT", bound=StudentConfig)


def after_stages(
    train: Callable[[Run, StudentConfigT], None], run: Run, config: StudentConfigT, *, plain: StudentConfigT
) -> StudentConfigT | None:
    """Trains a teacher and the student alone with `plain`, in OUT/teacher and OUT/alone, where no folder is given.

    Returns the configuration with their folders; None if one of them was stopped before its end. Plain training itself
    needs neither.
    """
    if config == plain:
        return replace(config, teacher=None, alone=None)
    teacher = config.teacher or stage("teacher", train, run, replace(plain, encoder=config.teacher_encoder))
    alone = teacher and (config.alone or stage("alone", train, run, plain))
    return replace(config, teacher=teacher, alone=alone) if alone else None


def stage(name: str, train: Callable[[Run, StudentConfigT], None], run: Run, config: StudentConfigT) -> Path | None:
    """Trains in the sub-folder `name` of the run folder, unless that is done; None if it was stopped."""
    folder = Path(str(config.out)) / name
    config = replace(config, out=folder)
    if config.resume and finished(folder, run):
        start_folder(config, run)  # refuses flags that are not those of before
    else:
        train(run, config)
    return folder if finished(folder, run) else None


def finished(folder: Path, run: Run) -> bool:
    """Whether a run has written its results, by rank 0, for which the others wait."""
    there = torch.tensor([(folder / "summary.json").exists()], dtype=torch.int32, device=run.device)
    return bool(all_gather(there)[0])


def finish_student(
    method: str,
    classifier: Classifier,
    evaluation: Evaluation,
    log: RunLog,
    monitor: CollapseMonitor,
    config: StudentConfig,
) -> None:
    """As `finish`, with the accuracy of the logits, and of a distilled student also what it gained; on every rank."""
    measured = {"top1": evaluation.top1(classifier)}
    labels = torch.arange(classifier.linear.out_features)
    for name, folder in (("teacher", config.teacher), ("alone", config.alone)):
        if folder:
            measured[name] = evaluation.top1(load_classifier(folder, labels, log.run))
    if config.alone:
        measured |= {"student": measured["top1"], "gain": measured["top1"] - measured["alone"]}
    if log.run.is_main:
        save_classifier(classifier, log.folder)
    log.before += sum(json.loads(path.read_text())["seconds"] for path in log.folder.glob("*/summary.json"))
    finish(method, classifier.encoder, evaluation, log, monitor, measured=measured)
