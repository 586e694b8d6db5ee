"""From rounds to figures: medians and quartiles of ratios within a round, and the slopes of growth."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import log
from statistics import median, quantiles
from typing import Any

from tests.benchmarks.contest import Size

Figure = tuple[float, float, float]  # lower quartile, median, upper quartile


def figure(values: Sequence[float]) -> Figure:
    """Quartiles that lie within the values; of a single one, that one."""
    if len(values) == 1:
        return values[0], values[0], values[0]
    low, _, high = quantiles(values, n=4, method="inclusive")
    return low, median(values), high


def ratio(above: Sequence[float], below: Sequence[float]) -> Figure:
    """Of the ratios within each round that both took part in: what slows a round down slows both."""
    return figure([a / b for a, b in zip(above, below, strict=False)])


def slope(points: Sequence[tuple[float, float]]) -> float | None:
    """The exponent p of y ~ x^p over the upper half of the range of x, by least squares in logarithms."""
    upper = sorted(points)[len(points) // 2 - 1 :] if len(points) > 3 else sorted(points)
    upper = [(log(x), log(y)) for x, y in upper if x > 0 and y > 0]
    if len({x for x, _ in upper}) < 2:
        return None
    middle_x, middle_y = (sum(column) / len(upper) for column in zip(*upper, strict=True))
    spread = sum((x - middle_x) ** 2 for x, _ in upper)
    return sum((x - middle_x) * (y - middle_y) for x, y in upper) / spread


def per_doubling(points: Sequence[tuple[float, float]]) -> float | None:
    """The largest growth of y where x doubles from one point to the next."""
    ordered = sorted(points)
    steps = [(b[1] / a[1]) ** (log(2) / log(b[0] / a[0])) for a, b in pairwise(ordered)]
    return max(steps, default=None)


def matches(size: Size, wanted: Size) -> bool:
    return all(size.get(name) == value for name, value in wanted.items())


@dataclass(frozen=True)
class Results:
    """What was measured of one area, as it stands in the JSON: one record for each size."""

    records: Sequence[Mapping[str, Any]]

    def at(self, size: Size) -> Mapping[str, Any] | None:
        """The record of a size, or of one that holds these numbers."""
        return next((record for record in self.records if matches(record["size"], size)), None)

    def ratio(self, above: str, below: str, size: Size, *, quantity: str = "seconds") -> Figure | None:
        record = self.at(size)
        taken = record.get(quantity, {}) if record else {}
        return ratio(taken[above], taken[below]) if above in taken and below in taken else None

    def number(self, name: str, size: Size, *, quantity: str = "memory", phase: int | None = None) -> float | None:
        """MiB, or received bytes (of one phase)."""
        record = self.at(size)
        value = record.get(quantity, {}).get(name) if record else None
        if value is None:
            return None
        return float(value if quantity == "memory" else sum(value) if phase is None else value[phase])

    def along(self, axis: str, name: str, fixed: Size, *, quantity: str) -> list[tuple[float, float]]:
        """(size, median time or MiB) of one contestant where the other numbers are fixed."""
        points = []
        for record in self.records:
            value = record.get(quantity, {}).get(name)
            if matches(record["size"], fixed) and value is not None and axis in record["size"]:
                points.append((float(record["size"][axis]), float(median(value) if quantity != "memory" else value)))
        return sorted(points)
