"""SplitBatchNorm2d against batch norm in loops, and what the heads build and compute."""

from __future__ import annotations

import copy
import io
from functools import partial
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import contrastive_ops as co
from tests import oracles


@given(st.integers(1, 4), st.integers(0, 5), st.integers(0, 2**31))
def test_each_chunk_is_normalised_by_its_own_statistics(splits: int, more: int, seed: int) -> None:
    rows = 2 * splits + more
    x = torch.randn(rows, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    observed = co.SplitBatchNorm2d(1, splits, affine=False).double()(x).flatten()
    expected = [
        value
        for chunk in oracles.chunks(rows, splits)
        for value in oracles.batch_norm([x[i].item() for i in chunk], 1e-5)
    ]
    torch.testing.assert_close(observed, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_one_split_is_batch_norm_in_training_and_evaluation(momentum: float | None) -> None:
    ours, theirs = co.SplitBatchNorm2d(3, 1, momentum=momentum), nn.BatchNorm2d(3, momentum=momentum)
    for step in range(3):
        x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        torch.testing.assert_close(ours(x), theirs(x))
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.allclose(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())


def test_running_statistics_are_the_mean_over_chunks() -> None:
    x = torch.randn(8, 2, 3, 3)
    ours = co.SplitBatchNorm2d(2, 4)
    ours(x)
    parts = [nn.BatchNorm2d(2) for _ in range(4)]
    for part, chunk in zip(parts, x.chunk(4), strict=True):
        part(chunk)
    torch.testing.assert_close(ours.running_mean, torch.stack([p.running_mean for p in parts]).mean(0))
    torch.testing.assert_close(ours.running_var, torch.stack([p.running_var for p in parts]).mean(0))


def test_gradient_is_that_of_separate_batch_norms() -> None:
    x = torch.randn(6, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    ours = co.SplitBatchNorm2d(2, 3).double()
    theirs = copy.deepcopy(ours)
    (a,) = torch.autograd.grad(ours(x).pow(3).sum(), x)
    y = torch.cat([nn.functional.batch_norm(c, None, None, theirs.weight, theirs.bias, True) for c in x.chunk(3)])
    (b,) = torch.autograd.grad(y.pow(3).sum(), x)
    torch.testing.assert_close(a, b)


def test_a_batch_that_is_too_small_changes_no_statistics() -> None:
    norm = co.SplitBatchNorm2d(2, 4)
    with pytest.raises(ValueError, match="num_splits=4"):
        norm(torch.randn(3, 2, 2, 2))
    assert (norm.running_mean == 0).all()
    assert norm.num_batches_tracked == 0


def _layers(mlp: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in mlp]


def test_the_papers_heads() -> None:
    plain = partial(nn.BatchNorm1d, affine=False)
    assert _layers(co.projection_mlp(8, 16, 4, num_layers=1)) == ["Linear"]
    assert _layers(co.projection_mlp(8, 16, 4, norm=None)) == ["Linear", "ReLU", "Linear"]
    assert _layers(co.projection_mlp(8, 16, 4)) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    simsiam = co.projection_mlp(8, 16, 4, num_layers=3, bias=False, last_norm=plain)
    assert _layers(simsiam) == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert [layer.bias is None for layer in simsiam if isinstance(layer, nn.Linear)] == [True, True, False]
    assert simsiam[-1].weight is None
    assert simsiam(torch.randn(4, 8)).shape == (4, 4)
    assert co.projection_mlp(8, 16, 4, last_bias=False)[-1].bias is None
    moco_v3 = co.projection_mlp(8, 16, 4, num_layers=3, bias=False, last_bias=False, last_norm=plain)
    assert _layers(moco_v3) == _layers(simsiam)
    assert _biases(moco_v3) == [False, False, False]


def _biases(mlp: nn.Sequential) -> list[bool]:
    return [layer.bias is not None for layer in mlp if isinstance(layer, nn.Linear)]


def _widths(mlp: nn.Sequential) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in mlp if isinstance(layer, nn.Linear)]


def test_the_papers_predictors() -> None:
    """Layers, widths, biases and norms of the calls that the docstring's table gives."""
    plain = partial(nn.BatchNorm1d, affine=False)
    hidden = ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    simsiam = co.prediction_mlp(2048, 512)
    byol = co.prediction_mlp(256, 4096, bias=True, last_bias=False)
    resnet = co.prediction_mlp(256, 4096, last_bias=False)
    vit = co.prediction_mlp(256, 4096, last_bias=False, last_norm=plain)
    assert [_layers(mlp) for mlp in (simsiam, byol, resnet)] == [hidden] * 3
    assert _layers(vit) == [*hidden, "BatchNorm1d"]
    assert vit[-1].weight is None and vit[1].weight is not None
    assert _widths(simsiam) == [(2048, 512), (512, 2048)]
    assert [_widths(mlp) for mlp in (byol, resnet, vit)] == [[(256, 4096), (4096, 256)]] * 3
    assert _biases(simsiam) == [False, True]
    assert _biases(byol) == [True, False]
    assert _biases(resnet) == _biases(vit) == [False, False]


def test_a_predictor_is_the_projection_of_one_width() -> None:
    ours = co.prediction_mlp(6, 3, num_layers=3, norm=None, last_norm=nn.LayerNorm, bias=True, last_bias=False)
    theirs = co.projection_mlp(6, 3, 6, num_layers=3, norm=None, last_norm=nn.LayerNorm, bias=True, last_bias=False)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    x = torch.randn(4, 6)
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)


def test_simsiams_last_bias_is_cancelled_by_the_norm_behind_it() -> None:
    """What the docstring says of the frozen bias: neither the value nor any gradient knows it."""
    plain = partial(nn.BatchNorm1d, affine=False)
    mlp = co.projection_mlp(8, 16, 4, num_layers=3, bias=False, last_norm=plain).double()
    x = torch.randn(6, 8, dtype=torch.float64)
    before = mlp(x)
    with torch.no_grad():
        mlp[6].bias.add_(torch.randn(4, dtype=torch.float64))
    torch.testing.assert_close(mlp(x), before)
    mlp(x).pow(3).sum().backward()
    assert mlp[6].bias.grad.abs().max() < 1e-10


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
    assert _widths(head.mlp) == [(512, 300), (300, 300), (300, 256)]
    assert _layers(head.mlp) == ["Linear", "GELU", "Linear", "GELU", "Linear"]
    assert _layers(_dino(norm=nn.BatchNorm1d).mlp) == ["Linear", "BatchNorm1d", "GELU"] * 2 + ["Linear"]
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
