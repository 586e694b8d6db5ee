"""Numbers and tables as they stand on the page."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import median
from typing import Any

UNITS = {"seconds": "ms", "cpu": "ms", "memory": "MiB", "received": "MiB"}


def short(value: float) -> str:
    """Three digits, without an exponent."""
    if value == 0 or abs(value) >= 100:
        return f"{value:.0f}"
    digits = 2 if abs(value) >= 1 else 3
    return f"{value:.{digits}f}" if abs(value) < 10 else f"{value:.1f}"


def spread(figure: Sequence[float]) -> str:
    """The median, and the quartiles where there are any."""
    low, middle, high = figure
    return short(middle) if low == high else f"{short(middle)} ({short(low)} to {short(high)})"


def size(numbers: Mapping[str, int | str]) -> str:
    return ", ".join(str(value) if isinstance(value, str) else f"{name} = {value}" for name, value in numbers.items())


def amount(record: Mapping[str, Any], quantity: str, name: str) -> float | None:
    """Milliseconds or MiB of one contestant at one size; None where it was not measured."""
    value = record.get(quantity, {}).get(name)
    if value is None:
        return None
    if quantity == "memory":
        return float(value)
    return sum(value) / 2**20 if quantity == "received" else 1000 * float(median(value))


def told(record: Mapping[str, Any], quantity: str, names: Sequence[str]) -> str:
    """`12.3 ms`, or `lightly 12.3 ms, plain reference 9.1 ms`."""
    amounts = {name: amount(record, quantity, name) for name in names}
    parts = [
        f"{'' if names == ['ours'] else name + ' '}{short(value)} {UNITS[quantity]}"
        for name, value in amounts.items()
        if value is not None
    ]
    return ", ".join(parts)


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """Markdown; empty without rows."""
    lines = [head, ["---"] * len(head), *rows]
    return "".join(f"| {' | '.join(line)} |\n" for line in lines) + "\n" if rows else ""
