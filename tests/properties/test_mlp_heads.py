"""The papers' projection and prediction heads: layers, widths, biases and norms."""

from __future__ import annotations

from functools import partial

import torch
from torch import nn

import contrastive_ops as co
from tests.properties.mlps import biases, layers, widths


def test_the_papers_heads() -> None:
    plain = partial(nn.BatchNorm1d, affine=False)
    assert layers(co.projection_mlp(8, 16, 4, num_layers=1)) == ["Linear"]
    assert layers(co.projection_mlp(8, 16, 4, norm=None)) == ["Linear", "ReLU", "Linear"]
    assert layers(co.projection_mlp(8, 16, 4)) == ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    simsiam = co.projection_mlp(8, 16, 4, num_layers=3, bias=False, last_norm=plain)
    assert layers(simsiam) == ["Linear", "BatchNorm1d", "ReLU"] * 2 + ["Linear", "BatchNorm1d"]
    assert [layer.bias is None for layer in simsiam if isinstance(layer, nn.Linear)] == [True, True, False]
    assert simsiam[-1].weight is None
    assert simsiam(torch.randn(4, 8)).shape == (4, 4)
    assert co.projection_mlp(8, 16, 4, last_bias=False)[-1].bias is None
    moco_v3 = co.projection_mlp(8, 16, 4, num_layers=3, bias=False, last_bias=False, last_norm=plain)
    assert layers(moco_v3) == layers(simsiam)
    assert biases(moco_v3) == [False, False, False]


def test_the_papers_predictors() -> None:
    """Layers, widths, biases and norms of the calls that the docstring's table gives."""
    plain = partial(nn.BatchNorm1d, affine=False)
    hidden = ["Linear", "BatchNorm1d", "ReLU", "Linear"]
    simsiam = co.prediction_mlp(2048, 512)
    byol = co.prediction_mlp(256, 4096, bias=True, last_bias=False)
    resnet = co.prediction_mlp(256, 4096, last_bias=False)
    vit = co.prediction_mlp(256, 4096, last_bias=False, last_norm=plain)
    assert [layers(mlp) for mlp in (simsiam, byol, resnet)] == [hidden] * 3
    assert layers(vit) == [*hidden, "BatchNorm1d"]
    assert vit[-1].weight is None and vit[1].weight is not None
    assert widths(simsiam) == [(2048, 512), (512, 2048)]
    assert [widths(mlp) for mlp in (byol, resnet, vit)] == [[(256, 4096), (4096, 256)]] * 3
    assert biases(simsiam) == [False, True]
    assert biases(byol) == [True, False]
    assert biases(resnet) == biases(vit) == [False, False]


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
