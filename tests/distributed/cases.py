"""What the spawned processes of the distributed tests run, kept free of pytest so that they start quickly."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor
from torch.utils._python_dispatch import _disable_current_modes

import contrastive_ops as co
from contrastive_ops.collectives import GATHER
from tests.allocations import Allocations, size

DTYPES = (torch.float32, torch.float64, torch.bfloat16, torch.float16, torch.int64, torch.bool, torch.complex64)


def _rows(sizes: list[int], rank: int, dtype: torch.dtype = torch.float64, *shape: int) -> Tensor:
    """This rank's rows of one numbered global batch."""
    everything = torch.arange(sum(sizes) * 6).view(sum(sizes), *(shape or (2, 3)))
    everything = everything % 2 if dtype == torch.bool else everything
    return everything.to(dtype)[sum(sizes[:rank]) : sum(sizes[: rank + 1])]


def gather(rank: int, sizes: list[int]) -> None:
    """Rank order, every dtype bit for bit, odd strides, and the gradient summed over ranks."""
    for dtype in DTYPES:
        mine = _rows(sizes, rank, dtype)
        everything = torch.cat([_rows(sizes, r, dtype) for r in range(len(sizes))])
        assert torch.equal(co.all_gather(mine), everything)
        assert torch.equal(co.all_gather(mine.transpose(1, 2)), everything.transpose(1, 2))
    assert torch.equal(
        co.all_gather(_rows(sizes, rank)[:, 0, 0]), torch.cat([_rows(sizes, r)[:, 0, 0] for r in range(len(sizes))])
    )
    for dtype, tolerance in ((torch.float64, 1e-12), (torch.bfloat16, 4e-3)):
        mine = _rows(sizes, rank, dtype).requires_grad_()
        weights = torch.rand(len(sizes), sum(sizes), 2, 3, generator=torch.Generator().manual_seed(0)).to(dtype)
        (co.all_gather(mine) * weights[rank]).sum().backward()
        expected = weights.double().sum(0)[sum(sizes[:rank]) : sum(sizes[: rank + 1])]
        assert mine.grad is not None
        torch.testing.assert_close(mine.grad.double(), expected, rtol=tolerance, atol=0)


def shuffle(rank: int, sizes: list[int]) -> None:
    """A permutation of all rows, the same by every rank's account; undone bit for bit; rank 0's generator decides."""
    everything = torch.cat([_rows(sizes, r) for r in range(len(sizes))])
    for dtype in DTYPES:
        mine = _rows(sizes, rank, dtype)
        shuffled, handle = co.shuffle_bn(mine, generator=torch.Generator().manual_seed(rank))
        assert shuffled.shape == mine.shape
        assert torch.equal(co.unshuffle_bn(shuffled, handle), mine)
    mine = _rows(sizes, rank)
    shuffled, handle = co.shuffle_bn(mine, generator=torch.Generator().manual_seed(rank))
    permutation = torch.randperm(sum(sizes), generator=torch.Generator().manual_seed(0))
    assert torch.equal(co.all_gather(shuffled), everything[permutation])
    features = shuffled.flatten(1)[:, :1].float() * 2  # another shape and dtype comes back to the same rows
    assert torch.equal(co.unshuffle_bn(features, handle), mine.flatten(1)[:, :1].float() * 2)
    generator = torch.Generator().manual_seed(9)
    for _ in range(3):  # the generators of all ranks stay in step
        co.shuffle_bn(mine, generator=generator)
    assert len({tuple(state.tolist()) for state in _everyones(generator.get_state())}) == 1


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


def queues_agree(rank: int, sizes: list[int]) -> Tensor:
    """Enqueued in rank order, wrap-around included: every rank holds what one process would."""
    queue, alone = co.NegativeQueue(7, 6, dtype=torch.float64), co.NegativeQueue(7, 6, dtype=torch.float64)
    everything = torch.cat([_rows(sizes, r) for r in range(len(sizes))]).flatten(1)
    for step in range(3):
        queue.enqueue(_rows(sizes, rank).flatten(1) + step)
        alone.enqueue(everything + step, group=False)
    assert torch.equal(queue.keys, alone.keys)
    assert torch.equal(queue.num_enqueued, alone.num_enqueued)
    return queue.keys


def _everyones(x: Tensor) -> list[Tensor]:
    gathered = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(gathered, x)
    return gathered


def _message(call: Callable[[], object]) -> str:
    try:
        call()
    except (ValueError, TypeError) as error:
        return f"{type(error).__name__} {error}"
    return "no error"


