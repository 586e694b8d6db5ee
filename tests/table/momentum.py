"""Rows of the momentum update and its schedules."""

from __future__ import annotations

import torch
from torch import Tensor, nn

import contrastive_ops as co
from tests.table.row import Row


def _net(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).to(dtype)


def _step(optimised: nn.Module, seed: int) -> None:
    with torch.no_grad():
        for parameter in optimised.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))


def _momentum_compiled(online: nn.Module, target: nn.Module) -> Tensor:
    co.momentum_update(online, target, 0.9)
    return torch.cat([p.flatten() for p in target.parameters()])


ROWS: tuple[Row, ...] = (
    Row(
        "momentum_update",
        bad=(
            (lambda: co.momentum_update("net", _net(), 0.9), "online"),
            (lambda: co.momentum_update(_net(), None, 0.9), "target"),
            (lambda: co.momentum_update(_net(), nn.Linear(3, 4), 0.9), "target"),
            (lambda: co.momentum_update(nn.Linear(3, 4), nn.Linear(3, 5), 0.9), "target"),
            (lambda: (net := _net(), co.momentum_update(net, net, 0.9)), "target"),
            (lambda: co.momentum_update(_net(), _net(1), 1.1), "momentum"),
            (lambda: co.momentum_update(_net(), _net(1), -0.1), "momentum"),
            (lambda: co.momentum_update(_net(), _net(1), "0.9"), "momentum"),
            (lambda: co.momentum_update(_net(), _net(1), 0.9, buffers="none"), "buffers"),
        ),
        compiles=_momentum_compiled,
        prepare=lambda: (_net(0), _net(1)),
        why_not={"world": "each rank moves its own copy", "reference": "properties/test_momentum.py"},
    ),
    Row(
        "cosine_schedule",
        bad=(
            (lambda: co.cosine_schedule(-1, 10, 1.0, 0.0), "step"),
            (lambda: co.cosine_schedule(0, 10, float("nan"), 0.0), "start"),
            (lambda: co.cosine_schedule(0, 10, 1.0, "0"), "end"),
            (lambda: co.cosine_schedule(0, 0, 1.0, 0.0), "total_steps"),
            (lambda: co.cosine_schedule(0, 5, 1.0, 0.0, warmup_steps=5), "total_steps"),
            (lambda: co.cosine_schedule(0, 5, 1.0, 0.0, warmup_steps=-1), "warmup_steps"),
            (lambda: co.cosine_schedule(0, 5, 1.0, 0.0, warmup_start=float("inf")), "warmup_start"),
        ),
        compiles=lambda: torch.ones(()) * co.cosine_schedule(3, 10, 1.0, 0.0),
        why_not={"world": "a function of numbers", "reference": "properties/test_momentum.py"},
    ),
)
