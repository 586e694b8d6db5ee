"""Sums over all columns of a function of each logit, without their matrix.

For formulas that are no softmax: the binary terms of noise-contrastive estimation.
As in `log_sum_exp`, the query's gradient is a weighted sum of keys and is accumulated in the forward pass.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import full_precision
from contrastive_ops.kernels._blocks import block_shape, logits_block, scratch, spans, wants_gradient

Term = Callable[[Tensor], Tensor]


def row_sum(
    query: Tensor,
    keys: Tensor,
    shift: Tensor,
    *,
    term: Term,
    slope: Term,
    block_size: int | None = None,
) -> Tensor:
    """(N,) sum_j f(<query_i, keys_j> - shift_i).

    Args:
        query: (N, D) rows, already divided by the temperature.
        keys: (M, D) rows.
        shift: (N,), may require a gradient.
        term: f, elementwise.
        slope: the derivative of f.
        block_size: columns per block; None chooses.
    """
    wanted = wants_gradient(query) or wants_gradient(shift), wants_gradient(keys)
    result: Tensor = _RowSum.apply(query, keys, shift, term, slope, block_size, *wanted)
    return result


def _blocks(query: Tensor, keys: Tensor, block_size: int | None) -> Iterator[tuple[slice, Tensor]]:
    """Columns of each block, and room for its logits: the same for all."""
    size = min(block_size or block_shape(len(query), len(keys), query.device, None)[1], max(1, len(keys)))
    room = scratch(query, len(query), size)
    return ((columns, room) for columns in spans(len(keys), size))


class _RowSum(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        query: Tensor,
        keys: Tensor,
        shift: Tensor,
        term: Term,
        slope: Term,
        block_size: int | None,
        wants_rows: bool,
        wants_keys: bool,
    ) -> Tensor:
        result, slopes, output = torch.zeros_like(shift), torch.zeros_like(shift), torch.zeros_like(query)
        with full_precision(query.device):
            for columns, room in _blocks(query, keys, block_size):
                logits = logits_block(query, keys, None, None, columns, room).sub_(shift.unsqueeze(1))
                result = result + term(logits).sum(1)
                if wants_rows:
                    weights = slope(logits)
                    slopes = slopes + weights.sum(1)
                    output = output.addmm_(weights, keys[columns])
        ctx.slope, ctx.block_size, ctx.wants_keys = slope, block_size, wants_keys
        ctx.save_for_backward(output, slopes, *((query, keys, shift) if wants_keys else ()))
        return result

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        output, slopes, *again = ctx.saved_tensors
        with full_precision(gradient.device):
            for_keys = _keys_gradient(gradient, tuple(again), ctx.slope, ctx.block_size) if ctx.wants_keys else None
            return gradient.unsqueeze(1) * output, for_keys, -gradient * slopes, *[None] * 5


def _keys_gradient(gradient: Tensor, saved: tuple[Any, ...], slope: Term, block_size: int | None) -> Tensor:
    """sum_i gradient_i f'(logit_ij) query_i, block by block."""
    query, keys, shift = saved
    pulled, parts = gradient.unsqueeze(1) * query, []
    for columns, room in _blocks(query, keys, block_size):
        weights = slope(logits_block(query, keys, None, None, columns, room).sub_(shift.unsqueeze(1)))
        parts.append(weights.T @ pulled)
    return torch.cat(parts) if parts else torch.zeros_like(keys)
