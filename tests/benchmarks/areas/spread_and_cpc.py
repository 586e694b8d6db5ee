"""InvaSpread and CPC: losses for which no library is known, against the formula and its products."""

from __future__ import annotations

from functools import partial

from torch import Tensor

import contrastive_ops as co
from tests.benchmarks import floors, forms
from tests.benchmarks.contest import FLOOR, Area, Contest, Entry, Size
from tests.benchmarks.losses import form, in_float64, ours, rows

T, STEPS = 0.1, 4


def spread(size: Size) -> Contest:
    n, d = int(size["N"]), int(size["d"])

    def inputs() -> list[Tensor]:
        return rows((n, d), (n, d))

    reference = partial(forms.spread, temperature=T)
    entries = {
        "floor2": Entry(lambda: floors.products(2 * n, 2 * n, d, gradients=1), FLOOR),
        "ours": ours(partial(co.spread_loss, temperature=T), inputs),
        "plain reference": form(reference, inputs),
    }
    return Contest(entries, in_float64(reference, inputs) if n <= 512 else None, tolerance=1e-3)


def cpc(size: Size) -> Contest:
    batch, length, d = int(size["B"]), int(size["T"]), int(size["d"])
    terms = sum(min(STEPS, length - 1 - t) for t in range(length))

    def inputs() -> list[Tensor]:
        return [0.3 * x for x in rows((batch, length, STEPS, d), (batch, length, d))]

    entries = {
        "floor3": Entry(lambda: floors.products(batch * terms, batch * length, d), FLOOR),
        "ours": ours(co.cpc_loss, inputs),
        "plain reference": form(forms.cpc, inputs),
    }
    return Contest(entries, in_float64(forms.cpc, inputs) if batch * terms <= 4096 else None)


SPREAD = [{"N": n, "d": 128} for n in (128, 256, 1024, 2048)]
CPC = [{"B": batch, "T": 16, "d": 128} for batch in (16, 64, 128)]

AREAS = (
    Area(
        "spread", "InvaSpread",
        "N pairs, temperature 0.1, forward and backward; the gradient flows into anchors only, so the floor has two "
        "products.",
        spread, sizes=SPREAD, quick=SPREAD[:1], toy={"N": 8, "d": 16}, remember=SPREAD[2:],
    ),
    Area(
        "cpc", "CPC",
        f"B sequences of T latents, {STEPS} steps ahead, all other latents of all sequences as negatives, forward and "
        "backward.",
        cpc, sizes=CPC, quick=CPC[:1], toy={"B": 3, "T": 5, "d": 8}, remember=CPC[1:],
    ),
)  # fmt: skip
