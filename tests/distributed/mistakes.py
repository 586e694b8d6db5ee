"""Calls that must fail: on every rank alike, at once, and leaving all ranks in step."""

from __future__ import annotations

import time
from collections.abc import Callable

import torch
import torch.distributed as dist

import contrastive_ops as co


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


def outside_its_group(rank: int) -> str:
    """A rank that is no member gets an error, not a hang."""
    group = dist.new_group([0])
    return _message(lambda: co.all_gather(torch.ones(1), group=group))
