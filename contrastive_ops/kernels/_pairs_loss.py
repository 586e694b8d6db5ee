"""Pairs against each other, in both directions of one matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import full_precision
from contrastive_ops.kernels import _dense
from contrastive_ops.kernels._blocks import known_bound, wants_gradient
from contrastive_ops.kernels._dispatch import passes
from contrastive_ops.kernels._pull import margin_loss


def contrast_pairs(
    left: Tensor,
    right: Tensor,
    scale: float | Tensor,
    *,
    block_size: int | None = None,
    bound: float | None = None,
) -> Tensor:
    """(N,) `contrast` of left_i with right_i against the other right_j, plus that of right_i against the other left_j.

    Args:
        left: (N, D) rows.
        right: (N, D) rows.
        scale: what multiplies inner products.
        block_size: columns per block; None chooses.
        bound: no |scale <left_i, right_j>| is larger; None: not known beforehand.
    """
    bound = known_bound(left, right, None, scale) if bound is None else bound
    rows, wanted = (left, right, scale), [wants_gradient(x) for x in (left, right, scale)]
    if _dense.keeps(left, len(right), block_size, bound):
        dense: Tensor = _DensePairs.apply(*rows, wanted)
        return dense
    result: Tensor = _Pairs.apply(*rows, wanted, {"block_size": block_size, "bound": bound, "drop_own": True})
    return result


class _Pairs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, left: Tensor, right: Tensor, scale: float | Tensor, wanted: list[bool], options: dict[str, Any]
    ) -> Tensor:
        scaled = left * scale
        lse = torch.stack(passes(left).attend_pairs(scaled, right, **options))
        margin = lse - (scaled * right).sum(1)
        ctx.wanted, ctx.options, ctx.scale = wanted, options, None if isinstance(scale, Tensor) else scale
        ctx.save_for_backward(scale if ctx.scale is None else None, left, right, scaled, lse, margin)
        return margin_loss(margin).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, left, right, scaled, lse, margin = ctx.saved_tensors
        with full_precision(gradient.device):
            pull = gradient * margin.sigmoid()
            for_scaled, for_right = passes(left).pairs_gradient(scaled, right, *lse, *pull, **ctx.options)
            of_pair = pull.sum(0).unsqueeze(1)
            for_scaled, for_right = (
                for_scaled.addcmul_(of_pair, right, value=-1),
                for_right.addcmul_(of_pair, scaled, value=-1),
            )
            return _unscaled(ctx, scale, left, for_scaled, for_right)


def _unscaled(ctx: Any, scale: Any, left: Tensor, for_scaled: Tensor, for_right: Tensor) -> tuple[Tensor | None, ...]:
    of_left, of_right, of_scale = ctx.wanted
    return (
        for_scaled * (ctx.scale if scale is None else scale) if of_left else None,
        for_right if of_right else None,
        (left * for_scaled).sum() if of_scale else None,
        *[None] * 2,
    )


class _DensePairs(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, left: Tensor, right: Tensor, scale: float | Tensor, wanted: list[bool]) -> Tensor:
        scaled = left * scale
        weights = torch.mm(scaled, right.t()).exp_()
        target = weights.diagonal().clone()
        weights.fill_diagonal_(0)
        total = torch.stack([weights.sum(1), weights.sum(0)])
        ctx.wanted, ctx.scale = wanted, None if isinstance(scale, Tensor) else scale
        ctx.save_for_backward(scale if ctx.scale is None else None, left, right, scaled, weights, total, target)
        return _dense.loss(total, target).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, left, right, scaled, weights, total, target = ctx.saved_tensors
        with full_precision(gradient.device):
            factor, pull = _dense.pull(gradient, total, target)
            pulled = torch.add(factor[0].unsqueeze(1), factor[1]).mul_(weights)
            pulled.diagonal().copy_(pull.sum(0).neg_())
            return _unscaled(ctx, scale, left, pulled @ right, pulled.t() @ scaled)[:4]
