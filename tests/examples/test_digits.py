"""The embedded data: no source digit in two splits, the same images every time."""

import pytest
import torch
from _runtime import digits


def test_no_source_digit_is_in_two_splits():
    sources = {split: set(digits.source_indices(split).tolist()) for split in digits.SPLIT_SEEDS}
    assert not sources["train"] & sources["test"]
    assert not sources["fit"] & sources["validation"]
    assert sources["fit"] | sources["validation"] == sources["train"]
    assert {split: len(found) for split, found in sources.items()} == {
        "train": 1240,
        "fit": 1040,
        "validation": 200,
        "test": 500,
    }


def test_every_render_carries_the_label_of_its_source():
    from sklearn.datasets import load_digits

    data = digits.load("validation")
    assert data.images.shape == (400, 3, 32, 32)
    assert data.images.dtype == torch.uint8
    assert torch.equal(data.labels, torch.from_numpy(load_digits().target).long()[data.sources])
    assert torch.equal(data.labels.bincount(), torch.full((10,), 40))


def test_rendering_is_deterministic_and_follows_the_seed():
    first, again, other = (digits.load("validation", seed=seed) for seed in (0, 0, 1))
    assert torch.equal(first.images, again.images)
    assert not torch.equal(first.images, other.images)
    assert all(torch.equal(value, again.attributes[name]) for name, value in first.attributes.items())


def test_renders_of_one_source_differ():
    data = digits.load("validation", renders=2)
    assert torch.equal(data.sources[0::2], data.sources[1::2])
    assert (data.images[0::2] != data.images[1::2]).flatten(1).any(1).all()


def test_unknown_split_is_named():
    with pytest.raises(ValueError, match="split must be one of .* got 'tests'"):
        digits.load("tests")
