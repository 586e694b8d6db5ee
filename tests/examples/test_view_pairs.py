"""Pairs of views are normalised as the images of the evaluation are, and differ as BYOL's do."""

import pytest
import torch
from _runtime.view_pairs import VIEW_PAIRS, digits_pair
from _runtime.views import plain_view


@pytest.mark.parametrize("name", VIEW_PAIRS)
def test_black_is_the_same_black_in_training_and_evaluation(name: str):
    pair = VIEW_PAIRS[name](torch.zeros(8, 3, 32, 32), size=32, generator=torch.Generator().manual_seed(0))
    black, white = (plain_view(torch.full((1, 3, 32, 32), value), size=32) for value in (0.0, 1.0))
    for views in pair:
        inverted = (views - white).abs().amax((1, 2, 3)) < 1e-4
        assert inverted.any().item() == name.startswith("digits")
        torch.testing.assert_close(
            views[~inverted], black.expand(int((~inverted).sum()), -1, -1, -1), atol=1e-4, rtol=0
        )


def test_only_the_second_view_is_solarised():
    """Black stays and white becomes dark then: but for the grey line between them little is left of two halves."""
    images = torch.zeros(400, 3, 32, 32)
    images[..., 16:] = 1.0
    pair = digits_pair(images, size=32, generator=torch.Generator().manual_seed(0))
    tenths = torch.tensor([0.1, 0.9])
    first, second = (view.flatten(2).quantile(tenths, dim=2).diff(dim=0).amax((0, 2)) < 1.2 for view in pair)
    assert not first.any()
    assert 0.05 < second.double().mean() < 0.3
