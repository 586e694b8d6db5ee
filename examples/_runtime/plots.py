"""Two pictures of every run: curves.png, what it measured; views.png, what the network saw."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

import torch
import torch.nn.functional as F
from torch import Tensor

from _runtime.log import accuracies, read_metrics
from _runtime.views import displayable

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure

Series = tuple[list[float], list[float]]
BLUE, ORANGE, GREY = "#2563a8", "#d9731a", "#8a8a8a"
DASHES = ("--", ":", "-.", (0, (5, 1, 1, 1, 1, 1)))
IMAGES_SHOWN = 10


def save_curves(folder: Path, *, title: str, dim: int, chance: float | None = None) -> None:
    """Draws curves.png of a run folder from its metrics.jsonl.

    dim is the width of the embedding, whose healthy standard deviation is 1/sqrt(dim); chance the loss of guessing.
    """
    records = read_metrics(folder)
    if not any("loss" in record for record in records):
        return
    figure = new_figure(15, 7.2, layout="none")  # one that looks at all labels takes as long as the drawing
    axes = figure.subplots(2, 3, gridspec_kw={"left": 0.04, "right": 0.99, "bottom": 0.07, "top": 0.9, "hspace": 0.3})
    draw_loss(axes[0, 0], records, chance)
    draw_knn(axes[0, 1], records)
    draw_std(axes[0, 2], records, dim)
    draw_gradients(axes[1, 0], records)
    draw_smooth(axes[1, 1], series(records, "lr"), "learning rate", smooth=1)
    draw_speed(axes[1, 2], records)
    for axis in axes.flat:
        finish(axis)
    figure.suptitle(title, fontsize=13)
    figure.savefig(folder / "curves.png", dpi=110)


def draw_loss(axis: Axes, records: Sequence[dict[str, Any]], chance: float | None) -> None:
    draw_smooth(axis, series(records, "loss"), "loss")
    for name, colour in (("teacher_entropy", ORANGE), ("kl", "#3f8f4f")):
        steps, values = series(records, name)
        if values:
            shown = smoothed(values, len(values) // 100)
            axis.plot(steps, shown, color=colour, linewidth=1.2, label=name.replace("_", " "))
    if chance is not None:
        axis.axhline(chance, color=GREY, linestyle="--", linewidth=1, label=f"guessing: {chance:.2f}")


def draw_knn(axis: Axes, records: Sequence[dict[str, Any]]) -> None:
    """The accuracy of each epoch beside the features that need no learning."""
    steps, values = series(records, "knn")
    axis.plot(steps, [100 * v for v in values], color=BLUE, marker="o", markersize=3, label="kNN")
    if values:
        axis.axhline(100 * values[0], color=ORANGE, linewidth=1, label=f"before training: {100 * values[0]:.1f}")
    for i, name in enumerate(accuracies(next((r for r in reversed(records) if "epoch" in r), {}))):
        found, colour = series(records, name), f"C{2 + i}"  # other than kNN's blue and the orange beside it
        label = name.replace("_", " ")
        axis.plot(found[0], [100 * v for v in found[1]], marker=".", linewidth=1, color=colour, label=label)
    baselines: dict[str, float] = next((r["baselines"] for r in records if "baselines" in r), {})
    for (name, value), dash in zip(baselines.items(), DASHES, strict=False):
        axis.axhline(100 * value, color=GREY, linestyle=dash, linewidth=1, label=f"{name}: {100 * value:.1f}")
    axis.set(title="accuracy, %", ylim=(0, 100))


def draw_std(axis: Axes, records: Sequence[dict[str, Any]], dim: int) -> None:
    draw_smooth(axis, series(records, "feature_std"), "standard deviation of the embedding")
    axis.axhline(dim**-0.5, color=GREY, linestyle="--", linewidth=1, label=f"spread evenly: {dim**-0.5:.3f}")
    axis.axhline(0, color=ORANGE, linewidth=1, label="collapsed: 0")


def draw_gradients(axis: Axes, records: Sequence[dict[str, Any]]) -> None:
    for name, label, colour in (
        ("gradient_first", "first layer", BLUE),
        ("gradient_last", "last layer", ORANGE),
    ):
        steps, values = series(records, name)
        seen = any(value > 0 for value in values)  # a frozen layer's is 0, which no log shows
        shown = label if seen else f"{label}: none"
        axis.plot(steps, values, color=colour, alpha=0.25, linewidth=0.8)  # a spike is a step or two: no mean shows it
        axis.plot(steps, smoothed(values, len(values) // 100), color=colour, linewidth=1.2, label=shown)
        if seen:
            axis.set_yscale("log")
    axis.set_title("largest gradient")


def draw_speed(axis: Axes, records: Sequence[dict[str, Any]]) -> None:
    steps, values = series(records, "images_per_second")
    axis.plot(steps, values, color=BLUE, marker="o", markersize=3)
    axis.set(title="images per second", ylim=(0, 1.25 * max(values, default=1.0)))


def draw_smooth(axis: Axes, points: Series, title: str, *, smooth: int | None = None) -> None:
    """A pale line of all values and, over it, their running mean."""
    steps, values = points
    window = len(values) // 100 if smooth is None else smooth
    if window > 1:
        axis.plot(steps, values, color=BLUE, alpha=0.25, linewidth=0.8)
    axis.plot(steps, smoothed(values, window), color=BLUE, linewidth=1.5, label="running mean" if window > 1 else None)
    axis.set_title(title)


def finish(axis: Axes) -> None:
    axis.set_xlabel("step")
    axis.locator_params(axis="x", nbins=6)  # more run into each other beyond 10000
    axis.grid(alpha=0.25)
    axis.spines[["top", "right"]].set_visible(False)
    if axis.get_legend_handles_labels()[0]:
        axis.legend(fontsize=8, framealpha=0.85)


def series(records: Sequence[dict[str, Any]], name: str) -> Series:
    found = [(r["step"], r[name]) for r in records if isinstance(r.get(name), (int, float))]
    return [s for s, _ in found], [v for _, v in found]


def smoothed(values: Sequence[float], window: int) -> list[float]:
    """The mean of the last `window` values at each place."""
    means, total = [], 0.0
    for i, value in enumerate(values):
        total += value - (values[i - window] if i >= window > 0 else 0.0)
        means.append(total / min(i + 1, window) if window > 1 else value)
    return means


def save_views(path: Path, images: Tensor, views: Sequence[Tensor]) -> None:
    """A row of images, floats in [0, 1], and below each of them what was made of it."""
    shown = {f"view {i + 1}": displayable(view[:IMAGES_SHOWN]) for i, view in enumerate(views)}
    save_images(path, {"image": images[:IMAGES_SHOWN].float(), **shown})


def save_images(path: Path, rows: Mapping[str, Tensor], *, title: str = "") -> None:
    """Rows of named images, (B, 3, H, W) in [0, 1], all shown at the size of the largest, as one picture."""
    size = [max(images.shape[side] for images in rows.values()) for side in (2, 3)]
    tiles = torch.stack([F.interpolate(images.cpu(), size, mode="nearest") for images in rows.values()])
    framed = F.pad(tiles, [max(1, size[0] // 20)] * 4, value=1.0)  # (rows, B, 3, H, W), white around each
    figure = new_figure(1.15 * tiles.shape[1] + 0.6, 1.15 * len(rows) + (0.5 if title else 0.1))
    axis = figure.subplots()
    axis.imshow(framed.permute(0, 3, 1, 4, 2).flatten(2, 3).flatten(0, 1).numpy(), interpolation="nearest")
    axis.set(xticks=[], yticks=[(row + 0.5) * framed.shape[3] for row in range(len(rows))])
    axis.set_yticklabels(rows, rotation=90, va="center")
    axis.tick_params(length=0)
    axis.spines[:].set_visible(False)
    axis.set_title(title, fontsize=10)
    figure.savefig(path, dpi=110)


def new_figure(width: float, height: float, *, layout: Literal["constrained", "none"] = "constrained") -> Figure:
    """A figure drawn to files only: no window, whatever the machine is set up for."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(width, height), layout=layout)
    FigureCanvasAgg(figure)
    return figure
