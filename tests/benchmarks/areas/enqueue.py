"""Storing N new keys in a queue of K."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

import contrastive_ops as co
from tests.benchmarks import floors, forms
from tests.benchmarks.contest import FLOOR, FORM, OURS, PEER, Area, Contest, Entry, Growth, Run, Size
from tests.benchmarks.targets import faster, flat_time, within


def _keys(n: int, d: int) -> Tensor:
    return forms.unit(torch.randn(n, d, generator=torch.Generator().manual_seed(0)))


def _stored(store: Callable[[], object], rows: Tensor) -> Run:
    """`rows` is where the first keys land, and where they are looked for."""

    def run() -> list[Tensor]:
        store()
        return [rows]

    return run


def _ours(n: int, k: int, d: int) -> Run:
    keys, queue = _keys(n, d), co.NegativeQueue(k, d)
    return _stored(lambda: queue.enqueue(keys), queue.keys[:n])


def _released(n: int, k: int, d: int, *, clone: bool) -> Run:
    """Columns (D, K), a pointer that wraps; the clone is what the loss of the same step needs, once for each step."""
    keys, columns, pointer = _keys(n, d), torch.randn(d, k), torch.zeros(1, dtype=torch.long)

    def store() -> Tensor:
        held = columns.clone() if clone else columns
        start = int(pointer)
        columns[:, start : start + n] = keys.T
        pointer[0] = (start + n) % k
        return held

    return _stored(store, columns.T[:n])


def _lightly(n: int, k: int, d: int) -> Run:
    from lightly.models.modules.memory_bank import MemoryBankModule

    keys, bank = _keys(n, d), MemoryBankModule((k, d))
    return _stored(lambda: bank(keys, update=True), bank.bank[:n])


def _metric_learning(n: int, k: int, d: int) -> Run:
    from pytorch_metric_learning.losses import CrossBatchMemory, NTXentLoss

    keys, labels, memory = _keys(n, d), torch.arange(n), CrossBatchMemory(NTXentLoss(), d, memory_size=k)
    return _stored(lambda: memory.add_to_memory(keys, labels, n), memory.embedding_memory[:n])


def contest(size: Size) -> Contest:
    n, k, d = int(size["N"]), int(size["K"]), int(size["d"])
    entries = {
        "copy": Entry(lambda: floors.copy(n, d), FLOOR),
        "ours": Entry(lambda: _ours(n, k, d), OURS),
        "released form": Entry(lambda: _released(n, k, d, clone=False), FORM),
        "released form with its clone": Entry(lambda: _released(n, k, d, clone=True), FORM),
        "lightly": Entry(lambda: _lightly(n, k, d), PEER, "lightly"),
        "PML": Entry(lambda: _metric_learning(n, k, d), PEER, "pytorch-metric-learning"),
    }
    return Contest(entries, lambda: [_keys(n, d)], tolerance=1e-6)


SIZES = [{"N": 256, "K": k, "d": 128} for k in (4096, 16384, 65536, 262144)]
FIXED = {"N": 256, "d": 128}

AREAS = (
    Area(
        "enqueue", "Enqueue",
        "256 keys of 128 numbers into a queue of K; the floor copies 256 x 128 numbers. The released form clones its "
        "queue in each step, and lightly's bank does so in its call, because the loss keeps what it was given.",
        contest, sizes=SIZES, quick=SIZES[:1], toy={"N": 4, "K": 16, "d": 8}, remember=SIZES[2:],
        targets=(
            *(within("ours", "copy", 5, size) for size in SIZES),
            flat_time("K", 2.5, (4096, 262144), FIXED),
            faster("lightly", 300, SIZES[2]),
        ),
        growth=(Growth("K", FIXED, "keys in the queue"),),
    ),
)  # fmt: skip
