"""Rows of the assignments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import contrastive_ops as co
from tests import oracles
from tests.table.row import Bad, Inputs, Row, lists, normal

_K = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def _assigned(scores: Tensor, group: Any = None) -> Tensor:
    """Half of the gradient is that of the scores: assignments have none, so they are seen through a loss."""
    assignments = co.sinkhorn(scores, epsilon=0.5, group=group)
    return co.swapped_prediction([scores, scores.flip(1)], [assignments], temperature=0.5, group=group)


def _assigned_held(inputs: Inputs, held: Inputs) -> Tensor:
    assignments = oracles.sinkhorn(lists(held["scores"]), epsilon=0.5, iterations=3)
    views = [lists(inputs["scores"]), lists(inputs["scores"].flip(1))]
    return torch.tensor(oracles.pairs_of_views(views, [assignments], 0.5), dtype=torch.float64)


_BAD_SINKHORN: Bad = (
    (lambda: co.sinkhorn(_K[0]), "scores"),
    (lambda: co.sinkhorn(_K.long()), "scores"),
    (lambda: co.sinkhorn(_K[:0]), "scores"),
    (lambda: co.sinkhorn(_K[:, :0]), "scores"),
    (lambda: co.sinkhorn(torch.full((2, 2), float("nan"))), "scores"),
    (lambda: co.sinkhorn(_K, epsilon=0), "epsilon"),
    (lambda: co.sinkhorn(_K, iterations=0), "iterations"),
    (lambda: co.sinkhorn(_K, iterations=3.0), "iterations"),
    (lambda: co.sinkhorn(_K, hard=1), "hard"),
    (lambda: co.sinkhorn(_K, group="all"), "group"),
    (lambda: co.sinkhorn(_K, out=[1.0]), "out"),
    (lambda: co.sinkhorn(_K, out=torch.empty(4, 4)), "out"),
    (lambda: co.sinkhorn(_K, out=torch.empty(4, 3, dtype=torch.float64)), "out"),
    (lambda: co.sinkhorn(_K.bfloat16(), out=torch.empty(4, 3, dtype=torch.bfloat16)), "out"),
    (lambda: co.sinkhorn(_K, out=torch.empty(3, 4).T), "out"),
    (lambda: co.sinkhorn(_K, out=torch.empty(4, 3, device="meta")), "out"),
    (lambda: co.sinkhorn(_K, out=torch.empty(4, 3, requires_grad=True)), "out"),
    (lambda: co.sinkhorn(_K, out=_K), "out"),
)
_PROTOTYPES = co.Prototypes(5, 4, generator=torch.Generator().manual_seed(0))


def _scored(z: Tensor) -> Tensor:
    return _PROTOTYPES(z).square().mean()


def _scored_oracle(inputs: Inputs) -> Tensor:
    pairs = [oracles.dot(z, c) for z in lists(inputs["z"]) for c in lists(_PROTOTYPES.weight.detach().double())]
    return torch.tensor([s * s for s in pairs], dtype=torch.float64).mean()


def _prototypes_step(prototypes: Any, step: int) -> None:
    """An optimiser's step and the way back to the sphere; the parameter stays as it is in evaluation mode."""
    if prototypes.training:
        with torch.no_grad():
            prototypes.weight.add_(normal(4, 3, seed=step).float())
        prototypes.normalize_()


ROWS: tuple[Row, ...] = (
    Row(
        "sinkhorn",
        call=_assigned,
        inputs=lambda: {"scores": normal(8, 5)},
        rows=("scores",),
        oracle=lambda i: _assigned_held(i, i),
        held=_assigned_held,
        bad=_BAD_SINKHORN,
        compiles=lambda: co.sinkhorn(_K),
        why_not={"gradcheck": "assignments have no gradient: compared with differences instead"},
    ),
    Row(
        "Prototypes",
        call=_scored,
        inputs=lambda: {"z": normal(8, 5)},
        oracle=_scored_oracle,
        holder=lambda: co.Prototypes(3, 4, generator=torch.Generator().manual_seed(0)),
        verb=_prototypes_step,
        read=lambda prototypes: prototypes(torch.ones(2, 3)),
        random=lambda generator: co.Prototypes(3, 4, generator=generator).weight.detach(),
        bad=(
            (lambda: co.Prototypes(0, 4), "dim"),
            (lambda: co.Prototypes(3, True), "num_prototypes"),
            (lambda: co.Prototypes(3, 4, generator="seed"), "generator"),
            (lambda: co.Prototypes(3, 4)(_K[:, :2]), "z"),
            (lambda: co.Prototypes(3, 4)(_K.long()), "z"),
            (lambda: co.Prototypes(3, 4)(_K.to("meta")), "z"),
        ),
        compiles=lambda prototypes: prototypes(_K),
        prepare=lambda: (co.Prototypes(3, 4),),
        why_not={"waiting": "a layer: its weight is real and on the CPU"},
    ),
)
