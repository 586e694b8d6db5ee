"""What mixes an image's channels: jitter and greyscale."""

from __future__ import annotations

from math import pi

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision
from contrastive_ops.views._draw import check_images, chosen, uniform

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in PIL and torchvision
_YIQ = (_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def color_jitter(
    images: Tensor,
    *,
    brightness: float = 0.0,
    contrast: float = 0.0,
    saturation: float = 0.0,
    hue: float = 0.0,
    p: float = 1.0,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Change brightness, contrast, saturation and hue of each image.

    $$x \mapsto f_b x, \quad f_c x + (1 - f_c)\,\overline{\mathrm{grey}(x)}, \quad
      f_s x + (1 - f_s)\,\mathrm{grey}(x), \quad R_{2\pi h}\,x$$

    with factors f ~ U(max(0, 1 - a), 1 + a) and h ~ U(-hue, hue). All four are affine in RGB once the image's mean is
    known, and without clamps in between they commute (saturation and hue keep the grey value, contrast its mean): they
    are one 3 x 3 matrix and one offset per image, applied in one pass.

    Args:
        images: (B, 3, H, W) float in [0, 1].
        brightness: a >= 0 of the brightness factor.
        contrast: likewise.
        saturation: likewise.
        hue: largest turn, in [0, 0.5] of the full circle.
        p: probability that an image is changed at all.
        generator: where the factors come from.

    Returns:
        (B, 3, H, W) images, clamped to [0, 1].

    Raises:
        ValueError: a number out of range or the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> x = torch.full((1, 3, 2, 2), 0.5)
        >>> y = color_jitter(x, brightness=0.4, generator=torch.Generator().manual_seed(0))
        >>> print(f"{y.mean().item():.4f}")
        0.4985

    References:
        SimCLR (Chen et al., 2020), appendix A. Where torchvision clamps between the steps, in a random order, and
        turns the hue in HSV, this clamps once and turns it in YIQ, about the grey axis: one pass, and no order.
    """
    check_images(images, generator, channels=3)
    for name, value in (("brightness", brightness), ("contrast", contrast), ("saturation", saturation)):
        _checks.is_real(name, value, low=0)
    _checks.is_real("hue", hue, low=0, high=0.5)
    _checks.is_real("p", p, low=0, high=1)
    count = len(images)
    factors = [uniform(count, max(0.0, 1 - a), 1 + a, generator) for a in (brightness, contrast, saturation)]
    turns = uniform(count, -2 * pi * hue, 2 * pi * hue, generator)
    keep = ~chosen(images, p, generator)
    b, c, f, turn = (x.to(images.device, images.dtype).view(-1, 1, 1) for x in (*factors, turns))
    luma = images.new_tensor(_LUMA)
    with full_precision(images.device):
        matrix = b * c * (f * _hue_rotation(turn.flatten()) + (1 - f) * luma.expand(3, 3))
        middle = (images.mean((2, 3)) @ luma).view(-1, 1, 1)
        mixed = matrix @ images.flatten(2) + b * (1 - c) * middle
    return torch.where(keep.view(-1, 1, 1, 1), images, mixed.view_as(images).clamp(0, 1))


def _hue_rotation(turn: Tensor) -> Tensor:
    """(B, 3, 3) rotations of RGB about the grey axis, in YIQ."""
    yiq = torch.tensor(_YIQ, dtype=torch.float64)
    cos, sin, one, zero = turn.cos(), turn.sin(), torch.ones_like(turn), torch.zeros_like(turn)
    spin = torch.stack([one, zero, zero, zero, cos, -sin, zero, sin, cos], dim=1).view(-1, 3, 3)
    rotation: Tensor = torch.linalg.inv(yiq).to(turn) @ spin @ yiq.to(turn)
    return rotation


def random_grayscale(images: Tensor, *, p: float = 0.2, generator: torch.Generator | None = None) -> Tensor:
    r"""Take the colour out of each image with probability p.

    $$x \mapsto (0.299\,R + 0.587\,G + 0.114\,B)\,(1, 1, 1)$$

    Args:
        images: (B, 3, H, W) float.
        p: probability, in [0, 1].
        generator: where the choice comes from.

    Returns:
        (B, 3, H, W) images.

    Raises:
        ValueError: a number out of range or the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
        >>> random_grayscale(red, p=1.0).flatten()
        tensor([0.2990, 0.2990, 0.2990])

    References:
        InstDisc (Wu et al., 2018) and all that follow it, p = 0.2.
    """
    check_images(images, generator, channels=3)
    _checks.is_real("p", p, low=0, high=1)
    luma = images.new_tensor(_LUMA).view(3, 1, 1)
    grey = (images * luma).sum(1, keepdim=True).expand_as(images)
    return torch.where(chosen(images, p, generator).view(-1, 1, 1, 1), grey, images)
