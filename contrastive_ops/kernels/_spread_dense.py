"""The loss of InvaSpread where all rows are here, their matrix is smaller than one block, and logits need no shift.

With E the exponentials, e that of the positive, t their sum over the negatives, u the nearest one and o = e + t - u
(not made by subtraction), the loss is log(1 + t / e) + log(1 + u / o) - sum_b log(1 - E_b / (e + t)), where the sum
leaves out the nearest.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import through_unit, unit_and_length
from contrastive_ops.kernels._dense import recall, reduced, remember
from contrastive_ops.kernels._dense_views import partners


class DenseSpread(torch.autograd.Function):
    """Of two views (N, D); each row moves as an anchor only."""

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
        rows, length = unit_and_length(rows) if normalize else (rows, None)
        weights = torch.mm(rows * scale, rows.t()).exp_().fill_diagonal_(0)
        pairs = partners(weights)
        positive = pairs.clone().flatten()
        pairs.zero_()
        top, nearest = weights.max(1, keepdim=True)
        weights.scatter_(1, nearest, 0)
        rest, top = weights.sum(1), top.squeeze(1)
        negative, others = rest + top, rest + positive
        everyone = negative + positive
        apart = torch.div(weights, -everyone.unsqueeze(1)).log1p_().sum(1)
        ctx.wanted, ctx.reduction = wanted, reduction
        if any(wanted):
            for_rows = torch.mm(_pulled(weights, nearest, positive, top, negative, others, everyone), rows)
            along = (rows * for_rows).sum(1, keepdim=True) if wanted[2] else None
            remember(ctx, scale, for_rows if length is None else through_unit(for_rows, rows, length), along)
        return reduced((negative / positive).log1p_().add_((top / others).log1p_()).sub_(apart), reduction)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, for_rows, along = recall(ctx)
        share = 1 / len(for_rows) if ctx.reduction == "mean" else 1
        of_first, of_second = (for_rows * (gradient * (scale * share)).view(-1, 1)).chunk(2)
        of_scale = (along * gradient.view(-1, 1)).sum() * share if ctx.wanted[2] else None
        return of_first if ctx.wanted[0] else None, of_second if ctx.wanted[1] else None, of_scale, *[None] * 3


def _pulled(
    weights: Tensor,
    nearest: Tensor,
    positive: Tensor,
    top: Tensor,
    negative: Tensor,
    others: Tensor,
    everyone: Tensor,
) -> Tensor:
    """The slopes of each row's loss with respect to its logits."""
    slopes = weights / (everyone.unsqueeze(1) - weights)
    pulls = slopes.sum(1)
    slopes.addcmul_(weights, ((1 - pulls - top / others) / everyone).unsqueeze(1))
    slopes.scatter_(1, nearest, (top * (2 - pulls) / everyone).unsqueeze(1))
    of_positive = (negative + positive * (top / others + pulls)).div_(-everyone)
    partners(slopes).copy_(of_positive.view(2, -1))
    return slopes
