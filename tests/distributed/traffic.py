"""What travels between ranks, and what is in memory meanwhile: counted, not measured."""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

import contrastive_ops as co
from contrastive_ops.collectives import GATHER
from tests.allocations import Allocations, size


def shuffle_traffic(rank: int, sizes: list[int], limit: int) -> None:
    """What arrives is the rows that come from other ranks and nothing else: (W - 1) / W of the batch on average."""
    arrived, original = [], dist.all_to_all_single

    def counted(output: Tensor, given: Tensor, receive: list[int], send: list[int], **options: Any) -> Any:
        assert receive[rank] == send[rank] == 0
        assert output.is_contiguous() and given.is_contiguous()
        arrived.append(output.numel() * output.element_size())
        return original(output, given, receive, send, **options)

    dist.all_to_all_single = counted
    owner = torch.repeat_interleave(torch.arange(len(sizes)), torch.tensor(sizes))
    first, row, total = sum(sizes[:rank]), 3 * 4 * 4 * 4, 0
    for seed in range(10):
        shuffled, handle = co.shuffle_bn(
            torch.rand(sizes[rank], 3, 4, 4, requires_grad=True), generator=torch.Generator().manual_seed(seed)
        )
        co.unshuffle_bn(shuffled[:, 0, 0, :2].clone(), handle).sum().backward()
        permutation = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(seed))
        rows = int((owner[permutation][first : first + sizes[rank]] != rank).sum())
        there, back, *gradients = arrived
        assert (there, back) == (rows * row, rows * 2 * 4)
        assert gradients == [back, there]
        assert there <= limit
        total += rows
        arrived.clear()
    dist.all_to_all_single = original
    share = 1 - sizes[rank] / sum(sizes)
    assert abs(total - 10 * sizes[rank] * share) <= 0.15 * 10 * sizes[rank]


def gather_traffic(rank: int, sizes: list[int]) -> None:
    """Forward the longest rank's rows from each; backward this rank's rows from each, in the gradient's own dtype."""
    gathered, scattered = [], []
    gather, scatter = getattr(dist, GATHER), dist.all_to_all_single

    def counted_gather(output: Tensor, given: Tensor, **options: Any) -> Any:
        gathered.append((output.numel() - given.numel()) * output.element_size())
        return gather(output, given, **options)

    def counted_scatter(output: Tensor, given: Tensor, receive: list[int], send: list[int], **options: Any) -> Any:
        scattered.append((sum(receive) - receive[rank]) * output[:1].numel() * output.element_size())
        return scatter(output, given, receive, send, **options)

    setattr(dist, GATHER, counted_gather)
    dist.all_to_all_single = counted_scatter
    for dtype in (torch.float64, torch.float32, torch.bfloat16):
        x = torch.rand(sizes[rank], 6).to(dtype).requires_grad_()
        co.all_gather(x).sum().backward()
        row = 6 * x.element_size()
        assert gathered == [(len(sizes) - 1) * max(sizes) * row]
        assert scattered == [(len(sizes) - 1) * sizes[rank] * row if sizes[rank] else 0]
        gathered.clear()
        scattered.clear()
    setattr(dist, GATHER, gather)
    dist.all_to_all_single = scatter


def collective_memory(rank: int, sizes: list[int]) -> None:
    """Never more than two batches beside the one that came; a gather of even batches makes its result alone."""
    mine = torch.rand(sizes[rank], 3, 32, 32)
    batch = size(mine)
    exchange = dist.all_to_all_single

    def exchange_copies(output: Tensor, given: Tensor, *args: Any, **options: Any) -> None:
        """A thread of gloo lets go of what it sent when it comes to it: of copies here, which nobody counts."""
        with _disable_current_modes():
            arrived = torch.empty_like(output)
            exchange(arrived, given.clone(), *args, **options)
            output.copy_(arrived)

    dist.all_to_all_single = exchange_copies
    with Allocations() as seen:
        shuffled, handle = co.shuffle_bn(mine)
    assert seen.peak <= 2.1 * batch + 4096, seen.peak / batch
    with Allocations() as seen:
        co.unshuffle_bn(shuffled, handle)
    assert seen.peak <= 2.1 * batch + 4096, seen.peak / batch
    dist.all_to_all_single = exchange
    with Allocations() as seen:
        everything = co.all_gather(mine)
    if min(sizes) == max(sizes):
        assert [n for n in seen.made if n > 4096] == [size(everything)]


def contrast_traffic(rank: int, sizes: list[int]) -> None:
    """NT-Xent, CLIP and CMC gather their rows once; backward two numbers of each row and direction travel, no row."""
    sent: list[tuple[str, int]] = []

    def counted(name: str) -> Any:
        original = getattr(dist, name)

        def call(output: Tensor, given: Tensor, *args: Any, **kwargs: Any) -> Any:
            sent.append((name, given.numel() * given.element_size()))
            return original(output, given, *args, **kwargs)

        return call

    for name in (GATHER, "all_to_all_single"):
        setattr(dist, name, counted(name))
    z = [torch.rand(sizes[rank], 16, requires_grad=True) for _ in range(3)]
    row, longest = 16 * 4, max(sizes)
    for loss, views, directions in (
        (lambda: co.nt_xent(z[0], z[1]), 2, [2]),
        (lambda: co.clip_loss(z[0], z[1], 10.0), 2, [2]),
        (lambda: co.cmc_loss(z), 3, [2, 2, 2]),
    ):
        sent.clear()
        value = loss()
        assert sent == [(GATHER, longest * views * row)]
        sent.clear()
        value.backward()
        assert sent == [(GATHER, longest * 2 * 4 * each) for each in directions]
