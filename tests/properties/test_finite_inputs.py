"""A NaN or an infinity anywhere is found without temporaries; finite numbers pass, however large their sum."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from contrastive_ops import _checks
from tests.allocations import allocated

DTYPES = (torch.float64, torch.float32, torch.float16, torch.bfloat16)
WRONG = st.lists(st.sampled_from([float("nan"), float("inf"), float("-inf")]), min_size=1, max_size=3)


@given(st.integers(1, 300), WRONG, st.sampled_from(DTYPES), st.data())
def test_what_is_not_finite_is_counted(size: int, wrong: list[float], dtype: torch.dtype, data: st.DataObject) -> None:
    """Infinities of both signs too, whose sum is no infinity."""
    x = torch.randn(size).to(dtype)
    places = data.draw(
        st.sets(st.integers(0, size - 1), min_size=min(size, len(wrong)), max_size=min(size, len(wrong)))
    )
    for place, value in zip(places, wrong, strict=False):
        x[place] = value
    with pytest.raises(ValueError, match=f"x: expected finite values, got {len(places)} NaN or infinite of {size};"):
        _checks.is_floating("x", x, shape=("N",))


@pytest.mark.parametrize("dtype", DTYPES, ids=str)
@pytest.mark.parametrize("size", [0, 1, 100])
def test_large_finite_values_pass(dtype: torch.dtype, size: int) -> None:
    x = torch.full((size,), torch.finfo(dtype).max, dtype=dtype)
    for values in (x, -x, torch.cat([x, -x])):
        assert _checks.is_floating("x", values, shape=("N",)) is values


def test_looking_makes_one_number() -> None:
    x = torch.randn(1000, 30, requires_grad=True)
    assert allocated(_checks.is_floating, "x", x, shape=("N", 30)).made == [4]
