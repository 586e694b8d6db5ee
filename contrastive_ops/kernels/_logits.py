"""One block of logits: the only part of their matrix that ever exists."""

from __future__ import annotations

import torch
from torch import Tensor

BLOCK_SIZE = 1024  # columns; an (N, 1024) block of float32 is 4 KiB per row


def logits_block(
    query: Tensor, keys: Tensor, mask: Tensor | None, drop: Tensor | None, start: int, size: int
) -> Tensor:
    """(..., N, size) inner products with keys start, start + 1, ...; dropped columns at -inf.

    Args:
        query: (..., N, D) rows.
        keys: (..., M, D) rows.
        mask: (..., N, M) bool, True drops that column for that row.
        drop: (..., N, k) columns that each row drops besides; those of other blocks are passed over.
        start: first column.
        size: columns; the last block is shorter.
    """
    logits = query @ keys[..., start : start + size, :].transpose(-1, -2)
    if mask is not None:
        logits = logits.masked_fill(mask[..., start : start + size], float("-inf"))
    if drop is not None:
        for column in (drop - start).unbind(-1):
            # by arithmetic, not by choosing rows: no wait for the device, and O(N) where a comparison takes N x size
            place = column.clamp(0, logits.shape[-1] - 1).unsqueeze(-1)
            elsewhere = place != column.unsqueeze(-1)
            value = logits.gather(-1, place).masked_fill(~elsewhere, float("-inf"))
            logits = logits.scatter(-1, place, value)
    return logits


def wants_gradient(x: Tensor) -> bool:
    """Whether autograd wants a gradient for x: asked outside of autograd functions, where it is always off."""
    return x.requires_grad and torch.is_grad_enabled()
