"""What maps each value on its own: solarisation, inversion, normalisation."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops.views._draw import at_once, change_some, check_images, chosen, direct


def random_solarize(
    images: Tensor, *, threshold: float = 0.5, p: float = 0.2, generator: torch.Generator | None = None
) -> Tensor:
    r"""Invert the bright values of each image with probability p.

    $$x \mapsto 1 - x \text{ where } x \ge \text{threshold}$$

    Args:
        images: (B, C, H, W) float in [0, 1].
        threshold: in [0, 1]; PIL's 128 of 255 is 0.5.
        p: probability, in [0, 1].
        generator: where the choice comes from.

    Returns:
        (B, C, H, W) images.

    Raises:
        ValueError: a number out of range or the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> random_solarize(torch.tensor([[[[0.25, 0.75]]]]), p=1.0)
        tensor([[[[0.2500, 0.2500]]]])

    References:
        BYOL (Grill et al., 2020), appendix B.
    """
    check_images(images, generator)
    _checks.is_real("threshold", threshold, low=0, high=1)
    _checks.is_real("p", p, low=0, high=1)
    return solarized(images, chosen(len(images), p, generator), threshold=threshold)


def solarized(images: Tensor, some: Tensor, *, threshold: float = 0.5, own: bool = False) -> Tensor:
    """Some (B,) of the images solarised; with `own` in their memory."""

    def invert(x: Tensor, _: object) -> Tensor:
        if direct(x) and x.numel() and float(x.amin()) >= threshold:
            return 1 - x
        return torch.where(x >= threshold, 1 - x, x)

    return change_some(images, some, invert, own=own)


def random_invert(images: Tensor, *, p: float = 0.5, generator: torch.Generator | None = None) -> Tensor:
    r"""Turn each image into its negative, x -> 1 - x, with probability p.

    Args:
        images: (B, C, H, W) float in [0, 1].
        p: probability, in [0, 1].
        generator: where the choice comes from.

    Returns:
        (B, C, H, W) images.

    Raises:
        ValueError: a number out of range or the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> random_invert(torch.tensor([[[[0.25, 1.0]]]]), p=1.0)
        tensor([[[[0.7500, 0.0000]]]])

    References:
        Not in the papers' recipes; the embedded digits of the examples come in both polarities and use it.
    """
    return random_solarize(images, threshold=0.0, p=p, generator=generator)


def normalize(
    images: Tensor,
    *,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
) -> Tensor:
    r"""Subtract each channel's mean and divide by its standard deviation.

    $$x_c \mapsto (x_c - \mu_c) / \sigma_c$$

    Args:
        images: (B, C, H, W) float.
        mean: C numbers; the default is ImageNet's.
        std: C numbers above 0; the default is ImageNet's.

    Returns:
        (B, C, H, W) images.

    Raises:
        ValueError: another number of channels, or a deviation that is not positive.
        TypeError: an argument is of the wrong type.

    Example:
        >>> normalize(torch.ones(1, 1, 1, 1), mean=(0.5,), std=(0.25,))
        tensor([[[[2.]]]])

    References:
        Every recipe but SimCLR's, which leaves pixels in [0, 1].
    """
    check_images(images, None)
    for name, values in (("mean", mean), ("std", std)):
        if not isinstance(values, Sequence) or len(values) != images.shape[1]:
            raise ValueError(f"{name}: expected {images.shape[1]} numbers, one per channel, got {values!r}")
        for value in values:
            _checks.is_real(name, value)
    for value in std:
        _checks.is_positive("std", value, why="images are divided by it")
    return (images - images.new_tensor(mean).view(-1, 1, 1)).div_(images.new_tensor(std).view(-1, 1, 1))


def standardized(
    images: Tensor,
    *,
    mean: Sequence[float] = (0.485, 0.456, 0.406),
    std: Sequence[float] = (0.229, 0.224, 0.225),
) -> Tensor:
    """`normalize` of images that are ours, unchecked: in their memory where no gradient needs them."""
    centre, spread = (images.new_tensor(values).view(-1, 1, 1) for values in (mean, std))
    if not direct(images):
        return (images - centre) / spread
    step = at_once(8 * images[:1].numel())  # few enough that the second pass finds them in the nearest cache
    for start in range(0, len(images), step):
        images[start : start + step].sub_(centre).div_(spread)
    return images
