"""DINO's head against loops, at its start, copied, saved, and with a last layer that stands still."""

from __future__ import annotations

import copy
import io
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import contrastive_ops as co
from tests import oracles
from tests.properties.mlps import layers, widths


def _dino(**options: Any) -> co.DINOHead:
    return co.DINOHead(5, 7, **{"hidden_dim": 6, "bottleneck_dim": 4, **options})


def _linear(layer: nn.Linear, x: list[float]) -> list[float]:
    return [oracles.dot(row, x) + b for row, b in zip(layer.weight.tolist(), layer.bias.tolist(), strict=True)]


@given(st.integers(1, 4), st.integers(0, 2**31), st.booleans())
def test_dino_head_equals_the_oracle(layers: int, seed: int, freeze: bool) -> None:
    torch.manual_seed(seed)
    head = _dino(num_layers=layers, freeze_scale=freeze).double()
    for parameter in head.parameters():  # biases and lengths too, none of which start at random
        nn.init.normal_(parameter)
    scale, direction = (head.last_layer.parametrizations.weight.get_parameter(f"original{i}") for i in (0, 1))
    x = torch.randn(3, 5, dtype=torch.float64)
    expected = []
    for row in x.tolist():
        linears = [layer for layer in head.mlp if isinstance(layer, nn.Linear)]
        assert len(linears) == layers
        z = _linear(linears[0], row)
        for layer in linears[1:]:
            z = _linear(layer, [oracles.gelu(v) for v in z])
        rows = zip(scale.flatten().tolist(), direction.tolist(), strict=True)
        expected.append([g * oracles.dot(oracles.unit(v), oracles.unit(z)) for g, v in rows])
    torch.testing.assert_close(head(x), torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)
    assert torch.autograd.gradcheck(head, (x.requires_grad_(True),))


def test_dino_head_starts_as_the_authors_do() -> None:
    head = co.DINOHead(512, 1024, hidden_dim=300, bottleneck_dim=256)
    for layer in head.mlp:
        if isinstance(layer, nn.Linear):
            assert layer.weight.std().item() == pytest.approx(0.02, rel=0.05)
            assert not layer.bias.any()
    assert widths(head.mlp) == [(512, 300), (300, 300), (300, 256)]
    assert layers(head.mlp) == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    assert layers(_dino(norm=nn.BatchNorm1d).mlp) == ["Linear", "BatchNorm1d", "GELU"] * 2 + ["Linear"]
    assert head.last_layer.bias is None
    scale, direction = (head.last_layer.parametrizations.weight.get_parameter(f"original{i}") for i in (0, 1))
    assert (scale == 1).all() and not scale.requires_grad and direction.requires_grad
    assert direction.abs().max() <= 256**-0.5  # torch's default, not the 0.02 of the others
    assert direction.std().item() == pytest.approx((3 * 256) ** -0.5, rel=0.05)
    assert _dino(freeze_scale=False).last_layer.parametrizations.weight.original0.requires_grad
    torch.testing.assert_close(head.last_layer.weight.norm(dim=1), torch.ones(1024))


@given(st.floats(1e-3, 1e3))
def test_dino_logits_are_cosines_of_any_length(scale: float) -> None:
    head = _dino(num_layers=1)
    x = torch.randn(4, 5)
    assert head(x).abs().max() <= 1 + 1e-6
    torch.testing.assert_close(head(x * scale), head(x), rtol=1e-4, atol=1e-5)  # zero biases: a ray has one logit


def test_a_feature_of_zeros_has_logits_and_gradients_of_zero() -> None:
    head = _dino()
    x = torch.zeros(2, 5, requires_grad=True)
    logits = head(x)
    logits.sum().backward()
    assert not logits.any()
    assert not x.grad.any()
    assert all(torch.isfinite(p.grad).all() for p in head.parameters() if p.requires_grad)


def test_dino_head_is_copied_after_a_forward_and_backward_pass() -> None:
    """What `torch.nn.utils.weight_norm` cannot do."""
    head = _dino()
    x = torch.randn(3, 5)
    head(x).sum().backward()
    twin = copy.deepcopy(head)
    torch.testing.assert_close(twin(x), head(x), rtol=0, atol=0)
    assert {p.data_ptr() for p in twin.parameters()}.isdisjoint(p.data_ptr() for p in head.parameters())


def test_dino_head_state_resumes() -> None:
    head, file, x = _dino(), io.BytesIO(), torch.randn(3, 5)
    torch.save(head.state_dict(), file)
    file.seek(0)
    second = _dino()
    second.load_state_dict(torch.load(file, weights_only=True), strict=True)
    torch.testing.assert_close(second(x), head(x), rtol=0, atol=0)


def test_a_frozen_scale_stays_and_a_momentum_teacher_follows() -> None:
    student, teacher = _dino(freeze_scale=False), _dino()
    frozen = _dino()
    optimizer = torch.optim.AdamW([*student.parameters(), *frozen.parameters()], lr=0.1, weight_decay=0.1)
    (student(torch.randn(3, 5)).square().sum() + frozen(torch.randn(3, 5)).square().sum()).backward()
    optimizer.step()
    assert (frozen.last_layer.parametrizations.weight.original0 == 1).all()
    trained = student.last_layer.parametrizations.weight.original0
    assert (trained != 1).all()
    co.momentum_update(student, teacher, 0.9)
    torch.testing.assert_close(teacher.last_layer.parametrizations.weight.original0, 0.9 + 0.1 * trained.detach())


def test_the_last_layer_rests_while_its_gradients_are_none() -> None:
    """The first epoch of DINO, as the docstring says: neither momentum nor weight decay moves it."""
    head = _dino(freeze_scale=False)
    optimizer = torch.optim.AdamW(head.parameters(), lr=0.1, weight_decay=0.1)
    before = [p.detach().clone() for p in head.last_layer.parameters()]
    first = head.mlp[0].weight.detach().clone()
    for _ in range(3):
        head(torch.randn(3, 5)).square().sum().backward()
        for p in head.last_layer.parameters():
            p.grad = None
        optimizer.step()
    assert all(torch.equal(a, b) for a, b in zip(head.last_layer.parameters(), before, strict=True))
    assert not torch.equal(head.mlp[0].weight, first)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64], ids=str)
def test_dino_head_in_other_dtypes_and_under_autocast(dtype: torch.dtype) -> None:
    head, x = _dino(), torch.randn(3, 5)
    exact: Tensor = copy.deepcopy(head).double()(x.double())
    assert copy.deepcopy(head).to(dtype)(x.to(dtype)).dtype == dtype
    with torch.autocast("cpu", dtype=torch.bfloat16):
        low = head(x)
        low.float().sum().backward()
    assert low.dtype == torch.bfloat16
    torch.testing.assert_close(low.double(), exact, rtol=0.05, atol=0.05)
