"""Projection heads: what stands between an encoder's features and the space in which losses compare."""

from __future__ import annotations

from collections.abc import Callable
from itertools import pairwise

from torch import nn

from contrastive_ops import _checks

Norm = Callable[[int], nn.Module]


def projection_mlp(
    in_dim: int,
    hidden_dim: int,
    out_dim: int,
    *,
    num_layers: int = 2,
    norm: Norm | None = nn.BatchNorm1d,
    last_norm: Norm | None = None,
    bias: bool = True,
    last_bias: bool = True,
) -> nn.Sequential:
    r"""A multi-layer perceptron of linear layers, norms and ReLUs.

    $$g(h) = n_L(W_L\, r_{L-1}(\dots r_1(h))), \qquad r_l(x) = \mathrm{ReLU}(n(W_l x + b_l))$$

    | head | arguments |
    |---|---|
    | MoCo v1 (linear) | `num_layers=1` |
    | MoCo v2 | `norm=None` |
    | SimCLR | `bias=False, last_bias=False, last_norm=` batch norm without beta; v2: `num_layers=3` |
    | BYOL | `last_bias=False` |
    | SwAV | as it stands |
    | SimSiam | `num_layers=3, bias=False, last_norm=partial(nn.BatchNorm1d, affine=False)` |
    | MoCo v3, ResNet | `bias=False, last_bias=False, last_norm=partial(nn.BatchNorm1d, affine=False)` |
    | MoCo v3, ViT | the same with `num_layers=3` |
    | DINO | `DINOHead` |

    SimSiam's last linear layer has a bias in the authors' code, frozen at its random start. The batch norm behind it
    subtracts any bias, so with `last_bias=False` the head is the same function and carries no dead parameter.

    Args:
        in_dim: width of the features.
        hidden_dim: width between layers (unused with one layer).
        out_dim: width of the embedding.
        num_layers: linear layers, at least 1.
        norm: makes the norm behind each hidden linear layer from its width; None for none.
        last_norm: likewise behind the last linear layer.
        bias: of the hidden linear layers.
        last_bias: of the last linear layer.

    Returns:
        An `nn.Sequential` from (B, in_dim) to (B, out_dim).

    Raises:
        ValueError: a width or `num_layers` below 1.
        TypeError: an argument is of the wrong type.

    Example:
        >>> sum(p.numel() for p in projection_mlp(8, 16, 4, norm=None).parameters())
        212

    References:
        SimCLR (Chen et al., 2020), section 4.2; MoCo v2 (Chen et al., 2020), section 3; BYOL (Grill et al., 2020),
        section 3.3; SimSiam (Chen and He, 2021), section 3; MoCo v3 (Chen, Xie and He, 2021), "MLP heads".
    """
    for name, width in (("in_dim", in_dim), ("hidden_dim", hidden_dim), ("out_dim", out_dim)):
        _checks.is_count(name, width)
    _checks.is_count("num_layers", num_layers)
    for name, flag in (("bias", bias), ("last_bias", last_bias)):
        _checks.is_flag(name, flag)
    _checks.is_maker("norm", norm)
    _checks.is_maker("last_norm", last_norm)
    widths = [in_dim, *[hidden_dim] * (num_layers - 1), out_dim]
    layers: list[nn.Module] = []
    for before, after in pairwise(widths[:-1]):
        layers += [nn.Linear(before, after, bias=bias), *([norm(after)] if norm else []), nn.ReLU(inplace=True)]
    layers += [nn.Linear(widths[-2], out_dim, bias=last_bias), *([last_norm(out_dim)] if last_norm else [])]
    return nn.Sequential(*layers)


def prediction_mlp(
    dim: int,
    hidden_dim: int,
    *,
    num_layers: int = 2,
    norm: Norm | None = nn.BatchNorm1d,
    last_norm: Norm | None = None,
    bias: bool = False,
    last_bias: bool = True,
) -> nn.Sequential:
    r"""A predictor: the `projection_mlp` from an embedding to one of the same width, on the online side only.

    $$q(z) = W_2\, \mathrm{ReLU}(n(W_1 z)) + b_2, \qquad W_1 \in \mathbb{R}^{H \times D},\;
      W_2 \in \mathbb{R}^{D \times H}$$

    | predictor | call |
    |---|---|
    | SimSiam (a bottleneck) | `prediction_mlp(2048, 512)` |
    | BYOL | `prediction_mlp(256, 4096, bias=True, last_bias=False)` |
    | MoCo v3, ResNet | `prediction_mlp(256, 4096, last_bias=False)` |
    | MoCo v3, ViT | the same with `last_norm=partial(nn.BatchNorm1d, affine=False)` |

    Args:
        dim: D, width of the embedding.
        hidden_dim: H, width between layers.
        num_layers: linear layers, at least 1.
        norm: makes the norm behind each hidden linear layer from its width; None for none.
        last_norm: likewise behind the last linear layer.
        bias: of the hidden linear layers.
        last_bias: of the last linear layer.

    Returns:
        An `nn.Sequential` from (B, dim) to (B, dim).

    Raises:
        ValueError: a width or `num_layers` below 1.
        TypeError: an argument is of the wrong type.

    Example:
        >>> sum(p.numel() for p in prediction_mlp(8, 2).parameters())
        44

    References:
        BYOL (Grill et al., 2020), section 3.3; SimSiam (Chen and He, 2021), section 3; MoCo v3 (Chen, Xie and He,
        2021), "MLP heads". Biases are those of the authors' code: BYOL's hidden layer has one in front of its batch
        norm, which cancels it, and its last layer none.
    """
    _checks.is_count("dim", dim)
    return projection_mlp(
        dim,
        hidden_dim,
        dim,
        num_layers=num_layers,
        norm=norm,
        last_norm=last_norm,
        bias=bias,
        last_bias=last_bias,
    )
