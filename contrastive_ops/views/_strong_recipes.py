"""The recipes of SimCLR's strong colour distortion: SimCLR's own, and SwAV's on crops of several sizes."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops.views._crop import RATIO, boxes
from contrastive_ops.views._draw import check_images, check_view, direct
from contrastive_ops.views._look import Look, draw_look, make_views
from contrastive_ops.views._multi_crop import check_crops, draw_crops
from contrastive_ops.views._tone import standardized

_SWAV_STD = (0.228, 0.224, 0.225)  # ImageNet's is 0.229 for red; the released weights were trained with this


def simclr_view(
    images: Tensor,
    *,
    size: int = 224,
    strength: float = 1.0,
    blur: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""SimCLR's view: crop, flip, jitter, greyscale, blur; pixels stay in [0, 1].

    $$\text{jitter} = s\,(0.8, 0.8, 0.8, 0.2) \text{ of brightness, contrast, saturation, hue}$$

    Args:
        images: (B, 3, H, W) float in [0, 1].
        size: side of the view, pixels.
        strength: s of the jitter, in [0, 2.5]; the paper has 1 for ImageNet and 0.5 for CIFAR.
        blur: probability of the blur, in [0, 1]; the paper has 0.5 for ImageNet and 0 for CIFAR.
        generator: where all parameters come from.

    Returns:
        (B, 3, size, size) in [0, 1]: no mean is subtracted, and evaluation must not subtract one either.

    Raises:
        ValueError: a number out of range or the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> view = simclr_view(torch.rand(2, 3, 40, 48), size=32)
        >>> view.shape, bool((view >= 0).all() and (view <= 1).all())
        (torch.Size([2, 3, 32, 32]), True)

    References:
        "A Simple Framework for Contrastive Learning of Visual Representations" (Chen et al., 2020), appendix A:
        crop area (0.08, 1), jitter with p = 0.8, greyscale 0.2, blur sigma U(0.1, 2). The authors' code resizes
        bicubically and draws one sigma for a whole batch; here it is bilinear and antialiased, and each image has its
        sigma. Their kernel is a tenth of the image, 23 pixels of 224; ours reaches three sigma at every size.
    """
    check_view(images, size, generator)
    _checks.is_real("strength", strength, low=0, high=2.5)
    _checks.is_real("blur", blur, low=0, high=1)
    places = boxes(images, (0.08, 1.0), RATIO, generator)
    (view,) = make_views(images, [places], [_look(len(images), strength, blur, generator)], size, _clamped)
    return view


def _clamped(x: Tensor) -> Tensor:
    """In [0, 1], from which resizing and blur may differ by a rounding."""
    return x.clamp_(0, 1) if direct(x) else x.clamp(0, 1)


def swav_views(
    images: Tensor,
    *,
    sizes: Sequence[int] = (224, 96),
    counts: Sequence[int] = (2, 6),
    scales: Sequence[Sequence[float]] = ((0.14, 1.0), (0.05, 0.14)),
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    r"""SwAV's views: large and small crops, each with flip, jitter, greyscale and blur of its own.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        sizes: side of the crops of each resolution, pixels.
        counts: number of crops of each resolution; 0 leaves one out.
        scales: smallest and largest share of the image's area for each resolution, in (0, 1].
        generator: where all parameters come from.

    Returns:
        A tensor (B, 3, size, size) for each crop, in the order of `multi_crop`, normalised by ImageNet's mean and
            SwAV's deviation (0.228, 0.224, 0.225).

    Raises:
        ValueError: a number out of range, the wrong shape, or not as many sizes as counts and scales.
        TypeError: an argument is of the wrong type.

    Example:
        >>> views = swav_views(torch.rand(2, 3, 64, 64), sizes=(32, 16), counts=(2, 4))
        >>> [view.shape[-1] for view in views]
        [32, 32, 16, 16, 16, 16]

    References:
        "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (Caron et al., 2020), section 3.2
        and appendix A: jitter (0.8, 0.8, 0.8, 0.2) with p = 0.8, greyscale 0.2, blur sigma U(0.1, 2) with p = 0.5, the
        same for large and small crops. Without multi-crop it is `counts=(2,)` of scale (0.08, 1).
    """
    check_images(images, generator, channels=3)
    check_crops(sizes, counts, scales)
    places = draw_crops(images, counts, scales, generator)
    looks = [[_look(len(images), 1.0, 0.5, generator) for _ in group] for group in places]
    views: list[Tensor] = []
    for size, group, own in zip(sizes, places, looks, strict=True):
        views += make_views(images, group, own, size, partial(standardized, std=_SWAV_STD))
    return views


def _look(count: int, strength: float, blur: float, generator: torch.Generator | None) -> Look:
    """SimCLR's jitter and greyscale, and a blur."""
    s = 0.8 * strength
    return draw_look(count, jitter=(s, s, s, 0.2 * strength), blur=blur, generator=generator)
