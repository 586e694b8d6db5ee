"""One direction, without the matrix of logits: its log-sum-exp and attention output, and the keys' gradient."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.kernels._logits import BLOCK_SIZE, logits_block


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
    """lse_i = log sum_j e^{s_ij}, and output_i = sum_j softmax_ij keys_j, in one pass over blocks of columns.

    Columns are visited in blocks with a running maximum (the softmax of Milakov and Gimelshein, 2018; the recurrence
    of FlashAttention).
    """
    size = block_size or BLOCK_SIZE
    maximum = query.new_full((*query.shape[:-1], 1), float("-inf"))
    total = torch.zeros_like(maximum)
    output = torch.zeros_like(query) if with_output else None
    for start in range(0, keys.shape[-2], size):
        logits = logits_block(query, keys, mask, drop, start, size)
        largest = torch.maximum(maximum, logits.amax(-1, keepdim=True))
        # a row that has met no column yet: exp(-inf - 0) is the 0 that -inf - -inf would not be
        shift = largest.masked_fill(largest == float("-inf"), 0)
        weights, decay = (logits - shift).exp(), (maximum - shift).exp()
        total = total * decay + weights.sum(-1, keepdim=True)
        if output is not None:
            output = output * decay + weights @ keys[..., start : start + size, :]
        maximum = largest
    lse = (maximum + total.log()).squeeze(-1)
    return lse, None if output is None else output / total.masked_fill(total == 0, 1)


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
    size = block_size or BLOCK_SIZE
    shift = lse.masked_fill(lse == float("-inf"), 0).unsqueeze(-1)
    pulled, parts = pull.unsqueeze(-1) * query, []
    for start in range(0, keys.shape[-2], size):
        weights = (logits_block(query, keys, mask, drop, start, size) - shift).exp()
        parts.append(weights.transpose(-1, -2) @ pulled)
    return torch.cat(parts, dim=-2) if parts else torch.zeros_like(keys)
