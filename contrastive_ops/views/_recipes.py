"""The papers' augmentations whose views are all alike, in their order. Call one once per view.

Without a blur: InstDisc's, InvaSpread's and MoCo v1's; with one: MoCo v2's.
"""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.views._color import draw_jitter, greyed, jittered
from contrastive_ops.views._crop import RATIO, boxes, cropped
from contrastive_ops.views._draw import check_view, chosen
from contrastive_ops.views._look import draw_look, make_views
from contrastive_ops.views._tone import standardized

_SCALE, _WEAK = (0.2, 1.0), (0.4, 0.4, 0.4, 0.4)
# the mean and deviation of CIFAR-10's training images, as InstDisc's and InvaSpread's code has them
_CIFAR_MEAN, _CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)


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
    check_view(images, size, generator)
    places = boxes(images, _SCALE, RATIO, generator)
    grey = chosen(len(images), 0.2, generator)
    factors, some = draw_jitter(len(images), _WEAK, 1.0, generator)
    mirror = chosen(len(images), 0.5, generator)
    x = greyed(cropped(images, places, size, mirror), grey, own=True)
    return standardized(jittered(x, factors, some, own=True))


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
    check_view(images, size, generator)
    places = boxes(images, _SCALE, RATIO, generator)
    jitter = (0.4, 0.4, 0.4, 0.1)
    look = draw_look(len(images), jitter=jitter, blur=0.5, mirror_last=True, generator=generator)
    (view,) = make_views(images, [places], [look], size, standardized)
    return view


def instdisc_cifar_view(images: Tensor, *, size: int = 32, generator: torch.Generator | None = None) -> Tensor:
    r"""InstDisc's view of CIFAR: crop, jitter of every image, greyscale, and no flip.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        size: side of the view, pixels.
        generator: where all parameters come from.

    Returns:
        (B, 3, size, size), normalised by CIFAR-10's mean and deviation.

    Raises:
        ValueError: the wrong shape or size.
        TypeError: an argument is of the wrong type.

    Example:
        >>> instdisc_cifar_view(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3, 32, 32])

    References:
        "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (Wu et al., 2018), section 4.1, in
        the order of the authors' code for CIFAR: jitter before greyscale, where their code for ImageNet
        (`moco_v1_view`) and the first release of this one have it after, and the flip left out. Crop area (0.2, 1),
        jitter 0.4 four times, greyscale 0.2.
    """
    check_view(images, size, generator)
    return _cifar_view(images, size, flip=False, generator=generator)


def invaspread_view(images: Tensor, *, size: int = 32, generator: torch.Generator | None = None) -> Tensor:
    r"""InvaSpread's view: crop, jitter of every image, greyscale, flip.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        size: side of the view, pixels.
        generator: where all parameters come from.

    Returns:
        (B, 3, size, size), normalised by CIFAR-10's mean and deviation.

    Raises:
        ValueError: the wrong shape or size.
        TypeError: an argument is of the wrong type.

    Example:
        >>> invaspread_view(torch.rand(2, 3, 32, 32)).shape
        torch.Size([2, 3, 32, 32])

    References:
        "Unsupervised Embedding Learning via Invariant and Spreading Instance Feature" (Ye et al., 2019), section 4.1,
        in the order of the authors' code, which augments both views, where the paper's formula has the image itself
        as one. They normalise STL-10 (size 96) by CIFAR-10's statistics too.
    """
    check_view(images, size, generator)
    return _cifar_view(images, size, flip=True, generator=generator)


def _cifar_view(images: Tensor, size: int, *, flip: bool, generator: torch.Generator | None) -> Tensor:
    """Crop, jitter, greyscale; a flip is drawn last and made with the crop, as it commutes with what follows."""
    places = boxes(images, _SCALE, RATIO, generator)
    factors, some = draw_jitter(len(images), _WEAK, 1.0, generator)
    grey = chosen(len(images), 0.2, generator)
    mirror = chosen(len(images), 0.5, generator) if flip else None
    x = jittered(cropped(images, places, size, mirror), factors, some, own=True)
    return standardized(greyed(x, grey, own=True), mean=_CIFAR_MEAN, std=_CIFAR_STD)
