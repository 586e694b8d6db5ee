"""MoCo v3's ViT: fixed sine and cosine positions, its own initialisation, a patch projection that may be frozen.

A patch projection that is trained starts as a frozen one does, so that the two differ in nothing else.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor, nn

from _runtime.models import create_encoder, timm_arguments
from contrastive_ops import FrozenPatchEmbed

WAVELENGTH = 10_000.0  # of the slowest wave, in units of 2 pi patches


def is_vit(name: str) -> bool:
    """Whether the encoder `name` is one of timm's ViTs, of plain patches or of a convolution's (hybrid)."""
    return in_modules(name, "vision_transformer", "vision_transformer_hybrid")


def in_modules(name: str, *modules: str) -> bool:
    """Whether one of these modules of timm defines the encoder `name`."""
    from timm.models import is_model_in_modules

    return is_model_in_modules(timm_arguments(name).get("model_name", ""), modules)


def create_moco_encoder(name: str, *, patch_embed: str, image_size: int) -> nn.Module:
    """The encoder `name`; a ViT has MoCo v3's positions and initialisation, and its patch projection may be frozen."""
    if patch_embed == "frozen" and not in_modules(name, "vision_transformer"):
        raise ValueError(f"--patch-embed: frozen needs a ViT that projects patches of pixels; got --encoder {name}")
    if not is_vit(name):
        return create_encoder(name)
    options: dict[str, Any] = {"weight_init": "moco"}  # timm's: Xavier's, with qkv as three matrices, and no positions
    if patch_embed == "frozen":
        options["embed_layer"] = FrozenPatchEmbed
    encoder = create_encoder(name, options=options)
    embed: Any = encoder.patch_embed
    if embed.img_size != (image_size, image_size):
        size = " x ".join(map(str, embed.img_size))
        raise ValueError(f"--image-size: {name} is made for {size} pixels, got {image_size}")
    if patch_embed == "learned":
        initialise_projection(embed.proj)
    fix_positions(encoder)
    return encoder


def initialise_projection(projection: nn.Conv2d) -> None:
    """Uniform as Xavier's for the matrix from the pixels of a patch to a token; no bias."""
    bound = math.sqrt(6 / (projection.weight[0].numel() + projection.out_channels))
    nn.init.uniform_(projection.weight, -bound, bound)
    if projection.bias is not None:
        nn.init.zeros_(projection.bias)


def fix_positions(vit: Any) -> None:
    """Replaces the learned positions by sines and cosines that are not trained; the class token has none."""
    rows, columns = vit.patch_embed.grid_size
    positions = sincos_positions(rows, columns, vit.embed_dim)
    with torch.no_grad():
        vit.pos_embed.zero_()[0, -rows * columns :].copy_(positions)
    vit.pos_embed.requires_grad_(False)


def sincos_positions(rows: int, columns: int, dim: int) -> Tensor:
    """(rows * columns, dim): sin and cos of the row in `dim / 4` waves each, then of the column; row by row."""
    if dim % 4:
        raise ValueError(f"--encoder: expected a ViT whose width is a multiple of 4, for its positions, got {dim}")
    waves = WAVELENGTH ** -(torch.arange(dim // 4, dtype=torch.float64) / (dim // 4))
    row = torch.arange(rows, dtype=torch.float64).repeat_interleave(columns).outer(waves)
    column = torch.arange(columns, dtype=torch.float64).repeat(rows).outer(waves)
    return torch.cat([row.sin(), row.cos(), column.sin(), column.cos()], dim=1)
