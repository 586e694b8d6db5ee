"""Differentiable collectives that accept uneven batches: gather and sum, and the exchange that others are made of.

Every collective here is entered by all ranks or by none. A rank's sizes, dtype and row shape are exchanged first, and
where ranks disagree all of them raise the same error, so that none is left waiting. Rows travel as bytes: any dtype,
bit for bit.
"""

from __future__ import annotations

from math import prod
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops import _checks
from contrastive_ops._group import Group, resolve

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_DTYPES = tuple(dict.fromkeys(v for v in vars(torch).values() if isinstance(v, torch.dtype)))
_MAX_DIMS = 8
# torch 2.14 gave it this name and warns of the old one
GATHER = "all_gather_single" if hasattr(dist, "all_gather_single") else "all_gather_into_tensor"


def all_gather(x: Tensor, *, group: Group = None) -> Tensor:
    r"""The rows of every rank, in rank order, with the gradient of that concatenation.

    $$y = [x_0; x_1; \dots; x_{W-1}], \qquad
      \frac{\partial L}{\partial x_r} = \sum_{s} \frac{\partial L_s}{\partial y}\Big|_{\text{rows of } r}$$

    Args:
        x: (B, ...) rows of this rank, any dtype; B may differ between ranks and be 0, the rest of the shape not.
        group: the ranks that take part; None is the default group, or this process alone; False is alone.

    Returns:
        (N, ...) with N the sum of all B, the same on every rank; `x` itself when alone.

    Raises:
        ValueError: on every rank, when row shape, dtype or gradient mode differ between ranks.
        TypeError: `x` is no tensor.

    Example:
        >>> all_gather(torch.tensor([1.0, 2.0]))
        tensor([1., 2.])

    References:
        The gradient is the reduce-scatter that "A Simple Framework for Contrastive Learning" (Chen et al., 2020,
        section 2.2) needs for its global batch. `torch.distributed.all_gather` cuts the graph instead, and a gather
        whose backward returns only the own slice has another direction, not only another scale.
    """
    process_group = resolve(group)
    _checks.is_tensor("x", x, shape=("B",), at_least=True)
    return x if process_group is None else gather_rows(x, process_group, name="x")[0]


def gather_rows(
    x: Tensor, group: ProcessGroup, *, name: str, columns: int | None = None
) -> tuple[Tensor, tuple[int, ...]]:
    """`all_gather` that also tells each rank's number of rows, and checks that a mask has `columns` of them."""
    x, sizes = agree(x, group, name=name, columns=columns)
    return _Gather.apply(x, sizes, group), sizes


def gather_constant(x: Tensor, group: ProcessGroup, *, name: str) -> tuple[Tensor, Tensor, tuple[int, ...]]:
    """x, every rank's rows as constants, and their numbers: for gradients that need no collective of their own.

    Where one rank's x needs a gradient all ranks' do, so that all of them run the backward pass.
    """
    x, sizes = agree(x, group, name=name)
    return x, gather_known(x.detach(), sizes, group), sizes


def gather_known(x: Tensor, sizes: tuple[int, ...], group: ProcessGroup) -> Tensor:
    """The rows of every rank, in rank order, where all ranks know how many each has; no gradient."""
    # a gather takes equal parts, so the shorter ones are padded and the padding is cut off again
    longest, own = max(sizes), as_bytes(x)
    padded = own if len(own) == longest else own.new_zeros(longest, own.shape[1])
    if padded is not own:
        padded[: len(own)] = own
    everything = own.new_empty(len(sizes) * longest, own.shape[1])
    getattr(dist, GATHER)(everything, padded, group=group)
    if min(sizes) < longest:
        parts = everything.view(len(sizes), longest, own.shape[1])
        everything = torch.cat([part[:size] for part, size in zip(parts, sizes, strict=True)])
    return _from_bytes(everything, x)


def sum_over_ranks(x: Tensor, group: ProcessGroup) -> Tensor:
    """The sum of x over the ranks, with the gradient that the averaging of DDP makes exact: W times the own part."""
    total: Tensor = _Sum.apply(x, group)
    return total


