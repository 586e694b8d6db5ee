"""Rows of what networks are made of."""

from __future__ import annotations

import torch

import contrastive_ops as co
from tests.table.row import Row, normal

_IMAGES = torch.rand(6, 3, 12, 10, generator=torch.Generator().manual_seed(0))


ROWS: tuple[Row, ...] = (
    Row(
        "SplitBatchNorm2d",
        holder=lambda: co.SplitBatchNorm2d(3, 2),
        verb=lambda norm, step: norm(normal(4 + step, 3, 2, 2, seed=step).float()),
        read=lambda norm: norm(torch.ones(4, 3, 2, 2)) if not norm.training else norm.running_mean,
        bad=(
            (lambda: co.SplitBatchNorm2d(0, 2), "num_features"),
            (lambda: co.SplitBatchNorm2d(3, 0), "num_splits"),
            (lambda: co.SplitBatchNorm2d(3, 2)(torch.randn(1, 3, 2, 2)), "input"),
            (lambda: co.SplitBatchNorm2d(3, 2)(torch.randn(4, 2, 2, 2)), "input"),
            (lambda: co.SplitBatchNorm2d(3, 2)(torch.randn(4, 3)), "input"),
        ),
        compiles=lambda norm: norm(_IMAGES),
        prepare=lambda: (co.SplitBatchNorm2d(3, 2),),
        why_not={"world": "local by design", "reference": "properties/test_norm.py"},
    ),
    Row(
        "projection_mlp",
        bad=(
            (lambda: co.projection_mlp(0, 4, 2), "in_dim"),
            (lambda: co.projection_mlp(3, 4.5, 2), "hidden_dim"),
            (lambda: co.projection_mlp(3, 4, -2), "out_dim"),
            (lambda: co.projection_mlp(3, 4, 2, num_layers=0), "num_layers"),
            (lambda: co.projection_mlp(3, 4, 2, norm="bn"), "norm"),
            (lambda: co.projection_mlp(3, 4, 2, last_norm=3), "last_norm"),
            (lambda: co.projection_mlp(3, 4, 2, bias=1), "bias"),
            (lambda: co.projection_mlp(3, 4, 2, last_bias=None), "last_bias"),
        ),
        compiles=lambda mlp: mlp(torch.arange(12.0).view(4, 3)),
        prepare=lambda: (co.projection_mlp(3, 4, 2),),
        why_not={"world": "a network", "reference": "properties/test_heads.py"},
    ),
)
