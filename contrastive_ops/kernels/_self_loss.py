"""Both views against each other and themselves: one symmetric matrix."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import directions, full_precision
from contrastive_ops.kernels._blocks import is_one_block, known_bound, wants_gradient
from contrastive_ops.kernels._dense import DenseSelf, recall, remember, unshifted
from contrastive_ops.kernels._dispatch import passes
from contrastive_ops.kernels._pull import margin_loss


def contrast_self(rows: Tensor, scale: float | Tensor, *, normalize: bool, block_size: int | None) -> Tensor:
    """(M,) `contrast` of row i with row (i + M/2) mod M against the other M - 2.

    Args:
        rows: (M, D), one view after the other.
        scale: what multiplies inner products.
        normalize: inner products of the rows' directions.
        block_size: columns per block; None chooses.
    """
    bound = known_bound(rows, rows, scale, normalize=normalize)
    wanted = [wants_gradient(rows), wants_gradient(scale)]
    if is_one_block(len(rows), len(rows), rows.device, block_size):
        dense: Tensor = DenseSelf.apply(rows, scale, normalize, unshifted(rows.dtype, bound), wanted)
        return dense
    rows, options = directions(rows) if normalize else rows, {"block_size": block_size, "bound": bound}
    result: Tensor = _Self.apply(rows, scale, wanted, options)
    return result


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
