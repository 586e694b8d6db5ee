"""SimCLR's NT-Xent: forward and backward over N pairs."""

from __future__ import annotations

from functools import partial

from torch import Tensor

import contrastive_ops as co
from tests.benchmarks import floors, forms
from tests.benchmarks.contest import FLOOR, Area, Contest, Entry, Growth, Size
from tests.benchmarks.losses import Loss, form, in_float64, ours, peer, rows
from tests.benchmarks.targets import faster, memory_below, memory_growth, within

T = 0.1
LARGEST_PML = 256  # its time and memory grow with the cube of N
LARGEST_TRUTH = 512  # pairs; above it float32 contestants are compared with one another


def lightly() -> Loss:
    from lightly.loss import NTXentLoss

    return NTXentLoss(temperature=T)


def metric_learning() -> Loss:
    from pytorch_metric_learning.losses import NTXentLoss, SelfSupervisedLoss

    return SelfSupervisedLoss(NTXentLoss(temperature=T))


def contest(size: Size) -> Contest:
    n, d = int(size["N"]), int(size["d"])

    def inputs() -> list[Tensor]:
        return rows((n, d), (n, d))

    reference = partial(forms.nt_xent, temperature=T)
    entries = {
        "floor3": Entry(lambda: floors.products(2 * n, 2 * n, d, symmetric=True), FLOOR),
        "ours": ours(partial(co.nt_xent, temperature=T), inputs),
        "plain reference": form(reference, inputs),
        "gather + cross-entropy form": form(partial(forms.nt_xent_masked, temperature=T), inputs),
        "lightly": peer("lightly", lightly, inputs),
    }
    if n <= LARGEST_PML and d == 128:
        entries["PML"] = peer("pytorch-metric-learning", metric_learning, inputs)
    if n * d > 4096 * 128:
        del entries["gather + cross-entropy form"]  # a quarter of an hour is better spent
    return Contest(entries, in_float64(reference, inputs) if n <= LARGEST_TRUTH else None)


def _limit(n: int, d: int) -> tuple[float, str]:
    """8 copies of the 2N rows, and a block."""
    return 32 * 2 * n * d / 2**20 + 8, "32 x 2N x d bytes + 8 MiB"


def _at(n: int, d: int = 128) -> Size:
    return {"N": n, "d": d}


SIZES = [_at(2**p) for p in range(4, 14)] + [_at(2**p, 512) for p in range(4, 13)]
WIDTHS = [_at(1024, d) for d in (32, 64, 256, 1024)]

AREAS = (
    Area(
        "nt_xent", "NT-Xent",
        "SimCLR's loss of N pairs, temperature 0.1, forward and backward. floor3: the products z z' and the two of "
        "the gradient, 2N x 2N x d each, into outputs that exist.",
        contest,
        sizes=SIZES + WIDTHS,
        quick=[_at(64), _at(512)],
        toy=_at(8, 16),
        remember=[_at(2**p) for p in range(8, 14)] + [_at(2048, 512)] + WIDTHS + [_at(1024, 512)],
        targets=(
            within("ours", "floor3", 1.3, _at(256)),
            within("ours", "floor3", 0.95, _at(1024), note="logits recomputed"),
            within("ours", "floor3", 0.72, _at(1024), note="half the logits stored"),
            within("ours", "floor3", 0.85, _at(2048), note="logits recomputed"),
            within("ours", "floor3", 0.72, _at(2048), note="half the logits stored"),
            within("ours", "floor3", 0.85, _at(4096)),
            within("ours", "floor3", 0.85, _at(8192)),
            within("ours", "floor3", 0.85, _at(2048, 512)),
            faster("lightly", 5, _at(4096)),
            faster("plain reference", 3.3, _at(4096)),
            *(memory_below(*_limit(n, 128), _at(n)) for n in (1024, 2048, 4096, 8192)),
            memory_growth("N", 2.3, {"d": 128}, 1024),
        ),
        growth=(Growth("N", {"d": 128}, "pairs"), Growth("d", {"N": 1024}, "dimension")),
    ),
)  # fmt: skip
