"""Pairs against each other: each row's partner is told from the partners of all other rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import directions, full_precision
from contrastive_ops.kernels._blocks import is_one_block, known_bound, wants_gradient
from contrastive_ops.kernels._contrast import contrast
from contrastive_ops.kernels._dense import recall, reduced, remember, unshifted
from contrastive_ops.kernels._dense_views import DensePairs
from contrastive_ops.kernels._dispatch import passes
from contrastive_ops.kernels._pull import margin_loss


def contrast_pairs(
    left: Tensor,
    right: Tensor,
    scale: float | Tensor,
    *,
    both: bool,
    normalize: bool,
    reduction: str,
    block_size: int | None,
) -> Tensor:
    """(N,) or reduced: `contrast` of left_i with right_i against the other right_j, and, `both`, the other way round.

    Args:
        left: (N, D) rows.
        right: (N, D) rows.
        scale: what multiplies inner products.
        both: the sum of both directions, from one matrix.
        normalize: inner products of the rows' directions.
        reduction: "mean", "sum" or "none", of this process' rows.
        block_size: columns per block; None chooses.
    """
    bound = known_bound(left, right, scale, normalize=normalize)
    wanted = [wants_gradient(left), wants_gradient(right), wants_gradient(scale)]
    if is_one_block(len(left), len(right), left.device, block_size):
        plain = unshifted(left.dtype, bound)
        dense: Tensor = DensePairs.apply(left, right, scale, both, normalize, plain, reduction, wanted)
        return dense
    left, right = (directions(left), directions(right)) if normalize else (left, right)
    if not both:
        own = torch.arange(len(left), device=left.device).unsqueeze(1)
        losses = contrast(left, right, scale, own=own, unit=normalize, block_size=block_size)
        return reduced(losses, reduction)
    options = {"block_size": block_size, "bound": bound, "drop_own": True}
    result: Tensor = _Pairs.apply(left, right, scale, wanted, options)
    return reduced(result, reduction)


class _Pairs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, scale: float | Tensor, wanted: list[bool], options: dict[str, Any]
    ) -> Tensor:
        scaled = left * scale
        lse = torch.stack(passes(left).attend_pairs(scaled, right, **options))
        margin = lse - (scaled * right).sum(1)
        ctx.wanted, ctx.options = wanted, options
        remember(ctx, scale, left, right, scaled, lse, margin)
        return margin_loss(margin).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, left, right, scaled, lse, margin = recall(ctx)
        of_left, of_right, of_scale = ctx.wanted
        with full_precision(gradient.device):
            pull = gradient * margin.sigmoid()
            for_scaled, for_right = passes(left).pairs_gradient(scaled, right, *lse, *pull, **ctx.options)
            of_pair = pull.sum(0).unsqueeze(1)
            for_scaled.addcmul_(of_pair, right, value=-1)
            for_right.addcmul_(of_pair, scaled, value=-1)
            return (
                for_scaled * scale if of_left else None,
                for_right if of_right else None,
                (left * for_scaled).sum() if of_scale else None,
                *[None] * 2,
            )
