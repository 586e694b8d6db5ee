"""Pairs against the pairs of all ranks, with the exact gradient and no collective for gradients.

A row's gradient is sum_j (what pulls row i to j + what pulls j to row i): besides the rows themselves, which were
gathered once, it takes two numbers of each remote row, its log-sum-exp and its pull. They are gathered in the backward
pass, where a sum of gradients over ranks would move D numbers for each.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from contrastive_ops._embeddings import full_precision
from contrastive_ops.collectives import gather_constant, gather_known
from contrastive_ops.kernels import known_bound, margin_loss, passes, wants_gradient

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


class Shared(NamedTuple):
    """Rows of this rank, every rank's as constants, and whose they are."""

    rows: Tensor  # (B, V, D)
    everyone: Tensor  # (N, V, D)
    sizes: tuple[int, ...]
    group: ProcessGroup

    def own(self) -> Tensor:
        """(B, 1) which of everyone's rows are this rank's."""
        first = sum(self.sizes[: self.group.rank()])
        return torch.arange(first, first + len(self.rows), device=self.rows.device).unsqueeze(1)

    def options(self, scale: float | Tensor, unit: bool, block_size: int | None) -> dict[str, Any]:
        """How to visit blocks of logits of these rows, which may be of unit length."""
        return {
            "block_size": block_size,
            "bound": known_bound(self.rows, self.everyone, scale, normalize=unit),
        }


def share(rows: Tensor, group: ProcessGroup, *, name: str) -> Shared:
    """One gather of views (B, V, D)."""
    return Shared(*gather_constant(rows, group, name=name), group)


def pairs_across(
    shared: Shared,
    scale: float | Tensor,
    views: Sequence[tuple[int, int]],
    *,
    unit: bool,
    block_size: int | None,
) -> Tensor:
    """(B,) sum over pairs of views of `contrast_pairs`, against the rows of all ranks."""
    rows, everyone = shared.rows.unbind(1), shared.everyone.unbind(1)
    total, options = shared.rows.new_zeros(len(shared.rows)), shared.options(scale, unit, block_size)
    for a, b in views:
        left, right = rows[a], rows[b]
        about = (everyone[a], everyone[b], shared.own(), shared.sizes, shared.group)
        wanted = [wants_gradient(x) for x in (left, right, scale)]
        total = total + _Pairs.apply(left, right, scale, about, wanted, options)
    return total


def views_across(shared: Shared, scale: float | Tensor, *, unit: bool, block_size: int | None) -> Tensor:
    """(2B,) as `contrast_self` of both views, against those of all ranks: first the rows of the first view."""
    about = (shared.everyone.flatten(0, 1), shared.own(), shared.sizes, shared.group)
    wanted = [wants_gradient(x) for x in (shared.rows, scale)]
    result: Tensor = _Views.apply(shared.rows, scale, about, wanted, shared.options(scale, unit, block_size))
    return result.t().flatten()


class _Pairs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        left: Tensor,
        right: Tensor,
        scale: float | Tensor,
        about: tuple[Tensor, Tensor, Tensor, tuple[int, ...], ProcessGroup],
        wanted: list[bool],
        options: dict[str, Any],
    ) -> Tensor:
        every_left, every_right, own, *ctx.ranks = about
        scaled, attend = (left * scale, right * scale), partial(passes(left).attend, with_output=False, **options)
        sides = zip(scaled, (every_right, every_left), strict=True)
        lse = torch.stack([attend(rows, keys, None, own)[0] for rows, keys in sides])
        margin = lse - (scaled[0] * right).sum(1)
        ctx.save_for_backward(
            left, right, *scaled, every_left, every_right, own, lse, margin, torch.as_tensor(scale, dtype=lse.dtype)
        )
        ctx.wanted, ctx.options = wanted, options
        return margin_loss(margin).sum(0)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        left, right, *scaled, every_left, every_right, own, lse, margin, scale = ctx.saved_tensors
        with full_precision(gradient.device):
            pull = gradient * margin.sigmoid()
            mine = torch.stack([lse, pull])  # which, direction, row
            every = gather_known(mine.movedim(2, 0), *ctx.ranks).movedim(0, 2)
            side = partial(passes(left).rows_gradient, drop=own, **ctx.options)
            for_left = side(scaled[0], every_right, *mine[:, 0], *every[:, 1])
            for_right = side(scaled[1], every_left, *mine[:, 1], *every[:, 0])
            of_pair = pull.sum(0).unsqueeze(1)
            for_left, for_right = (
                for_left.addcmul_(of_pair, right, value=-1),
                for_right.addcmul_(of_pair, left, value=-1),
            )
            of_left, of_right, of_scale = ctx.wanted
            return (
                for_left * scale if of_left else None,
                for_right * scale if of_right else None,
                (left * for_left).sum() if of_scale else None,
                *[None] * 3,
            )


class _Views(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        views: Tensor,
        scale: float | Tensor,
        about: tuple[Tensor, Tensor, tuple[int, ...], ProcessGroup],
        wanted: list[bool],
        options: dict[str, Any],
    ) -> Tensor:
        every, own, *ctx.ranks = about
        # both views' columns: the row itself and its positive
        drop = (2 * own + torch.arange(2, device=own.device)).repeat_interleave(2, 0)
        lse, _ = passes(views).attend(views.flatten(0, 1) * scale, every, None, drop, with_output=False, **options)
        margin = lse.view(-1, 2) - (views.prod(1).sum(1) * scale).unsqueeze(1)
        ctx.save_for_backward(views, torch.as_tensor(scale, dtype=lse.dtype), every, drop, lse, margin)
        ctx.wanted, ctx.options = wanted, options
        return margin_loss(margin)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor | None, ...]:
        views, scale, every, drop, lse, margin = ctx.saved_tensors
        with full_precision(gradient.device):
            pull = gradient * margin.sigmoid()
            mine = lse, pull.flatten()
            theirs = gather_known(torch.stack([lse.view(-1, 2), pull], 2), *ctx.ranks).flatten(0, 1).unbind(1)
            rows = views.flatten(0, 1) * scale
            result = passes(views).rows_gradient(rows, every, *mine, *theirs, drop, **ctx.options).view_as(views)
            result = result.addcmul_(pull.sum(1).view(-1, 1, 1), views.flip(1), value=-1).mul_(scale)
            # logits are quadratic in the rows and linear in the scale: by Euler one gradient tells the other
            of_scale = (views * result).sum() / (2 * scale) if ctx.wanted[1] else None
            return result if ctx.wanted[0] else None, of_scale, *[None] * 3
