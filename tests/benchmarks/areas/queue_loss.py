"""InfoNCE of MoCo: N queries against their keys and a queue of K, with a gradient for the queries only."""

from __future__ import annotations

from functools import partial

import torch
from torch import Tensor

import contrastive_ops as co
from tests.benchmarks import floors, forms
from tests.benchmarks.contest import FLOOR, FORM, OURS, PEER, Area, Contest, Entry, Growth, Run, Size
from tests.benchmarks.losses import Loss, forward_backward, in_float64, rows
from tests.benchmarks.targets import faster, memory_below, within

T = 0.1
LARGEST_PML = 2**25  # its largest tensor has N x N x K entries


def _inputs(n: int, k: int, d: int) -> tuple[Tensor, Tensor, Tensor]:
    query, key, queue = rows((n, d), (n, d), (k, d))
    return query, forms.unit(key), forms.unit(queue)


def _lightly(n: int, k: int, d: int) -> Run:
    """Its bank takes the keys in, too: that is part of the call."""
    from lightly.loss import NTXentLoss

    query, key, queue = _inputs(n, k, d)
    loss = NTXentLoss(temperature=T, memory_bank_size=(k, d))
    loss.memory_bank.bank.copy_(queue)
    return forward_backward(lambda q: loss(q, key), [query])


def _metric_learning(n: int, k: int, d: int) -> Run:
    """Its memory takes the keys in first and finds the positives there, so all the other new keys are negatives."""
    from pytorch_metric_learning.losses import CrossBatchMemory, NTXentLoss

    query, key, queue = _inputs(n, k, d)
    memory = CrossBatchMemory(NTXentLoss(temperature=T), d, memory_size=k)
    memory.add_to_memory(queue, torch.full((k,), -1), k)
    labels, new = torch.arange(n).repeat(2), torch.arange(2 * n) >= n
    return forward_backward(lambda q: memory(torch.cat([q, key]), labels, enqueue_mask=new), [query])


def _in_memory(n: int, k: int, d: int) -> list[Tensor]:
    """What that should be: the batch's keys took the place of the oldest."""
    query, key, queue = (x.double() for x in _inputs(n, k, d))
    held = torch.cat([key, queue[n:]])

    def loss(q: Tensor) -> Tensor:
        return torch.nn.functional.cross_entropy(forms.unit(q) @ held.T / T, torch.arange(n))

    return in_float64(loss, lambda: [query])()


def contest(size: Size) -> Contest:
    n, k, d = int(size["N"]), int(size["K"]), int(size["d"])

    def against(loss: Loss, *, columns: bool = False) -> Run:
        query, key, queue = _inputs(n, k, d)
        held = queue.T.contiguous() if columns else queue
        return forward_backward(lambda q: loss(q, key, held), [query])

    def truth() -> list[Tensor]:
        _, key, queue = (x.double() for x in _inputs(n, k, d))
        reference = partial(forms.queue_info_nce, temperature=T)
        return in_float64(lambda q: reference(q, key, queue), lambda: [_inputs(n, k, d)[0]])()

    def as_the_trainer(query: Tensor, key: Tensor, queue: Tensor) -> Tensor:
        return co.info_nce(forms.unit(query), key, queue, temperature=T, normalize=False)

    entries = {
        "floor2": Entry(lambda: floors.products(n, k, d, gradients=1), FLOOR),
        "ours": Entry(lambda: against(as_the_trainer), OURS),
        "released form": Entry(
            lambda: against(partial(forms.queue_info_nce_cloned, temperature=T), columns=True), FORM
        ),
        "plain reference": Entry(lambda: against(partial(forms.queue_info_nce, temperature=T)), FORM),
        "lightly": Entry(lambda: _lightly(n, k, d), PEER, "lightly"),
    }
    if n * n * k <= LARGEST_PML:
        entries["PML"] = Entry(
            lambda: _metric_learning(n, k, d), PEER, "pytorch-metric-learning", lambda: _in_memory(n, k, d)
        )
    return Contest(entries, truth if n * k <= 2**21 else None)


def _at(k: int, n: int = 256) -> Size:
    return {"N": n, "K": k, "d": 128}


SIZES = [_at(4096, 64), *(_at(k) for k in (4096, 16384, 65536, 262144))]

AREAS = (
    Area(
        "queue_loss", "InfoNCE with MoCo's queue",
        "N queries, their keys and a queue of K, forward and backward, keys without a gradient. floor2: the product "
        "with the queue and that of the gradient. The released form clones the queue and concatenates the positive; "
        "lightly's call stores the new keys, too; PML's memory holds them among the K.",
        contest, sizes=SIZES, quick=[_at(4096, 64)], toy={"N": 4, "K": 16, "d": 8}, remember=SIZES[1:],
        targets=(
            within("ours", "floor2", 1.1, _at(65536)),
            faster("released form", 3, _at(65536)),
            *(memory_below(4, "whatever K", _at(k)) for k in (16384, 65536, 262144)),
        ),
        growth=(Growth("K", {"N": 256, "d": 128}, "keys in the queue"),),
    ),
)  # fmt: skip
