"""Rows of the memories."""

from __future__ import annotations

import torch
from torch import Tensor

import contrastive_ops as co
from tests.table.row import Row, normal

_K = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def _queue_compiled(queue: co.NegativeQueue) -> Tensor:
    for _ in range(3):
        queue.enqueue(_K)
    return queue.keys.clone()


ROWS: tuple[Row, ...] = (
    Row(
        "NegativeQueue",
        holder=lambda: co.NegativeQueue(5, 3),
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
)
