"""Both views against each other and themselves: one symmetric matrix."""

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


def contrast_self(
    rows: Tensor, scale: float | Tensor, *, block_size: int | None = None, bound: float | None = None
) -> Tensor:
    """(M,) `contrast` of row i with row (i + M/2) mod M against the other M - 2.

    Args:
        rows: (M, D), one view after the other.
        scale: what multiplies inner products.
        block_size: columns per block; None chooses.
        bound: no |scale <rows_i, rows_j>| is larger; None: not known beforehand.
    """
    bound = known_bound(rows, rows, None, scale) if bound is None else bound
    wanted = [wants_gradient(x) for x in (rows, scale)]
    if _dense.keeps(rows, len(rows), block_size, bound):
        dense: Tensor = _DenseSelf.apply(rows, scale, wanted)
        return dense
    result: Tensor = _Self.apply(rows, scale, wanted, {"block_size": block_size, "bound": bound})
    return result


class _Self(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: float | Tensor, wanted: list[bool], options: dict[str, Any]) -> Tensor:
        lse = passes(rows).attend_self(rows, scale, **options)
        first, second = rows.chunk(2)
        margin = lse - ((first * second).sum(1) * scale).repeat(2)
        ctx.wanted, ctx.options, ctx.scale = wanted, options, None if isinstance(scale, Tensor) else scale
        ctx.save_for_backward(scale if ctx.scale is None else None, rows, lse, margin)
        return margin_loss(margin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, rows, lse, margin = ctx.saved_tensors
        scale = ctx.scale if scale is None else scale
        with full_precision(gradient.device):
            pull = gradient * margin.sigmoid()
            for_rows = passes(rows).self_gradient(rows, scale, lse, pull, **ctx.options)
            of_pair = (pull + pull.roll(len(pull) // 2)) * -scale
            for_rows.addcmul_(of_pair.unsqueeze(1), rows.roll(len(rows) // 2, 0))
            return *_of_rows_and_scale(ctx.wanted, rows, for_rows, scale), None, None


def _of_rows_and_scale(
    wanted: list[bool], rows: Tensor, for_rows: Tensor, scale: float | Tensor
) -> tuple[Tensor | None, Tensor | None]:
    """Logits are quadratic in the rows and linear in the scale: by Euler one gradient tells the other."""
    return for_rows if wanted[0] else None, (rows * for_rows).sum() / (2 * scale) if wanted[1] else None


class _DenseSelf(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, rows: Tensor, scale: float | Tensor, wanted: list[bool]) -> Tensor:
        half = len(rows) // 2
        weights = torch.mm(rows * scale, rows.t()).exp_()
        target = weights.diagonal(half).repeat(2)
        for offset in (-half, 0, half):
            weights.diagonal(offset).zero_()
        total = weights.sum(1)
        ctx.wanted, ctx.scale = wanted, None if isinstance(scale, Tensor) else scale
        ctx.save_for_backward(scale if ctx.scale is None else None, rows, weights, total, target)
        return _dense.loss(total, target)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, rows, weights, total, target = ctx.saved_tensors
        scale, half = ctx.scale if scale is None else scale, len(rows) // 2
        with full_precision(gradient.device):
            factor, pull = _dense.pull(gradient, total, target)
            pulled = torch.add(factor.unsqueeze(1), factor).mul_(weights)
            of_pair = -(pull[:half] + pull[half:])
            for offset in (-half, half):
                pulled.diagonal(offset).copy_(of_pair)
            for_rows = torch.mm(pulled, rows).mul_(scale)
            return *_of_rows_and_scale(ctx.wanted, rows, for_rows, scale), None
