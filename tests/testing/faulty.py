"""Losses with one fault each, and the sound ones that they are made from; importable, as processes are spawned."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import Tensor, nn

import contrastive_ops as co
from contrastive_ops._embeddings import full_precision, promote, unit_rows
from contrastive_ops.collectives import sum_over_ranks

T = 0.1


def _unit(*inputs: Tensor) -> list[Tensor]:
    return [unit_rows(x) for x in promote(*inputs)]


def _total(queries: Tensor, keys: Tensor, first: int = 0) -> Tensor:
    return F.cross_entropy(queries @ keys.T / T, torch.arange(len(queries)) + first, reduction="sum")


# one process ---------------------------------------------------------------------------------------------------------


def sound(z1: Tensor, z2: Tensor) -> Tensor:
    with full_precision(z1.device):
        queries, keys = _unit(z1, z2)
        return _total(queries, keys) / len(z1)


def symmetric(z1: Tensor, z2: Tensor) -> Tensor:
    return (sound(z1, z2) + sound(z2, z1)) / 2


def positive_among_negatives(z1: Tensor, z2: Tensor) -> Tensor:
    with full_precision(z1.device):
        queries, keys = _unit(z1, z2)
        positive = (queries * keys).sum(1, keepdim=True)
        logits = torch.cat([positive, queries @ keys.T], dim=1) / T
        return (logits.logsumexp(1) - logits[:, 0]).mean()


def no_maximum_subtracted(z1: Tensor, z2: Tensor) -> Tensor:
    with full_precision(z1.device):
        queries, keys = _unit(z1, z2)
        weights = (queries @ keys.T / 0.01).exp()
        return -(weights.diagonal() / weights.sum(1)).log().mean()


def computed_in_half(z1: Tensor, z2: Tensor) -> Tensor:
    queries, keys = (unit_rows(x) for x in (z1, z2))
    return _total(queries, keys) / len(z1)


def not_normalised(z1: Tensor, z2: Tensor) -> Tensor:
    with full_precision(z1.device):
        return _total(*promote(z1, z2)) / len(z1)


def huge_at_zero(z1: Tensor, z2: Tensor) -> Tensor:
    with full_precision(z1.device):
        queries, keys = (x / (x.norm(dim=1, keepdim=True) + 1e-12) for x in promote(z1, z2))
        return _total(queries, keys) / len(z1)


def length_without_gradient(z1: Tensor, z2: Tensor) -> Tensor:
    with full_precision(z1.device):
        queries, keys = promote(z1, z2)
        length = queries.detach().norm(dim=1, keepdim=True)
        queries = queries / torch.where(length == 0, 1.0, length)
        return _total(queries, unit_rows(keys)) / len(z1)


def by_position(z1: Tensor, z2: Tensor) -> Tensor:
    weights = torch.linspace(0.5, 1.5, len(z1))
    return torch.stack([w * _one(z1, z2, row) for row, w in enumerate(weights)]).mean()


def _one(z1: Tensor, z2: Tensor, row: int) -> Tensor:
    with full_precision(z1.device):
        queries, keys = _unit(z1, z2)
        return _total(queries[row : row + 1], keys, row)


def by_axis(z1: Tensor, z2: Tensor) -> Tensor:
    z1, z2 = promote(z1, z2)
    return sound(z1.relu() + 0.1 * z1, z2)


def flat_view(z1: Tensor, z2: Tensor) -> Tensor:
    return sound(z1.view(-1).view(z1.shape), z2)


def draws(z1: Tensor, z2: Tensor) -> Tensor:
    return sound(z1, z2) + 1e-12 * torch.rand(())


def writes_to_its_input(z1: Tensor, z2: Tensor) -> Tensor:
    with torch.no_grad():
        z1.copy_(unit_rows(z1))
    return sound(z1, z2)


class MaskOfTheFirstBatch(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.own: Tensor | None = None

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        if self.own is None:
            self.own = torch.eye(len(z1), dtype=torch.bool)
        with full_precision(z1.device):
            queries, keys = _unit(z1, z2)
            logits = queries @ keys.T / T
            return (logits.logsumexp(1) - logits[self.own]).mean()


class LearnsInEval(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("mean", torch.zeros(()))

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        loss = sound(z1, z2)
        self.mean = 0.9 * self.mean + 0.1 * loss.detach()
        return loss


# with negatives ------------------------------------------------------------------------------------------------------


def queue(query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
    return _against(query, key, negatives)


def key_in_its_queue(query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
    return _against(query, key, negatives, with_keys=True)


def mean_of_negatives(query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
    return _against(query, key, negatives, mean=True)


def _against(query: Tensor, key: Tensor, negatives: Tensor, *, mean: bool = False, with_keys: bool = False) -> Tensor:
    with full_precision(query.device):
        query, key, negatives = _unit(query, key, negatives)
        negatives = torch.cat([key, negatives]) if with_keys else negatives
        other = (query @ negatives.T / T).logsumexp(1) - (torch.tensor(float(len(negatives))).log() if mean else 0)
        positive = (query * key).sum(1) / T
        return torch.logaddexp(other - positive, torch.zeros_like(positive)).mean()


# several processes ---------------------------------------------------------------------------------------------------

Gather = Callable[[Tensor], Tensor]


def _place(rows: int) -> tuple[int, int]:
    """Where this rank's rows begin, and the rows of all."""
    sizes = co.all_gather(torch.tensor([rows]))
    rank = dist.get_rank() if dist.is_initialized() else 0
    return int(sizes[:rank].sum()), int(sizes.sum())


