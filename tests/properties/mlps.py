"""What an MLP is made of."""

from __future__ import annotations

from torch import nn


def layers(mlp: nn.Sequential) -> list[str]:
    return [type(layer).__name__ for layer in mlp]


def widths(mlp: nn.Sequential) -> list[tuple[int, int]]:
    return [(layer.in_features, layer.out_features) for layer in mlp if isinstance(layer, nn.Linear)]


def biases(mlp: nn.Sequential) -> list[bool]:
    return [layer.bias is not None for layer in mlp if isinstance(layer, nn.Linear)]
