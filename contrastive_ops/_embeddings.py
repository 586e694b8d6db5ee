"""What every formula does to its inputs first: full precision, unit rows."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops import _checks

_NOTHING = nullcontext()

_BLOCK = 2**20  # entries of a block of rows, where there are too many for temporaries of their size


def full_precision(device: torch.device) -> AbstractContextManager[object]:
    """No autocast inside: at temperature 0.01 a bf16 logit is off by a factor of e^0.4 and more."""
    if not torch.is_autocast_enabled(device.type):
        return _NOTHING
    return torch.autocast(device_type=device.type, enabled=False)


def promote(*tensors: Tensor) -> tuple[Tensor, ...]:
    """float32, or float64 as soon as one input is."""
    dtypes = [t.dtype for t in tensors]
    wide = torch.float64 if torch.float64 in dtypes else torch.float32
    return tuple([t if t.dtype == wide else t.to(wide) for t in tensors])


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


def directions(x: Tensor) -> Tensor:
    """`unit_rows` in a third of the operations, differentiable once, as the engine's losses are."""
    unit: Tensor = _Directions.apply(x)
    return unit


def unit_and_length(x: Tensor) -> tuple[Tensor, Tensor]:
    """x / |x| over the last dimension and |x| (..., 1); a zero row stays zero and counts as infinitely long."""
    length = torch.linalg.vector_norm(x, dim=-1, keepdim=True)
    if _checks.readable(x) and x.numel():
        shortest, longest = torch.aminmax(length)
        if float(shortest) > 1e-15 and float(longest) < 1e15:  # no zero row, no square that leaves float32
            return x / length, length
    largest = x.abs().amax(-1, keepdim=True) if x.numel() else length
    largest = largest.masked_fill(largest == 0, float("inf"))
    scaled = x / largest
    relative = torch.linalg.vector_norm(scaled, dim=-1, keepdim=True)
    return scaled / relative.masked_fill(relative == 0, 1), largest * relative.masked_fill(relative == 0, 1)


def through_unit(gradient: Tensor, unit: Tensor, length: Tensor) -> Tensor:
    """The gradient of x from that of x / |x|: what points along x does not change its direction."""
    along = (gradient * unit).sum(-1, keepdim=True)
    return torch.addcmul(gradient, unit, along, value=-1).div_(length)


class _Directions(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        unit, length = unit_and_length(x)
        ctx.save_for_backward(unit, length)
        return unit

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return through_unit(gradient, *ctx.saved_tensors)
