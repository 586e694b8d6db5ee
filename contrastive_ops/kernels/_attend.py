"""One direction, without the matrix of logits: its log-sum-exp and attention output, and the keys' gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.kernels._blocks import block_shape, logits_block, rows_of, scratch, spans, unshifted


def attend(
    query: Tensor,
    keys: Tensor,
    mask: Tensor | None,
    drop: Tensor | None,
    *,
    block_size: int | None,
    bound: float | None,
    with_output: bool,
) -> tuple[Tensor, Tensor | None]:
    """lse_i = log sum_j e^{s_ij}, and output_i = sum_j softmax_ij keys_j, in one pass over blocks of columns."""
    rows, columns = _shape(query, keys, block_size)
    one_pass = _sum if unshifted(query.dtype, bound) else _running_maximum
    parts, room = [], scratch(query, rows, columns)
    for part in spans(query.shape[-2], rows):
        masked, dropped = rows_of(mask, part), rows_of(drop, part)
        parts.append(one_pass(query[..., part, :], keys, masked, dropped, columns, room, with_output))
    if len(parts) == 1:
        return parts[0]
    lse = torch.cat([lse for lse, _ in parts], -1) if parts else query.new_zeros(query.shape[:-1])
    outputs = [output for _, output in parts if output is not None]
    return lse, (torch.cat(outputs, -2) if outputs else torch.zeros_like(query)) if with_output else None


def _shape(query: Tensor, keys: Tensor, block_size: int | None) -> tuple[int, int]:
    """Rows and columns of a block; matrices of a batch share what one would have, down to products still worth it."""
    rows, columns = block_shape(query.shape[-2], keys.shape[-2], query.device, block_size)
    batch = query.shape[:-2].numel()
    return rows, columns if block_size or batch == 1 else max(min(columns, 64), columns // max(batch, 1))


def _sum(
    query: Tensor, keys: Tensor, mask: Tensor | None, drop: Tensor | None, size: int, room: Tensor, with_output: bool
) -> tuple[Tensor, Tensor | None]:
    """Where no exponential can overflow: sums of them as they stand."""
    total, output = query.new_zeros(query.shape[:-1]), None
    for part in spans(keys.shape[-2], size):
        weights = logits_block(query, keys, mask, drop, part, room).exp_()
        total += weights.sum(-1)
        if with_output:
            output = _add_product(output, weights, keys[..., part, :])
    return total.log(), _divided(output, query, total) if with_output else None


def _running_maximum(
    query: Tensor, keys: Tensor, mask: Tensor | None, drop: Tensor | None, size: int, room: Tensor, with_output: bool
) -> tuple[Tensor, Tensor | None]:
    """The softmax of Milakov and Gimelshein (2018); with the output, the recurrence of FlashAttention."""
    maximum = query.new_full((*query.shape[:-1], 1), float("-inf"))
    total, output = torch.zeros_like(maximum), None
    for part in spans(keys.shape[-2], size):
        logits = logits_block(query, keys, mask, drop, part, room)
        largest = torch.maximum(maximum, logits.amax(-1, keepdim=True))
        # a row that has met no column yet: exp(-inf - 0) is the 0 that -inf - -inf would not be
        shift = largest.masked_fill(largest == float("-inf"), 0)
        weights, decay = logits.sub_(shift).exp_(), (maximum - shift).exp()
        total = total.mul_(decay).add_(weights.sum(-1, keepdim=True))
        if with_output:
            output = _add_product(None if output is None else output.mul_(decay), weights, keys[..., part, :])
        maximum = largest
    lse = (maximum + total.log()).squeeze(-1)
    return lse, _divided(output, query, total.squeeze(-1)) if with_output else None


def _add_product(total: Tensor | None, weights: Tensor, rows: Tensor) -> Tensor:
    """total + weights rows, in place."""
    if total is None:
        return weights @ rows
    return total.addmm_(weights, rows) if weights.ndim == 2 else total.add_(weights @ rows)


def _divided(output: Tensor | None, query: Tensor, total: Tensor) -> Tensor:
    """The mean instead of the sum; 0 for a row without any column."""
    if output is None:
        return torch.zeros_like(query)
    return output.div_(total.masked_fill(total == 0, 1).unsqueeze(-1))


def keys_gradient(
    query: Tensor,
    keys: Tensor,
    lse: Tensor,
    pull: Tensor,
    mask: Tensor | None,
    drop: Tensor | None,
    *,
    block_size: int | None,
    bound: float | None,
) -> Tensor:
    """sum_i pull_i softmax_ij query_i, with the softmax made again block by block."""
    result = keys.new_zeros(keys.shape)
    rows, columns = _shape(query, keys, block_size)
    room = scratch(query, rows, columns)
    plain, lse = unshifted(query.dtype, bound), lse.masked_fill(lse == float("-inf"), 0).unsqueeze(-1)
    for part in spans(query.shape[-2], rows):
        some, masked, dropped = query[..., part, :], rows_of(mask, part), rows_of(drop, part)
        shift, pulled = lse[..., part, :], pull[..., part].unsqueeze(-1) * some
        pulled = pulled.mul_((-shift).exp()) if plain else pulled
        for block in spans(keys.shape[-2], columns):
            weights = logits_block(some, keys, masked, dropped, block, room)
            weights = (weights if plain else weights.sub_(shift)).exp_()
            _add_product(result[..., block, :], weights.transpose(-1, -2), pulled)
    return result
