"""Both directions of one matrix of logits: its row and column log-sum-exps from one product, and their gradients."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

from contrastive_ops.kernels._attend import attend
from contrastive_ops.kernels._logits import BLOCK_SIZE, logits_block


def attend_pairs(
    left: Tensor, right: Tensor, *, drop_own: bool, block_size: int | None, bound: float | None
) -> tuple[Tensor, Tensor]:
    """(N,) log sum_j e^{s_ij} and (N,) log sum_i e^{s_ij} of s_ij = <left_i, right_j>, without i = j for drop_own."""
    drop = torch.arange(len(left), device=left.device).unsqueeze(1) if drop_own else None
    both = [
        attend(a, b, None, drop, block_size=block_size, bound=bound, with_output=False)[0]
        for a, b in ((left, right), (right, left))
    ]
    return both[0], both[1]


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
    """G right and G^T left, with G_ij = row_pull_i e^{s_ij - row_lse_i} + column_pull_j e^{s_ij - column_lse_j}.

    No column pulls: the first term alone.
    """
    drop = torch.arange(len(left), device=left.device).unsqueeze(1) if drop_own else None
    rows, columns = (row_lse, row_pull), (column_lse, column_pull)
    side = partial(rows_gradient, drop=drop, block_size=block_size, bound=bound)
    return side(left, right, *rows, *columns), side(right, left, *columns, *rows)


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
    """(N, D) G right alone, for N rows and M columns; `drop` (N, k) as in `attend`, None pulls are none."""
    size, total = block_size or BLOCK_SIZE, torch.zeros_like(left)
    for start in range(0, len(right), size):
        logits = logits_block(left, right, None, drop, start, size)
        weights = torch.zeros_like(logits)
        if row_lse is not None and row_pull is not None:
            shift = row_lse.masked_fill(row_lse == float("-inf"), 0)
            weights = weights + (logits - shift.unsqueeze(1)).exp() * row_pull.unsqueeze(1)
        if column_lse is not None and column_pull is not None:
            part = slice(start, start + size)
            shift = column_lse[part].masked_fill(column_lse[part] == float("-inf"), 0)
            weights = weights + (logits - shift).exp() * column_pull[part]
        total = total + weights @ right[start : start + size]
    return total
