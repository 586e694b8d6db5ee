"""CLIP and CMC: rows of one modality or view against those of another, in both directions."""

from __future__ import annotations

from functools import partial

from torch import Tensor

import contrastive_ops as co
from tests.benchmarks import floors, forms
from tests.benchmarks.contest import FLOOR, Area, Contest, Entry, Growth, Size
from tests.benchmarks.losses import form, in_float64, ours, rows
from tests.benchmarks.targets import memory_growth, within

SCALE, T, VIEWS = 14.0, 0.07, 3


def clip(size: Size) -> Contest:
    n, d = int(size["N"]), int(size["d"])

    def inputs() -> list[Tensor]:
        return rows((n, d), (n, d))

    reference = partial(forms.clip, scale=SCALE)
    entries = {
        "floor3": Entry(lambda: floors.products(n, n, d), FLOOR),
        "ours": ours(partial(co.clip_loss, logit_scale=SCALE), inputs),
        "plain reference": form(reference, inputs),
        "released form": form(partial(forms.clip_twice, scale=SCALE), inputs),
    }
    return Contest(entries, in_float64(reference, inputs) if n <= 1024 else None)


def cmc(size: Size) -> Contest:
    n, d = int(size["N"]), int(size["d"])

    def inputs() -> list[Tensor]:
        return rows(*[(n, d)] * VIEWS)

    def reference(*views: Tensor) -> Tensor:
        return forms.cmc(list(views), T)

    entries = {
        "floor3": Entry(lambda: floors.repeated(floors.products(n, n, d), VIEWS), FLOOR),
        "ours": ours(lambda *views: co.cmc_loss(views, temperature=T), inputs),
        "plain reference": form(reference, inputs),
    }
    return Contest(entries, in_float64(reference, inputs) if n <= 512 else None)


def _at(n: int, d: int) -> Size:
    return {"N": n, "d": d}


CLIP_SIZES = [_at(2**p, 512) for p in range(8, 13)] + [_at(4096, 128)]
CMC_SIZES = [_at(256, 128), _at(1024, 128), _at(2048, 128)]

AREAS = (
    Area(
        "clip", "CLIP",
        "Both directions of N images and texts, forward and backward. floor3: one product for the logits of both "
        "directions and the two of the gradient; the released form makes a product for each direction.",
        clip, sizes=CLIP_SIZES, quick=[_at(256, 128)], toy=_at(8, 16), remember=CLIP_SIZES,
        targets=(
            *(within("ours", "floor3", 1.5, at, note="logits recomputed") for at in (_at(1024, 512), _at(4096, 512),
                                                                                   _at(4096, 128))),
            *(within("ours", "floor3", 1.2, at, note="logits stored") for at in (_at(1024, 512), _at(4096, 512),
                                                                               _at(4096, 128))),
            memory_growth("N", 2.3, {"d": 512}, 1024),
        ),
        growth=(Growth("N", {"d": 512}, "pairs"),),
    ),
    Area(
        "cmc", "CMC",
        f"{VIEWS} views, all pairs, both directions, forward and backward; floor3: three products for each pair.",
        cmc, sizes=CMC_SIZES, quick=CMC_SIZES[:1], toy=_at(8, 16), remember=CMC_SIZES[1:],
    ),
)  # fmt: skip
