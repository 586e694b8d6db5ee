"""What the spawned processes of the distributed tests run, kept free of pytest so that they start quickly."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

import contrastive_ops as co

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
