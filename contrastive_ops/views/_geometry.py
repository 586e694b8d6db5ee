"""Where a view looks: crop, rotation, flip."""

from __future__ import annotations

from collections.abc import Sequence
from math import log, pi

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision
from contrastive_ops.views._draw import check_images, check_span, chosen, uniform

_TRIES = 10


def random_resized_crop(
    images: Tensor,
    *,
    size: int,
    scale: Sequence[float] = (0.2, 1.0),
    ratio: Sequence[float] = (3 / 4, 4 / 3),
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Cut a box of random area, aspect and place out of each image and resize it to a square.

    $$a \sim U(\text{scale})\,HW, \quad \log r \sim U(\log \text{ratio}), \quad (w, h) = (\sqrt{a r}, \sqrt{a / r})$$

    Resizing is bilinear and antialiased: two batched matrix products with each image's own triangle filters.

    Args:
        images: (B, C, H, W) float.
        size: side of the result, pixels.
        scale: smallest and largest share of the image's area, in (0, 1].
        ratio: smallest and largest width / height.
        generator: where the boxes come from.

    Returns:
        (B, C, size, size) images.

    Raises:
        ValueError: a number out of range or the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> x = torch.arange(16.0).view(1, 1, 4, 4) / 15
        >>> print(f"{random_resized_crop(x, size=2, scale=(1, 1), ratio=(1, 1)).mean().item():.4f}")
        0.5000

    References:
        "Going deeper with convolutions" (Szegedy et al., 2015), section 6; scale (0.2, 1) is MoCo's and InstDisc's.
        As in torchvision, ten draws are made and the image's centre taken where none fits; unlike there, boxes are
        not rounded to whole pixels.
    """
    check_images(images, generator)
    _checks.is_count("size", size)
    check_span("scale", scale, high=1.0)
    check_span("ratio", ratio)
    if scale[0] <= 0 or ratio[0] <= 0:
        raise ValueError(f"scale, ratio: expected numbers above 0, got {scale!r} and {ratio!r}")
    top, left, height, width = _boxes(images, scale, ratio, generator)
    rows = _resampling(top, height, images.shape[2], size).to(images)
    columns = _resampling(left, width, images.shape[3], size).to(images)
    with full_precision(images.device):
        resized: Tensor = rows.unsqueeze(1) @ images @ columns.unsqueeze(1).transpose(2, 3)
    return resized


def _boxes(
    images: Tensor, scale: Sequence[float], ratio: Sequence[float], generator: torch.Generator | None
) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height, width (B,) of the first of ten draws that fits, else of the largest central box."""
    count, _, rows, columns = images.shape
    area = uniform((count, _TRIES), scale[0], scale[1], generator) * (rows * columns)
    aspect = uniform((count, _TRIES), log(ratio[0]), log(ratio[1]), generator).exp()
    place = uniform((count, 2), 0, 1, generator)
    widths, heights = (area * aspect).sqrt(), (area / aspect).sqrt()
    # a hair of tolerance: the whole image must count as fitting
    fits = (widths <= columns * (1 + 1e-5)) & (heights <= rows * (1 + 1e-5))
    first = fits.int().argmax(1, keepdim=True)
    width, height = widths.gather(1, first).squeeze(1), heights.gather(1, first).squeeze(1)
    fallback_width = min(columns, rows * ratio[1])
    fallback_height = min(rows, columns / ratio[0])
    none = ~fits.any(1)
    width = width.masked_fill(none, fallback_width).clamp(max=columns)
    height = height.masked_fill(none, fallback_height).clamp(max=rows)
    place = place.masked_fill(none.unsqueeze(1), 0.5)
    return place[:, 0] * (rows - height), place[:, 1] * (columns - width), height, width


def _resampling(start: Tensor, length: Tensor, source: int, size: int) -> Tensor:
    """(B, size, source) rows of triangle-filter weights: pixel o of the result from the pixels of the source."""
    step = (length / size).unsqueeze(1)
    centre = start.unsqueeze(1) + (torch.arange(size, device=start.device) + 0.5) * step
    pixel = torch.arange(source, device=start.device) + 0.5
    distance = (pixel - centre.unsqueeze(2)).abs()
    weights = (1 - distance / step.clamp(min=1).unsqueeze(2)).clamp(min=0)
    return weights / weights.sum(2, keepdim=True)


def random_rotation(images: Tensor, *, degrees: float, generator: torch.Generator | None = None) -> Tensor:
    r"""Turn each image about its centre by a random angle; what comes in from outside repeats the border.

    $$\phi \sim U(-\text{degrees}, \text{degrees})$$

    Args:
        images: (B, C, H, W) float.
        degrees: largest angle, in [0, 180].
        generator: where the angles come from.

    Returns:
        (B, C, H, W) images, bilinear.

    Raises:
        ValueError: a number out of range or the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> x = torch.rand(2, 3, 8, 8)
        >>> torch.allclose(random_rotation(x, degrees=0.0), x, atol=1e-6)
        True

    References:
        Not in the papers' recipes, whose photographs have an up; the embedded digits of the examples use it.
    """
    check_images(images, generator)
    _checks.is_real("degrees", degrees, low=0, high=180)
    if len(images) == 0:
        return images
    angle = uniform(len(images), -degrees, degrees, generator) * (pi / 180)
    cos, sin, zero = angle.cos(), angle.sin(), torch.zeros_like(angle)
    aspect = images.shape[3] / images.shape[2]
    theta = torch.stack([cos, -sin / aspect, zero, sin * aspect, cos, zero], dim=1).view(-1, 2, 3).to(images)
    with full_precision(images.device):
        grid = F.affine_grid(theta, list(images.shape), align_corners=False)
        return F.grid_sample(images, grid, mode="bilinear", padding_mode="border", align_corners=False)


def random_horizontal_flip(images: Tensor, *, p: float = 0.5, generator: torch.Generator | None = None) -> Tensor:
    r"""Mirror each image left to right with probability p.

    Args:
        images: (B, C, H, W) float.
        p: probability, in [0, 1].
        generator: where the choice comes from.

    Returns:
        (B, C, H, W) images.

    Raises:
        ValueError: a number out of range or the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> random_horizontal_flip(torch.tensor([[[[0.0, 1.0]]]]), p=1.0)
        tensor([[[[1., 0.]]]])

    References:
        Every recipe but InstDisc's for CIFAR has it.
    """
    check_images(images, generator)
    _checks.is_real("p", p, low=0, high=1)
    return torch.where(chosen(images, p, generator).view(-1, 1, 1, 1), images.flip(3), images)
