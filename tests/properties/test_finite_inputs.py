"""A NaN or an infinity anywhere is found without temporaries; finite numbers pass, however large their sum."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import contrastive_ops as co
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


@pytest.mark.parametrize(
    ("loss", "names"),
    [
        (co.nt_xent, ("z1", "z2")),
        (partial(co.nt_xent, temperature=0.001), ("z1", "z2")),  # exponentials need a maximum
        (co.info_nce, ("query", "positive_key")),
        (partial(co.info_nce, symmetric=True, temperature=0.001), ("query", "positive_key")),
        (partial(co.clip_loss, logit_scale=2.0), ("image_features", "text_features")),
        (co.spread_loss, ("z1", "z2")),
        (partial(co.spread_loss, temperature=0.001), ("z1", "z2")),
    ],
    ids=["nt_xent", "nt_xent shifted", "info_nce", "symmetric shifted", "clip_loss", "spread_loss", "spread shifted"],
)
@pytest.mark.parametrize("block_size", [None, 2])
@given(
    wrong=st.sampled_from([float("nan"), float("inf"), float("-inf")]),
    rows=st.integers(1, 5),
    which=st.integers(0, 1),
    reduction=st.sampled_from(["mean", "sum", "none"]),
    dtype=st.sampled_from(DTYPES),
    data=st.data(),
)
def test_losses_of_one_process_name_what_is_not_finite(
    loss: Callable[..., torch.Tensor],
    names: tuple[str, str],
    block_size: int | None,
    wrong: float,
    rows: int,
    which: int,
    reduction: str,
    dtype: torch.dtype,
    data: st.DataObject,
) -> None:
    """Also where inputs are looked at only once a loss is not finite."""
    views = list(torch.randn(2, rows, 4).to(dtype).unbind(0))
    views[which][data.draw(st.integers(0, rows - 1)), data.draw(st.integers(0, 3))] = wrong
    with pytest.raises(ValueError, match=f"{names[which]}: expected finite values, got 1 NaN or infinite of"):
        loss(*views, reduction=reduction, block_size=block_size)


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_finite_values_whose_sum_is_not_are_finite(dtype: torch.dtype) -> None:
    largest = torch.full((8,), torch.finfo(dtype).max, dtype=dtype)
    assert _checks.is_floating("x", largest, shape=("B",)) is largest
    for bad in (float("nan"), float("inf"), -float("inf")):
        for values in ([bad, 1.0], [bad, -bad], [1.0, bad, 1.0]):
            with pytest.raises(ValueError, match="expected finite values"):
                _checks.is_floating("x", torch.tensor(values, dtype=dtype), shape=("B",))
