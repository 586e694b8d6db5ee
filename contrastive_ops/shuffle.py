"""The shuffle of shuffling batch norm: rows change ranks and places, and come back exactly.

A handle says which local rows leave, which places the arriving ones take and which rows stay: to come back, the two
change roles. Rows that stay are not sent.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import torch
import torch.distributed as dist
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._group import Group, resolve
from contrastive_ops.collectives import agree, all_to_all, as_bytes

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@dataclass(frozen=True, eq=False)
class ShuffleHandle:
    """How to undo one shuffle: which rows went where. Made by `shuffle_bn`, used by `unshuffle_bn`."""

    leaving: Tensor  # local rows that go to other ranks, by receiving rank
    send_sizes: tuple[int, ...]
    receive_sizes: tuple[int, ...]
    arriving: Tensor  # places of the rows that come from other ranks, by sending rank
    staying: Tensor  # local rows that do not change ranks
    at: Tensor  # and their places
    group: ProcessGroup | None

    def __len__(self) -> int:
        """Rows on this rank."""
        return len(self.arriving) + len(self.at)

    def reverse(self) -> ShuffleHandle:
        """The handle of the opposite journey."""
        return ShuffleHandle(
            self.arriving, self.receive_sizes, self.send_sizes, self.leaving, self.at, self.staying, self.group
        )


def shuffle_bn(
    x: Tensor, *, group: Group = None, generator: torch.Generator | None = None
) -> tuple[Tensor, ShuffleHandle]:
    r"""Permute the rows of the global batch over all ranks, so that batch statistics mix other images.

    $$y = x_\pi, \qquad \pi \text{ a uniform permutation of the } N = \sum_r B_r \text{ rows}$$

    One permutation is drawn (rank 0's counts, the others draw too and stay in step) and only the rows that change
    ranks travel: (W - 1) / W of B on average, where gathering the batch takes N. Each rank keeps its number of
    rows. Alone, rows change places within the batch, which is what `SplitBatchNorm2d` needs to mix its splits.

    Args:
        x: (B, ...) images or features of this rank; B may differ between ranks and be 0.
        group: the ranks that take part; None is the default group, or this process alone; False is alone.
        generator: where the permutation comes from; None is torch's default CPU generator.

    Returns:
        The shuffled rows (B, ...), differentiable, and the handle that `unshuffle_bn` takes.

    Raises:
        ValueError: on every rank, when row shape or dtype differ between ranks.
        TypeError: `x` is no tensor or `generator` no generator.

    Example:
        >>> x = torch.arange(4.0)
        >>> shuffled, handle = shuffle_bn(x, generator=torch.Generator().manual_seed(0))
        >>> shuffled, unshuffle_bn(shuffled, handle)
        (tensor([0., 1., 3., 2.]), tensor([0., 1., 2., 3.]))

    References:
        "Momentum Contrast for Unsupervised Visual Representation Learning" (He et al., 2020), section 3.3, Shuffling
        BN. The authors' code gathers the images of all ranks on every rank and picks from them; the result is the
        same.
    """
    process_group = resolve(group)
    _checks.is_tensor("x", x, shape=("B",), at_least=True)
    _checks.is_generator(generator)
    sizes: tuple[int, ...] = (len(x),)
    rank = 0
    if process_group is not None:
        x, sizes = agree(x, process_group, name="x")
        rank = process_group.rank()
    permutation = _draw(sum(sizes), x.device, process_group, generator)
    handle = _route(permutation, sizes, rank, x.device, process_group)
    return _Exchange.apply(x, handle), handle


def unshuffle_bn(y: Tensor, handle: ShuffleHandle) -> Tensor:
    r"""Bring shuffled rows back to the rank and place they came from: the exact inverse of `shuffle_bn`.

    $$x = y_{\pi^{-1}}$$

    Args:
        y: (B, ...) what became of the shuffled rows, for instance their keys; any row shape and dtype.
        handle: what `shuffle_bn` returned.

    Returns:
        (B, ...) rows in the order of the input of `shuffle_bn`, differentiable.

    Raises:
        ValueError: `y` has another number of rows than were shuffled, or row shapes differ between ranks.
        TypeError: `y` is no tensor or `handle` no handle.

    Example:
        >>> shuffled, handle = shuffle_bn(torch.arange(3.0), generator=torch.Generator().manual_seed(0))
        >>> unshuffle_bn(2 * shuffled, handle)
        tensor([0., 2., 4.])

    References:
        He et al. (2020), section 3.3.
    """
    if not isinstance(handle, ShuffleHandle):
        raise TypeError(f"handle: expected what shuffle_bn returned, got {_checks.show(handle)}")
    _checks.is_tensor("y", y, shape=(len(handle),), at_least=True)
    if handle.group is not None:
        y, _ = agree(y, handle.group, name="y")
    unshuffled: Tensor = _Exchange.apply(y, handle.reverse())
    return unshuffled


def _draw(count: int, device: torch.device, group: ProcessGroup | None, generator: torch.Generator | None) -> Tensor:
    source = torch.device("cpu") if generator is None else generator.device
    permutation = torch.randperm(count, generator=generator, device=source)
    if group is None:
        return permutation
    shared = permutation.to(device)
    dist.broadcast(shared, src=dist.get_global_rank(group, 0), group=group)
    return shared.cpu()


def _route(
    permutation: Tensor, sizes: tuple[int, ...], rank: int, device: torch.device, group: ProcessGroup | None
) -> ShuffleHandle:
    """What this rank sends and receives so that position p of the global batch holds row permutation[p]."""
    ends = torch.tensor(sizes).cumsum(0)
    first, last = int(ends[rank]) - sizes[rank], int(ends[rank])
    source = torch.bucketize(permutation, ends, right=True)
    target = torch.bucketize(torch.arange(len(permutation)), ends, right=True)
    goes = (source == rank) & (target != rank)  # positions ascend, so these are ordered by receiving rank
    order = source[first:last].argsort(stable=True)
    comes = source[first:last][order] != rank
    stays = order[~comes]
    return ShuffleHandle(
        (permutation[goes] - first).to(device),
        tuple(torch.bincount(target[goes], minlength=len(sizes)).tolist()),
        tuple(torch.bincount(source[first:last][order[comes]], minlength=len(sizes)).tolist()),
        order[comes].to(device),
        (permutation[first:last][stays] - first).to(device),
        stays.to(device),
        group,
    )


def _put(rows: Tensor, place: Tensor, out: Tensor) -> None:
    """out[place] = rows, both whole memories of their own: by words as wide as fit in a row, whatever the dtype."""
    source, target = as_bytes(rows), as_bytes(out)
    fitting = [dtype for dtype in (torch.int64, torch.int32, torch.int16) if target.shape[1] % dtype.itemsize == 0]
    word = fitting[0] if fitting else torch.uint8
    target.view(word).index_copy_(0, place, source.view(word))


class _Exchange(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, handle: ShuffleHandle) -> Tensor:
        ctx.handle = handle
        if handle.group is None:
            return x[handle.staying[handle.at.argsort()]]
        received = all_to_all(x[handle.leaving], handle.send_sizes, handle.receive_sizes, handle.group)
        out = received.new_empty(x.shape)  # only now, and what arrived goes first: never more than two batches exist
        _put(received, handle.arriving, out)
        del received
        _put(x[handle.staying], handle.at, out)
        return out

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Exchange.apply(gradient, ctx.handle.reverse()), None
