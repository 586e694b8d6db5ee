"""What pulls at a logit: the softmax of its row, that of its column, or both, from the log-sum-exps known by then."""

from __future__ import annotations

from typing import TypeAlias

import torch
from torch import Tensor
from torch.nn.functional import softplus

from contrastive_ops.kernels._blocks import shaped


def margin_loss(margin: Tensor) -> Tensor:
    """log(1 + e^x) of the negatives' log-sum-exp minus the positive's logit: the digits of a small loss are kept."""
    return softplus(margin, 1.0, 50.0)  # beyond 50 the logarithm adds less than float64's last digit


Side: TypeAlias = tuple[Tensor | None, Tensor]  # shift and factor: what pulls is factor e^{s - shift}


def side(lse: Tensor | None, pull: Tensor | None, plain: bool) -> Side | None:
    """pull e^{s - lse} of one direction; where exponentials are safe as they stand, e^{-lse} goes into the factor."""
    if lse is None or pull is None:
        return None
    # nothing left in that row: its exponentials are 0, and 0 e^{inf} would not be
    shift = lse.masked_fill(lse == float("-inf"), 0)
    return (None, pull * shift.neg_().exp_()) if plain else (shift, pull)


def part(whole: Side | None, which: slice) -> Side | None:
    """One direction's share of a block."""
    if whole is None:
        return None
    shift, factor = whole
    return None if shift is None else shift[which], factor[which]


def pulled(logits: Tensor, row: Side | None, column: Side | None, room: Tensor) -> Tensor:
    """row_factor_i e^{s_ij - row_shift_i} + column_factor_j e^{s_ij - column_shift_j}, in place of the logits.

    `room` is for another block.
    """
    if row is None or column is None:
        return _one(logits, row, column)
    other = shaped(room, *logits.shape)
    if row[0] is None:
        return logits.exp_().mul_(torch.add(row[1].unsqueeze(1), column[1], out=other))
    by_column = _one(other.copy_(logits), None, column)
    return _one(logits, row, None).add_(by_column)


def _one(logits: Tensor, row: Side | None, column: Side | None) -> Tensor:
    chosen = row or column
    if chosen is None:
        return logits.zero_()
    shift, factor = ((None if x is None else x.unsqueeze(1)) for x in chosen) if row else chosen
    weights = (logits if shift is None else logits.sub_(shift)).exp_()
    return weights if factor is None else weights.mul_(factor)
