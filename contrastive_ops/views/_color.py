"""What mixes an image's channels: jitter and greyscale."""

from __future__ import annotations

from collections.abc import Sequence
from math import pi

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision
from contrastive_ops.views._draw import at_once, change_some, check_images, chosen, direct, runs, uniforms

_LUMA = (0.299, 0.587, 0.114)  # ITU-R BT.601, as in PIL and torchvision
_YIQ = (_LUMA, (0.5959, -0.2746, -0.3213), (0.2115, -0.5227, 0.3112))


def _parts() -> list[list[float]]:
    """Four 3 x 3 matrices: a turn of the hue is the first + cos of the second + sin of the third; the last is grey."""
    yiq = torch.tensor(_YIQ, dtype=torch.float64)
    y, i, q = (torch.outer(column, row) for column, row in zip(torch.linalg.inv(yiq).T, yiq, strict=True))
    across = torch.linalg.inv(yiq).T
    quarter = torch.outer(across[2], yiq[1]) - torch.outer(across[1], yiq[2])
    grey = torch.tensor(_LUMA, dtype=torch.float64).expand(3, 3)
    parts: list[list[float]] = torch.stack([y, i + q, quarter, grey]).flatten(1).tolist()
    return parts


_PARTS = _parts()


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
    factors, some = draw_jitter(len(images), (brightness, contrast, saturation, hue), p, generator)
    return jittered(images, factors, some)


def draw_jitter(
    count: int, amounts: Sequence[float], p: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Factors of brightness, contrast, saturation and the hue's turn (4, B), and which (B,) images they change."""
    *factors, hue = amounts
    spans = [*((max(0.0, 1 - a), 1 + a) for a in factors), (-2 * pi * hue, 2 * pi * hue)]
    return uniforms(count, spans, generator), chosen(count, p, generator)


def jittered(images: Tensor, factors: Tensor, some: Tensor, *, own: bool = False) -> Tensor:
    """Some (B,) of the images jittered by their factors (4, B); with `own` in their memory."""
    wide = torch.promote_types(images.dtype, torch.float32)
    matrices, lift = (x.to(images) for x in _mixing(*factors.to(wide).unbind()))
    if not direct(images):
        mixed = _mix(images, matrices, lift).clamp(0, 1)
        return torch.where(some.to(images.device).view(-1, 1, 1, 1), mixed, images)
    result = images if own else torch.empty_like(images)
    step = at_once(images[:1].numel())
    for start in range(0, len(images), step):
        part = slice(start, start + step)
        mixed = _mix(images[part], matrices[part], lift[part])
        for first, last in runs(some[part]):
            torch.clamp(mixed[first:last], 0, 1, out=result[part][first:last])
    for first, last in [] if own else runs(~some):
        result[first:last] = images[first:last]
    return result


def _mix(images: Tensor, matrices: Tensor, lift: Tensor) -> Tensor:
    """Each image by its matrix, lifted by so much of its mean grey."""
    with full_precision(images.device):
        middle = (images.mean((2, 3)) * images.new_tensor(_LUMA)).sum(1) * lift
        return torch.baddbmm(middle.view(-1, 1, 1), matrices, images.flatten(2)).view_as(images)


def _mixing(brightness: Tensor, contrast: Tensor, saturation: Tensor, turn: Tensor) -> tuple[Tensor, Tensor]:
    """(B, 3, 3) matrices, and by how much (B,) of the image's mean grey all values are lifted."""
    gain = brightness * contrast
    colour = gain * saturation
    parts = torch.stack([colour, colour * turn.cos(), colour * turn.sin(), gain - colour], dim=1)
    matrices = (parts.unsqueeze(2) * parts.new_tensor(_PARTS)).sum(1).view(-1, 3, 3)
    return matrices, brightness - gain


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
    return greyed(images, chosen(len(images), p, generator))


def greyed(images: Tensor, some: Tensor, *, own: bool = False) -> Tensor:
    """Some (B,) of the images without colour; with `own` in their memory."""

    def grey(x: Tensor, _: object) -> Tensor:
        red, green, blue = (x[:, c : c + 1] for c in range(3))
        return (red * _LUMA[0]).add_(green, alpha=_LUMA[1]).add_(blue, alpha=_LUMA[2]).expand_as(x)

    return change_some(images, some, grey, own=own)
