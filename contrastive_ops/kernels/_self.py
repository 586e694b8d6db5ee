"""A set of rows against itself, where row i and its pair, row (i + M/2) mod M, are no candidates of row i."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.kernels._attend import attend
from contrastive_ops.kernels._pairs import rows_gradient


def attend_self(rows: Tensor, scale: float | Tensor, *, block_size: int | None, bound: float | None) -> Tensor:
    """(M,) log sum_j e^{scale <rows_i, rows_j>}."""
    drop = _itself_and_pair(rows)
    return attend(rows * scale, rows, None, drop, block_size=block_size, bound=bound, with_output=False)[0]


def self_gradient(
    rows: Tensor, scale: float | Tensor, lse: Tensor, pull: Tensor, *, block_size: int | None, bound: float | None
) -> Tensor:
    """(M, D) scale * sum_j e^{s_ij} (pull_i e^{-lse_i} + pull_j e^{-lse_j}) rows_j."""
    drop = _itself_and_pair(rows)
    sides = (lse, pull, lse, pull)
    return scale * rows_gradient(rows * scale, rows, *sides, drop, block_size=block_size, bound=bound)


def _itself_and_pair(rows: Tensor) -> Tensor:
    itself = torch.arange(len(rows), device=rows.device)
    return torch.stack([itself, itself.roll(len(rows) // 2)], dim=1)
