"""SimSiam's switches on vectors that take a second to learn: what collapses, and what the monitor says of it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from _runtime.optimise import apply, backward
from _runtime.siamese import cosine_of_trained, simsiam_heads
from torch import Tensor, nn

from contrastive_ops import CollapseMonitor, stop_grad_cosine

DIM = 16
WIDTHS = (32, 64, DIM, 8)


def train(predictor: str, distance: Callable[[Tensor, Tensor], Tensor]) -> CollapseMonitor:
    """500 steps on pairs of noisy vectors, whose encoder is the projector. BN would delay a collapse."""
    torch.manual_seed(0)
    f, h = simsiam_heads(*WIDTHS, predictor=predictor, norms="hidden")
    optimizer = torch.optim.SGD([*f.parameters(), *h.parameters()], 0.1, momentum=0.9, weight_decay=1e-2)
    monitor = CollapseMonitor(DIM, floor_loss=-1.0, floor_name="-1")
    for _ in range(500):
        x = torch.randn(64, 32)
        z1, z2 = (f(x + 0.5 * torch.randn_like(x)) for _ in range(2))
        loss = (distance(h(z1), z2) + distance(h(z2), z1)) / 2
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        monitor.update(z1, loss)
    return monitor


def test_the_method_itself_stays_spread():
    monitor = train("mlp", stop_grad_cosine)
    assert monitor.report() == []
    assert monitor.std > 0.25 / DIM**0.5


@pytest.mark.parametrize(("predictor", "distance"), [("mlp", cosine_of_trained), ("none", stop_grad_cosine)])
def test_without_stop_gradient_or_predictor_it_collapses_and_the_monitor_says_so(
    predictor: str, distance: Callable[[Tensor, Tensor], Tensor]
):
    said = " ".join(train(predictor, distance).report())
    assert "all embeddings point one way" in said
    assert "has stood at -1" in said


def count(module: nn.Module) -> int:
    return sum(isinstance(layer, nn.BatchNorm1d) for layer in module.modules())


@pytest.mark.parametrize(
    ("norms", "places"), [("none", (0, 0)), ("hidden", (2, 1)), ("default", (3, 1)), ("all", (3, 2))]
)
def test_where_batch_norm_stands(norms: str, places: tuple[int, int]):
    projector, predictor = simsiam_heads(*WIDTHS, norms=norms)
    assert (count(projector), count(predictor)) == places


def test_a_fixed_predictor_is_not_trained_and_none_is_the_identity():
    assert not any(p.requires_grad for p in simsiam_heads(*WIDTHS, predictor="fixed")[1].parameters())
    x = torch.randn(3, DIM)
    assert simsiam_heads(*WIDTHS, predictor="none")[1](x) is x


def test_the_predictors_rate_stays():
    moving, constant = nn.Parameter(torch.ones(())), nn.Parameter(torch.ones(()))
    optimizer = torch.optim.SGD([{"params": [moving]}, {"params": [constant], "constant_lr": True}], 0.5)
    scaler = torch.amp.GradScaler(enabled=False)
    backward(moving + constant, optimizer, scaler)
    apply(optimizer, scaler, lr=0.125)
    assert (moving.item(), constant.item()) == (0.875, 0.5)
