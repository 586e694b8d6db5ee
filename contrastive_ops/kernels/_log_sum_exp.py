"""log sum exp of all inner products of two sets of rows, without their matrix.

Columns are visited in blocks with a running maximum (the softmax of Milakov and Gimelshein, 2018; the recurrence of
FlashAttention). The query's gradient is the attention output softmax(q k^T) k, so it is accumulated in the same pass:
where the keys need no gradient, nothing but that (N, D) output is kept for the backward pass, and the keys may be
overwritten in between (a queue's enqueue) without changing the gradient.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import full_precision
from contrastive_ops.kernels._blocks import known_bound, wants_gradient
from contrastive_ops.kernels._dispatch import passes


def log_sum_exp(
    query: Tensor,
    keys: Tensor,
    *,
    mask: Tensor | None = None,
    drop: Tensor | None = None,
    block_size: int | None = None,
    bound: float | None = None,
) -> Tensor:
    """(..., N) log of sum_j exp <query_i, keys_j>, over the columns j that are not dropped; -inf where none is left.

    Args:
        query: (..., N, D) rows, already divided by the temperature.
        keys: (..., M, D) rows, with the same leading dimensions.
        mask: (..., N, M) bool, True drops that column for that row.
        drop: (..., N, k) int64 columns that each row drops besides; -1 drops none.
        block_size: columns per block; None chooses.
        bound: no |<query_i, keys_j>| is larger, if that is known without looking at values.
    """
    bound = known_bound(query, keys, 1.0) if bound is None else bound
    wanted = wants_gradient(query), wants_gradient(keys)
    result: Tensor = _LogSumExp.apply(query, keys, mask, drop, block_size, bound, *wanted)
    return result


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        keys: Tensor,
        mask: Tensor | None,
        drop: Tensor | None,
        block_size: int | None,
        bound: float | None,
        wants_query: bool,
        wants_keys: bool,
    ) -> Tensor:
        options = {"block_size": block_size, "bound": bound}
        with full_precision(query.device):
            lse, output = passes(query).attend(query, keys, mask, drop, with_output=wants_query, **options)
        ctx.options, ctx.wants_keys = options, wants_keys
        ctx.save_for_backward(output, *((query, keys, mask, drop, lse) if wants_keys else ()))
        result: Tensor = lse
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        output, *again = ctx.saved_tensors
        for_keys = None
        with full_precision(gradient.device):
            for_query = None if output is None else gradient.unsqueeze(-1) * output
            if ctx.wants_keys:
                query, keys, mask, drop, lse = again
                for_keys = passes(query).keys_gradient(query, keys, lse, gradient, mask, drop, **ctx.options)
        return for_query, for_keys, *[None] * 6
