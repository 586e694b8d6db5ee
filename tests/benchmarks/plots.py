"""Growth: time and peak memory against one number of the size, both axes logarithmic, slopes in the legend."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.areas import AREAS
from tests.benchmarks.contest import FLOOR, OURS, Area, Growth
from tests.benchmarks.figures import Results, slope

COLOURS = ("tab:orange", "tab:green", "tab:red", "tab:purple", "tab:brown", "tab:pink")


def picture(area: Area, growth: Growth) -> str:
    """The name of the file."""
    return f"{area.name}_{growth.axis}.png"


def draw(results: Mapping[str, Any], out: Path) -> list[Path]:
    """A picture for each growth that has at least two sizes."""
    paths = []
    for area in AREAS:
        records = results["areas"].get(area.name, {}).get("records", [])
        for growth in area.growth:
            if len(Results(records).along(growth.axis, "ours", growth.fixed, quantity="seconds")) > 1:
                paths.append(_draw(area, growth, records, out / picture(area, growth)))
    return paths


def _draw(area: Area, growth: Growth, records: list[Any], path: Path) -> Path:
    from matplotlib.figure import Figure

    drawing = Figure(figsize=(10, 4), dpi=80, layout="constrained")
    fixed = ", ".join(f"{name} = {value}" for name, value in growth.fixed.items())
    drawing.suptitle(f"{area.title} ({fixed}; CPU, one thread, not measured on a GPU)", fontsize="medium")
    left, right = drawing.subplots(1, 2)
    kinds = {name: kind for record in records for name, kind in record["kinds"].items()}
    for axes, quantity, label, factor in (
        (left, "seconds", "ms", 1000.0),
        (right, "memory", "peak memory, MiB", 1.0),
    ):
        _lines(axes, growth, Results(records), kinds, quantity, factor)
        axes.set(xscale="log", yscale="log", xlabel=f"{growth.axis} ({growth.label})", ylabel=label)
        axes.set_xscale("log", base=2)
        axes.grid(alpha=0.3)
        if axes.lines:
            axes.legend(fontsize="x-small")
        else:
            axes.remove()
    if len(drawing.axes) == 1:
        left.set_subplotspec(drawing.add_gridspec(1, 1)[0])
        drawing.set_figwidth(6.5)
    drawing.savefig(path, metadata={"Software": None})
    return path


def _lines(
    axes: Any, growth: Growth, results: Results, kinds: Mapping[str, str], quantity: str, factor: float
) -> None:
    """One line for each contestant: ours thick, floors dashed."""
    colours = iter(COLOURS * 3)
    for name, kind in kinds.items():
        points = results.along(growth.axis, name, growth.fixed, quantity=quantity)
        points = [(x, factor * y) for x, y in points if y > 0]
        if len(points) < 2:
            continue
        power = slope(points)
        label = name if power is None else f"{name} (slope {power:.2f})"
        style = {OURS: {"color": "tab:blue", "linewidth": 2.5}, FLOOR: {"color": "black", "linestyle": "--"}}
        look = style.get(kind) or {"color": next(colours)}
        axes.plot(*zip(*points, strict=True), marker="o", ms=3, label=label, **look)
