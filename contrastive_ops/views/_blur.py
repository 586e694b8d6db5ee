"""Gaussian blur with a width of its own for each image."""

from __future__ import annotations

from collections.abc import Sequence
from math import ceil

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops.views._draw import change_some, check_images, check_span, chosen, direct, uniform
from contrastive_ops.views._taps import Taps, weigh


def gaussian_blur(
    images: Tensor,
    *,
    sigma: Sequence[float] = (0.1, 2.0),
    p: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""Blur each image with probability p by a Gaussian of random width.

    $$y = g_\sigma * x, \qquad \sigma \sim U(\text{sigma})$$

    Separable: each axis is a weighted sum of pixels out to three times the largest sigma. Borders repeat the edge.

    Args:
        images: (B, C, H, W) float.
        sigma: smallest and largest standard deviation, pixels, above 0.
        p: probability, in [0, 1].
        generator: where widths and choice come from.

    Returns:
        (B, C, H, W) images.

    Raises:
        ValueError: a number out of range or the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> dot = torch.zeros(1, 1, 5, 5); dot[0, 0, 2, 2] = 1.0
        >>> print(f"{gaussian_blur(dot, sigma=(1.0, 1.0), p=1.0)[0, 0, 2, 2].item():.4f}")
        0.1592

    References:
        MoCo v2 (Chen et al., 2020), section 3: PIL's blur with radius U(0.1, 2), p = 0.5. PIL approximates the
        Gaussian by box filters; this samples it.
    """
    check_images(images, generator)
    check_span("sigma", sigma)
    _checks.is_real("p", p, low=0, high=1)
    if sigma[0] <= 0:
        raise ValueError(f"sigma: expected numbers above 0, got {sigma!r}")
    widths, some = draw_blur(len(images), sigma, p, generator)
    return blurred(images, widths, some, radius=ceil(3 * sigma[1]))


def draw_blur(
    count: int, sigma: Sequence[float], p: float, generator: torch.Generator | None
) -> tuple[Tensor, Tensor]:
    """Widths (B,), and which (B,) of the images are blurred."""
    return uniform(count, sigma[0], sigma[1], generator), chosen(count, p, generator)


def blurred(images: Tensor, widths: Tensor, some: Tensor, *, radius: int, own: bool = False) -> Tensor:
    """Some (B,) of the images blurred; with `own` in their memory."""
    offsets = torch.arange(-radius, radius + 1, device=widths.device)
    weights = torch.exp(-0.5 * (offsets / widths.unsqueeze(1)) ** 2)
    weights = (weights / weights.sum(1, keepdim=True)).to(images)
    if images.dtype != torch.float32 or not direct(images):
        return change_some(
            images, some, lambda x, rows: _along(_along(x, weights[rows], 2), weights[rows], 3), own=own
        )
    rows = some.to(images.device).nonzero().squeeze(1)
    result = images if own else images.clone(memory_format=torch.contiguous_format)
    down, across = (_taps(weights[rows], length) for length in images.shape[2:])
    weigh(result, rows, down, across, result, rows)
    return result


def _taps(weights: Tensor, length: int) -> Taps:
    """Each pixel of a line with its neighbours; past an end stands the end."""
    offsets = torch.arange(weights.shape[1]) - weights.shape[1] // 2
    index = (torch.arange(length).unsqueeze(1) + offsets).clamp_(0, length - 1)
    return Taps(index.unsqueeze(0), weights.unsqueeze(1).expand(-1, length, -1))


def _along(images: Tensor, weights: Tensor, dim: int) -> Tensor:
    """Sum of copies shifted along one axis, each image with its own weights (B, 2 radius + 1)."""
    radius, length = weights.shape[1] // 2, images.shape[dim]
    padding = (radius, radius, 0, 0) if dim == 3 else (0, 0, radius, radius)
    padded = F.pad(images, padding, mode="replicate")
    total = torch.zeros_like(images)
    for shift, weight in enumerate(weights.T):
        total.addcmul_(padded.narrow(dim, shift, length), weight.view(-1, 1, 1, 1))
    return total
