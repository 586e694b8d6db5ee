"""Rows of the metrics."""

from __future__ import annotations

from functools import partial
from typing import Any
from unittest.mock import patch

import torch
from torch import Tensor, nn

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


def _alignment(x: Tensor, y: Tensor, *, alpha: float = 2.0, group: Any = False) -> Tensor:
    return co.alignment(co.all_gather(x, group=group), co.all_gather(y, group=group), alpha=alpha)


def _uniformity(x: Tensor, *, t: float = 2.0, group: Any = False) -> Tensor:
    return co.uniformity(co.all_gather(x, group=group), t=t)


def _wide_uniformity(columns: int, block: int) -> None:
    with patch("contrastive_ops.kernels._blocks._CACHE", 256 * block):
        co.uniformity(torch.randn(columns, 16, requires_grad=True)).backward()


def _with_gradient(*values: float) -> nn.Parameter:
    parameter = nn.Parameter(torch.ones(len(values)))
    parameter.grad = torch.tensor(values)
    return parameter


def _spikes_step(monitor: nn.Module, step: int) -> None:
    """A spike of the first layer at step 2, of the last at step 4."""
    first, last = (100.0 if step == 2 else 1.0 + step), (50.0 if step == 4 else 0.5)
    monitor.update(_with_gradient(-first, 0.1), [_with_gradient(last), _with_gradient(0.0)])


def _spikes_compiled(monitor: co.GradientSpikeMonitor, first: nn.Parameter, last: nn.Parameter) -> Tensor:
    for _ in range(3):
        monitor.update(first, [last])
    return torch.stack([monitor.norm, monitor.log_mean, monitor.count.float()])


ROWS: tuple[Row, ...] = (
    Row(
        "alignment",
        call=_alignment,
        inputs=lambda: {"x": normal(8, 5), "y": normal(8, 5, seed=1)},
        rows=("x", "y"),
        oracle=lambda i: torch.tensor(oracles.alignment(lists(i["x"]), lists(i["y"]), alpha=2.0), dtype=torch.float64),
        # there is no temperature; the law's bites on powers down to 1 as well
        at=lambda temperature: partial(co.alignment, alpha=1 + temperature),
        hard=lambda: {"x": normal(128, 64), "y": normal(128, 64) + 0.1 * normal(128, 64, seed=1)},
        bad=(
            (lambda: co.alignment([1.0], _K), "x"),
            (lambda: co.alignment(_K[0], _K), "x"),
            (lambda: co.alignment(_K.long(), _K), "x"),
            (lambda: co.alignment(_K[:0], _K[:0]), "x"),
            (lambda: co.alignment(_K, _K[:2]), "y"),
            (lambda: co.alignment(_K, _K * float("nan")), "y"),
            (lambda: co.alignment(_K, _K.to("meta")), "y"),
            (lambda: co.alignment(_K, _K, alpha=0.0), "alpha"),
            (lambda: co.alignment(_K, _K, alpha="2"), "alpha"),
        ),
        compiles=lambda: co.alignment(_K, _K.roll(1, 0)),
    ),
    Row(
        "alignment",
        "power 3",
        call=partial(_alignment, alpha=3.0),
        inputs=lambda: {"x": normal(8, 5), "y": normal(8, 5, seed=1)},
        rows=("x", "y"),
        oracle=lambda i: torch.tensor(oracles.alignment(lists(i["x"]), lists(i["y"]), alpha=3.0), dtype=torch.float64),
        compiles=lambda: co.alignment(_K, _K.roll(1, 0), alpha=3.0),
    ),
    Row(
        "uniformity",
        call=_uniformity,
        inputs=lambda: {"x": normal(8, 5)},
        rows=("x",),
        oracle=lambda i: torch.tensor(oracles.uniformity(lists(i["x"]), t=2.0), dtype=torch.float64),
        at=lambda temperature: partial(co.uniformity, t=0.5 / temperature),  # logits are 2t <x, y>
        hard=lambda: {"x": normal(128, 64)},
        wide=_wide_uniformity,
        bad=(
            (lambda: co.uniformity([1.0]), "x"),
            (lambda: co.uniformity(_K[0]), "x"),
            (lambda: co.uniformity(_K.long()), "x"),
            (lambda: co.uniformity(_K[:1]), "x"),
            (lambda: co.uniformity(_K * float("inf")), "x"),
            (lambda: co.uniformity(_K, t=0.0), "t"),
            (lambda: co.uniformity(_K, t=-2), "t"),
        ),
        compiles=lambda: co.uniformity(_K),
    ),
    Row(
        "effective_rank",
        call=co.effective_rank,
        inputs=lambda: {"z": normal(7, 4)},
        oracle=lambda i: torch.tensor(oracles.effective_rank(lists(i["z"])), dtype=torch.float64),
        bad=(
            (lambda: co.effective_rank([1.0]), "z"),
            (lambda: co.effective_rank(_K[0]), "z"),
            (lambda: co.effective_rank(_K.long()), "z"),
            (lambda: co.effective_rank(_K[:0]), "z"),
            (lambda: co.effective_rank(_K[:, :0]), "z"),
            (lambda: co.effective_rank(_K, center=1), "center"),
        ),
        compiles=lambda: co.effective_rank(_K),
        why_not={"world": "describes this rank's rows", "gradient": "has none"},
    ),
    Row(
        "effective_rank",
        "centred",
        call=lambda z: co.effective_rank(z, center=True),
        inputs=lambda: {"z": normal(7, 4) + 3},
        oracle=lambda i: torch.tensor(oracles.effective_rank(lists(i["z"]), center=True), dtype=torch.float64),
        compiles=lambda: co.effective_rank(_K, center=True),
        why_not={"world": "describes this rank's rows", "gradient": "has none"},
    ),
    Row(
        "GradientSpikeMonitor",
        holder=lambda: co.GradientSpikeMonitor(warmup=2, ratio=5.0),
        verb=_spikes_step,
        read=lambda monitor: monitor.report(),
        bad=(
            (lambda: co.GradientSpikeMonitor(ratio=1.0), "ratio"),
            (lambda: co.GradientSpikeMonitor(ratio=0.5), "ratio"),
            (lambda: co.GradientSpikeMonitor(ratio="10"), "ratio"),
            (lambda: co.GradientSpikeMonitor(momentum=1.0), "momentum"),
            (lambda: co.GradientSpikeMonitor(momentum=-0.1), "momentum"),
            (lambda: co.GradientSpikeMonitor(warmup=0), "warmup"),
            (lambda: co.GradientSpikeMonitor(window=1.5), "window"),
            (lambda: co.GradientSpikeMonitor().update(3, nn.Linear(1, 1)), "first"),
            (lambda: co.GradientSpikeMonitor().update(nn.Linear(1, 1), ["weight"]), "last"),
        ),
        compiles=_spikes_compiled,
        prepare=lambda: (co.GradientSpikeMonitor(warmup=1), _with_gradient(1.0, -3.0), _with_gradient(2.0)),
    ),
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
        why_not={
            "world": "evaluates where it is called",
            "gradient": "has none",
            "waiting": "the labels of this row are real ones on the CPU",
        },
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
            (lambda: co.CollapseMonitor(3, low_std=1.5), "low_std"),
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
