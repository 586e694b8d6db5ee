"""Crops come large ones first, are normalised as the images of the evaluation are, and none needs a small one."""

import pytest
import torch
from _runtime.view_crops import CROPS
from _runtime.views import plain_view


@pytest.mark.parametrize("name", CROPS)
@pytest.mark.parametrize("small", [0, 3])
@pytest.mark.parametrize("images", [0, 5])
def test_large_crops_come_first(name: str, small: int, images: int):
    views = CROPS[name](torch.rand(images, 3, 32, 32), sizes=(32, 16), counts=(2, small))
    assert [tuple(view.shape) for view in views] == [(images, 3, 32, 32)] * 2 + [(images, 3, 16, 16)] * small


@pytest.mark.parametrize("name", CROPS)
def test_black_is_the_same_black_in_training_and_evaluation(name: str):
    generator = torch.Generator().manual_seed(0)
    views = CROPS[name](torch.zeros(8, 3, 32, 32), sizes=(32, 16), counts=(2, 2), generator=generator)
    for view in views:
        size = view.shape[-1]
        black, white = (plain_view(torch.full((1, 3, 32, 32), value), size=size) for value in (0.0, 1.0))
        inverted = (view - white).abs().amax((1, 2, 3)) < 1e-4
        assert inverted.any().item() == name.startswith("digits")
        kept = view[~inverted]
        torch.testing.assert_close(kept, black.expand(len(kept), -1, -1, -1), atol=1e-4, rtol=0)


@pytest.mark.parametrize("name", CROPS)
def test_no_two_crops_are_alike(name: str):
    views = CROPS[name](torch.rand(4, 3, 32, 32), sizes=(32, 16), counts=(2, 2))
    assert not torch.equal(views[0], views[1])
    assert not torch.equal(views[2], views[3])
