"""The strategies of the conformance kit draw what they say, all of it, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import find, given
from hypothesis import strategies as st
from torch import Tensor

from contrastive_ops.testing.strategies import embeddings, masks, pairs, splits, temperatures, with_negatives


def _is_sound(x: Tensor) -> bool:
    return x.ndim == 2 and bool(torch.isfinite(x).all()) and not bool((x == 0).all(1).any())


@given(embeddings(rows=(0, 7), dim=(1, 5)))
def test_embeddings_are_finite_and_have_no_zero_row(x: Tensor) -> None:
    assert len(x) <= 7
    assert 1 <= x.shape[1] <= 5
    assert _is_sound(x)


@pytest.mark.parametrize(
    "wanted",
    [
        *(lambda x, d=d: x.dtype == d for d in (torch.float16, torch.bfloat16, torch.float32, torch.float64)),
        lambda x: x.stride()[0] == 0 and len(x) > 1,
        lambda x: x.stride() == (1, len(x)) and min(x.shape) > 1,
        lambda x: x.stride()[1] == 2,
        lambda x: len(x) > 1 and x.norm(dim=1).max() > 1000 * x.norm(dim=1).min(),
        lambda x: len(x) > 1 and 0 < (x[0] - x[1]).norm() < 0.1 * x[0].norm(),
    ],
)
def test_embeddings_have_every_dtype_layout_and_kind(wanted: Callable[[Tensor], bool]) -> None:
    find(embeddings(dim=(2, 4)), lambda x: bool(wanted(x)))


def test_zero_rows_come_where_they_are_asked_for() -> None:
    find(embeddings(zero_rows=True), lambda x: bool((x == 0).all(1).any()))


@given(pairs(dtypes=(torch.float16, torch.float64), layouts=("contiguous", "transposed")))
def test_pairs_are_of_one_shape_and_dtype(pair: tuple[Tensor, Tensor]) -> None:
    z1, z2 = pair
    assert z1.shape == z2.shape
    assert z1.dtype == z2.dtype
    assert _is_sound(z1) and _is_sound(z2)


@given(pairs(kinds=["hard"], rows=(3, 6)))
def test_partners_of_hard_pairs_point_away(pair: tuple[Tensor, Tensor]) -> None:
    z1, z2 = pair
    if len(z1.unique(dim=0)) == len(z1):
        away = z1.roll(1, 0) - z1 / 2
        assert torch.equal(z2[(away != 0).any(1)], away[(away != 0).any(1)])


@given(pairs(kinds=["near"]))
def test_partners_of_near_pairs_are_nearly_the_same(pair: tuple[Tensor, Tensor]) -> None:
    assert torch.nn.functional.cosine_similarity(*pair).min() > 0.999


@given(with_negatives(rows=(1, 3), negatives=(0, 5)))
def test_negatives_have_the_width_and_dtype_of_the_query(drawn: tuple[Tensor, Tensor, Tensor]) -> None:
    query, key, negatives = drawn
    assert query.shape == key.shape
    assert negatives.shape[1] == query.shape[1]
    assert negatives.dtype == query.dtype
    assert len(negatives) <= 5


@given(st.data(), st.integers(0, 12), st.integers(1, 4), st.booleans())
def test_splits_add_up(data: Any, total: int, world_size: int, empty: bool) -> None:
    total = max(total, world_size)
    sizes = data.draw(splits(total, world_size, empty=empty))
    assert len(sizes) == world_size
    assert sum(sizes) == total
    assert min(sizes) >= (0 if empty else 1)


@given(temperatures(0.05, 0.5))
def test_temperatures_stay_in_their_range(temperature: float) -> None:
    assert 0.05 <= temperature <= 0.5 * (1 + 1e-12)


@given(st.data(), st.integers(0, 5), st.integers(1, 6), st.integers(0, 6))
def test_masks_keep_what_they_must(data: Any, rows: int, columns: int, keep: int) -> None:
    mask = data.draw(masks(rows, columns, keep=min(keep, columns)))
    assert mask.shape == (rows, columns)
    assert mask.dtype == torch.bool
    assert ((~mask).sum(1) >= min(keep, columns)).all()


@pytest.mark.parametrize(
    ("call", "error", "argument"),
    [
        (lambda: embeddings(rows=-1), ValueError, "rows"),
        (lambda: embeddings(rows=(1, 2, 3)), ValueError, "rows"),
        (lambda: embeddings(rows=(3, 2)), ValueError, "rows"),
        (lambda: embeddings(dim=0), ValueError, "dim"),
        (lambda: embeddings(dim=2.0), TypeError, "dim"),
        (lambda: embeddings(kinds=["hard"]), ValueError, "kinds"),
        (lambda: embeddings(layouts="sliced"), ValueError, "layouts"),
        (lambda: embeddings(dtypes=[torch.int64]), ValueError, "dtypes"),
        (lambda: pairs(kinds=[]), ValueError, "kinds"),
        (lambda: pairs(zero_rows=1), TypeError, "zero_rows"),
        (lambda: with_negatives(negatives=-1), ValueError, "negatives"),
        (lambda: splits(1, 2, empty=False), ValueError, "total"),
        (lambda: splits(-1, 2), ValueError, "total"),
        (lambda: splits(4, 0), ValueError, "world_size"),
        (lambda: temperatures(0.0), ValueError, "low"),
        (lambda: temperatures(0.5, 0.1), ValueError, "high"),
        (lambda: masks(2, 3, keep=4), ValueError, "keep"),
        (lambda: masks(-1, 3), ValueError, "rows"),
    ],
)
def test_bad_arguments_are_named(call: Callable[[], object], error: type[Exception], argument: str) -> None:
    with pytest.raises(error, match=f"^{argument}"):
        call()
