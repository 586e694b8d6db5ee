"""Everything about one size of one item: who takes part, that they agree, time, memory, bytes."""

from __future__ import annotations

from typing import Any

from tests.benchmarks import agree, memory, peers, ranks
from tests.benchmarks.contest import FLOOR, Area, Contest, Size
from tests.benchmarks.timing import interleave


def present(contest: Contest) -> tuple[dict[str, str], dict[str, str]]:
    """Kinds of those that take part, reasons of those that do not."""
    reasons = {
        name: peers.why_not(*entry.needs.split(":")) if entry.needs else "" for name, entry in contest.entries.items()
    }
    kinds = {name: contest.entries[name].kind for name, reason in reasons.items() if not reason}
    return kinds, {name: reason for name, reason in reasons.items() if reason}


def measure(area: Area, size: Size, *, with_memory: bool) -> dict[str, Any]:
    """One record of the JSON."""
    contest = area.contest(size)
    kinds, missing = present(contest)
    record: dict[str, Any] = {"size": dict(size), "kinds": kinds, "missing": missing}
    if area.in_processes:
        record |= ranks.measure(area, size, list(kinds))
    else:
        started = agree.start(contest, list(kinds))
        record["differences"] = started.differences
        record["seconds"] = interleave(started.runs, started.first, seconds=area.seconds, rounds=area.rounds)
        del started
    if with_memory and not memory.why_not():
        record["memory"] = memories(area, size, kinds)
    return record


def memories(area: Area, size: Size, kinds: dict[str, str]) -> dict[str, float | None]:
    """MiB of each contestant but the floors, which only reuse what exists."""
    peak = ranks.peak if area.in_processes else memory.peak_in_fresh_process
    return {name: peak(area.name, size, name) for name, kind in kinds.items() if kind != FLOOR}
