"""Rows of the metrics."""

from __future__ import annotations

import torch
from torch import Tensor

import contrastive_ops as co
from tests import oracles
from tests.table.row import Inputs, Row, lists, normal

_K = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))
_LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])


def _monitor_compiled(monitor: co.CollapseMonitor) -> Tensor:
    monitor.update(_K, torch.tensor(1.0))
    return torch.stack([monitor.std, monitor.at_chance])


def _knn_oracle(inputs: Inputs) -> Tensor:
    scores = oracles.knn(
        lists(inputs["features"]), lists(inputs["bank"]), _LABELS.tolist(), k=3, temperature=0.1, classes=3
    )
    return torch.tensor(scores, dtype=torch.float64).sum()


ROWS: tuple[Row, ...] = (
    Row(
        "knn_predict",
        call=lambda features, bank: co.knn_predict(features, bank, _LABELS, k=3, temperature=0.1).sum(),
        inputs=lambda: {"features": normal(4, 5), "bank": normal(7, 5, seed=1)},
        oracle=_knn_oracle,
        bad=(
            (lambda: co.knn_predict(_K[0], _K, torch.zeros(4).long()), "features"),
            (lambda: co.knn_predict(_K, _K[:, :2], torch.zeros(4).long()), "bank"),
            (lambda: co.knn_predict(_K, _K[:0], torch.zeros(0).long()), "bank"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(3).long()), "labels"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(4)), "labels"),
            (lambda: co.knn_predict(_K, _K, torch.full((4,), -1)), "labels"),
            (lambda: co.knn_predict(_K, _K, torch.full((4,), 3), num_classes=3), "labels"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(4).long(), k=0), "k"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(4).long(), temperature=0), "temperature"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(4).long(), num_classes=0), "num_classes"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(4).long(), chunk_size=0), "chunk_size"),
        ),
        compiles=lambda: co.knn_predict(_K, _K, torch.zeros(4).long(), k=2, num_classes=2),
        why_not={"world": "evaluates where it is called", "gradient": "has none"},
    ),
    Row(
        "feature_std",
        call=co.feature_std,
        inputs=lambda: {"z": normal(6, 4)},
        oracle=lambda i: torch.tensor(oracles.feature_std(lists(i["z"])), dtype=torch.float64),
        bad=(
            (lambda: co.feature_std(_K[0]), "z"),
            (lambda: co.feature_std(_K[:1]), "z"),
            (lambda: co.feature_std(_K.long()), "z"),
        ),
        compiles=lambda: co.feature_std(_K),
        why_not={"world": "describes this rank's rows", "gradient": "has none"},
    ),
    Row(
        "gradient_infinity_norm",
        bad=(
            (lambda: co.gradient_infinity_norm(3), "parameters"),
            (lambda: co.gradient_infinity_norm(["weight"]), "parameters"),
        ),
        compiles=lambda: co.gradient_infinity_norm(_K),
        why_not={"world": "DDP's gradients are equal on all ranks", "reference": "properties/test_metrics.py"},
    ),
    Row(
        "CollapseMonitor",
        holder=lambda: co.CollapseMonitor(3, chance_loss=1.0, floor_loss=0.0, patience=2),
        verb=lambda monitor, step: monitor.update(torch.ones(4, 3), torch.tensor(1.0)),
        read=lambda monitor: monitor.report(),
        bad=(
            (lambda: co.CollapseMonitor(0), "dim"),
            (lambda: co.CollapseMonitor(3, patience=0), "patience"),
            (lambda: co.CollapseMonitor(3, chance_loss=float("nan")), "chance_loss"),
            (lambda: co.CollapseMonitor(3, floor_loss="-1"), "floor_loss"),
            (lambda: co.CollapseMonitor(3).update(torch.ones(4, 2)), "z"),
            (lambda: co.CollapseMonitor(3).update(torch.ones(1, 3)), "z"),
        ),
        compiles=_monitor_compiled,
        prepare=lambda: (co.CollapseMonitor(3, chance_loss=1.0),),
        why_not={"world": "watches this rank's rows"},
    ),
)
