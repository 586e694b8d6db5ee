"""The same recipe in other libraries: torchvision image by image on PIL, kornia on batches."""

from __future__ import annotations

import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from torch import Tensor

from tests.benchmarks.contest import Run

SIGMA = (0.1, 2.0)


@dataclass(frozen=True)
class Recipe:
    """Crops of (size, how many, scale), then jitter p = 0.8, greyscale p = 0.2, blur p = 0.5, normalisation."""

    crops: Sequence[tuple[int, int, tuple[float, float]]]
    jitter: tuple[float, float, float, float]
    mean: tuple[float, float, float]
    std: tuple[float, float, float]


def _pil_blur(image: Any) -> Any:
    from PIL import ImageFilter

    return image.filter(ImageFilter.GaussianBlur(random.uniform(*SIGMA)))


def torchvision_on_pil(recipe: Recipe, pixels: Tensor) -> Run:
    """As released code has it in its loaders; views are not collated into batches, which a loader would do besides."""
    from torchvision import transforms as t

    random.seed(0)
    pictures = [t.functional.to_pil_image(image) for image in pixels]
    pipelines = [
        t.Compose([
            t.RandomResizedCrop(size, scale=scale),
            t.RandomHorizontalFlip(),
            t.RandomApply([t.ColorJitter(*recipe.jitter)], p=0.8),
            t.RandomGrayscale(p=0.2),
            t.RandomApply([t.Lambda(_pil_blur)], p=0.5),
            t.ToTensor(),
            t.Normalize(recipe.mean, recipe.std),
        ])
        for size, count, scale in recipe.crops
        for _ in range(count)
    ]  # fmt: skip
    return lambda: [pipeline(picture) for pipeline in pipelines for picture in pictures]


def kornia(recipe: Recipe, pixels: Tensor) -> Run:
    """Batched, each image with parameters of its own; the blur reaches as far as ours, 6 pixels."""
    import kornia.augmentation as k
    import torch

    pipelines = [
        k.AugmentationSequential(
            k.RandomResizedCrop((size, size), scale=scale),
            k.RandomHorizontalFlip(),
            k.ColorJitter(*recipe.jitter, p=0.8),
            k.RandomGrayscale(p=0.2),
            k.RandomGaussianBlur((13, 13), SIGMA, p=0.5),
            k.Normalize(torch.tensor(recipe.mean), torch.tensor(recipe.std)),
            data_keys=["input"],
        )
        for size, count, scale in recipe.crops
        for _ in range(count)
    ]

    def run() -> list[Tensor]:
        images = pixels.float() / 255
        return [pipeline(images) for pipeline in pipelines]

    return run
