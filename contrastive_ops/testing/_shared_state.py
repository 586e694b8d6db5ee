"""The law of world size for what remembers: every rank holds what one process would."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor

from contrastive_ops.testing._behaviour import identical
from contrastive_ops.testing._evaluate import Law, law, violation
from contrastive_ops.testing._processes import run_distributed
from contrastive_ops.testing._state import Holder, state
from contrastive_ops.testing._violation import Broken, LawViolation, as_text, numbered
from contrastive_ops.testing._world import TIMEOUT, splits_of

Plan: TypeAlias = list[tuple[Tensor, tuple[int, ...]]]  # batches, and how many rows of each every rank has


@law
def same_on_every_rank(holder: Holder, batches: Sequence[Tensor]) -> None:
    """W ranks, updated with rows split unevenly and seeded apart, hold the same bits, and what one process holds."""
    found = judge_holder(same_on_every_rank, holder, [list(batches)])
    if found is not None:
        raise found


@law
def even_same_on_every_rank(holder: Holder, batches: Sequence[Tensor]) -> None:
    """W ranks with equally many rows each, seeded apart, hold the same bits, and what one process holds."""
    found = judge_holder(even_same_on_every_rank, holder, [list(batches)])
    if found is not None:
        raise found


LAWS: tuple[Law, ...] = (same_on_every_rank, even_same_on_every_rank)


def judge_holder(
    judge: Law,
    holder: Holder,
    examples: Sequence[Sequence[Tensor]],
    *,
    world_sizes: Sequence[int] = (2, 3),
    timeout: float = TIMEOUT,
) -> LawViolation | None:
    """What the law finds at the first of the examples that shows it; one start of processes per world size."""
    for world_size in world_sizes:
        ways = _even_plans if judge is even_same_on_every_rank else _plans
        plans = [plan for batches in examples for plan in ways(batches, world_size)]
        try:
            ranks = run_distributed(run_plans, world_size, holder, plans, timeout=timeout)
        except (RuntimeError, TimeoutError) as error:
            reason = (
                f"no answer after {timeout:g} s" if isinstance(error, TimeoutError) else str(error).splitlines()[-1]
            )
            return violation(judge, {"ranks": world_size}, reason, "no error")
        for plan, held in zip(plans, zip(*ranks, strict=True), strict=True):
            broken = _compared(plan, held, _updated(holder, [batch for batch, _ in plan], 0))
            if broken is not None:
                return violation(judge, broken.example, broken.observed, broken.expected)
    return None


def _plans(batches: Sequence[Tensor], world_size: int) -> list[Plan]:
    """The k-th way of splitting for all batches: even ones first."""
    ways = [splits_of(len(batch), world_size) for batch in batches]
    return [[(b, way[k % len(way)]) for b, way in zip(batches, ways, strict=True)] for k in range(max(map(len, ways)))]


def _even_plans(batches: Sequence[Tensor], world_size: int) -> list[Plan]:
    """As many rows for each rank as the batch has, other ones on each."""
    scales = [float(rank + 1) for rank in range(world_size)]
    return [[(torch.cat([scale * b for scale in scales]), (len(b),) * world_size) for b in batches]]


def run_plans(rank: int, holder: Holder, plans: list[Plan]) -> list[dict[str, Any]]:
    """What each process does: the state after each plan. Ranks are seeded apart, as in most trainings."""
    mine = [[batch[sum(sizes[:rank]) :][: sizes[rank]] for batch, sizes in plan] for plan in plans]
    return [_updated(holder, batches, rank) for batches in mine]


def _updated(holder: Holder, batches: Sequence[Tensor], seed: int) -> dict[str, Any]:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        module = holder.make()
        for batch in batches:
            holder.update(module, batch.clone())
    return state(holder, module)


def _compared(plan: Plan, ranks: Sequence[dict[str, Any]], alone: dict[str, Any]) -> Broken | None:
    example = {**numbered([batch for batch, _ in plan]), "rows by rank": str([list(sizes) for _, sizes in plan])}
    for rank, held in enumerate(ranks):
        for name, first in ranks[0].items():
            if not identical(held.get(name), first):
                text = f"{name} = {as_text(held.get(name))} on rank {rank}"
                return Broken(example, text, f"{as_text(first)}, as on rank 0")
    for name, expected in alone.items():
        if not _near(ranks[0].get(name), expected):
            text = f"{name} = {as_text(ranks[0].get(name))} on every rank"
            return Broken(example, text, f"{as_text(expected)}, as one process holds")
    return None


def _near(observed: Any, expected: Any) -> bool:
    """Equal but for the order of a sum."""
    if isinstance(observed, Tensor) and isinstance(expected, Tensor) and observed.is_floating_point():
        return observed.shape == expected.shape and torch.allclose(observed, expected, rtol=1e-5, atol=1e-6)
    return identical(observed, expected)
