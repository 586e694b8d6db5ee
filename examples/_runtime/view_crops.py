"""Recipes that cut crops of several sizes out of each image: a few large ones and many small ones, SwAV's and DINO's.

Every recipe takes float images (B, 3, H, W) in [0, 1] and returns a list of normalised views (B, 3, s, s): counts[0]
of side sizes[0], then counts[1] of side sizes[1].
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch import Tensor

from _runtime.view_pairs import MOSTLY
from _runtime.views import STD, digits_v2_view, plain_view
from contrastive_ops import dino_views, normalize, swav_views

DIGITS_SCALES = ((0.5, 1.0), (0.3, 0.6))  # shares of the area: a small crop still holds most of most digits
SWAV_STD = (0.228, 0.224, 0.225)
CLOSER = ((0.35, 1.0), (0.2, 0.6))  # tell less of place and size, which are what DINO predicts most easily


def digits_crops(
    images: Tensor,
    *,
    sizes: Sequence[int],
    counts: Sequence[int],
    scales: Sequence[tuple[float, float]] = DIGITS_SCALES,
    grey: float = 0.5,
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    """The digits' crops, all alike but for size and area; those of one size are distorted in one go."""
    views: list[Tensor] = []
    for size, count, scale in zip(sizes, counts, scales, strict=True):
        if count:
            many = images.repeat(count, 1, 1, 1)
            x = digits_v2_view(many, size=size, scale=scale, grey=grey, generator=generator)
            views.extend(x.tensor_split(count))
    return views


def unchanged_crops(
    images: Tensor, *, sizes: Sequence[int], counts: Sequence[int], generator: torch.Generator | None = None
) -> list[Tensor]:
    """No augmentation: the image at each size, every other one with its sides exchanged so that views differ."""
    plain = [plain_view(images, size=size) for size, count in zip(sizes, counts, strict=True) for _ in range(count)]
    return [view.flip(-1) if v % 2 else view for v, view in enumerate(plain)]


def swav_crops(
    images: Tensor, *, sizes: Sequence[int], counts: Sequence[int], generator: torch.Generator | None = None
) -> list[Tensor]:
    """SwAV's, with the deviation of the images that are evaluated instead of its own."""
    ratio = tuple(ours / theirs for ours, theirs in zip(STD, SWAV_STD, strict=True))
    views = swav_views(images, sizes=sizes, counts=counts, generator=generator)
    return [normalize(view, mean=(0.0, 0.0, 0.0), std=ratio) for view in views]


CROPS: dict[str, Callable[..., list[Tensor]]] = {  # by the names that `--views` takes
    "digits": digits_crops,
    "digits-dino": partial(digits_crops, grey=MOSTLY),
    "digits-dino-vit": partial(digits_crops, scales=CLOSER, grey=MOSTLY),
    "none": unchanged_crops,
    "swav": swav_crops,
    "dino": dino_views,
    "dino-resnet": partial(dino_views, scales=((0.14, 1.0), (0.05, 0.14))),
}


def crops_of(name: str, *, sizes: tuple[int, int], counts: tuple[int, int]) -> Callable[..., list[Tensor]]:
    """The recipe of that name, for so many crops of these sizes."""
    if counts[0] < 1 or counts[1] < 0 or sum(counts) < 2:
        raise ValueError(f"--crops: expected at least one large crop, and two in all, got {counts[0]} {counts[1]}")
    return partial(CROPS[name], sizes=sizes, counts=counts)
