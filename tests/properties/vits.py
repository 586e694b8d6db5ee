"""A small ViT whose patches are frozen, and what MoCo v3's initialisation looks like."""

from __future__ import annotations

from math import sqrt
from typing import Any

import pytest
import timm
from torch import Tensor, nn

import contrastive_ops as co

TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 3}


def tiny_vit(**options: Any) -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", **{**TINY, "embed_layer": co.FrozenPatchEmbed, **options})


def projection(vit: nn.Module) -> tuple[Tensor, Tensor]:
    return vit.patch_embed.proj.weight, vit.patch_embed.proj.bias


def assert_is_moco_v3(weight: Tensor, bias: Tensor | None, patch: int = 4, channels: int = 3, dim: int = 24) -> None:
    """Uniform on the interval of their code: within it, up to its ends, with its deviation."""
    bound = sqrt(6 / (channels * patch * patch + dim))
    assert 0.97 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / sqrt(3), rel=0.1)
    assert weight.mean().abs() < 0.1 * bound
    assert bias is None or not bias.any()
    assert not weight.requires_grad
    assert bias is None or not bias.requires_grad
