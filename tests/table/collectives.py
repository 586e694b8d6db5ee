"""Rows of the collectives."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import contrastive_ops as co
from tests.table.row import Row, normal

_K = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def _unshuffled(x: Tensor, group: Any = None) -> Tensor:
    """Cubes made of shuffled rows and weighted by the place that the row came from: exact only if each came back."""
    shuffled, handle = co.shuffle_bn(x, group=group, generator=torch.Generator().manual_seed(3))
    rows = co.all_gather(co.unshuffle_bn(shuffled**3, handle), group=group)
    return (rows * torch.arange(len(rows)).unsqueeze(1)).mean()


ROWS: tuple[Row, ...] = (
    Row(
        "all_gather",
        call=lambda x, group=None: (co.all_gather(x, group=group) ** 3).mean(),
        inputs=lambda: {"x": normal(8, 5)},
        rows=("x",),
        bad=((lambda: co.all_gather([1.0]), "x"), (lambda: co.all_gather(_K, group=1), "group")),
        compiles=lambda: co.all_gather(_K),
        why_not={"reference": "alone it is the identity; distributed/test_collectives.py"},
    ),
    Row(
        "shuffle_bn",
        call=lambda x, group=None: co.all_gather(co.shuffle_bn(x, group=group)[0], group=group).pow(3).mean(),
        inputs=lambda: {"x": normal(8, 5)},
        rows=("x",),
        random=lambda generator: co.shuffle_bn(torch.arange(50), generator=generator)[0],
        bad=(
            (lambda: co.shuffle_bn([1.0]), "x"),
            (lambda: co.shuffle_bn(torch.tensor(1.0)), "x"),
            (lambda: co.shuffle_bn(_K, generator=3), "generator"),
            (lambda: co.shuffle_bn(_K, group="world"), "group"),
        ),
        why_not={
            "reference": "the multiset of rows is the law: distributed/test_collectives.py",
            "compile": "a collective: its routes are worked out on the host",
            "waiting": "likewise",
        },
    ),
    Row(
        "unshuffle_bn",
        call=_unshuffled,
        inputs=lambda: {"x": normal(8, 5)},
        rows=("x",),
        bad=(
            (lambda: co.unshuffle_bn(_K, "handle"), "handle"),
            (lambda: co.unshuffle_bn(_K[:2], co.shuffle_bn(_K)[1]), "y"),
            (lambda: co.unshuffle_bn("rows", co.shuffle_bn(_K)[1]), "y"),
        ),
        why_not={
            "reference": "the exact inverse is the law: distributed/test_collectives.py",
            "compile": "a collective: its routes are worked out on the host",
            "waiting": "likewise",
        },
    ),
)
