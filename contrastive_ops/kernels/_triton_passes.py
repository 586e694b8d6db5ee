"""The passes over the matrix of logits by Triton's kernels: the names, arguments and results of torch's own passes.

Rows are float32, bfloat16 or float16; results are float32. The tiles have their own sizes and a running maximum, so
`block_size` and `bound` are not needed here.
"""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.kernels import _triton_ops as ops


def attend(
    query: Tensor,
    keys: Tensor,
    mask: Tensor | None,
    drop: Tensor | None,
    *,
    block_size: int | None,
    bound: float | None,
    with_output: bool,
) -> tuple[Tensor, Tensor | None]:
    """lse_i = log sum_j e^{s_ij}, and output_i = sum_j softmax_ij keys_j, in one pass."""
    lse, output = ops.attend(query, keys, None, mask, drop, False, with_output)
    return lse, output if with_output else None


def keys_gradient(
    query: Tensor,
    keys: Tensor,
    lse: Tensor,
    pull: Tensor,
    mask: Tensor | None,
    drop: Tensor | None,
    *,
    block_size: int | None,
    bound: float | None,
) -> Tensor:
    """sum_i pull_i softmax_ij query_i: here the keys own the programs, and the mask is read sideways."""
    sideways = None if mask is None else mask.transpose(-1, -2)
    result: Tensor = ops.weighted(keys, query, None, sideways, None, drop, None, None, lse, pull, False)
    return result


def attend_pairs(
    left: Tensor, right: Tensor, *, drop_own: bool, block_size: int | None, bound: float | None
) -> tuple[Tensor, Tensor]:
    """(N,) log sum_j e^{s_ij} and (N,) log sum_i e^{s_ij}, without i = j for drop_own."""
    row_lse, column_lse = ops.pairs(left, right, drop_own)
    return row_lse, column_lse


def pairs_gradient(
    left: Tensor,
    right: Tensor,
    row_lse: Tensor,
    column_lse: Tensor | None,
    row_pull: Tensor,
    column_pull: Tensor | None,
    *,
    drop_own: bool,
    block_size: int | None,
    bound: float | None,
) -> tuple[Tensor, Tensor]:
    """G right and G^T left: the logits are made once for each, since rows of both sides own their sums."""
    rows, columns, none = (row_lse, row_pull), (column_lse, column_pull), (None, None, None, None)
    return (
        ops.weighted(left, right, *none, *rows, *columns, drop_own),
        ops.weighted(right, left, *none, *columns, *rows, drop_own),
    )


def rows_gradient(
    left: Tensor,
    right: Tensor,
    row_lse: Tensor | None,
    row_pull: Tensor | None,
    column_lse: Tensor | None,
    column_pull: Tensor | None,
    drop: Tensor | None,
    *,
    block_size: int | None,
    bound: float | None,
) -> Tensor:
    """(N, D) G right alone, for N rows and M columns."""
    sides = (row_lse, row_pull, column_lse, column_pull)
    result: Tensor = ops.weighted(left, right, None, None, drop, None, *sides, False)
    return result


def attend_self(rows: Tensor, scale: float | Tensor, *, block_size: int | None, bound: float | None) -> Tensor:
    """(M,) log sum_j e^{scale <rows_i, rows_j>}, j neither i nor its pair."""
    lse: Tensor = ops.attend(rows, rows, _scalar(scale, rows), None, _pair(rows), True, False)[0]
    return lse


def self_gradient(
    rows: Tensor, scale: float | Tensor, lse: Tensor, pull: Tensor, *, block_size: int | None, bound: float | None
) -> Tensor:
    """(M, D) scale * sum_j e^{s_ij} (pull_i e^{-lse_i} + pull_j e^{-lse_j}) rows_j."""
    result: Tensor = ops.weighted(
        rows, rows, _scalar(scale, rows), None, _pair(rows), None, lse, pull, lse, pull, True
    )
    return result


def _pair(rows: Tensor) -> Tensor:
    """(M, 1) the place of each row's pair; the row itself is dropped by its number."""
    return torch.arange(len(rows), device=rows.device).roll(len(rows) // 2).unsqueeze(1)


def _scalar(value: float | Tensor, like: Tensor) -> Tensor:
    """On the device, filled there: copying a number to it would wait."""
    if isinstance(value, Tensor):
        return value.detach().to(like.device, torch.float32)
    return torch.full((), value, dtype=torch.float32, device=like.device)
