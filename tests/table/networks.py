"""Rows of what networks are made of."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

import contrastive_ops as co
from tests.table.row import Row, normal

_IMAGES = torch.rand(6, 3, 12, 10, generator=torch.Generator().manual_seed(0))


def _patches(**options: Any) -> nn.Module:
    return co.FrozenPatchEmbed(**{"img_size": (12, 10), "patch_size": 2, "embed_dim": 8, **options})


class _ViT(nn.Module):
    """What freeze looks at."""

    def __init__(self) -> None:
        super().__init__()
        from timm.layers import PatchEmbed

        self.patch_embed = PatchEmbed(img_size=8, patch_size=4, embed_dim=6)


def _drawn(generator: torch.Generator) -> Tensor:
    with torch.random.fork_rng():
        vit = _ViT()  # draws from the global state, as timm does
    return co.FrozenPatchEmbed.freeze(vit, generator=generator).patch_embed.proj.weight.detach()


ROWS: tuple[Row, ...] = (
    Row(
        "SplitBatchNorm2d",
        holder=lambda: co.SplitBatchNorm2d(3, 2),
        verb=lambda norm, step: norm(normal(4 + step, 3, 2, 2, seed=step).float()),
        read=lambda norm: norm(torch.ones(4, 3, 2, 2)) if not norm.training else norm.running_mean,
        bad=(
            (lambda: co.SplitBatchNorm2d(0, 2), "num_features"),
            (lambda: co.SplitBatchNorm2d(3, 0), "num_splits"),
            (lambda: co.SplitBatchNorm2d(3, 2)(torch.randn(1, 3, 2, 2)), "input"),
            (lambda: co.SplitBatchNorm2d(3, 2)(torch.randn(4, 2, 2, 2)), "input"),
            (lambda: co.SplitBatchNorm2d(3, 2)(torch.randn(4, 3)), "input"),
        ),
        compiles=lambda norm: norm(_IMAGES),
        prepare=lambda: (co.SplitBatchNorm2d(3, 2),),
        why_not={"world": "local by design", "reference": "properties/test_split_batch_norm.py"},
    ),
    Row(
        "projection_mlp",
        bad=(
            (lambda: co.projection_mlp(0, 4, 2), "in_dim"),
            (lambda: co.projection_mlp(3, 4.5, 2), "hidden_dim"),
            (lambda: co.projection_mlp(3, 4, -2), "out_dim"),
            (lambda: co.projection_mlp(3, 4, 2, num_layers=0), "num_layers"),
            (lambda: co.projection_mlp(3, 4, 2, norm="bn"), "norm"),
            (lambda: co.projection_mlp(3, 4, 2, last_norm=3), "last_norm"),
            (lambda: co.projection_mlp(3, 4, 2, bias=1), "bias"),
            (lambda: co.projection_mlp(3, 4, 2, last_bias=None), "last_bias"),
        ),
        compiles=lambda mlp: mlp(torch.arange(12.0).view(4, 3)),
        prepare=lambda: (co.projection_mlp(3, 4, 2),),
        why_not={"world": "a network", "reference": "properties/test_mlp_heads.py"},
    ),
    Row(
        "prediction_mlp",
        bad=(
            (lambda: co.prediction_mlp(0, 4), "dim"),
            (lambda: co.prediction_mlp("256", 4), "dim"),
            (lambda: co.prediction_mlp(3, 4.5), "hidden_dim"),
            (lambda: co.prediction_mlp(3, 4, num_layers=0), "num_layers"),
            (lambda: co.prediction_mlp(3, 4, norm="bn"), "norm"),
            (lambda: co.prediction_mlp(3, 4, last_norm=3), "last_norm"),
            (lambda: co.prediction_mlp(3, 4, bias=1), "bias"),
            (lambda: co.prediction_mlp(3, 4, last_bias=None), "last_bias"),
        ),
        compiles=lambda mlp: mlp(torch.arange(12.0).view(4, 3)),
        prepare=lambda: (co.prediction_mlp(3, 4),),
        why_not={"world": "a network", "reference": "properties/test_mlp_heads.py"},
    ),
    Row(
        "DINOHead",
        bad=(
            (lambda: co.DINOHead(0, 4), "in_dim"),
            (lambda: co.DINOHead(3, 4.0), "out_dim"),
            (lambda: co.DINOHead(3, 4, hidden_dim=-1), "hidden_dim"),
            (lambda: co.DINOHead(3, 4, bottleneck_dim=True), "bottleneck_dim"),
            (lambda: co.DINOHead(3, 4, num_layers=0), "num_layers"),
            (lambda: co.DINOHead(3, 4, norm="bn"), "norm"),
            (lambda: co.DINOHead(3, 4, freeze_scale=1), "freeze_scale"),
        ),
        compiles=lambda head: head(torch.arange(12.0).view(4, 3)),
        prepare=lambda: (co.DINOHead(3, 7, hidden_dim=5, bottleneck_dim=4),),
        why_not={"world": "a network", "reference": "properties/test_dino_head.py"},
    ),
    Row(
        "FrozenPatchEmbed",
        random=_drawn,
        bad=(
            (lambda: _patches(img_size=(8, 8, 8)), "img_size"),
            (lambda: _patches(img_size="224"), "img_size"),
            (lambda: _patches(patch_size=0), "patch_size"),
            (lambda: _patches(patch_size=(4, 2.0)), "patch_size"),
            (lambda: _patches(in_chans=0), "in_chans"),
            (lambda: _patches(embed_dim=8.0), "embed_dim"),
            (lambda: _patches(norm_layer="ln"), "norm_layer"),
            (lambda: _patches(flatten=1), "flatten"),
            (lambda: _patches(output_fmt="HWC"), "output_fmt"),
            (lambda: _patches(bias=None), "bias"),
            (lambda: _patches(strict_img_size=0), "strict_img_size"),
            (lambda: _patches(dynamic_img_pad="yes"), "dynamic_img_pad"),
            (lambda: _patches()(torch.randn(2, 3, 12, 12)), "x"),
            (lambda: _patches()(torch.randn(2, 1, 12, 10)), "x"),
            (lambda: _patches()(torch.randn(3, 12, 10)), "x"),
            (lambda: _patches(strict_img_size=False)(torch.randn(2, 3, 12, 9)), "x"),
            (lambda: _patches().init_weights(generator=0), "generator"),
            (lambda: co.FrozenPatchEmbed.freeze(nn.Linear(2, 2)), "vit"),
            (lambda: co.FrozenPatchEmbed.freeze("vit_small_patch16_224"), "vit"),
            (lambda: co.FrozenPatchEmbed.freeze(nn.DataParallel(_ViT())), "vit"),
            (lambda: co.FrozenPatchEmbed.freeze(_ViT(), generator=0), "generator"),
        ),
        compiles=lambda embed: embed(_IMAGES),
        prepare=lambda: (_patches(norm_layer=nn.LayerNorm),),
        why_not={"world": "a network", "reference": "properties/test_patch_embed.py"},
    ),
)
