"""Rows against keys: the loss of telling each row's positive from its negatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import directions, full_precision, unit_and_length
from contrastive_ops.kernels._blocks import is_one_block, known_bound, spans, wants_gradient
from contrastive_ops.kernels._contrast_dense import DenseContrast
from contrastive_ops.kernels._dense import recall, remember, unshifted
from contrastive_ops.kernels._dispatch import passes
from contrastive_ops.kernels._pull import margin_loss

_PART = 2048  # keys that are normalised at a time: 1 MiB, of 128 float32 each


def contrast(
    query: Tensor,
    keys: Tensor,
    scale: float | Tensor,
    *,
    positive: Tensor | None = None,
    own: Tensor | None = None,
    mask: Tensor | None = None,
    unit: bool = False,
    long_keys: bool = False,
    block_size: int | None = None,
) -> Tensor:
    """(..., N) log(1 + sum_j exp(scale <query_i, keys_j - positive_i>)), the sum over the columns not dropped.

    Args:
        query: (..., N, D) rows.
        keys: (..., M, D) rows, with the same leading dimensions.
        scale: what multiplies inner products.
        positive: (..., N, D) rows; or
        own: (..., N, 1) int64, which of the keys is the positive, and no negative then.
        mask: (..., N, M) bool, True drops that column for that row.
        unit: whether all rows are of unit length (or zero), or, the keys, to be made so:
        long_keys: normalise the keys, with positives of their own; a part at a time where they need no gradient.
        block_size: columns per block; None chooses.
    """
    wanted = [wants_gradient(x) for x in (query, keys, positive, scale)]
    dense = is_one_block(query.shape[:-1].numel(), keys.shape[-2], query.device, block_size)
    if long_keys and (dense or wanted[1]):
        keys, long_keys = directions(keys), False
    bound = known_bound(query, keys, scale, normalize=True) if unit else None
    if dense:
        kept: Tensor = DenseContrast.apply(
            query, keys, positive, scale, own, mask, unshifted(query.dtype, bound), wanted
        )
        return kept
    options = {"block_size": block_size, "bound": bound if unit else known_bound(query, keys, scale)}
    result: Tensor = _Contrast.apply(query, keys, positive, scale, own, mask, long_keys, wanted, options)
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
        long_keys: bool,
        wanted: list[bool],
        options: dict[str, Any],
    ) -> Tensor:
        of_query, of_keys, _, of_scale = wanted
        scaled, target = query * scale, _at(keys, own) if positive is None else positive
        attend = partial(passes(query).attend, with_output=of_query or of_scale, **options)
        lse, output = _by_parts(attend, scaled, keys, mask) if long_keys else attend(scaled, keys, mask, own)
        margin = lse - (scaled * target).sum(-1)
        ctx.wanted, ctx.options = wanted, options
        remember(ctx, scale, query, scaled, target, margin, output, *((keys, lse, mask, own) if of_keys else ()))
        return margin_loss(margin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        scale, query, scaled, target, margin, output, *again = recall(ctx)
        of_query, of_keys, of_positive, of_scale = ctx.wanted
        with full_precision(gradient.device):
            pull = gradient * margin.sigmoid()
            from_target = -pull.unsqueeze(-1) * scaled
            for_scaled = None if output is None else pull.unsqueeze(-1) * (output - target)
            return (
                for_scaled * scale if of_query else None,
                _of_keys(pull, scaled, from_target, again, ctx.options) if of_keys else None,
                from_target if of_positive else None,
                (query * for_scaled).sum() if of_scale else None,
                *[None] * 5,
            )


def _by_parts(
    attend: Callable[..., tuple[Tensor, Tensor | None]], scaled: Tensor, keys: Tensor, mask: Tensor | None
) -> tuple[Tensor, Tensor | None]:
    """`attend` to the keys' directions, of which no more than a part exists at a time."""
    lse, output = scaled.new_full(scaled.shape[:-1], float("-inf")), torch.zeros_like(scaled)
    for part in spans(len(keys), _PART):
        masked = None if mask is None else mask[:, part]
        more, added = attend(scaled, unit_and_length(keys[part])[0], masked, None)
        both = torch.logaddexp(lse, more)
        shift = both.masked_fill(both == float("-inf"), 0)
        if added is not None:
            output.mul_((lse - shift).exp_().unsqueeze(1)).addcmul_((more - shift).exp_().unsqueeze(1), added)
        lse = both
    return lse, output


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
