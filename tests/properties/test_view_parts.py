"""What views are made of: draws that hang on the seed, runs of images, angles in half precision."""

from __future__ import annotations

from itertools import pairwise

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st

import contrastive_ops as co
from contrastive_ops.views import _draw


@given(
    st.integers(0, 2**31),
    st.integers(0, 40),
    st.lists(st.tuples(st.floats(-3, 0), st.floats(0.1, 3)), min_size=1, max_size=5),
)
def test_drawing_together_is_drawing_in_turn(seed: int, count: int, spans: list[tuple[float, float]]) -> None:
    """The views of a seed hang on it."""
    one, other = (torch.Generator().manual_seed(seed) for _ in range(2))
    together = _draw.uniforms(count, spans, one)
    in_turn = [_draw.uniform(count, low, high, other) for low, high in spans]
    torch.testing.assert_close(together, torch.stack(in_turn))
    assert torch.equal(one.get_state(), other.get_state())


@given(st.lists(st.booleans(), max_size=12))
def test_runs_are_where_it_is_true(some: list[bool]) -> None:
    found = _draw.runs(torch.tensor(some, dtype=torch.bool))
    inside = [i for first, last in found for i in range(first, last)]
    assert inside == [i for i, value in enumerate(some) if value]
    assert all(last < first for (_, last), (first, _) in pairwise(found))


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16], ids=str)
def test_half_precision_turns_images_by_the_same_angle(dtype: torch.dtype) -> None:
    """Places of pixels are known in single precision: half would move them by a tenth of a pixel and more."""
    coarse = torch.rand(4, 3, 12, 12, generator=torch.Generator().manual_seed(4))
    smooth = F.interpolate(coarse, size=(96, 96), mode="bilinear").to(dtype)
    exact, turned = (
        co.random_rotation(x, degrees=40, generator=torch.Generator().manual_seed(3)) for x in (smooth.float(), smooth)
    )
    rounding = 2 * torch.finfo(dtype).eps
    torch.testing.assert_close(turned.float(), exact, rtol=rounding, atol=rounding)
