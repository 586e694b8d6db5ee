"""SwAV's assignments of B rows to P prototypes, three iterations."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

import contrastive_ops as co
from tests.benchmarks import floors, forms
from tests.benchmarks.contest import FLOOR, FORM, OURS, PEER, Area, Contest, Entry, Run, Size
from tests.benchmarks.targets import faster, memory_below, within

EPSILON, ITERATIONS = 0.05, 3
TAKES_OUT = "out" in inspect.signature(co.sinkhorn).parameters


def _scores(size: Size) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.rand(int(size["B"]), int(size["P"]), generator=generator) * 1.4 - 0.7  # as cosines


def _lightly() -> Callable[[Tensor], Tensor]:
    from lightly.loss.swav_loss import sinkhorn

    return partial(sinkhorn, epsilon=EPSILON, iterations=ITERATIONS)


def contest(size: Size) -> Contest:
    ours = partial(co.sinkhorn, epsilon=EPSILON, iterations=ITERATIONS)

    def on_scores(assign: Callable[[Tensor], Tensor]) -> Run:
        scores = _scores(size)
        return torch.no_grad()(lambda: [assign(scores)])

    def into_buffer() -> Run:
        scores = _scores(size)
        buffer = torch.zeros_like(scores)
        return lambda: [ours(scores, out=buffer)]

    entries = {
        "copy": Entry(lambda: floors.copy(int(size["B"]), int(size["P"])), FLOOR),
        "ours": Entry(lambda: on_scores(ours), OURS),
        "released form": Entry(
            lambda: on_scores(partial(forms.sinkhorn, epsilon=EPSILON, iterations=ITERATIONS)), FORM
        ),
        "in logarithms": Entry(
            lambda: on_scores(partial(forms.sinkhorn_log, epsilon=EPSILON, iterations=ITERATIONS)), FORM
        ),
        "lightly": Entry(lambda: on_scores(_lightly()), PEER, "lightly"),
    }
    if TAKES_OUT:
        entries["ours, out="] = Entry(into_buffer, OURS)
    return Contest(entries, lambda: [forms.sinkhorn_log(_scores(size).double(), EPSILON, ITERATIONS)])


SIZES = [{"B": 4096, "P": 3000}, {"B": 512, "P": 65536}]


def _targets(size: Size) -> list:
    mib = int(size["B"]) * int(size["P"]) * 4 / 2**20
    return [
        faster("released form", 1.8, size),
        faster("released form", 3.2, size, name="ours, out="),
        within("ours, out=", "copy", 7.5, size),
        memory_below(1.02 * mib + 2, "one matrix B x P, 2 % and 2 MiB", size),
        memory_below(2, "nothing but vectors", size, name="ours, out="),
    ]


AREAS = (
    Area(
        "sinkhorn", "Sinkhorn",
        f"B x P scores, epsilon {EPSILON}, {ITERATIONS} iterations; the floor copies B x P numbers. `out=` writes "
        "into a tensor that the caller keeps.",
        contest, sizes=SIZES, quick=[{"B": 256, "P": 512}], toy={"B": 8, "P": 5}, remember=SIZES,
        targets=[target for size in SIZES for target in _targets(size)],
    ),
)  # fmt: skip
