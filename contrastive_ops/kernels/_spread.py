"""The loss of InvaSpread: rows recognised as their positive, and every negative recognised as not being them.

With p the softmax over positive and negatives the loss is -log p_pos - sum_b log(1 - p_b). Only the nearest negative
can have p > 1/2, where 1 - p loses its digits: it is taken as the share of all others instead. Two passes are enough:
one finds the log-sum-exp and the nearest negative, the other sums the rest without it. Keys are constants, so that
the rows' gradient is complete with the second pass.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import directions, full_precision
from contrastive_ops.kernels._blocks import (
    block_shape,
    drop_columns,
    is_one_block,
    known_bound,
    logits_block,
    scratch,
    shaped,
    spans,
    wants_gradient,
)
from contrastive_ops.kernels._dense import recall, reduced, remember, unshifted
from contrastive_ops.kernels._pull import margin_loss
from contrastive_ops.kernels._spread_dense import DenseSpread


def spread(
    rows: Tensor, keys: Tensor, scale: float | Tensor, *, places: Tensor, block_size: int | None = None
) -> Tensor:
    """(N,) log(1 + sum_b e^{s_b - s_pos}) - sum_b log(1 - p_b), over the columns b that are no place of the row's.

    Args:
        rows: (N, D) anchors.
        keys: (M, D) constants.
        scale: what multiplies inner products.
        places: (N, 2) int64, the column of the row itself and that of its positive.
        block_size: columns per block; None chooses.
    """
    wanted = [wants_gradient(rows), wants_gradient(scale)]
    result: Tensor = _Spread.apply(rows, keys, scale, places, block_size, wanted)
    return result


def spread_self(
    first: Tensor, second: Tensor, scale: float | Tensor, *, normalize: bool, reduction: str, block_size: int | None
) -> Tensor:
    """(2N,) or reduced: `spread` of the rows of two views (N, D), one view after the other, against each other."""
    bound = known_bound(first, second, scale, normalize=True) if normalize else None
    count = 2 * len(first)
    if is_one_block(count, count, first.device, block_size) and unshifted(first.dtype, bound):
        wanted = [wants_gradient(first), wants_gradient(second), wants_gradient(scale)]
        dense: Tensor = DenseSpread.apply(first, second, scale, normalize, reduction, wanted)
        return dense
    rows = torch.cat([first, second])
    rows = directions(rows) if normalize else rows
    itself = torch.arange(len(rows), device=rows.device)
    places = torch.stack([itself, itself.roll(len(rows) // 2)], 1)
    return reduced(spread(rows, rows.detach(), scale, places=places, block_size=block_size), reduction)


class _Spread(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        rows: Tensor,
        keys: Tensor,
        scale: float | Tensor,
        places: Tensor,
        block_size: int | None,
        wanted: list[bool],
    ) -> Tensor:
        scaled, (height, width) = rows * scale, block_shape(len(rows), len(keys), rows.device, block_size)
        room, done = scratch(rows, height, width), []
        for part in spans(len(rows), height):
            done.append(_rows(scaled[part], keys, places[part], width, room, any(wanted)))
        losses = [loss for loss, _ in done]
        ctx.wanted = wanted
        remember(ctx, scale, rows, torch.cat([slope for _, slope in done]) if done else torch.zeros_like(rows))
        return torch.cat(losses) if losses else rows.new_zeros(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, rows, slope = recall(ctx)
        with full_precision(gradient.device):
            for_scaled = gradient.unsqueeze(1) * slope
            of_scale = (rows * for_scaled).sum() if ctx.wanted[1] else None
            return for_scaled * scale if ctx.wanted[0] else None, None, of_scale, None, None, None


def _rows(
    scaled: Tensor, keys: Tensor, places: Tensor, size: int, room: Tensor, with_slope: bool
) -> tuple[Tensor, Tensor]:
    """Losses and their slopes with respect to some scaled rows."""
    target = keys[places[:, 1]]
    positive = (scaled * target).sum(1, keepdim=True)
    negative, top, nearest = _nearest(scaled, keys, places, size, room)
    everyone = torch.logaddexp(positive, negative)
    blocks = _without(scaled, keys, places, nearest, size, room)
    others, rest, pulls, output = _rest(blocks, scaled, positive, top, everyone, with_slope)
    loss = margin_loss(negative - positive) + margin_loss(top - others) + rest
    if with_slope:
        of_top = (top - everyone).exp()
        against = (negative - everyone).exp() + pulls * (positive - everyone).exp()
        output.addcmul_(against + of_top * (positive - others).exp(), target, value=-1)
        output.addcmul_(of_top * (2 - pulls), keys[nearest.squeeze(1).clamp(min=0)])
    return loss.squeeze(1), output


def _nearest(scaled: Tensor, keys: Tensor, places: Tensor, size: int, room: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """(N, 1) each: the negatives' log-sum-exp, the largest logit, and its column; -1 where there is none."""
    top = scaled.new_full((len(scaled), 1), float("-inf"))
    nearest, total = torch.full_like(top, -1, dtype=torch.int64), torch.zeros_like(top)
    for columns in spans(len(keys), size):
        logits = logits_block(scaled, keys, None, places, columns, room)
        largest, column = logits.max(1, keepdim=True)
        better = largest > top
        nearest = torch.where(better, column + columns.start, nearest)
        raised = torch.where(better, largest, top)
        # a row that has met no negative yet: exp(-inf - 0) is the 0 that -inf - -inf would not be
        shift = raised.masked_fill(raised == float("-inf"), 0)
        total = total * (top - shift).exp() + (logits - shift).exp_().sum(1, keepdim=True)
        top = raised
    return top + total.log(), top, nearest


def _without(
    scaled: Tensor, keys: Tensor, places: Tensor, nearest: Tensor, size: int, room: Tensor
) -> Iterator[tuple[Tensor, Tensor]]:
    """Blocks of logits without the nearest negatives, and their keys; a single block is still there."""
    if len(keys) <= size:
        logits = shaped(room, len(scaled), len(keys))
        drop_columns(logits, nearest, float("-inf"))
        yield logits, keys
        return
    apart = torch.cat([places, nearest], 1)
    for columns in spans(len(keys), size):
        yield logits_block(scaled, keys, None, apart, columns, room), keys[columns]


def _rest(
    blocks: Iterator[tuple[Tensor, Tensor]],
    scaled: Tensor,
    positive: Tensor,
    top: Tensor,
    everyone: Tensor,
    with_slope: bool,
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Log-sum-exp of the positive and the negatives without the nearest, the sum of -log(1 - p) over those negatives,
    the sum of its slopes p / (1 - p), and how all that moves with the rows.
    """
    shift, total = positive, torch.ones_like(positive)
    rest, pulls, weighted, sloped = (torch.zeros_like(x) for x in (positive, positive, scaled, scaled))
    for logits, keys in blocks:
        raised = torch.maximum(shift, logits.amax(1, keepdim=True))
        decay, shift = (shift - raised).exp(), raised
        weights = logits.sub_(shift).exp_()
        total = total * decay + weights.sum(1, keepdim=True)
        p = weights * (shift - everyone).exp()
        rest -= torch.log1p(-p).sum(1, keepdim=True)
        if with_slope:
            slope = p.div_(1 - p)
            pulls += slope.sum(1, keepdim=True)
            weighted.mul_(decay).addmm_(weights, keys)
            sloped.addmm_(slope, keys)
    factor = (1 - pulls) * (shift - everyone).exp() - (top - everyone).exp() / total
    return shift + total.log(), rest, pulls, sloped.addcmul_(factor, weighted)
