"""Boxes at random places, resized to squares."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil, log

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision
from contrastive_ops.views._draw import check_images, check_span, direct, uniform
from contrastive_ops.views._geometry import mirrored
from contrastive_ops.views._taps import Taps, weigh

_TRIES = 10
RATIO = (3 / 4, 4 / 3)  # width / height of everybody's crops


def random_resized_crop(
    images: Tensor,
    *,
    size: int,
    scale: Sequence[float] = (0.2, 1.0),
    ratio: Sequence[float] = RATIO,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Cut a box of random area, aspect and place out of each image and resize it to a square.

    $$a \sim U(\text{scale})\,HW, \quad \log r \sim U(\log \text{ratio}), \quad (w, h) = (\sqrt{a r}, \sqrt{a / r})$$

    Resizing is bilinear and antialiased: two batched matrix products with each image's own triangle filters. On CPU,
    in float32 and without gradients, only the pixels that a filter reaches are touched.

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
    return cropped(images, boxes(images, scale, ratio, generator), size)


def cropped(images: Tensor, places: Tensor, size: int, mirror: Tensor | None = None) -> Tensor:
    """What `boxes` holds, resized, and mirrored where `mirror` (N,) is True.

    With n B boxes they lie in the images n times over, as those of n views do.
    """
    count = places.shape[2]
    if images.dtype != torch.float32 or not direct(images):
        parts = places.split(max(1, len(images)), dim=2)  # type: ignore[no-untyped-call]
        crops = [_by_products(images, part, size) for part in parts]
        x = crops[0] if len(crops) == 1 else torch.cat(crops)
        return x if mirror is None else mirrored(x, mirror, own=True)
    result = images.new_empty(count, images.shape[1], size, size)
    if result.numel() == 0:
        return result
    down, across = _triangles(places.to(images.device), images, size)
    target = torch.arange(count)
    mirror = None if mirror is None else mirror.to(images.device)
    weigh(images, target % len(images), down, across, result, target, mirror)
    return result


def _by_products(images: Tensor, places: Tensor, size: int) -> Tensor:
    """All boxes by two batched products with matrices, most of whose entries are zero."""
    rows, columns = (_resampling(places[0, i], places[1, i], images.shape[2 + i], size).to(images) for i in (0, 1))
    with full_precision(images.device):
        resized: Tensor = rows.unsqueeze(1) @ images @ columns.unsqueeze(1).transpose(2, 3)
    return resized


def boxes(images: Tensor, scale: Sequence[float], ratio: Sequence[float], generator: torch.Generator | None) -> Tensor:
    """(2, 2, B), start and length, down and across: the first of ten draws that fits, or the largest central box."""
    count, _, rows, columns = images.shape
    area = uniform((count, _TRIES), scale[0], scale[1], generator).mul_(rows * columns)
    aspect = uniform((count, _TRIES), log(ratio[0]), log(ratio[1]), generator).exp_()
    place = uniform((count, 2), 0, 1, generator).T
    sides = torch.stack([area / aspect, area * aspect]).sqrt_()
    whole = area.new_tensor([[rows], [columns]])
    # a hair of tolerance: the whole image must count as fitting
    fits = (sides <= whole.unsqueeze(2) * (1 + 1e-5)).all(0)
    first = fits.int().argmax(1, keepdim=True)
    largest = area.new_tensor([[min(rows, columns / ratio[0])], [min(columns, rows * ratio[1])]])
    none = ~fits.any(1)
    length = torch.where(none, largest, sides.gather(2, first.expand(2, -1, -1)).squeeze(2)).minimum(whole)
    return torch.stack([place.masked_fill(none, 0.5).mul_(whole - length), length])


def _resampling(start: Tensor, length: Tensor, source: int, size: int) -> Tensor:
    """(B, size, source) rows of triangle-filter weights: pixel o of the result from the pixels of the source."""
    step = (length / size).unsqueeze(1)
    centre = start.unsqueeze(1) + (torch.arange(size, device=start.device) + 0.5) * step
    pixel = torch.arange(source, device=start.device) + 0.5
    distance = (pixel - centre.unsqueeze(2)).abs()
    weights = (1 - distance / step.clamp(min=1).unsqueeze(2)).clamp(min=0)
    return weights / weights.sum(2, keepdim=True)


def _triangles(places: Tensor, images: Tensor, size: int) -> tuple[Taps, Taps]:
    """The same weights down and across, only where they are not zero."""
    start, length = places
    step = (length / size).unsqueeze(2)
    reach = step.clamp(min=1)
    centre = start.unsqueeze(2) + (torch.arange(size) + 0.5) * step
    most = ceil(2 * float(reach.max()))
    pixel = (centre - reach).sub_(0.5).ceil_().unsqueeze(3) + torch.arange(most)
    weights = (pixel + 0.5).sub_(centre.unsqueeze(3)).abs_().div_(reach.unsqueeze(3)).neg_().add_(1).clamp_(min=0)
    last = start.new_tensor([side - 1 for side in images.shape[2:]]).view(2, 1, 1, 1)
    inside = pixel.clamp(min=0).minimum(last)
    weights.masked_fill_(inside != pixel, 0)
    weights.div_(weights.sum(3, keepdim=True))
    index = inside.long()
    return Taps(index[0], weights[0]), Taps(index[1], weights[1])
