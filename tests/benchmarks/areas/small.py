"""Small batches, where a call costs more than its products: not slower than the dense formula."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from torch import Tensor

import contrastive_ops as co
from tests.benchmarks import forms
from tests.benchmarks.contest import Area, Contest, Growth, Size
from tests.benchmarks.losses import Loss, form, in_float64, ours, rows
from tests.benchmarks.targets import within

T = 0.1
SIZES = [{"N": n, "d": 128} for n in (8, 16, 32, 64, 128, 256)]


def _against_dense(loss: Loss, dense: Loss) -> Callable[[Size], Contest]:
    def contest(size: Size) -> Contest:
        shape = (int(size["N"]), int(size["d"]))

        def inputs() -> list[Tensor]:
            return rows(shape, shape)

        entries = {"ours": ours(loss, inputs), "dense formula": form(dense, inputs)}
        return Contest(entries, in_float64(dense, inputs), tolerance=1e-3)

    return contest


def _area(name: str, title: str, loss: Loss, dense: Loss) -> Area:
    return Area(
        f"small_{name}", f"{title}, small batches",
        "N pairs, d = 128, forward and backward, against the formula with all logits in memory.",
        _against_dense(loss, dense), sizes=SIZES, quick=SIZES[::3], toy={"N": 4, "d": 8}, seconds=1.5, rounds=101,
        targets=[within("ours", "dense formula", 1.1, size) for size in SIZES],
        growth=(Growth("N", {"d": 128}, "pairs"),) if name == "nt_xent" else (),
    )  # fmt: skip


AREAS = (
    _area("nt_xent", "NT-Xent", partial(co.nt_xent, temperature=T), partial(forms.nt_xent, temperature=T)),
    _area("info_nce", "InfoNCE", partial(co.info_nce, temperature=T), partial(forms.info_nce, temperature=T)),
    _area("clip", "CLIP", partial(co.clip_loss, logit_scale=14.0), partial(forms.clip, scale=14.0)),
    _area("spread", "InvaSpread", partial(co.spread_loss, temperature=T), partial(forms.spread, temperature=T)),
)
