"""Times of contestants that take turns, by CUDA events, and the memory that each needs beside its inputs."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from statistics import median
from typing import Any

import torch

Run = Callable[[], Any]


def seconds(run: Run, device: torch.device) -> float:
    """Of one call, on the device's own clock; on a CPU, where this only shows that it runs, on the wall's."""
    if device.type != "cuda":
        start = time.perf_counter()
        run()
        return time.perf_counter() - start
    begin, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
    begin.record()
    run()
    end.record()
    end.synchronize()
    return begin.elapsed_time(end) / 1000


def extra_bytes(run: Run, device: torch.device) -> int | None:
    """The peak of what one call allocates, results included; None on a CPU."""
    if device.type != "cuda":
        return None
    torch.cuda.synchronize()
    before = torch.cuda.memory_allocated()
    torch.cuda.reset_peak_memory_stats()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def race(runs: Mapping[str, Run], device: torch.device, *, floor: str, rounds: int) -> list[dict[str, Any]]:
    """Median milliseconds, median of the ratios to the floor of the same round, and MiB of each contestant.

    The first calls compile; a contestant that fails (a dense one out of memory) is named and leaves the race.
    """
    rows = {name: _first_calls(run, device) for name, run in runs.items()}
    able = [name for name, row in rows.items() if "failed" not in row]
    if floor not in able:
        return [{"contestant": name, **row} for name, row in rows.items()]
    times: dict[str, list[float]] = {name: [] for name in able}
    for _ in range(rounds):
        for name in able:
            times[name].append(seconds(runs[name], device))
    for name in able:
        ratios = [a / b for a, b in zip(times[name], times[floor], strict=True)]
        rows[name] |= {"ms": 1000 * median(times[name]), "x_floor": median(ratios)}
    return [{"contestant": name, **row} for name, row in rows.items()]


def _first_calls(run: Run, device: torch.device) -> dict[str, Any]:
    """Compiles and warms up, then measures memory; what fails says how."""
    try:
        for _ in range(2):
            run()
        peak = extra_bytes(run, device)
    except Exception as error:
        return {"failed": f"{type(error).__name__}: {error}"[:200]}
    return {"mib": None if peak is None else peak / 2**20}
