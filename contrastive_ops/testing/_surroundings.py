"""Strategies for what surrounds the embeddings: batches split over ranks, temperatures, masks."""

from __future__ import annotations

import torch
from hypothesis import strategies as st
from torch import Tensor

from contrastive_ops._checks import is_count, is_flag, is_real


def splits(total: int, world_size: int, *, empty: bool = True) -> st.SearchStrategy[list[int]]:
    """How many of `total` rows each rank has: even first, then uneven, and ranks without any.

    Args:
        total: the rows of all ranks together.
        world_size: the number of ranks.
        empty: whether a rank may have no row.

    Returns:
        A strategy of lists of `world_size` numbers that add up to `total`.

    Raises:
        ValueError: a number out of range, or too few rows for all ranks to have one.
        TypeError: an argument of the wrong type.

    Example:
        >>> from hypothesis import find
        >>> find(splits(8, 3), lambda sizes: sum(sizes) == 8)
        [3, 3, 2]
        >>> find(splits(8, 3), lambda sizes: 0 in sizes)
        [0, 0, 8]
    """
    is_count("total", total, low=0)
    is_count("world_size", world_size)
    is_flag("empty", empty)
    least = 0 if empty else 1
    if total < least * world_size:
        raise ValueError(
            f"total: expected at least {world_size} rows, one for each rank, got {total}; allow empty=True"
        )
    even = [total // world_size + (rank < total % world_size) for rank in range(world_size)]
    spare = total - least * world_size
    cuts = st.lists(st.integers(0, spare), min_size=world_size - 1, max_size=world_size - 1).map(sorted)
    uneven = cuts.map(lambda at: [b - a + least for a, b in zip([0, *at], [*at, spare], strict=True)])
    return st.just(even) | uneven


def temperatures(low: float = 0.01, high: float = 1.0) -> st.SearchStrategy[float]:
    """Temperatures, uniform on the logarithmic scale; they shrink towards the warm end.

    Args:
        low: the lowest.
        high: the highest.

    Returns:
        A strategy of numbers from `low` to `high`.

    Raises:
        ValueError: not 0 < low <= high.
        TypeError: an argument is no number.

    Example:
        >>> from hypothesis import find
        >>> find(temperatures(), lambda t: t > 0)
        1.0
        >>> print(f"{find(temperatures(), lambda t: t < 0.1):.3f}")
        0.098
    """
    is_real("low", low, low=1e-30)
    is_real("high", high, low=low)
    steps = 200
    return st.integers(0, steps).map(lambda step: high if step == 0 else high * (low / high) ** (step / steps))


def masks(rows: int, columns: int, *, keep: int = 0) -> st.SearchStrategy[Tensor]:
    """Boolean masks, True where a negative is dropped.

    Args:
        rows: the number of queries.
        columns: the number of negatives.
        keep: how many of its negatives each row keeps at least.

    Returns:
        A strategy of (rows, columns) boolean tensors.

    Raises:
        ValueError: a negative number, or `keep` above `columns`.
        TypeError: an argument is no integer.

    Example:
        >>> from hypothesis import find
        >>> find(masks(2, 3, keep=1), lambda mask: int(mask.sum()) == 4).tolist()
        [[False, True, True], [False, True, True]]
    """
    is_count("rows", rows, low=0)
    is_count("columns", columns, low=0)
    is_count("keep", keep, low=0)
    if keep > columns:
        raise ValueError(f"keep: expected at most {columns}, the number of columns, got {keep}")

    def mask(entries: list[bool]) -> Tensor:
        drops = torch.tensor(entries, dtype=torch.bool).view(rows, columns)
        for row in drops:  # too much dropped: the first ones stay
            row[row.nonzero()[: max(0, keep - int((~row).sum()))]] = False
        return drops

    return st.lists(st.booleans(), min_size=rows * columns, max_size=rows * columns).map(mask)
