"""NT-Xent and InfoNCE over the rows of several processes."""

from __future__ import annotations

from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor

import contrastive_ops as co
from tests.benchmarks import forms
from tests.benchmarks.contest import FORM, OURS, PEER, Area, Contest, Entry, Growth, Run, Size
from tests.benchmarks.losses import Loss, forward_backward, gradients, rows
from tests.benchmarks.targets import bytes_below, faster, memory_below

T = 0.1
LARGEST_TRUTH = 512  # rows of all ranks


class _Gather(torch.autograd.Function):
    """Gather rows; backward, add all ranks' gradients and keep the own part, as lightly's and solo-learn's do."""

    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.count = len(x)
        return gather(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        total = gradient.contiguous().clone()
        dist.all_reduce(total)
        return total[dist.get_rank() * ctx.count :][: ctx.count]


def gather(x: Tensor) -> Tensor:
    parts = [torch.empty_like(x) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, x.contiguous())
    return torch.cat(parts)


def gathered_nt_xent(z1: Tensor, z2: Tensor) -> Tensor:
    """Equation 1 for the rows of this rank against those of all."""
    z1, z2 = forms.unit(z1), forms.unit(z2)
    all1, all2 = _Gather.apply(z1), _Gather.apply(z2)
    own, own_other = torch.arange(len(z1)) + dist.get_rank() * len(z1), len(all1)
    logits = torch.cat([z1, z2]) @ torch.cat([all1, all2]).T / T
    columns = torch.cat([own, own + own_other])
    logits = logits.scatter(1, columns.unsqueeze(1), forms.NEVER)
    return F.cross_entropy(logits, torch.cat([own + own_other, own]))


def gathered_info_nce(query: Tensor, key: Tensor, *, differentiable: bool) -> Tensor:
    query, key = forms.unit(query), forms.unit(key)
    keys = _Gather.apply(key) if differentiable else gather(key)
    own = torch.arange(len(query)) + dist.get_rank() * len(query)
    return F.cross_entropy(query @ keys.T / T, own)


def _everyone(size: Size) -> list[Tensor]:
    shape = (int(size["W"]) * int(size["N"]), int(size["d"]))
    return rows(shape, shape)


def _own(size: Size) -> list[Tensor]:
    first = dist.get_rank() * int(size["N"])
    return [x[first : first + int(size["N"])].clone() for x in _everyone(size)]


def _global_value(outcome: list[Tensor]) -> list[Tensor]:
    """The value as the mean over ranks, some report their own; gradients as they are."""
    value = outcome[0].double().clone()
    dist.all_reduce(value)
    return [value / dist.get_world_size(), *outcome[1:]]


def _lightly(size: Size) -> Run:
    from lightly.loss import NTXentLoss

    return forward_backward(NTXentLoss(temperature=T, gather_distributed=True), _own(size))


def _truth(loss: Loss, size: Size, *, only_first: bool = False) -> list[Tensor]:
    """One process with all rows in float64; W times its gradient, since DDP divides by W."""
    inputs = [x.double() for x in _everyone(size)]
    first, n, ranks = dist.get_rank() * int(size["N"]), int(size["N"]), int(size["W"])
    if only_first:
        value, gradient = gradients(lambda q: loss(q, inputs[1]), inputs[:1])
        return [value, ranks * gradient[first : first + n]]
    value, *both = gradients(loss, inputs)
    return [value, *(ranks * x[first : first + n] for x in both)]


def nt_xent(size: Size) -> Contest:
    entries = {
        "ours": Entry(lambda: forward_backward(partial(co.nt_xent, temperature=T), _own(size)), OURS),
        "plain gather form": Entry(lambda: forward_backward(gathered_nt_xent, _own(size)), FORM),
        "lightly": Entry(lambda: _lightly(size), PEER, "lightly"),
    }
    small = int(size["W"]) * int(size["N"]) <= LARGEST_TRUTH
    truth = partial(_truth, partial(forms.nt_xent, temperature=T), size) if small else None
    return Contest(entries, truth, digest=_global_value)


def info_nce(size: Size) -> Contest:
    """Keys without a gradient (`keys` = 0), as a momentum encoder's, or with one (1)."""
    trained = bool(size["keys"])

    def run(loss: Loss) -> Run:
        query, key = _own(size)
        return forward_backward(loss, [query, key]) if trained else forward_backward(lambda q: loss(q, key), [query])

    entries = {
        "ours": Entry(lambda: run(partial(co.info_nce, temperature=T)), OURS),
        "plain gather form": Entry(lambda: run(partial(gathered_info_nce, differentiable=trained)), FORM),
    }
    small = int(size["W"]) * int(size["N"]) <= LARGEST_TRUTH
    truth = partial(_truth, partial(forms.info_nce, temperature=T), size, only_first=not trained)
    return Contest(entries, truth if small else None, digest=_global_value)


def _at(ranks: int, n: int, **more: int) -> Size:
    return {"W": ranks, "N": n, "d": 128, **more}


NT_XENT = [_at(1, 512), _at(2, 512), _at(4, 512), _at(2, 2048)]
INFO_NCE = [_at(2, 1024, keys=0), _at(2, 4096, keys=0), _at(2, 4096, keys=1)]
PAIRS, LONG = NT_XENT[3], INFO_NCE[2]
SENT = 1.02  # what is counted holds the messages' heads and sizes, too

AREAS = (
    Area(
        "nt_xent_ranks", "NT-Xent over processes",
        "N pairs on each of W gloo processes of this machine, forward and backward. lightly with "
        "`gather_distributed=True`; the plain form gathers both views and adds up gradients.",
        nt_xent, sizes=NT_XENT, quick=[_at(2, 64)], toy=_at(2, 4), remember=NT_XENT,
        targets=(
            faster("lightly", 3, PAIRS), faster("lightly", 3, PAIRS, quantity="cpu"),
            memory_below(32 * 2 * 2 * 2048 * 128 / 2**20 + 8, "32 x 2WN x d bytes + 8 MiB", PAIRS),
            bytes_below(0.02, 2 * 2048 * 128 * 4, "bytes received backward <= 2 % of the gathered: none but messages'"
                        " heads", PAIRS, phase=1),
        ),
        in_processes=True, rounds=9, seconds=8.0, growth=(Growth("W", {"N": 512}, "processes"),),
    ),
    Area(
        "info_nce_ranks", "InfoNCE over processes",
        "N queries and keys on each of W gloo processes, forward and backward; `keys` = 0: keys of a momentum "
        "encoder, 1: keys with a gradient. The plain form gathers the keys.",
        info_nce, sizes=INFO_NCE, quick=[_at(2, 64, keys=1)], toy=_at(2, 4, keys=1), remember=INFO_NCE,
        targets=(
            bytes_below(SENT, 4096 * 128 * 4, "bytes received backward <= (W - 1) N d e, and 2 % for heads", LONG,
                        phase=1),
            memory_below(32 * 2 * 4096 * 128 / 2**20 + 8, "32 x WN x d bytes + 8 MiB", LONG),
        ),
        in_processes=True, rounds=7, seconds=8.0,
    ),
)  # fmt: skip
