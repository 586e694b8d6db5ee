"""Both directions of one matrix of logits: row and column log-sum-exps from one product, and both gradients."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.kernels._blocks import (
    block_shape,
    logits_block,
    rows_of,
    scratch,
    spans,
    tile,
    tile_size,
    unshifted,
)
from contrastive_ops.kernels._pull import part, pulled, side


def attend_pairs(
    left: Tensor, right: Tensor, *, drop_own: bool, block_size: int | None, bound: float | None
) -> tuple[Tensor, Tensor]:
    """(N,) log sum_j e^{s_ij} and (N,) log sum_i e^{s_ij} of s_ij = <left_i, right_j>, without i = j for drop_own."""
    if unshifted(left.dtype, bound):
        return _sums(left, right, drop_own, tile_size(len(left), left.device, block_size))
    row_lse, column_lse = (left.new_full((len(left),), float("-inf")) for _ in range(2))
    size = tile_size(len(left), left.device, block_size)
    room = scratch(left, size, size)
    for rows in spans(len(left), size):
        for columns in spans(len(right), size):
            logits = _tile(left, right, rows, columns, drop_own, room)
            row_lse[rows] = torch.logaddexp(row_lse[rows], logits.logsumexp(1))
            column_lse[columns] = torch.logaddexp(column_lse[columns], logits.logsumexp(0))
    return row_lse, column_lse


def _sums(left: Tensor, right: Tensor, drop_own: bool, size: int) -> tuple[Tensor, Tensor]:
    """Where no exponential can overflow: one exponential for both directions."""
    row_total, column_total, room = left.new_zeros(len(left)), left.new_zeros(len(left)), scratch(left, size, size)
    for rows in spans(len(left), size):
        for columns in spans(len(right), size):
            weights = _tile(left, right, rows, columns, drop_own, room).exp_()
            row_total[rows] += weights.sum(1)
            column_total[columns] += weights.sum(0)
    return row_total.log(), column_total.log()


def _tile(left: Tensor, right: Tensor, rows: slice, columns: slice, drop_own: bool, room: Tensor) -> Tensor:
    """Logits of some rows and columns of a square matrix."""
    logits = tile(left[rows], right[columns], room)
    if drop_own and rows == columns:
        logits.diagonal().fill_(float("-inf"))
    return logits


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
    d_left, d_right = torch.zeros_like(left), torch.zeros_like(right)
    plain, size = unshifted(left.dtype, bound), tile_size(len(left), left.device, block_size)
    by_row, by_column = side(row_lse, row_pull, plain), side(column_lse, column_pull, plain)
    room, other = scratch(left, size, size), scratch(left, size, size)
    for rows in spans(len(left), size):
        for columns in spans(len(right), size):
            logits = _tile(left, right, rows, columns, drop_own, room)
            weights = pulled(logits, part(by_row, rows), part(by_column, columns), other)
            d_left[rows].addmm_(weights, right[columns])
            d_right[columns].addmm_(weights.t(), left[rows])
    return d_left, d_right


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
    d_left, plain = torch.zeros_like(left), unshifted(left.dtype, bound)
    by_row, by_column = side(row_lse, row_pull, plain), side(column_lse, column_pull, plain)
    height, width = block_shape(len(left), len(right), left.device, block_size)
    room, other = scratch(left, height, width), scratch(left, height, width)
    for rows in spans(len(left), height):
        for columns in spans(len(right), width):
            logits = logits_block(left[rows], right, None, rows_of(drop, rows), columns, room)
            d_left[rows].addmm_(pulled(logits, part(by_row, rows), part(by_column, columns), other), right[columns])
    return d_left
