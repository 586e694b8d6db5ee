"""Rows against keys, where the matrix of logits is smaller than one block."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import full_precision
from contrastive_ops.kernels._dense import exponentials, loss, recall, remember


class DenseContrast(torch.autograd.Function):
    """As `contrast`; where the keys need no gradient and hold no positive, nothing of their size is kept."""

    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        keys: Tensor,
        positive: Any,
        scale: float | Tensor,
        own: Tensor | None,
        mask: Tensor | None,
        plain: bool,
        wanted: list[bool],
    ) -> Tensor:
        scaled = query * scale
        weights = torch.matmul(scaled, keys.transpose(-1, -2))
        target = (scaled * positive).sum(-1) if own is None else weights.gather(-1, own).squeeze(-1)
        if mask is not None:
            weights.masked_fill_(mask, float("-inf"))
        above, target = exponentials(weights, target, plain)
        if own is not None:
            weights.scatter_(-1, own, 0)
        total = weights.sum(-1)
        ctx.wanted = wanted
        output = weights @ keys if own is None and (wanted[0] or wanted[3]) else None
        again = (keys, weights, own) if own is not None or wanted[1] else ()
        remember(ctx, scale, query, scaled, positive, total, target, output, *again)
        return loss(above, total, target)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, query, scaled, positive, total, target, output, *again = recall(ctx)
        of_query, of_keys, of_positive, of_scale = ctx.wanted
        with full_precision(gradient.device):
            factor = (gradient / (total + target)).unsqueeze(-1)
            of_target = factor * total.unsqueeze(-1)
            if positive is None:
                keys, weights, own = again
                weights = (weights * factor).scatter_(-1, own, -of_target)
                for_scaled = weights @ keys
                for_keys = weights.transpose(-1, -2) @ scaled if of_keys else None
            else:
                for_scaled = (factor * output).sub_(of_target * positive) if output is not None else None
                for_keys = again[1].transpose(-1, -2) @ (factor * scaled) if of_keys else None
            return (
                for_scaled * scale if of_query else None,
                for_keys,
                -of_target * scaled if of_positive else None,
                (query * for_scaled).sum() if of_scale else None,
                *[None] * 4,
            )