def _own_total(z1: Tensor, z2: Tensor, gather: Gather = co.all_gather, *, offset: bool = True) -> Tensor:
    with full_precision(z1.device):
        queries, keys = _unit(z1, z2)
        return _total(queries, gather(keys), _place(len(z1))[0] if offset else 0)


def _mean(total: Tensor, rows: int) -> Tensor:
    return (sum_over_ranks(total, dist.group.WORLD) if dist.is_initialized() else total) / _place(rows)[1]


def gathered(z1: Tensor, z2: Tensor) -> Tensor:
    return _mean(_own_total(z1, z2), len(z1))


def gathered_without_gradient(z1: Tensor, z2: Tensor) -> Tensor:
    """As torch.distributed.all_gather does: what comes from it has no graph."""
    return _mean(_own_total(z1, z2, lambda x: co.all_gather(x.detach()) if dist.is_initialized() else x), len(z1))


class _OwnSlice(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor) -> Tensor:
        ctx.first, ctx.rows = _place(len(x))[0], len(x)
        return co.all_gather(x)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> Tensor:
        return gradient[ctx.first : ctx.first + ctx.rows]


def gathered_with_own_slice(z1: Tensor, z2: Tensor) -> Tensor:
    return _mean(_own_total(z1, z2, _OwnSlice.apply), len(z1))


def without_offset(z1: Tensor, z2: Tensor) -> Tensor:
    return _mean(_own_total(z1, z2, offset=False), len(z1))


def one_over_world_size(z1: Tensor, z2: Tensor) -> Tensor:
    """The whole loss on every rank, each with the gradient of its own rows: DDP averages what it should add."""
    with full_precision(z1.device):
        queries, keys = (_OwnSlice.apply(x) for x in _unit(z1, z2))
        return _total(queries, keys) / len(queries)


def reports_its_own_mean(z1: Tensor, z2: Tensor) -> Tensor:
    total = _own_total(z1, z2)
    value = _mean(total, len(z1))
    return value - value.detach() + total.detach() / max(1, len(z1))


def waits_where_uneven(z1: Tensor, z2: Tensor) -> Tensor:
    """Collectives that take equal parts only."""
    if not dist.is_initialized():
        return sound(z1, z2)
    with full_precision(z1.device):
        queries, keys = _unit(z1, z2)
        if len(z1) != len(co.all_gather(z1.detach())) // dist.get_world_size():
            raise ValueError("expected equal batches")
        return _mean(_total(queries, co.all_gather(keys), len(z1) * dist.get_rank()), len(z1))
