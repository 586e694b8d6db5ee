"""The nearest-neighbour classifier of evaluation."""

from __future__ import annotations

import torch
from torch import Tensor

import contrastive_ops as co
from tests.benchmarks import floors, forms
from tests.benchmarks.contest import FLOOR, FORM, OURS, PEER, Area, Contest, Entry, Growth, Run, Size

K, T, CLASSES = 200, 0.07, 100


def _data(size: Size) -> tuple[Tensor, Tensor, Tensor]:
    """Clusters, far enough apart that rounding decides no vote."""
    b, n, d = int(size["B"]), int(size["N"]), int(size["d"])
    generator = torch.Generator().manual_seed(0)
    centres = torch.randn(CLASSES, d, generator=generator)
    labels = torch.arange(n) % CLASSES
    bank = centres[labels] + 0.3 * torch.randn(n, d, generator=generator)
    features = centres[torch.arange(b) % CLASSES] + 0.3 * torch.randn(b, d, generator=generator)
    return forms.unit(features), forms.unit(bank), labels


def _winners(scores: Tensor) -> list[Tensor]:
    return [scores.argmax(1).float()]


def _ours(size: Size) -> Run:
    features, bank, labels = _data(size)
    return lambda: _winners(co.knn_predict(features, bank, labels, k=K, temperature=T, num_classes=CLASSES))


def _dense(size: Size) -> Run:
    features, bank, labels = _data(size)
    return lambda: _winners(forms.knn(features, bank, labels, min(K, len(bank)), T, CLASSES))


def _lightly(size: Size) -> Run:
    from lightly.utils.benchmarking.knn import knn_predict

    features, bank, labels = _data(size)
    columns, k = bank.T.contiguous(), min(K, len(bank))
    return lambda: [knn_predict(features, columns, labels, CLASSES, knn_k=k, knn_t=T)[:, 0].float()]


def contest(size: Size) -> Contest:
    b, n, d = int(size["B"]), int(size["N"]), int(size["d"])
    entries = {
        "floor1": Entry(lambda: floors.products(b, n, d, gradients=0), FLOOR),
        "ours": Entry(lambda: _ours(size), OURS),
        "plain reference": Entry(lambda: _dense(size), FORM),
        "lightly": Entry(lambda: _lightly(size), PEER, "lightly:lightly.utils.benchmarking.knn"),
    }
    return Contest(entries, lambda: [torch.arange(b).float() % CLASSES])


SIZES = [{"B": 1024, "N": n, "d": 128} for n in (10000, 50000, 200000)]

AREAS = (
    Area(
        "knn", "kNN prediction",
        f"B = 1024 queries, N features, k = {K}, {CLASSES} classes; floor1: the one product. lightly's takes rows "
        "that are normalised and transposed before.",
        contest, sizes=SIZES, quick=SIZES[:1], toy={"B": 8, "N": 400, "d": 32}, remember=SIZES,
        growth=(Growth("N", {"B": 1024, "d": 128}, "features"),),
    ),
)  # fmt: skip
