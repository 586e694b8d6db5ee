"""The papers' augmentations, in their order. Call one once per view."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.views._blur import gaussian_blur
from contrastive_ops.views._color import color_jitter, random_grayscale
from contrastive_ops.views._geometry import random_horizontal_flip, random_resized_crop
from contrastive_ops.views._tone import normalize


def moco_v1_view(images: Tensor, *, size: int = 224, generator: torch.Generator | None = None) -> Tensor:
    r"""MoCo v1's view, which is InstDisc's: crop, greyscale, jitter of every image, flip.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        size: side of the view, pixels.
        generator: where all parameters come from.

    Returns:
        (B, 3, size, size), normalised by ImageNet's mean and deviation.

    Raises:
        ValueError: the wrong shape or size.
        TypeError: an argument is of the wrong type.

    Example:
        >>> moco_v1_view(torch.rand(2, 3, 40, 48), size=32).shape
        torch.Size([2, 3, 32, 32])

    References:
        "Momentum Contrast" (He et al., 2020), section 3.3, in the order of the authors' code: greyscale comes before
        the jitter, so a grey image gets no colour back.
    """
    x = random_resized_crop(images, size=size, scale=(0.2, 1.0), generator=generator)
    x = random_grayscale(x, p=0.2, generator=generator)
    x = color_jitter(x, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.4, generator=generator)
    return normalize(random_horizontal_flip(x, generator=generator))


def moco_v2_view(images: Tensor, *, size: int = 224, generator: torch.Generator | None = None) -> Tensor:
    r"""MoCo v2's view ("aug+", also SimSiam's): crop, jitter, greyscale, blur, flip.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        size: side of the view, pixels.
        generator: where all parameters come from.

    Returns:
        (B, 3, size, size), normalised by ImageNet's mean and deviation.

    Raises:
        ValueError: the wrong shape or size.
        TypeError: an argument is of the wrong type.

    Example:
        >>> moco_v2_view(torch.rand(2, 3, 40, 48), size=32).shape
        torch.Size([2, 3, 32, 32])

    References:
        "Improved Baselines with Momentum Contrastive Learning" (Chen et al., 2020), section 3: jitter 0.4, 0.4, 0.4,
        0.1 with p = 0.8, greyscale 0.2, blur sigma U(0.1, 2) with p = 0.5.
    """
    x = random_resized_crop(images, size=size, scale=(0.2, 1.0), generator=generator)
    x = color_jitter(x, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.1, p=0.8, generator=generator)
    x = random_grayscale(x, p=0.2, generator=generator)
    x = gaussian_blur(x, sigma=(0.1, 2.0), p=0.5, generator=generator)
    return normalize(random_horizontal_flip(x, generator=generator))