def disagreements(rank: int) -> list[str]:
    """Inputs that fit on each rank but not together: the same error everywhere, and all go on in step."""
    queue = co.NegativeQueue(4, 3)
    before = {name: value.clone() for name, value in queue.state_dict().items()}
    x = torch.ones(2, 3)
    calls: list[Callable[[], object]] = [
        lambda: co.all_gather(torch.ones(2, 3 + rank)),
        lambda: co.all_gather(x.double() if rank else x),
        lambda: co.all_gather(x[:, 0] if rank else x),
        lambda: co.shuffle_bn(torch.ones(2, 3 + rank)),
        lambda: co.unshuffle_bn(torch.ones(2, 1 + rank), co.shuffle_bn(x)[1]),
        lambda: co.info_nce(torch.ones(2, 3 + rank), torch.ones(2, 3 + rank)),
        lambda: co.info_nce(x, x, mask=torch.zeros(2, 4 + rank, dtype=torch.bool)),
        lambda: co.info_nce(x[:0], x[:0], x),
        lambda: queue.enqueue(x.half() if rank else x),
        lambda: co.nt_xent(torch.ones(2, 3 + rank), torch.ones(2, 3 + rank)),
        lambda: co.clip_loss(torch.ones(2, 3 + rank), torch.ones(2, 3 + rank), 10.0),
        lambda: co.cmc_loss([torch.ones(2, 3)] * (2 + rank)),
        lambda: co.cpc_loss(torch.ones(2, 3 + rank, 1, 4), torch.ones(2, 3 + rank, 4)),
        lambda: co.sinkhorn(torch.ones(2, 3 + rank)),
        lambda: co.sinkhorn(x[:0]),
        lambda: co.swapped_prediction([x[:0], x[:0]], [x[:0]]),
        lambda: co.DINOCenter(3).update(x.double() if rank else x),
        lambda: co.DINOCenter(3).update(x[:0]),
        lambda: co.NCEPartition(5).update(x[:0]),
        lambda: co.MemoryBank(9, 3).update(torch.tensor([0, 1]), x.double() if rank else x),
    ]
    messages = [_message(call) for call in calls]
    assert all(torch.equal(value, before[name]) for name, value in queue.state_dict().items())
    assert torch.equal(co.all_gather(torch.tensor([rank])), torch.arange(dist.get_world_size()))
    return messages


def bad_on_every_rank(rank: int) -> list[str]:
    """Errors that each rank sees for itself come before any collective: nobody waits, and all go on in step."""
    x = torch.ones(2, 3)
    calls: list[Callable[[], object]] = [
        lambda: co.all_gather([1.0]),
        lambda: co.info_nce(x, torch.ones(3, 3)),
        lambda: co.info_nce(x, x, temperature=0.0),
        lambda: co.shuffle_bn(x, generator=1),
        lambda: co.NegativeQueue(4, 3).enqueue(torch.ones(2, 4)),
        lambda: co.info_nce(x, x, group="world"),
    ]
    messages = [_message(call) for call in calls]
    assert torch.equal(co.all_gather(torch.tensor([rank])), torch.arange(dist.get_world_size()))
    return messages


def raises_alone(rank: int) -> str:
    """The local check of one rank runs before any collective: it raises at once, though no other rank takes part."""
    start = time.monotonic()
    message = "not called"
    if rank == 0:
        message = _message(lambda: co.info_nce(torch.ones(2, 3), torch.ones(2, 4)))
    assert time.monotonic() - start < 5
    return message


def mixed_dtypes(rank: int) -> float:
    """Where nothing but the value travels ranks may differ in dtype: it is the same, and nobody reads wrong bytes."""
    p = torch.eye(3, dtype=torch.float64 if rank else torch.float32)[rank : rank + 1]
    return co.stop_grad_cosine(p, torch.ones_like(p)).item()


def gradient_joins(rank: int, sizes: list[int]) -> list[float]:
    """Where one rank's rows need no gradient (an empty batch, say) its backward pass takes part all the same."""
    x = torch.ones(sizes[rank], 2, requires_grad=rank == 0)
    scale = torch.ones((), requires_grad=True)
    (co.all_gather(x).sum() * scale).backward()
    return [] if x.grad is None else x.grad.flatten().tolist()


def groups(rank: int) -> tuple[float, float, float]:
    """Within a sub-group, alone, and over all: three different losses."""
    pairs = [dist.new_group([0, 1]), dist.new_group([2])]
    x = torch.eye(3)[rank : rank + 1].repeat(2, 1) + 0.1 * rank
    mine = pairs[0] if rank < 2 else pairs[1]
    return tuple(co.info_nce(x, x, group=g).item() for g in (mine, False, None))


def outside_its_group(rank: int) -> str:
    """A rank that is no member gets an error, not a hang."""
    group = dist.new_group([0])
    return _message(lambda: co.all_gather(torch.ones(1), group=group))
