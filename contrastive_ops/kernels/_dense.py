"""Matrices smaller than one block: their exponentials stay, until the gradient has been made of them.

With e_i the exponential of the positive and t_i the sum of the negatives', both over e^{c_i} of some shift c_i, the
loss is log(1 + t_i / e_i), and what pulls at a negative is E_ij / (e_i + t_i): nothing is special where no negative is
left. Where logits are known to be small the shift is zero; else it is the row's largest logit, so that e_i + t_i >= 1.
At this size the number of operations counts, not their length: rows are normalised in the same step, and where the
losses are reduced to one number its gradient is made at once, in the place of the exponentials.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contrastive_ops._embeddings import full_precision

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


def exponentials_of(logits: Tensor, places: Tensor, plain: bool) -> tuple[Tensor | None, Tensor]:
    """`exponentials` where the positives are entries of the logits: those at `places`, a view, which are then zero."""
    rows = logits.shape[:-1]
    if plain:
        logits.exp_()
        above, target = None, places.clone().view(rows)
    else:
        above, target = exponentials(logits, places.clone().view(rows), plain)
    places.zero_()
    return above, target


def loss(above: Tensor | None, total: Tensor, positive: Tensor) -> Tensor:
    """log(1 + t / e)."""
    if above is None:
        return (total / positive).log1p_()
    return (total + (positive - 1)).log1p_().add_(above)


def reduced(losses: Tensor, reduction: str) -> Tensor:
    """One process' rows: "mean", "sum", or "none": as they are."""
    return losses.mean() if reduction == "mean" else losses.sum() if reduction == "sum" else losses


def remember(ctx: Any, scale: float | Tensor, *tensors: Tensor | None) -> None:
    """Save tensors for the backward pass, and the scale, whatever it is."""
    learned = isinstance(scale, Tensor)
    ctx.scale = None if learned else scale
    ctx.save_for_backward(scale if learned else None, *tensors)


def recall(ctx: Any) -> tuple[Any, ...]:
    """What was remembered, the scale first."""
    scale, *tensors = ctx.saved_tensors
    return ctx.scale if scale is None else scale, *tensors


def keep(ctx: Any, scale: float | Tensor, *sums: Tensor | None) -> None:
    """For `back`: of a mean or a sum the gradients, of losses that stay apart what it takes to make them.

    `ctx.pulled(rows, length, weights, total, everyone, of_scale)` makes those of the losses' sum, for the rows but for
    the scale as a factor, and for the scale; it overwrites the weights, which are exponentials.
    """
    if ctx.reduction == "none":
        remember(ctx, scale, *sums)
    elif any(ctx.wanted):
        for_rows, along = ctx.pulled(*sums, ctx.wanted[-1])
        learned, ctx.share = isinstance(scale, Tensor), 1 / ctx.count if ctx.reduction == "mean" else 1.0
        ctx.factor = ctx.share if learned else ctx.share * scale
        ctx.save_for_backward(for_rows.mul_(scale) if learned else for_rows, along)


def back(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor | None]:
    """The gradients of the rows and of the scale, from that of what the losses were reduced to."""
    if ctx.reduction != "none":
        for_rows, along = ctx.saved_tensors
        return for_rows * (gradient * ctx.factor), None if along is None else along * (gradient * ctx.share)
    scale, rows, length, weights, total, everyone = recall(ctx)
    with full_precision(gradient.device):
        # of a copy, for one more backward pass; a row without gradient divides by infinity
        each = weights.clone(), total, everyone / gradient
        for_rows, along = ctx.pulled(rows, length, *each, ctx.wanted[-1])
        return for_rows.mul_(scale), along
