"""Rows against keys, where the matrix of logits is smaller than one block."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import full_precision
from contrastive_ops.kernels import _dense


class DenseContrast(torch.autograd.Function):
    """As `contrast`; with positives of their own, and keys without a gradient, the keys are not kept either."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        keys: Tensor,
        positive: Tensor | None,
        scale: float | Tensor,
        own: Tensor | None,
        mask: Tensor | None,
        wanted: list[bool],
    ) -> Tensor:
        scaled = query * scale
        weights = torch.matmul(scaled, keys.transpose(-1, -2)).exp_()
        target = _exponential(weights, own) if positive is None else (scaled * positive).sum(-1).exp_()
        if mask is not None:
            weights.masked_fill_(mask, 0)
        if own is not None:
            weights.scatter_(-1, own, 0)
        total = weights.sum(-1)
        ctx.wanted, ctx.scale = wanted, None if isinstance(scale, Tensor) else scale
        output = weights @ keys if own is None and (wanted[0] or wanted[3]) else None
        again = (keys, weights, own) if own is not None or wanted[1] else ()
        ctx.save_for_backward(
            scale if ctx.scale is None else None, query, scaled, positive, total, target, output, *again
        )
        return _dense.loss(total, target)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, query, scaled, positive, total, target, output, *again = ctx.saved_tensors
        of_query, of_keys, of_positive, of_scale = ctx.wanted
        scale = ctx.scale if scale is None else scale
        with full_precision(gradient.device):
            factor, pull = (x.unsqueeze(-1) for x in _dense.pull(gradient, total, target))
            if positive is None:
                keys, weights, own = again
                weights = (weights * factor).scatter_(-1, own, -pull)
                for_scaled = weights @ keys
                for_keys = weights.transpose(-1, -2) @ scaled if of_keys else None
            else:
                for_scaled = (factor * output).sub_(pull * positive) if output is not None else None
                for_keys = again[1].transpose(-1, -2) @ (factor * scaled) if of_keys else None
            return (
                for_scaled * scale if of_query else None,
                for_keys,
                -pull * scaled if of_positive else None,
                (query * for_scaled).sum() if of_scale else None,
                *[None] * 3,
            )


def _exponential(weights: Tensor, own: Tensor | None) -> Tensor:
    """That of each row's own column."""
    assert own is not None
    return weights.gather(-1, own).squeeze(-1)