def max_over_ranks(x: Tensor, group: ProcessGroup) -> Tensor:
    """The largest of x over the ranks, entry by entry; no gradient."""
    largest = x.detach().clone()
    dist.all_reduce(largest, op=dist.ReduceOp.MAX, group=group)
    return largest


def agree(x: Tensor, group: ProcessGroup, *, name: str, columns: int | None = None) -> tuple[Tensor, tuple[int, ...]]:
    """Every rank's number of rows; the same error on every rank where their tensors do not fit together.

    Where one rank's rows need a gradient all ranks' do, or its backward would wait for theirs forever.
    """
    if x.ndim > _MAX_DIMS:
        raise ValueError(f"{name}: expected at most {_MAX_DIMS} dimensions, got {_checks.show(x)}")
    enabled = torch.is_grad_enabled()
    shape = [*x.shape[1:], *[-1] * (_MAX_DIMS - x.ndim)]
    about = [len(x), -1 if columns is None else columns, x.requires_grad and enabled, enabled]
    mine = torch.tensor([*about, _DTYPES.index(x.dtype), *shape], device=x.device)
    gathered = [torch.empty_like(mine) for _ in range(group.size())]
    dist.all_gather(gathered, mine, group=group)
    facts = torch.stack(gathered).tolist()
    sizes = tuple(fact[0] for fact in facts)
    _same(name, "row shape", [tuple(n for n in fact[5:] if n >= 0) for fact in facts])
    _same(name, "dtype", [str(_DTYPES[fact[4]]) for fact in facts])
    needs_gradient = any(fact[2] for fact in facts)
    if needs_gradient:
        _same(name, "gradient mode", ["enabled" if fact[3] else "disabled" for fact in facts])
    if any(fact[1] not in (-1, sum(sizes)) for fact in facts):
        raise ValueError(f"mask: expected {sum(sizes)} columns, the rows of all ranks, got {[f[1] for f in facts]}")
    return (x if x.requires_grad or not needs_gradient else x.detach().requires_grad_()), sizes


def _same(name: str, what: str, values: list[Any]) -> None:
    if len(set(values)) > 1:
        listed = ", ".join(f"{value} on rank {rank}" for rank, value in enumerate(values))
        raise ValueError(f"{name}: expected the same {what} on every rank, got {listed}")


def as_bytes(x: Tensor) -> Tensor:
    """(B, bytes of a row): what travels, whatever the dtype, also those that a backend cannot name."""
    rows = x.reshape(len(x), prod(x.shape[1:]))
    # by strides: a single row or column calls itself contiguous whatever its strides are
    plain = rows if rows.stride() == (rows.shape[1], 1) else rows.clone(memory_format=torch.contiguous_format)
    return plain.view(torch.uint8)


def _from_bytes(rows: Tensor, like: Tensor) -> Tensor:
    return rows.view(like.dtype).view(len(rows), *like.shape[1:])


def all_to_all(x: Tensor, send: tuple[int, ...], receive: tuple[int, ...], group: ProcessGroup) -> Tensor:
    """Rows of x to each rank in order, `send` of them, for `receive` rows from each."""
    sent = as_bytes(x)
    received = sent.new_empty(sum(receive), sent.shape[1])
    dist.all_to_all_single(received, sent, list(receive), list(send), group=group)
    return _from_bytes(received, x)


class _Gather(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, sizes: tuple[int, ...], group: ProcessGroup) -> Tensor:
        ctx.sizes, ctx.group = sizes, group
        return gather_known(x, sizes, group)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None, None]:
        """Each rank gets every rank's gradient of its rows and adds them in rank order: deterministic, in float32."""
        own, ranks = ctx.sizes[ctx.group.rank()], len(ctx.sizes)
        parts = all_to_all(gradient, ctx.sizes, (own,) * ranks, ctx.group).view(ranks, own, *gradient.shape[1:])
        # half precision travels as it is and is widened here: half the bytes for the same sum
        wide = torch.float32 if gradient.dtype in (torch.bfloat16, torch.float16) else gradient.dtype
        return parts.sum(0, dtype=wide).to(gradient.dtype), None, None


class _Sum(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: ProcessGroup) -> Tensor:
        ctx.ranks = group.size()
        total = x.detach().clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return gradient * ctx.ranks, None
