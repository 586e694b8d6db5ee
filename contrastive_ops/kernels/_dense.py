"""Matrices smaller than one block: their exponentials are kept for the backward pass.

With e_i the exponential of the positive and t_i the sum of the negatives', the loss is log(1 + t_i / e_i), and what
pulls at a negative is E_ij / (e_i + t_i): no logarithm, no maximum, and nothing is special where no negative is left.
At this size the number of operations counts, not their length.
"""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.kernels._blocks import is_one_block

_SAFE = {torch.float32: 40.0, torch.float64: 300.0}  # the quotient of two exponentials must fit too


def keeps(rows: Tensor, columns: int, block_size: int | None, bound: float | None) -> bool:
    """Whether the exponentials of (..., N, D) rows and so many columns may be kept, as they stand."""
    small = is_one_block(rows.shape[:-1].numel(), columns, rows.device, block_size)
    return small and bound is not None and bound <= _SAFE.get(rows.dtype, 0.0)


def loss(total: Tensor, positive: Tensor) -> Tensor:
    """log(1 + t / e)."""
    return (total / positive).log1p_()


def pull(gradient: Tensor, total: Tensor, positive: Tensor) -> tuple[Tensor, Tensor]:
    """gradient / (e + t), the factor of the negatives' exponentials, and their sum, which pulls at the positive."""
    factor = gradient / (total + positive)
    return factor, factor * total
