"""The trainers' optimisers: timm's, fused, also where a part of the network stands still at first."""

from __future__ import annotations

import copy

import pytest
import torch
from _runtime.optimise import create_optimizer
from timm.optim import create_optimizer_v2
from torch import nn


@pytest.mark.parametrize("name", ["sgd", "momentum", "adamw"])
def test_fused_steps_are_timms_also_when_a_layer_starts_later(name: str) -> None:
    fused = nn.Sequential(nn.Linear(9, 7), nn.Linear(7, 5)).double()
    plain = copy.deepcopy(fused)
    optimizers = (
        (fused, create_optimizer(name, fused, lr=0.1, weight_decay=1e-2)),
        (plain, create_optimizer_v2(plain, opt=name, lr=0.1, weight_decay=1e-2, momentum=0.9, fused=False)),
    )
    x = torch.randn(4, 9, dtype=torch.float64)
    for step in range(6):
        for net, optimizer in optimizers:
            optimizer.zero_grad()
            net(x).square().mean().backward()
            if step < 2:
                net[1].zero_grad(set_to_none=True)
            optimizer.step()
    assert optimizers[0][1].defaults["fused"]
    for a, b in zip(fused.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
