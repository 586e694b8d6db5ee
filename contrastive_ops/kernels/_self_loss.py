"""Both views against each other and themselves: one symmetric matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import directions, full_precision
from contrastive_ops.kernels._blocks import is_one_block, known_bound, wants_gradient
from contrastive_ops.kernels._dense import recall, reduced, remember
from contrastive_ops.kernels._dense_views import DenseSelf
from contrastive_ops.kernels._dispatch import passes
from contrastive_ops.kernels._pull import margin_loss


def contrast_self(
    first: Tensor, second: Tensor, scale: float | Tensor, *, normalize: bool, reduction: str, block_size: int | None
) -> Tensor:
    """(2N,) or reduced: `contrast` of each row of two views with the same row of the other, against the other 2N - 2.

    Args:
        first: (N, D) rows.
        second: (N, D) rows.
        scale: what multiplies inner products.
        normalize: inner products of the rows' directions.
        reduction: "mean", "sum" or "none", of this process' rows.
        block_size: columns per block; None chooses.
    """
    if is_one_block(2 * len(first), 2 * len(first), first.device, block_size):
        every = [wants_gradient(first), wants_gradient(second), wants_gradient(scale)]
        dense: Tensor = DenseSelf.apply(first, second, scale, normalize, reduction, every)
        return dense
    rows = torch.cat([first, second])
    bound = known_bound(rows, rows, scale, normalize=normalize)
    wanted = [wants_gradient(rows), wants_gradient(scale)]
    rows, options = directions(rows) if normalize else rows, {"block_size": block_size, "bound": bound}
    result: Tensor = _Self.apply(rows, scale, wanted, options)
    return reduced(result, reduction)


class _Self(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: float | Tensor, wanted: list[bool], options: dict[str, Any]) -> Tensor:
        lse = passes(rows).attend_self(rows, scale, **options)
        first, second = rows.chunk(2)
        margin = lse - ((first * second).sum(1) * scale).repeat(2)
        ctx.wanted, ctx.options = wanted, options
        remember(ctx, scale, rows, lse, margin)
        return margin_loss(margin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, rows, lse, margin = recall(ctx)
        with full_precision(gradient.device):
            pull, half = gradient * margin.sigmoid(), len(rows) // 2
            for_rows = passes(rows).self_gradient(rows, scale, lse, pull, **ctx.options)
            of_pair = ((pull[:half] + pull[half:]) * -scale).unsqueeze(1)
            for_rows[:half].addcmul_(of_pair, rows[half:])
            for_rows[half:].addcmul_(of_pair, rows[:half])
            # logits are quadratic in the rows and linear in the scale: by Euler one gradient tells the other
            of_scale = (rows * for_rows).sum() / (2 * scale) if ctx.wanted[1] else None
            return for_rows if ctx.wanted[0] else None, of_scale, None, None
