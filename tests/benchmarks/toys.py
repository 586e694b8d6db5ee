"""What the tests run in two processes: every contest between processes at toy size, and a count of known bytes."""

from __future__ import annotations

import torch
import torch.distributed as dist

from tests.benchmarks import agree, traffic
from tests.benchmarks.areas import AREAS
from tests.benchmarks.measure import present

KNOWN = 2**20


def all_on_rank(rank: int) -> dict[str, dict[str, float]]:
    """The differences of all contestants, by item."""
    differences = {}
    for area in AREAS:
        if area.in_processes:
            contest = area.contest(area.toy)
            differences[area.name] = agree.start(contest, list(present(contest)[0])).differences
    return differences | {"received": {"known": _received_of_known()}}


def _received_of_known() -> float:
    """What is counted where the other rank's KNOWN bytes come in, over KNOWN."""
    mine = torch.zeros(KNOWN, dtype=torch.uint8)
    parts = [torch.zeros_like(mine) for _ in range(dist.get_world_size())]
    dist.barrier()
    traffic.start()
    dist.all_gather(parts, mine)
    traffic.mark()
    first, second = traffic.stop()
    return (first + second) / KNOWN
