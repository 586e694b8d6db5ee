"""What every formula does to its inputs first: full precision, unit rows."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch
from torch import Tensor

_BLOCK = 2**20  # entries of a block of rows, where there are too many for temporaries of their size


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """No autocast inside: at temperature 0.01 a bf16 logit is off by a factor of e^0.4 and more."""
    return torch.autocast(device_type=device.type, enabled=False)


def promote(*tensors: Tensor) -> tuple[Tensor, ...]:
    """float32, or float64 as soon as one input is."""
    wide = torch.float64 if any(t.dtype == torch.float64 for t in tensors) else torch.float32
    return tuple(t.to(wide) for t in tensors)


def unit_rows(x: Tensor) -> Tensor:
    """x / |x| over the last dimension; a zero row stays zero and gets a zero gradient.

    Rows are divided by their largest entry first (a constant to autograd, as the result does not depend on it), so
    that neither huge nor tiny rows overflow in the square.
    """
    if x.shape[-1] == 0:
        return x
    largest = x.detach().abs().amax(dim=-1, keepdim=True)
    zero = largest == 0
    scaled = x / largest.masked_fill(zero, 1)
    squares = scaled.square().sum(dim=-1, keepdim=True)
    # squares is 0 only in a zero row: the square root's infinite slope there must not meet the chain rule
    return scaled * squares.masked_fill(zero, 1).rsqrt().masked_fill(zero, 0)


@torch.no_grad()
def to_unit_rows_(rows: Tensor) -> None:
    """`unit_rows` of (N, D) in place, by blocks: what is remembered for a whole data set is not made twice."""
    for block in torch.split(rows, max(1, _BLOCK // rows.shape[1])):
        block.copy_(unit_rows(*promote(block)))
