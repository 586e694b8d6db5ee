"""The papers' recipes: how each is called here, and its steps in their order with their odds."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

import contrastive_ops as co

Step = tuple[str, dict[str, Any]]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SWAV = ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
PIXELS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

# how each recipe is called here, and how its pixels are normalised
RECIPES: dict[str, tuple[dict[str, Any], tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "moco_v1_view": ({"size": 8}, IMAGENET),
    "moco_v2_view": ({"size": 8}, IMAGENET),
    "instdisc_cifar_view": ({"size": 8}, CIFAR),
    "invaspread_view": ({"size": 8}, CIFAR),
    "simclr_view": ({"size": 8}, PIXELS),
    "swav_views": ({"sizes": (8, 5), "counts": (2, 2)}, SWAV),
    "byol_views": ({"size": 8}, IMAGENET),
    "moco_v3_views": ({"size": 8}, IMAGENET),
    "dino_views": ({"sizes": (8, 5), "counts": (2, 2)}, IMAGENET),
}
OTHERS: dict[str, dict[str, Any]] = {
    "cmc_views": {"size": 8},
    "cpc_patches": {"size": 9, "patch": 4, "stride": 2, "crop": 3},
}
EVERY = [*RECIPES, *OTHERS]


def views_of(name: str, images: Tensor, seed: int = 0) -> list[Tensor]:
    """All views that one call of a recipe makes."""
    options = RECIPES[name][0] if name in RECIPES else OTHERS[name]
    made = getattr(co, name)(images, **options, generator=torch.Generator().manual_seed(seed))
    return [made] if isinstance(made, Tensor) else list(made)


def pixels_of(name: str, images: Tensor, seed: int = 0) -> list[Tensor]:
    """The views before they were normalised."""
    mean, std = (torch.tensor(values, dtype=images.dtype).view(3, 1, 1) for values in RECIPES[name][1])
    return [view * std + mean for view in views_of(name, images, seed)]


def images_of(count: int, height: int = 12, width: int = 10) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))


def constant_images(color: tuple[float, float, float], count: int) -> Tensor:
    return torch.tensor(color, dtype=torch.float64).view(3, 1, 1).expand(count, 3, 12, 12)


def share(which: Tensor) -> float:
    return which.double().mean().item()


FLIP: Step = ("random_horizontal_flip", {"p": 0.5})
GREY: Step = ("random_grayscale", {"p": 0.2})
SOLARIZE: Step = ("random_solarize", {"threshold": 0.5, "p": 0.2})


def _crop(low: float, high: float = 1.0, size: int = 8) -> Step:
    return "random_resized_crop", {"size": size, "scale": (low, high), "ratio": (3 / 4, 4 / 3)}


def _jitter(*amounts: float, p: float) -> Step:
    return "color_jitter", {**dict(zip(("brightness", "contrast", "saturation", "hue"), amounts, strict=True)), "p": p}


def _blur(p: float) -> Step:
    return "gaussian_blur", {"sigma": (0.1, 2.0), "p": p}


WEAK, STRONG = _jitter(0.4, 0.4, 0.4, 0.4, p=1.0), _jitter(0.8, 0.8, 0.8, 0.2, p=0.8)
V2, BYOL = _jitter(0.4, 0.4, 0.4, 0.1, p=0.8), _jitter(0.4, 0.4, 0.2, 0.1, p=0.8)

STEPS: dict[str, list[list[Step]]] = {
    "moco_v1_view": [[_crop(0.2), GREY, WEAK, FLIP]],
    "moco_v2_view": [[_crop(0.2), V2, GREY, _blur(0.5), FLIP]],
    "instdisc_cifar_view": [[_crop(0.2), WEAK, GREY]],
    "invaspread_view": [[_crop(0.2), WEAK, GREY, FLIP]],
    "simclr_view": [[_crop(0.08), FLIP, STRONG, GREY, _blur(0.5)]],
    "swav_views": [
        *[[_crop(0.14), FLIP, STRONG, GREY, _blur(0.5)]] * 2,
        *[[_crop(0.05, 0.14, 5), FLIP, STRONG, GREY, _blur(0.5)]] * 2,
    ],
    "byol_views": [
        [_crop(0.08), FLIP, BYOL, GREY, _blur(1.0)],
        [_crop(0.08), FLIP, BYOL, GREY, _blur(0.1), SOLARIZE],
    ],
    "moco_v3_views": [
        [_crop(0.08), BYOL, GREY, _blur(1.0), FLIP],
        [_crop(0.08), BYOL, GREY, _blur(0.1), SOLARIZE, FLIP],
    ],
    "dino_views": [
        [_crop(0.4), FLIP, BYOL, GREY, _blur(1.0)],
        [_crop(0.4), FLIP, BYOL, GREY, _blur(0.1), SOLARIZE],
        *[[_crop(0.05, 0.4, 5), FLIP, BYOL, GREY, _blur(0.5)]] * 2,
    ],
}
