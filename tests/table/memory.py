"""Rows of the memories and of the assignments."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import contrastive_ops as co
from tests import oracles
from tests.table.row import Bad, Inputs, Row, lists, normal

_K = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def _queue_compiled(queue: co.NegativeQueue) -> Tensor:
    for _ in range(3):
        queue.enqueue(_K)
    return queue.keys.clone()


def _bank_step(bank: Any, step: int) -> None:
    bank.update(torch.tensor([step, 3, step]), normal(3, 3, seed=step).float())


def _bank_drawn(generator: torch.Generator) -> Tensor:
    """Entries and noise, in one row."""
    entries = _bank(generator=generator).entries
    return torch.cat([entries.flatten(), _bank().sample(3, 4, generator=generator).flatten().float()])


def _bank_compiled(bank: co.MemoryBank) -> Tensor:
    index = torch.tensor([1, 4, 1, 0])
    bank.update(index, _K)
    return bank.lookup(index)


def _partition_compiled(partition: co.NCEPartition) -> Tensor:
    for _ in range(2):
        partition.update(_K)
    return partition.log_partition.clone()


def _center_compiled(center: co.DINOCenter) -> Tensor:
    center.update(_K)
    return center(_K, temperature=0.04)


def _fed_partition(partition: Any, inputs: Inputs, group: Any) -> None:
    partition.update(inputs["scores"], group=group)


def _fed_bank(bank: Any, inputs: Inputs, group: Any) -> None:
    bank.update(inputs["index"], inputs["z"], group=group)


def _fed_center(center: Any, inputs: Inputs, group: Any) -> None:
    center.group = group
    center.update(inputs["logits"])


def _scores() -> Inputs:
    return {"scores": normal(8, 5)}


def _partition_row(mode: str, momentum: float | None, bad: Bad = ()) -> Row:
    return Row(
        "NCEPartition",
        mode,
        inputs=_scores,
        rows=("scores",),
        holder=lambda: co.NCEPartition(10, momentum=momentum),
        verb=lambda partition, step: partition.update(normal(2, 3, seed=step).float()),
        read=lambda partition: partition.log_partition,
        feed=_fed_partition,
        bad=bad,
        compiles=_partition_compiled,
        prepare=lambda: (co.NCEPartition(10, momentum=momentum),),
    )


def _bank(**options: Any) -> co.MemoryBank:
    return co.MemoryBank(6, 3, **options)


_ROW = torch.zeros(1, dtype=torch.long)
_BAD_BANK: Bad = (
    (lambda: co.MemoryBank(0, 3), "num_data"),
    (lambda: co.MemoryBank(6, 3.0), "dim"),
    (lambda: _bank(momentum=1.5), "momentum"),
    (lambda: _bank(generator=0), "generator"),
    (lambda: _bank().lookup([0]), "index"),
    (lambda: _bank().lookup(torch.tensor([6])), "index"),
    (lambda: _bank().lookup(torch.tensor([-1])), "index"),
    (lambda: _bank().lookup(torch.ones(2)), "index"),
    (lambda: _bank().update(torch.tensor([6]), _K[:1]), "index"),
    (lambda: _bank().update(_ROW.view(1, 1), _K[:1]), "index"),
    (lambda: _bank().update(_ROW, _K), "z"),
    (lambda: _bank().update(_ROW, _K[:1, :2]), "z"),
    (lambda: _bank().update(_ROW, torch.full((1, 3), float("nan"))), "z"),
    (lambda: _bank().update(_ROW, _K[:1].to("meta")), "z"),
    (lambda: _bank().update(_ROW, _K[:1], group=0.5), "group"),
    (lambda: _bank().sample(0, 4), "batch"),
    (lambda: _bank().sample(4, 2.0), "num_negatives"),
    (lambda: _bank().sample(4, 2, generator=7), "generator"),
)
_BAD_PARTITION: Bad = (
    (lambda: co.NCEPartition(0), "num_data"),
    (lambda: co.NCEPartition(5, momentum=-0.1), "momentum"),
    (lambda: co.NCEPartition(5, momentum="0.9"), "momentum"),
    (lambda: co.NCEPartition(5).update([1.0]), "scores"),
    (lambda: co.NCEPartition(5).update(torch.ones(2).long()), "scores"),
    (lambda: co.NCEPartition(5).update(torch.ones(0)), "scores"),
    (lambda: co.NCEPartition(5).update(torch.tensor([float("inf")])), "scores"),
    (lambda: co.NCEPartition(5).update(torch.ones(2), group="all"), "group"),
)
_BAD_CENTER: Bad = (
    (lambda: co.DINOCenter(0), "dim"),
    (lambda: co.DINOCenter(3, momentum=2.0), "momentum"),
    (lambda: co.DINOCenter(3, group="all"), "group"),
    (lambda: co.DINOCenter(3).update(_K[:, :2]), "logits"),
    (lambda: co.DINOCenter(3).update(_K[:0]), "logits"),
    (lambda: co.DINOCenter(3).update(_K.long()), "logits"),
    (lambda: co.DINOCenter(3).update(_K.to("meta")), "logits"),
    (lambda: co.DINOCenter(3)(torch.tensor(1.0), temperature=0.1), "logits"),
    (lambda: co.DINOCenter(3)(_K.fill_diagonal_(1.0) / 0, temperature=0.1), "logits"),
    (lambda: co.DINOCenter(3)(_K, temperature=0.0), "temperature"),
)


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
        "NegativeQueue",
        inputs=lambda: {"keys": normal(8, 3)},
        rows=("keys",),
        holder=lambda: co.NegativeQueue(5, 3),
        feed=lambda queue, inputs, group: queue.enqueue(inputs["keys"], group=group),
        verb=lambda queue, step: queue.enqueue(normal(2 + step, 3, seed=step).float()),
        read=lambda queue: (queue.keys.sum(), queue.num_filled),
        random=lambda generator: co.NegativeQueue(4, 3, generator=generator).keys,
        bad=(
            (lambda: co.NegativeQueue(0, 3), "num_keys"),
            (lambda: co.NegativeQueue(4.0, 3), "num_keys"),
            (lambda: co.NegativeQueue(4, -1), "dim"),
            (lambda: co.NegativeQueue(4, 3, init="ones"), "init"),
            (lambda: co.NegativeQueue(4, 3, dtype=torch.int64), "dtype"),
            (lambda: co.NegativeQueue(4, 3, generator=1), "generator"),
            (lambda: co.NegativeQueue(4, 3).enqueue(torch.randn(2, 4)), "keys"),
            (lambda: co.NegativeQueue(4, 3).enqueue(torch.full((2, 3), float("nan"))), "keys"),
            (lambda: co.NegativeQueue(4, 3).enqueue(torch.ones(2, 3, dtype=torch.long)), "keys"),
            (lambda: co.NegativeQueue(4, 3).enqueue(torch.randn(2, 3), group="all"), "group"),
        ),
        compiles=_queue_compiled,
        prepare=lambda: (co.NegativeQueue(5, 3),),
    ),
    Row(
        "MemoryBank",
        inputs=lambda: {"index": torch.tensor([0, 1, 5, 1, 3, 1, 0, 2]), "z": normal(8, 3)},
        rows=("index", "z"),
        holder=_bank,
        verb=_bank_step,
        read=lambda bank: (
            bank.lookup(torch.arange(3)),
            bank.sample(2, 2, generator=torch.Generator().manual_seed(0)),
        ),
        feed=_fed_bank,
        random=_bank_drawn,
        bad=_BAD_BANK,
        compiles=_bank_compiled,
        prepare=lambda: (_bank(),),
    ),
    _partition_row("set once", None, _BAD_PARTITION),
    _partition_row("moving", 0.9),
    Row(
        "DINOCenter",
        inputs=lambda: {"logits": normal(8, 3)},
        rows=("logits",),
        holder=lambda: co.DINOCenter(3),
        verb=lambda center, step: center.update(normal(2 + step, 3, seed=step).float()),
        read=lambda center: center(torch.ones(2, 3), temperature=0.1),
        feed=_fed_center,
        bad=_BAD_CENTER,
        compiles=_center_compiled,
        prepare=lambda: (co.DINOCenter(3),),
    ),
    Row(
        "sinkhorn",
        call=_assigned,
        inputs=_scores,
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
