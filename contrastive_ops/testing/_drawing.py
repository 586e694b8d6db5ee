"""How the strategies of embeddings draw: sizes, entries, kinds of values, layouts in memory."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from hypothesis import strategies as st
from torch import Tensor

from contrastive_ops._checks import is_choice, is_count, is_flag, show

Size: TypeAlias = int | tuple[int, int]
DTYPES = (torch.float64, torch.float32, torch.bfloat16, torch.float16)
KINDS = ("plain", "near", "scaled")
PAIR_KINDS = ("plain", "hard", "near", "scaled")
LAYOUTS = ("contiguous", "transposed", "sliced", "expanded")
_CLOSE = 2.0**-7  # how far near-duplicates lie apart: bf16 still tells some of them from each other


def check(
    dtypes: Sequence[torch.dtype],
    kinds: Sequence[str],
    known: Sequence[str],
    layouts: Sequence[str],
    zero_rows: bool,
    **sizes: Size,
) -> None:
    """Input errors of all three strategies; sizes by the name of their argument."""
    for name, given in sizes.items():
        if isinstance(given, tuple) and len(given) != 2:
            raise ValueError(f"{name}: expected a number or a pair (fewest, most), got {show(given)}")
        low, high = given if isinstance(given, tuple) else (given, given)
        is_count(name, low, low=1 if name == "dim" else 0)
        is_count(name, high, low=low)
    for name, chosen, choices in (("kinds", kinds, known), ("layouts", layouts, LAYOUTS)):
        if not chosen or isinstance(chosen, str):
            raise ValueError(f"{name}: expected a non-empty sequence of {', '.join(choices)}, got {chosen!r}")
        for value in chosen:
            is_choice(name, value, choices)
    if not dtypes or not all(isinstance(d, torch.dtype) and d.is_floating_point for d in dtypes):
        raise ValueError(f"dtypes: expected floating-point torch dtypes, got {dtypes!r}")
    is_flag("zero_rows", zero_rows)


def size(given: Size) -> st.SearchStrategy[int]:
    """A number as it is, or one of a range."""
    return st.integers(*given) if isinstance(given, tuple) else st.just(given)


@st.composite
def numbers(draw: st.DrawFn, rows: int, dim: int, zero_rows: bool) -> Tensor:
    """(rows, dim) quarters; a row that may not be zero becomes (1, 0, ...)."""
    entries = draw(st.lists(st.integers(-8, 8), min_size=rows * dim, max_size=rows * dim))
    x = torch.tensor(entries, dtype=torch.float64).view(rows, dim) / 4
    if not zero_rows:
        x[(x == 0).all(1), 0] = 1.0
    return x


@st.composite
def changed(draw: st.DrawFn, x: Tensor, kind: str) -> Tensor:
    """Rows that are nearly the first one, rows of very different lengths, or the rows as they are."""
    if kind == "near":
        return _beside(x[:1].expand_as(x))
    if kind == "scaled":
        lengths = draw(st.lists(st.integers(-10, 10), min_size=len(x), max_size=len(x)))
        return x * torch.tensor(lengths, dtype=torch.float64).exp2().unsqueeze(1)
    return x


@st.composite
def partner(draw: st.DrawFn, z1: Tensor, kind: str, zero_rows: bool) -> Tensor:
    """The other side of each pair."""
    if kind == "near":
        return _beside(z1)
    if kind == "hard":  # away from its own row, on the side of the next one
        away = z1.roll(1, 0) - z1 / 2
        return torch.where((away == 0).all(1, keepdim=True), -z1, away)
    z2: Tensor = draw(numbers(len(z1), z1.shape[1], zero_rows))
    return draw(changed(z2, kind))


def _beside(x: Tensor) -> Tensor:
    """Each entry moved a little, each by another amount."""
    steps = torch.arange(x.numel(), dtype=x.dtype).view(x.shape) % 3 - 1
    return x * (1 + _CLOSE * steps)


def laid_out(x: Tensor, layout: str) -> Tensor:
    """The same values in another order in memory ("expanded": the first row's values, seen as many)."""
    if layout == "transposed":
        return x.T.contiguous().T
    if layout == "sliced":
        return x.repeat_interleave(2, dim=1)[:, ::2]
    if layout == "expanded" and len(x):
        return x[:1].expand_as(x)
    return x
