"""Rows against keys: the loss of telling each row's positive from its negatives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import full_precision
from contrastive_ops.kernels._blocks import known_bound, wants_gradient
from contrastive_ops.kernels._contrast_dense import DenseContrast
from contrastive_ops.kernels._dense import keeps
from contrastive_ops.kernels._dispatch import passes
from contrastive_ops.kernels._pull import margin_loss


def contrast(
    query: Tensor,
    keys: Tensor,
    scale: float | Tensor,
    *,
    positive: Tensor | None = None,
    own: Tensor | None = None,
    mask: Tensor | None = None,
    block_size: int | None = None,
    bound: float | None = None,
) -> Tensor:
    """(..., N) log(1 + sum_j exp(scale <query_i, keys_j - positive_i>)), the sum over the columns not dropped.

    Args:
        query: (..., N, D) rows.
        keys: (..., M, D) rows, with the same leading dimensions.
        scale: what multiplies inner products.
        positive: (..., N, D) rows; or
        own: (..., N, 1) int64, which of the keys is the positive, and no negative then.
        mask: (..., N, M) bool, True drops that column for that row.
        block_size: columns per block; None chooses.
        bound: no |scale <query_i, key_j>| is larger; None: not known beforehand.
    """
    bound = known_bound(query, keys, positive, scale) if bound is None else bound
    rows, wanted = (query, keys, positive, scale), [wants_gradient(x) for x in (query, keys, positive, scale)]
    if keeps(query, keys.shape[-2], block_size, bound):
        dense: Tensor = DenseContrast.apply(*rows, own, mask, wanted)
        return dense
    result: Tensor = _Contrast.apply(*rows, own, mask, wanted, {"block_size": block_size, "bound": bound})
    return result


class _Contrast(torch.autograd.Function):
    """The query's gradient is an attention output, made in the forward pass.

    Where the keys need no gradient nothing else is kept, and they may be overwritten in between (a queue's enqueue)
    without changing the gradient.
    """

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
        options: dict[str, Any],
    ) -> Tensor:
        of_query, of_keys, _, of_scale = wanted
        scaled, target = query * scale, _at(keys, own) if positive is None else positive
        lse, output = passes(query).attend(scaled, keys, mask, own, with_output=of_query or of_scale, **options)
        margin = lse - (scaled * target).sum(-1)
        ctx.wanted, ctx.options, ctx.scale = wanted, options, None if isinstance(scale, Tensor) else scale
        again = (keys, lse, mask, own) if of_keys else ()
        ctx.save_for_backward(scale if ctx.scale is None else None, query, scaled, target, margin, output, *again)
        return margin_loss(margin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, query, scaled, target, margin, output, *again = ctx.saved_tensors
        of_query, of_keys, of_positive, of_scale = ctx.wanted
        scale = ctx.scale if scale is None else scale
        with full_precision(gradient.device):
            pull = gradient * margin.sigmoid()
            from_target = -pull.unsqueeze(-1) * scaled
            for_scaled = None if output is None else pull.unsqueeze(-1) * (output - target)
            return (
                for_scaled * scale if of_query else None,
                _of_keys(pull, scaled, from_target, again, ctx.options) if of_keys else None,
                from_target if of_positive else None,
                (query * for_scaled).sum() if of_scale else None,
                *[None] * 4,
            )


def _at(keys: Tensor, own: Tensor | None) -> Tensor:
    """The positives among the keys."""
    assert own is not None
    return keys.gather(-2, own.expand(*own.shape[:-1], keys.shape[-1]))


def _of_keys(pull: Tensor, scaled: Tensor, from_target: Tensor, saved: list[Any], options: dict[str, Any]) -> Tensor:
    keys, lse, mask, own = saved
    result: Tensor = passes(scaled).keys_gradient(scaled, keys, lse, pull, mask, own, **options)
    if own is None:
        return result
    # several rows may have one positive: of the ways to add them up this one is deterministic on every device
    flat, width = result.view(-1, result.shape[-1]), keys.shape[-2]
    first = torch.arange(0, len(flat), width, device=keys.device).view(*keys.shape[:-2], 1) if keys.ndim > 2 else 0
    place = own.squeeze(-1) + first
    return flat.index_put_((place.flatten(),), from_target.flatten(0, -2), accumulate=True).view_as(result)
