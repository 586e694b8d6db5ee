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
from contrastive_ops.kernels._logits import BLOCK_SIZE, logits_block, wants_gradient


def log_sum_exp(
    query: Tensor,
    keys: Tensor,
    *,
    mask: Tensor | None = None,
    drop: Tensor | None = None,
    block_size: int | None = None,
) -> Tensor:
    """(..., N) log of sum_j exp <query_i, keys_j>, over the columns j that are not dropped; -inf where none is left.

    Args:
        query: (..., N, D) rows, already divided by the temperature.
        keys: (..., M, D) rows, with the same leading dimensions.
        mask: (..., N, M) bool, True drops that column for that row.
        drop: (..., N, k) int64 columns that each row drops besides; -1 drops none.
        block_size: columns per block; None is 1024.
    """
    wanted = wants_gradient(query), wants_gradient(keys)
    result: Tensor = _LogSumExp.apply(query, keys, mask, drop, block_size or BLOCK_SIZE, *wanted)
    return result


class _LogSumExp(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        keys: Tensor,
        mask: Tensor | None,
        drop: Tensor | None,
        block_size: int,
        wants_query: bool,
        wants_keys: bool,
    ) -> Tensor:
        with full_precision(query.device):
            maximum = query.new_full((*query.shape[:-1], 1), float("-inf"))
            total = torch.zeros_like(maximum)
            output = torch.zeros_like(query) if wants_query else None
            for start in range(0, keys.shape[-2], block_size):
                logits = logits_block(query, keys, mask, drop, start, block_size)
                largest = torch.maximum(maximum, logits.amax(-1, keepdim=True))
                # a row that has met no column yet: exp(-inf - 0) is the 0 that -inf - -inf would not be
                shift = largest.masked_fill(largest == float("-inf"), 0)
                weights, decay = (logits - shift).exp(), (maximum - shift).exp()
                total = total * decay + weights.sum(-1, keepdim=True)
                if output is not None:
                    output = output * decay + weights @ keys[..., start : start + block_size, :]
                maximum = largest
            result = (maximum + total.log()).squeeze(-1)
            if output is not None:
                output = output / total.masked_fill(total == 0, 1)
        ctx.block_size, ctx.wants_keys = block_size, wants_keys
        ctx.save_for_backward(output, *((query, keys, mask, drop, result) if wants_keys else ()))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        output, *again = ctx.saved_tensors
        with full_precision(gradient.device):
            for_query = None if output is None else gradient.unsqueeze(-1) * output
            for_keys = _keys_gradient(gradient, tuple(again), ctx.block_size) if ctx.wants_keys else None
        return for_query, for_keys, None, None, None, None, None


def _keys_gradient(gradient: Tensor, saved: tuple[Any, ...], block_size: int) -> Tensor:
    """sum_i gradient_i softmax_ij query_i, with the softmax made again block by block."""
    query, keys, mask, drop, result = saved
    shift = result.masked_fill(result == float("-inf"), 0).unsqueeze(-1)
    pulled, parts = gradient.unsqueeze(-1) * query, []
    for start in range(0, keys.shape[-2], block_size):
        weights = (logits_block(query, keys, mask, drop, start, block_size) - shift).exp()
        parts.append(weights.transpose(-1, -2) @ pulled)
    return torch.cat(parts, dim=-2) if parts else torch.zeros_like(keys)
