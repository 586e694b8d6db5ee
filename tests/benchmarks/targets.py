"""The targets, said shortly: a ratio of times, a limit of memory or bytes, growth per doubling."""

from __future__ import annotations

from collections.abc import Sequence

from tests.benchmarks.contest import Size, Target
from tests.benchmarks.figures import Figure, Results, per_doubling


def within(above: str, below: str, limit: float, size: Size, *, note: str = "", quantity: str = "seconds") -> Target:
    """Time of `above` is at most `limit` times that of `below`."""

    def measure(results: Results) -> Figure | None:
        return results.ratio(above, below, size, quantity=quantity)

    text = f"{above} <= {limit:g} x {below}" + (f" ({note})" if note else "")
    return Target(text, measure, limit, size, quantity)


def faster(than: str, limit: float, size: Size, *, name: str = "ours", quantity: str = "seconds") -> Target:
    """`than` takes at least `limit` times the time of ours."""

    def measure(results: Results) -> Figure | None:
        return results.ratio(than, name, size, quantity=quantity)

    clock = " in CPU time" if quantity == "cpu" else ""
    text = f"{name} >= {limit:g} x faster than {than}{clock}"
    return Target(text, measure, limit, size, quantity, at_least=True)


def memory_below(mib: float, text: str, size: Size, *, name: str = "ours") -> Target:
    """Peak memory of a call, in MiB."""

    def measure(results: Results) -> Figure | None:
        return _alone(results.number(name, size))

    return Target(f"memory of {name} <= {mib:.3g} MiB ({text})", measure, mib, size, "memory")


def memory_growth(axis: str, limit: float, fixed: Size, start: int) -> Target:
    """Peak memory where the size doubles, from `start` on."""

    def measure(results: Results) -> Figure | None:
        points = [point for point in results.along(axis, "ours", fixed, quantity="memory") if point[0] >= start]
        return _alone(per_doubling(points))

    text = f"memory of ours grows <= {limit:g} x per doubling of {axis}, from {start}"
    return Target(text, measure, limit, {**fixed}, "memory")


def flat_time(axis: str, limit: float, ends: Sequence[int], fixed: Size) -> Target:
    """Time at the largest size over that at the smallest; the two are not of one round."""

    def measure(results: Results) -> Figure | None:
        small, large = (results.at({**fixed, axis: end}) for end in ends)
        if not small or not large:
            return None
        times = [sorted(record["seconds"]["ours"]) for record in (large, small)]
        return _alone(times[0][len(times[0]) // 2] / times[1][len(times[1]) // 2])

    text = f"ours at {axis} = {ends[1]} <= {limit:g} x at {ends[0]}"
    return Target(text, measure, limit, {**fixed, axis: ends[1]}, "seconds")


def bytes_below(share: float, of: float, text: str, size: Size, *, phase: int | None = None) -> Target:
    """Bytes that a rank receives, as a share of `of`."""

    def measure(results: Results) -> Figure | None:
        value = results.number("ours", size, quantity="received", phase=phase)
        return None if value is None else _alone(value / of)

    return Target(text, measure, share, size, "received")


def _alone(value: float | None) -> Figure | None:
    return None if value is None else (value, value, value)
