"""The labels of images without decoding them, and class-balanced subsets: what few labels are worth."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from _runtime.data import MemoryImages
from _runtime.sources import Images
from contrastive_ops import all_gather


def labels_of(images: Images) -> Tensor:
    """(N,) the class of every image, on the CPU."""
    if isinstance(images, MemoryImages):
        return images.labels.cpu()
    return torch.tensor([label_of(images.files.source, i) for i in images.index.tolist()])


def label_of(source: Any, index: int) -> int:
    """The class of one file: from the list of files where there is one, else by opening the image."""
    samples = getattr(getattr(source, "reader", source), "samples", None)
    return int((source if samples is None else samples)[index][1])


def count_classes(images: Images) -> int:
    """How many classes there are; labels count from 0."""
    return int(labels_of(images).max()) + 1


def labelled_subset(images: Images, fraction: float, *, seed: int) -> Images:
    """The images whose labels may be used: about as many of each class, and in all that fraction of the images.

    At least one of each class, and all of a class that has too few. Of the same seed a smaller subset is part of a
    larger one.
    """
    if not 0 < fraction <= 1:
        raise ValueError(f"--labels: expected fractions in (0, 1], got {fraction}")
    if fraction == 1:
        return images
    labels = labels_of(images)
    each = max(1, round(fraction * len(labels) / len(labels.unique())))
    order = torch.randperm(len(labels), generator=torch.Generator().manual_seed(seed))
    chosen = torch.cat([order[labels[order] == label][:each] for label in labels.unique()])
    return images.subset(chosen.sort().values)


def label_loss(logits: Tensor, labels: Tensor) -> Tensor:
    """Cross-entropy, the mean over the rows of all ranks, however unevenly these are divided."""
    return all_gather(F.cross_entropy(logits.float(), labels, reduction="none")).mean()


def stage_results(folder: Path) -> list[dict[str, Any]]:
    """The summaries of the finished stages that have a run folder of their own below that of a run."""
    return [json.loads(path.read_text()) for path in sorted(folder.glob("*-*/summary.json"))]


def table_of_labels(stages: list[dict[str, Any]]) -> dict[str, dict[str, float]]:
    """The accuracies of the stages, by the part of the labels and then by the stage's name."""
    parts = sorted({stage["labels"] for stage in stages})
    return {f"{part:g}": {s["stage"]: s["top1"] for s in stages if s["labels"] == part} for part in parts}


def markdown_of_labels(stages: list[dict[str, Any]], names: tuple[str, ...]) -> str:
    """The same table in percent, for people, with a column for each name."""
    rows = [["labels", *names], ["---"] * (len(names) + 1)]
    for part, top1 in table_of_labels(stages).items():
        rows.append([f"{100 * float(part):g} %", *(f"{100 * top1[n]:.1f}" if n in top1 else "" for n in names)])
    return "".join(f"| {' | '.join(row)} |\n" for row in rows)
