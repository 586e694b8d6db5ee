"""The recipes whose views differ from each other: BYOL's pair, MoCo v3's and DINO's crops."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops.views._crop import RATIO, boxes
from contrastive_ops.views._draw import check_images, check_scale, check_view
from contrastive_ops.views._look import Look, draw_look, make_views
from contrastive_ops.views._multi_crop import check_crops, draw_crops
from contrastive_ops.views._tone import standardized

_FIRST, _SECOND = (1.0, 0.0), (0.1, 0.2)  # probabilities of blur and solarisation, in all three papers
_LOCAL = (0.5, 0.0)  # of DINO's small crops


def byol_views(images: Tensor, *, size: int = 224, generator: torch.Generator | None = None) -> tuple[Tensor, Tensor]:
    r"""BYOL's pair of views: crop, flip, jitter, greyscale, blur, and solarisation in the second only.

    The first is always blurred and never solarised; the second is blurred with p = 0.1 and solarised with p = 0.2.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        size: side of the views, pixels.
        generator: where all parameters come from.

    Returns:
        Two tensors (B, 3, size, size), normalised by ImageNet's mean and deviation.

    Raises:
        ValueError: the wrong shape or size.
        TypeError: an argument is of the wrong type.

    Example:
        >>> first, second = byol_views(torch.rand(2, 3, 40, 48), size=32)
        >>> first.shape, second.shape
        (torch.Size([2, 3, 32, 32]), torch.Size([2, 3, 32, 32]))

    References:
        "Bootstrap Your Own Latent" (Grill et al., 2020), appendix B, table 6: crop area (0.08, 1), jitter (0.4, 0.4,
        0.2, 0.1) with p = 0.8, greyscale 0.2, blur sigma U(0.1, 2), solarisation at 0.5. They resize bicubically;
        here it is bilinear and antialiased. Their brightness is an addition, here a factor; their blur has 23 weights
        at 224 pixels, ours reaches three sigma at every size.
    """
    check_view(images, size, generator)
    return _pair(images, size, (0.08, 1.0), mirror_last=False, generator=generator)


def moco_v3_views(
    images: Tensor,
    *,
    size: int = 224,
    scale: Sequence[float] = (0.08, 1.0),
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""MoCo v3's pair of views: crop, jitter, greyscale, blur, solarisation in the second only, flip.

    BYOL's odds: the first is always blurred; the second is blurred with p = 0.1 and solarised with p = 0.2.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        size: side of the views, pixels.
        scale: smallest and largest share of the image's area, in (0, 1].
        generator: where all parameters come from.

    Returns:
        Two tensors (B, 3, size, size), normalised by ImageNet's mean and deviation.

    Raises:
        ValueError: a number out of range or the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> first, second = moco_v3_views(torch.rand(2, 3, 40, 48), size=32)
        >>> first.shape, second.shape
        (torch.Size([2, 3, 32, 32]), torch.Size([2, 3, 32, 32]))

    References:
        "An Empirical Study of Training Self-Supervised Vision Transformers" (Chen et al., 2021), in the order of the
        authors' code, where the flip comes last: scale (0.08, 1) for ViTs, (0.2, 1) for ResNet-50, jitter
        (0.4, 0.4, 0.2, 0.1) with p = 0.8, greyscale 0.2.
    """
    check_view(images, size, generator)
    check_scale(scale)
    return _pair(images, size, scale, mirror_last=True, generator=generator)


def dino_views(
    images: Tensor,
    *,
    sizes: Sequence[int] = (224, 96),
    counts: Sequence[int] = (2, 8),
    scales: Sequence[Sequence[float]] = ((0.4, 1.0), (0.05, 0.4)),
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    r"""DINO's views: two global crops and many local ones, each with flip, jitter, greyscale, blur, solarisation.

    The globals have BYOL's odds: the first is always blurred; the second is blurred with p = 0.1 and solarised with
    p = 0.2. Locals are blurred with p = 0.5 and never solarised.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        sizes: side of the global and of the local crops, pixels.
        counts: 2 and the number of local crops, which may be 0.
        scales: smallest and largest share of the image's area of the global and of the local crops, in (0, 1].
        generator: where all parameters come from.

    Returns:
        A tensor (B, 3, size, size) for each crop: global 1, global 2, locals; normalised by ImageNet's mean and
            deviation.

    Raises:
        ValueError: a number out of range, the wrong shape, or another number of global crops than 2.
        TypeError: an argument is of the wrong type.

    Example:
        >>> views = dino_views(torch.rand(2, 3, 64, 64), sizes=(32, 16), counts=(2, 4))
        >>> [view.shape[-1] for view in views]
        [32, 32, 16, 16, 16, 16]

    References:
        "Emerging Properties in Self-Supervised Vision Transformers" (Caron et al., 2021), sections 3.1 and 3.2, and
        the authors' code: jitter (0.4, 0.4, 0.2, 0.1) with p = 0.8, greyscale 0.2. ResNet-50 has scales ((0.14, 1),
        (0.05, 0.14)). They resize bicubically; here it is bilinear and antialiased.
    """
    check_images(images, generator, channels=3)
    for name, values in (("sizes", sizes), ("counts", counts), ("scales", scales)):
        if not isinstance(values, Sequence) or len(values) != 2:
            raise ValueError(f"{name}: expected two entries, for global and local crops, got {_checks.show(values)}")
    if counts[0] != 2:
        raise ValueError(f"counts: expected 2 global crops, which differ in their colours, got {counts[0]!r} of them")
    check_crops(sizes, counts, scales)
    places = draw_crops(images, counts, scales, generator)
    odds = ([_FIRST, _SECOND], [_LOCAL] * counts[1])
    looks = [[_look(len(images), own, generator=generator) for own in group] for group in odds]
    views: list[Tensor] = []
    for size, group, own in zip(sizes, places, looks, strict=True):
        views += make_views(images, group, own, size, standardized)
    return views


def _pair(
    images: Tensor, size: int, scale: Sequence[float], *, mirror_last: bool, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Two views with the odds of BYOL."""
    places, looks = [], []
    for odds in (_FIRST, _SECOND):
        places.append(boxes(images, scale, RATIO, generator))
        looks.append(_look(len(images), odds, mirror_last=mirror_last, generator=generator))
    first, second = make_views(images, places, looks, size, standardized)
    return first, second


def _look(
    count: int, odds: tuple[float, float], *, mirror_last: bool = False, generator: torch.Generator | None
) -> Look:
    """BYOL's jitter and greyscale, and blur and solarisation with these probabilities."""
    blur, solarize = odds
    jitter = (0.4, 0.4, 0.2, 0.1)
    return draw_look(count, jitter=jitter, blur=blur, solarize=solarize, mirror_last=mirror_last, generator=generator)
