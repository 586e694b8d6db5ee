"""Rows of the memories."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import contrastive_ops as co
from tests.table.row import Bad, Inputs, Row, normal

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
)
