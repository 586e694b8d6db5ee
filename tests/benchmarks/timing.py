"""Time: contestants in turns, so that whatever else the machine does falls on all of them alike."""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from math import ceil

from tests.benchmarks.contest import Run

SHORTEST = 0.003  # seconds: what is quicker is called several times per round, and the mean taken
FEWEST = 3
COLD = 50  # how many times longer than later ones a first call may take
Clock = Callable[[], float]


@contextmanager
def no_collector() -> Iterator[None]:
    """Python's collector would run in the middle of somebody's turn."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def seconds_of(run: Run, loops: int, clock: Clock) -> float:
    start = clock()
    for _ in range(loops):
        run()
    return (clock() - start) / loops


def loops_for(run: Run, first: float, clock: Clock) -> int:
    """How often to call one per round: about SHORTEST, judged by warm calls where the first call was short."""
    if first > COLD * SHORTEST:
        return 1
    once = seconds_of(run, 1, clock)
    if once < SHORTEST:
        once = seconds_of(run, 3, clock)
    return max(1, ceil(SHORTEST / max(once, 1e-7)))


def turns(names: list[str], turn: int) -> list[str]:
    """Everybody once, each time with another one first: who follows whom may matter to caches."""
    first = turn % len(names)
    return names[first:] + names[:first]


def interleave(
    runs: Mapping[str, Run],
    first: Mapping[str, float],
    *,
    seconds: float,
    rounds: int,
    clock: Clock = time.process_time,
) -> dict[str, list[float]]:
    """Seconds of each contestant, by round; as many rounds as `seconds` allow, FEWEST at least.

    Who takes longer than that in FEWEST rounds leaves then, and the others go on with `seconds` of their own. `first`:
    what the first call of each took, before.
    """
    taken: dict[str, list[float]] = {name: [] for name in runs}
    with no_collector():
        loops = {name: loops_for(run, first[name], clock) for name, run in runs.items()}
        for turn in range(rounds):
            staying = stay(taken, seconds) if turn >= FEWEST else list(runs)
            if turn >= FEWEST and sum(loops[name] * sum(taken[name]) for name in staying) > seconds:
                break
            for name in turns(staying, turn):
                taken[name].append(seconds_of(runs[name], loops[name], clock))
    return taken


def stay(taken: Mapping[str, list[float]], seconds: float) -> list[str]:
    """Those whose first rounds fit; all, where even the quickest's do not."""
    quick = [name for name, times in taken.items() if sum(times[:FEWEST]) <= seconds]
    return quick if len(quick) > 1 else list(taken)
