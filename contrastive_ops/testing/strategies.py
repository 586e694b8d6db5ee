"""Hypothesis strategies for embeddings and what goes with them; all shrink towards few, small, plain numbers.

Entries are quarters, so that each is exact in every floating-point dtype and a failing example is short to write down.
Where examples must be the same in every run, use `@settings(derandomize=True)`.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from hypothesis import strategies as st
from torch import Tensor

from contrastive_ops.testing._drawing import (
    DTYPES,
    KINDS,
    LAYOUTS,
    PAIR_KINDS,
    Size,
    changed,
    check,
    laid_out,
    numbers,
    partner,
    size,
)
from contrastive_ops.testing._surroundings import masks, splits, temperatures

__all__ = ["embeddings", "masks", "pairs", "splits", "temperatures", "with_negatives"]


def embeddings(
    *,
    rows: Size = (1, 6),
    dim: Size = (1, 4),
    dtypes: Sequence[torch.dtype] = DTYPES,
    kinds: Sequence[str] = KINDS,
    layouts: Sequence[str] = LAYOUTS,
    zero_rows: bool = False,
) -> st.SearchStrategy[Tensor]:
    """Embeddings of every shape, dtype and layout, with the values on which losses stumble.

    Args:
        rows: how many, a number or (fewest, most).
        dim: their width, a number or (least, most).
        dtypes: the floating-point dtypes to choose from; the first is the simplest.
        kinds: "plain": quarters between -2 and 2; "near": all rows nearly the same; "scaled": rows that differ in
            length by up to 2**20.
        layouts: "contiguous"; "transposed": columns lie together; "sliced": every second column of a wider tensor;
            "expanded": one row in memory, seen as many.
        zero_rows: whether a row may be zero.

    Returns:
        A strategy of (rows, dim) tensors.

    Raises:
        ValueError: a size below 0, an empty or unknown choice.
        TypeError: an argument of the wrong type.

    Example:
        >>> from hypothesis import find
        >>> find(embeddings(rows=(2, 6), dim=2), lambda x: x.dtype == torch.float16 and not x.is_contiguous())
        tensor([[1., 0.],
                [1., 0.]], dtype=torch.float16)
    """
    check(dtypes, kinds, KINDS, layouts, zero_rows, rows=rows, dim=dim)

    @st.composite
    def drawn(draw: st.DrawFn) -> Tensor:
        x = draw(numbers(draw(size(rows)), draw(size(dim)), zero_rows))
        x = draw(changed(x, draw(st.sampled_from(list(kinds)))))
        return laid_out(x.to(draw(st.sampled_from(list(dtypes)))), draw(st.sampled_from(list(layouts))))

    return drawn()


def pairs(
    *,
    rows: Size = (2, 6),
    dim: Size = (2, 4),
    dtypes: Sequence[torch.dtype] = DTYPES[:1],
    kinds: Sequence[str] = PAIR_KINDS,
    layouts: Sequence[str] = LAYOUTS[:1],
    zero_rows: bool = False,
) -> st.SearchStrategy[tuple[Tensor, ...]]:
    """Two embeddings of one shape and dtype: row i of the one belongs to row i of the other.

    Args:
        rows: how many, a number or (fewest, most).
        dim: their width, a number or (least, most).
        dtypes: the floating-point dtypes to choose from.
        kinds: "plain", "scaled": as for `embeddings`, each side its own; "hard": each row's partner points away from
            it, towards another row; "near": each row's partner is nearly the same.
        layouts: as for `embeddings`.
        zero_rows: whether a row may be zero.

    Returns:
        A strategy of (z1, z2).

    Raises:
        ValueError: a size below 0, an empty or unknown choice.
        TypeError: an argument of the wrong type.

    Example:
        >>> from hypothesis import find
        >>> z1, z2 = find(pairs(dim=2, kinds=["hard"]), lambda z: len(z[0]) == 3)
        >>> z1.tolist(), z2.tolist()
        ([[1.0, 0.0], [1.0, 0.0], [1.0, 0.0]], [[0.5, 0.0], [0.5, 0.0], [0.5, 0.0]])
    """
    check(dtypes, kinds, PAIR_KINDS, layouts, zero_rows, rows=rows, dim=dim)

    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[Tensor, ...]:
        shape, kind = (draw(size(rows)), draw(size(dim))), draw(st.sampled_from(list(kinds)))
        z1 = draw(numbers(*shape, zero_rows))
        z2 = draw(partner(z1, kind, zero_rows))
        z1 = draw(changed(z1, kind)) if kind == "scaled" else z1
        dtype, layout = draw(st.sampled_from(list(dtypes))), draw(st.sampled_from(list(layouts)))
        return laid_out(z1.to(dtype), layout), laid_out(z2.to(dtype), layout)

    return drawn()


def with_negatives(
    *,
    rows: Size = (1, 4),
    negatives: Size = (1, 6),
    dim: Size = (2, 4),
    dtypes: Sequence[torch.dtype] = DTYPES[:1],
    kinds: Sequence[str] = PAIR_KINDS,
    layouts: Sequence[str] = LAYOUTS[:1],
    zero_rows: bool = False,
) -> st.SearchStrategy[tuple[Tensor, ...]]:
    """Queries, their keys, and negatives that all queries share, as from a queue.

    Args:
        rows: how many queries, a number or (fewest, most).
        negatives: how many negatives, a number or (fewest, most).
        dim: the width of all, a number or (least, most).
        dtypes: the floating-point dtypes to choose from.
        kinds: as for `pairs`.
        layouts: as for `embeddings`.
        zero_rows: whether a row may be zero.

    Returns:
        A strategy of (query, key, negatives).

    Raises:
        ValueError: a size below 0, an empty or unknown choice.
        TypeError: an argument of the wrong type.

    Example:
        >>> from hypothesis import find
        >>> [x.tolist() for x in find(with_negatives(dim=2, kinds=["hard"]), lambda drawn: len(drawn[2]) == 2)]
        [[[1.0, 0.0]], [[0.5, 0.0]], [[1.0, 0.0], [1.0, 0.0]]]
    """
    check(dtypes, kinds, PAIR_KINDS, layouts, zero_rows, rows=rows, negatives=negatives, dim=dim)
    both = pairs(rows=rows, dim=dim, dtypes=dtypes, kinds=kinds, layouts=layouts, zero_rows=zero_rows)

    @st.composite
    def drawn(draw: st.DrawFn) -> tuple[Tensor, ...]:
        query, key = draw(both)
        keys = draw(numbers(draw(size(negatives)), query.shape[1], zero_rows))
        return query, key, laid_out(keys.to(query.dtype), draw(st.sampled_from(list(layouts))))

    return drawn()
