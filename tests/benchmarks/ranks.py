"""Contests between processes: wall time and CPU time in turns, bytes received, peak memory of each rank."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Any

import torch
import torch.distributed as dist

from contrastive_ops.testing import run_distributed
from tests.benchmarks import agree, memory, traffic
from tests.benchmarks.contest import FLOOR, Area, Run, Size
from tests.benchmarks.timing import FEWEST, no_collector, turns

PATIENCE = 900.0
COUNTED = 5  # calls over which received bytes are averaged: permutations scatter


def measure(area: Area, size: Size, names: list[str]) -> dict[str, Any]:
    """Wall seconds of rank 0, CPU seconds and received bytes averaged over ranks, the largest difference of any."""
    reports = run_distributed(
        _on_rank, int(size["W"]), area.name, dict(size), names, area.seconds, area.rounds, timeout=PATIENCE
    )
    average = {kind: {name: _mean([r[kind][name] for r in reports]) for name in names} for kind in ("cpu", "received")}
    moved = {name: phases for name, phases in average["received"].items() if phases}
    differences = {name: max(r["differences"][name] for r in reports) for name in reports[0]["differences"]}
    return {"seconds": reports[0]["wall"], "cpu": average["cpu"], "received": moved, "differences": differences}


def peak(area: str, size: Size, name: str) -> float:
    """MiB at the highest, of the rank where they are most, in processes that do nothing else."""
    return max(run_distributed(_peak_on_rank, int(size["W"]), area, dict(size), name, timeout=PATIENCE))


def _mean(lists: list[list[float]]) -> list[float]:
    return [sum(column) / len(column) for column in zip(*lists, strict=True)]


def _on_rank(rank: int, area: str, size: Size, names: list[str], seconds: float, rounds: int) -> dict[str, Any]:
    from tests.benchmarks.areas import by_name

    contest = by_name(area).contest(size)
    started = agree.start(contest, names)
    runs = started.runs
    received = {name: [] if contest.entries[name].kind == FLOOR else _bytes(run) for name, run in runs.items()}
    wall, cpu = _rounds(runs, seconds, rounds)
    return {"differences": started.differences, "received": received, "wall": wall, "cpu": cpu}


def _bytes(run: Run) -> list[float]:
    """Received in each phase of a call, averaged over calls."""
    if traffic.why_not():
        return []
    counts = []
    for _ in range(COUNTED):
        dist.barrier()
        time.sleep(0.01)  # the barrier's own messages arrive before counting starts
        traffic.start()
        run()
        counts.append([float(count) for count in traffic.stop()])
    return _mean(counts)


def _rounds(runs: Mapping[str, Run], seconds: float, rounds: int) -> tuple[dict[str, list[float]], ...]:
    """Like `interleave`, with all ranks in step: rank 0 says when it is enough."""
    wall: dict[str, list[float]] = {name: [] for name in runs}
    cpu: dict[str, list[float]] = {name: [] for name in runs}
    start = time.perf_counter()
    with no_collector():
        for turn in range(rounds):
            for name in turns(list(runs), turn):
                dist.barrier()
                before = time.perf_counter(), time.process_time()
                runs[name]()
                cpu[name].append(time.process_time() - before[1])
                dist.barrier()  # the slowest rank's end
                wall[name].append(time.perf_counter() - before[0])
            enough = torch.tensor(turn + 1 >= FEWEST and time.perf_counter() - start > seconds)
            dist.broadcast(enough, src=0)
            if enough:
                break
    return wall, cpu


def _peak_on_rank(rank: int, area: str, size: Size, name: str) -> float:
    from tests.benchmarks.areas import by_name

    toy = by_name(area).toy
    by_name(area).contest({**toy, "W": size["W"]}).entries[name].make()()
    run = by_name(area).contest(size).entries[name].make()
    dist.barrier()
    return memory.peak_mib(run)
