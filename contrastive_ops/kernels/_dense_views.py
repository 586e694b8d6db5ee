"""Two views' rows, where the matrix of logits is smaller than one block: left against right, or all against all."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import through_unit, unit_and_length
from contrastive_ops.kernels._blocks import known_bound
from contrastive_ops.kernels._dense import back, exponentials_of, keep, loss, reduced, unshifted


class DensePairs(torch.autograd.Function):
    """Each left row with the right ones, and `both`: the reverse too, from the same exponentials if they are plain."""

    @staticmethod
    def forward(
        ctx: Any,
        left: Tensor,
        right: Tensor,
        scale: float | Tensor,
        both: bool,
        normalize: bool,
        plain: bool,
        reduction: str,
        wanted: list[bool],
    ) -> Tensor:
        rows = torch.stack([left, right])
        rows, length = unit_and_length(rows) if normalize else (rows, None)
        first, second = rows.unbind()
        weights = torch.mm(first * scale, second.t())
        if both and not plain:
            weights = torch.stack([weights, weights.t()])
        above, target = exponentials_of(weights, weights.diagonal(0, -2, -1), plain)
        total = torch.stack([weights.sum(1), weights.sum(0)]) if both and plain else weights.sum(-1)
        losses = loss(above, total, target)
        ctx.wanted, ctx.reduction, ctx.count, ctx.pulled = wanted, reduction, len(first), _pairs_pulled
        keep(ctx, scale, rows, length, weights, total, total + target)
        return reduced(losses.sum(0) if both else losses, reduction)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        for_rows, of_scale = back(ctx, gradient)
        of_left, of_right = for_rows.unbind()
        return of_left if ctx.wanted[0] else None, of_right if ctx.wanted[1] else None, of_scale, *[None] * 5


def _pairs_pulled(
    rows: Tensor, length: Tensor | None, weights: Tensor, total: Tensor, everyone: Tensor, of_scale: bool
) -> tuple[Tensor, Tensor | None]:
    """Of the weights of one direction, of both in one matrix, or of both in two."""
    first, second = rows.unbind()
    of_target = total / everyone
    if weights.ndim < everyone.ndim + 1:
        factor = everyone.reciprocal()
        weights.mul_(factor[0].unsqueeze(1) + factor[1])
    else:
        weights.div_(everyone.unsqueeze(-1))
        weights = weights if weights.ndim == 2 else weights[0] + weights[1].t()
    weights.diagonal().sub_(of_target if of_target.ndim == 1 else of_target.sum(0))
    for_rows = torch.stack([torch.mm(weights, second), torch.mm(weights.t(), first)])
    along = (rows * for_rows).sum() / 2 if of_scale else None  # the same sum over either side
    return for_rows if length is None else through_unit(for_rows, rows, length), along


class DenseSelf(torch.autograd.Function):
    """Both views' rows with each other: one symmetric matrix, so one product is the gradient of both its factors."""

    @staticmethod
    def forward(
        ctx: Any,
        first: Tensor,
        second: Tensor,
        scale: float | Tensor,
        normalize: bool,
        reduction: str,
        wanted: list[bool],
    ) -> Tensor:
        rows = torch.cat([first, second])
        plain = unshifted(rows.dtype, known_bound(rows, rows, scale, normalize=normalize))
        rows, length = unit_and_length(rows) if normalize else (rows, None)
        weights = torch.mm(rows * scale, rows.t())
        weights.fill_diagonal_(float("-inf"))
        above, target = exponentials_of(weights, partners(weights), plain)
        total = weights.sum(1)
        losses = loss(above, total, target)
        ctx.wanted, ctx.reduction, ctx.count = wanted, reduction, len(rows)
        ctx.pulled = partial(_self_pulled, plain)
        keep(ctx, scale, rows, length, weights, total, total + target)
        return reduced(losses, reduction)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        for_rows, of_scale = back(ctx, gradient)
        of_first, of_second = for_rows.chunk(2)
        return of_first if ctx.wanted[0] else None, of_second if ctx.wanted[1] else None, of_scale, *[None] * 3


def _self_pulled(
    plain: bool,
    rows: Tensor,
    length: Tensor | None,
    weights: Tensor,
    total: Tensor,
    everyone: Tensor,
    of_scale: bool,
) -> tuple[Tensor, Tensor | None]:
    if plain:
        factor = everyone.reciprocal()
        weights.mul_(factor.unsqueeze(1) + factor)
    else:
        weights.div_(everyone.unsqueeze(1))
        weights = weights + weights.t()
    partners(weights).sub_((total / everyone).view(2, -1).sum(0))
    for_rows = torch.mm(weights, rows)
    along = (rows * for_rows).sum() / 2 if of_scale else None  # logits are quadratic in the rows
    return for_rows if length is None else through_unit(for_rows, rows, length), along


def partners(matrix: Tensor) -> Tensor:
    """(2, N) view of (2N, 2N): where row i meets row N + i, and where that meets row i, in one operation."""
    half = len(matrix) // 2
    return matrix.as_strided((2, half), (half * (2 * half - 1), 2 * half + 1), half)
