"""Subsets of labels: balanced, nested, and without decoding an image; tables of what they are worth."""

from pathlib import Path

import pytest
import torch
from _runtime import CommonConfig, Run, load_images
from _runtime.data import MemoryImages
from _runtime.labels import (
    count_classes,
    labelled_subset,
    labels_of,
    markdown_of_labels,
    table_of_labels,
)

from tests.examples.test_data import write_folder

LABELS = torch.tensor([0] * 40 + [1] * 40 + [2] * 37 + [3] * 3)
IMAGES = MemoryImages(torch.arange(120).view(120, 1, 1, 1), LABELS)


@pytest.mark.parametrize(("part", "each"), [(0.001, [1, 1, 1, 1]), (0.1, [3, 3, 3, 3]), (0.5, [15, 15, 15, 3])])
def test_as_many_of_each_class_or_all_that_there_are(part: float, each: list[int]):
    subset = labelled_subset(IMAGES, part, seed=0)
    assert labels_of(subset).bincount().tolist() == each
    assert torch.equal(LABELS[subset.pixels.flatten()], subset.labels)
    assert len(subset.pixels.unique()) == len(subset)


def test_a_smaller_subset_is_part_of_a_larger_one_and_another_seed_is_another_subset():
    small, large = (set(labelled_subset(IMAGES, part, seed=1).pixels.flatten().tolist()) for part in (0.1, 0.4))
    assert small < large
    assert small != set(labelled_subset(IMAGES, 0.1, seed=2).pixels.flatten().tolist())


def test_all_labels_are_all_images_and_a_part_is_a_part():
    assert labelled_subset(IMAGES, 1.0, seed=0) is IMAGES
    with pytest.raises(ValueError, match=r"--labels: expected fractions in \(0, 1\], got 1.5"):
        labelled_subset(IMAGES, 1.5, seed=0)


@pytest.mark.parametrize("reader", ["folder", "torch/folder"])
def test_labels_of_files_are_read_without_the_files(tmp_path: Path, reader: str):
    for split in ("train", "val"):
        write_folder(tmp_path, 6, split)
    config = CommonConfig(data=f"{reader}:{tmp_path}", image_size=14)
    train, _ = load_images(config, Run(0, 0, 1, torch.device("cpu")))
    for path in tmp_path.rglob("*.png"):
        path.unlink()
    assert labels_of(train).tolist() == [0] * 6 + [1] * 6
    assert labels_of(labelled_subset(train.subset(torch.arange(2, 12)), 0.4, seed=0)).tolist() == [0, 0, 1, 1]
    assert count_classes(train) == 2


def test_the_table():
    stages = [
        {"labels": 0.1, "stage": "alone", "top1": 0.712},
        {"labels": 0.01, "stage": "alone", "top1": 0.25},
        {"labels": 0.01, "stage": "distilled", "top1": 0.6},
    ]
    assert table_of_labels(stages) == {"0.01": {"alone": 0.25, "distilled": 0.6}, "0.1": {"alone": 0.712}}
    assert markdown_of_labels(stages, ("alone", "finetuned", "distilled")).splitlines() == [
        "| labels | alone | finetuned | distilled |",
        "| --- | --- | --- | --- |",
        "| 1 % | 25.0 |  | 60.0 |",
        "| 10 % | 71.2 |  |  |",
    ]
