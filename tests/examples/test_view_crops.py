"""Crops come large ones first, are normalised as the images of the evaluation are, and none needs a small one."""

import pytest
import torch
from _runtime.view_crops import CROPS, digits_crops
from _runtime.views import displayable, plain_view


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


def test_a_margin_hides_where_things_are():
    """How far right of the middle a dot is found, in units of how far its place varies from crop to crop."""
    images, told = torch.zeros(500, 3, 32, 32), []
    images[..., 14:18, 18:22] = 1
    for margin in (0.0, 0.125):
        generator = torch.Generator().manual_seed(0)
        view = digits_crops(images, sizes=(32, 16), counts=(1, 0), margin=margin, generator=generator)[0]
        pixels = displayable(view).mean(1)
        dot = (pixels - pixels.flatten(1).median(1).values.view(-1, 1, 1)).abs()  # some views are inverted
        place = (dot.sum(1) * torch.arange(32)).sum(1) / dot.sum((1, 2)) - 15.5
        told.append(place.mean() / place.std())
    assert 0 < told[1] < 0.9 * told[0]
