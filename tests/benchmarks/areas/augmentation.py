"""Views: SwAV's multi-crop of large images, and MoCo v2's view of small ones, from uint8 pixels."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

import contrastive_ops as co
from tests.benchmarks.areas import _other_views
from tests.benchmarks.contest import FLOOR, OURS, PEER, Area, Contest, Entry, Run, Size
from tests.benchmarks.targets import faster, within

MULTI_CROP = _other_views.Recipe(
    crops=((224, 2, (0.14, 1.0)), (96, 6, (0.05, 0.14))), jitter=(0.8, 0.8, 0.8, 0.2), mean=(0.485, 0.456, 0.406),
    std=(0.228, 0.224, 0.225),
)  # fmt: skip
SMALL = _other_views.Recipe(
    crops=((32, 1, (0.2, 1.0)),), jitter=(0.4, 0.4, 0.4, 0.1), mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225)
)


def images(count: int, side: int) -> Tensor:
    """Smooth uint8 images, as photographs are; the same in every process."""
    coarse = torch.rand(count, 3, 8, 8, generator=torch.Generator().manual_seed(0))
    smooth = F.interpolate(coarse, size=(side, side), mode="bicubic", align_corners=False)
    return (smooth.clamp(0, 1) * 255).to(torch.uint8)


def _takes_bytes(view: Callable[..., object], pixels: Tensor) -> bool:
    try:
        view(pixels[:1])
    except (TypeError, ValueError):
        return False
    return True


def ours(view: Callable[[Tensor], list[Tensor]], pixels: Tensor) -> Run:
    """From uint8 where the recipe takes it, else through floats in [0, 1], whose making is part of the call."""
    if _takes_bytes(view, pixels):
        return lambda: view(pixels)
    return lambda: view(pixels.float() / 255)


def resize_only(recipe: _other_views.Recipe, pixels: Tensor) -> Run:
    """Every crop cut and resized by torch's own antialiased routine for bytes, and made float: nothing else."""
    source = pixels.contiguous(memory_format=torch.channels_last)
    choose = random.Random(0)
    plans = [
        (i, size, choose.uniform(*scale) ** 0.5, choose.random(), choose.random())
        for size, count, scale in recipe.crops
        for _ in range(count)
        for i in range(len(pixels))
    ]

    def run() -> list[Tensor]:
        crops = []
        for i, size, share, x, y in plans:
            side = max(1, round(share * pixels.shape[-1]))
            left, top = round(x * (pixels.shape[-1] - side)), round(y * (pixels.shape[-1] - side))
            crop = source[i : i + 1, :, top : top + side, left : left + side]
            small = F.interpolate(crop, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
            crops.append(small.float().div_(255))
        return crops

    return run


def statistics(recipe: _other_views.Recipe) -> Callable[[Sequence[Tensor]], list[Tensor]]:
    """How many pixels of each size there are, and mean and deviation of their values: all that randomness leaves."""
    mean, std = torch.tensor(recipe.mean).view(3, 1, 1), torch.tensor(recipe.std).view(3, 1, 1)

    def digest(crops: Sequence[Tensor]) -> list[Tensor]:
        counts = [sum(x.numel() for x in crops if x.shape[-1] == size) for size, _, _ in recipe.crops]
        colours = torch.cat([(x * std + mean).transpose(-3, 0).reshape(3, -1) for x in crops], dim=1)
        return [100 * torch.tensor(counts).float(), torch.stack([colours.mean(), colours.std() + 0.5])]

    return digest


def _contest(recipe: _other_views.Recipe, view: Callable[[Tensor], list[Tensor]], count: int, side: int) -> Contest:
    pixels = images(count, side)
    entries = {
        "resize only": Entry(lambda: resize_only(recipe, pixels), FLOOR),
        "ours": Entry(lambda: ours(view, pixels), OURS),
        "torchvision on PIL": Entry(lambda: _other_views.torchvision_on_pil(recipe, pixels), PEER, "torchvision"),
        "kornia": Entry(lambda: _other_views.kornia(recipe, pixels), PEER, "kornia"),
    }

    def truth() -> list[Tensor]:
        total = [count * views * 3 * size * size for size, views, _ in recipe.crops]
        colours = pixels.float() / 255
        return [100 * torch.tensor(total).float(), torch.stack([colours.mean(), colours.std() + 0.5])]

    return Contest(entries, truth, tolerance=0.2, digest=statistics(recipe))


def multi_crop(size: Size) -> Contest:
    return _contest(MULTI_CROP, co.swav_views, int(size["B"]), 256)


def small_views(size: Size) -> Contest:
    return _contest(SMALL, lambda x: [co.moco_v2_view(x, size=32)], int(size["B"]), 32)


BATCHES, SMALL_BATCHES = [{"B": 8}, {"B": 32}], [{"B": 64}, {"B": 256}]

AREAS = (
    Area(
        "multi_crop", "Multi-crop augmentation",
        "SwAV's 2 x 224 + 6 x 96 views of B images of 256 x 256 bytes: crop, flip, jitter, greyscale, blur, "
        "normalise, with parameters of its own for each view. torchvision and kornia turn hue in HSV and clamp after "
        "each step, ours turns it in YIQ and clamps once. The floor cuts, resizes and makes floats.",
        multi_crop, sizes=BATCHES, quick=BATCHES[:1], toy={"B": 2}, remember=BATCHES,
        targets=[
            target
            for size in BATCHES
            for target in (
                faster("torchvision on PIL", 5, size),
                faster("kornia", 8, size),
                within("ours", "resize only", 3.5, size),
            )
        ],
        rounds=9,
    ),
    Area(
        "small_views", "Small views",
        "MoCo v2's view of B images of 32 x 32 bytes.",
        small_views, sizes=SMALL_BATCHES, quick=SMALL_BATCHES[:1], toy={"B": 16},
    ),
)  # fmt: skip
