"""Views are normalised as the images of the evaluation are, whatever the paper's recipe does."""

import pytest
import torch
from _runtime.views import VIEWS, plain_view


@pytest.mark.parametrize("name", VIEWS)
def test_black_is_the_same_black_in_training_and_evaluation(name: str):
    """No recipe makes black anything else, but for those that invert colours."""
    views = VIEWS[name](torch.zeros(8, 3, 32, 32), size=32, generator=torch.Generator().manual_seed(0))
    black, white = (plain_view(torch.full((1, 3, 32, 32), value), size=32) for value in (0.0, 1.0))
    inverted = (views - white).abs().amax((1, 2, 3)) < 1e-4
    assert inverted.any().item() == name.startswith(("digits-v",))
    torch.testing.assert_close(views[~inverted], black.expand(int((~inverted).sum()), -1, -1, -1), atol=1e-4, rtol=0)
