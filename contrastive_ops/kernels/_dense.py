"""Matrices smaller than one block: their exponentials are kept for the backward pass.

With e_i the exponential of the positive and t_i the sum of the negatives', both over e^{c_i} of some shift c_i, the
loss is log(1 + t_i / e_i), and what pulls at a negative is E_ij / (e_i + t_i): nothing is special where no negative is
left. Where logits are known to be small the shift is zero; else it is the row's largest logit, so that e_i + t_i >= 1.
At this size the number of operations counts, not their length: rows are normalised in the same step.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import full_precision, through_unit, unit_and_length
from contrastive_ops.kernels._blocks import known_bound

_SAFE = {torch.float32: 40.0, torch.float64: 300.0}  # the quotient of two exponentials must fit too


def unshifted(dtype: torch.dtype, bound: float | None) -> bool:
    """Whether logits of this bound need no shift."""
    return bound is not None and bound <= _SAFE.get(dtype, 0.0)


def exponentials(logits: Tensor, positive: Tensor, plain: bool) -> tuple[Tensor | None, Tensor]:
    """In place of the logits; returns c - positive, if there is a shift, and the positives' exponentials."""
    if plain:
        logits.exp_()
        return None, positive.exp()
    shift = torch.maximum(logits.amax(-1), positive) if logits.shape[-1] else positive
    logits.sub_(shift.unsqueeze(-1)).exp_()
    above = shift - positive
    return above, (-above).exp_()


def loss(above: Tensor | None, total: Tensor, positive: Tensor) -> Tensor:
    """log(1 + t / e)."""
    if above is None:
        return (total / positive).log1p_()
    return (total + (positive - 1)).log1p_().add_(above)


def pull(gradient: Tensor, total: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """gradient / (e + t), the factor of the negatives' exponentials, and their sum, which pulls at the positive."""
    factor = gradient / (total + positive)
    return factor, factor * total


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """One process' rows: "mean", "sum", or "none": as they are."""
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses


def of_rows(gradient: Tensor, reduction: str, count: int) -> Tensor:
    """The gradient of each row's loss, or that of all, from that of what they were reduced to."""
    return gradient / count if reduction == "mean" else gradient


def remember(ctx: Any, scale: float | Tensor, *tensors: Tensor | None) -> None:
    """Save tensors for the backward pass, and the scale, whatever it is."""
    learned = isinstance(scale, Tensor)
    ctx.scale = None if learned else scale
    ctx.save_for_backward(scale if learned else None, *tensors)


def recall(ctx: Any) -> tuple[Any, ...]:
    """What was remembered, the scale first."""
    scale, *tensors = ctx.saved_tensors
    return ctx.scale if scale is None else scale, *tensors


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
        rows = torch.cat([left, right])
        rows, length = unit_and_length(rows) if normalize else (rows, None)
        weights = torch.mm(rows[: len(left)] * scale, rows[len(left) :].t())
        if both and not plain:
            weights = torch.stack([weights, weights.t()])
        diagonal = weights.diagonal(dim1=-2, dim2=-1)
        above, target = exponentials(weights, diagonal.clone(), plain)
        diagonal.zero_()
        total = torch.stack([weights.sum(1), weights.sum(0)]) if both and plain else weights.sum(-1)
        ctx.wanted, ctx.reduction = wanted, reduction
        remember(ctx, scale, rows, length, weights, total, target)
        losses = loss(above, total, target)
        return reduced(losses.sum(0) if both else losses, reduction)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, rows, length, weights, total, target = recall(ctx)
        first, second = rows.chunk(2)
        with full_precision(gradient.device):
            factor, of_target = pull(of_rows(gradient, ctx.reduction, len(first)), total, target)
            weights = _pulled(weights, factor)
            weights.diagonal().sub_(of_target if factor.ndim == 1 else of_target.sum(0))
            for_rows = torch.cat([torch.mm(weights, second), torch.mm(weights.t(), first)])
            of_scale = (rows * for_rows).sum() / 2 if ctx.wanted[2] else None  # the same sum over either side
            for_rows = for_rows.mul_(scale) if length is None else through_unit(for_rows, rows, length / scale)
            of_left, of_right = for_rows.chunk(2)
            return of_left if ctx.wanted[0] else None, of_right if ctx.wanted[1] else None, of_scale, *[None] * 5


def _pulled(weights: Tensor, factor: Tensor) -> Tensor:
    """What pulls at each logit: weights of one direction, of both in one matrix, or of both in two."""
    if factor.ndim == 1:
        return weights * factor.unsqueeze(1)
    if weights.ndim == 2:
        return (factor[0].unsqueeze(1) + factor[1]).mul_(weights)
    both = weights * factor.unsqueeze(2)
    return both[0] + both[1].t()


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
        positive = partners(weights)
        above, target = exponentials(weights, positive.clone().flatten(), plain)
        positive.zero_()
        total = weights.sum(1)
        ctx.wanted, ctx.plain, ctx.reduction = wanted, plain, reduction
        remember(ctx, scale, rows, length, weights, total, target)
        return reduced(loss(above, total, target), reduction)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, rows, length, weights, total, target = recall(ctx)
        with full_precision(gradient.device):
            factor, of_target = pull(of_rows(gradient, ctx.reduction, len(rows)), total, target)
            if ctx.plain:
                weights = (factor.unsqueeze(1) + factor).mul_(weights)
            else:
                weights = weights * factor.unsqueeze(1)
                weights = weights + weights.t()
            partners(weights).sub_(of_target.view(2, -1).sum(0))
            for_rows = torch.mm(weights, rows)
            of_scale = (rows * for_rows).sum() / 2 if ctx.wanted[2] else None  # logits are quadratic in the rows
            for_rows = for_rows.mul_(scale) if length is None else through_unit(for_rows, rows, length / scale)
            of_first, of_second = for_rows.chunk(2)
            return of_first if ctx.wanted[0] else None, of_second if ctx.wanted[1] else None, of_scale, *[None] * 3


def partners(matrix: Tensor) -> Tensor:
    """(2, N) view of (2N, 2N): where row i meets row N + i, and where that meets row i, in one operation."""
    half = len(matrix) // 2
    return matrix.as_strided((2, half), (half * (2 * half - 1), 2 * half + 1), half)
