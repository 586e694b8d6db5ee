"""CMC's two views of one image: its lightness, and its colour without lightness."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from contrastive_ops._embeddings import full_precision, promote
from contrastive_ops.views._crop import RATIO, boxes, cropped
from contrastive_ops.views._draw import check_images, check_scale, check_view, chosen
from contrastive_ops.views._tone import standardized

# linear sRGB to CIE XYZ at D65, from the primaries of IEC 61966-2-1
_XYZ = (
    (0.4124564, 0.3575761, 0.1804375),
    (0.2126729, 0.7151522, 0.0721750),
    (0.0193339, 0.1191920, 0.9503041),
)
# each row by its sum, which is white's X, Y or Z: grey then has a = b = 0, and not nearly
_RELATIVE = tuple(tuple(weight / sum(row) for weight in row) for row in _XYZ)
_BEND = (6 / 29) ** 3  # below it CIE replaces the cube root by a line
# middle and half of the range of L, a and b over all sRGB colours
_MIDDLE = (50.0, (98.233 - 86.183) / 2, (94.478 - 107.857) / 2)
_HALF_RANGE = (50.0, (98.233 + 86.183) / 2, (94.478 + 107.857) / 2)


def rgb_to_lab(images: Tensor) -> Tensor:
    r"""Turn sRGB images into CIE Lab: lightness, green to red, blue to yellow.

    $$L = 116 f(Y) - 16, \quad a = 500\,(f(X) - f(Y)), \quad b = 200\,(f(Y) - f(Z)), \quad f(t) = t^{1/3}$$

    X, Y, Z are relative to the white D65; for t below (6/29)^3, f is the line t (29/6)^2 / 3 + 4/29.

    Args:
        images: (B, 3, H, W) float, sRGB in [0, 1].

    Returns:
        (B, 3, H, W) of the input's dtype: L in [0, 100], a about -86 to 98, b about -108 to 95. Computed in float32
            (float64 for float64).

    Raises:
        ValueError: the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> red = torch.tensor([1.0, 0.0, 0.0]).view(1, 3, 1, 1)
        >>> print(*(f"{value:.2f}" for value in rgb_to_lab(red).flatten()))
        53.24 80.09 67.20

    References:
        CIE 15 (2004) and IEC 61966-2-1 (1999). CMC (Tian et al., 2020), section 4.1, takes it from scikit-image, which
        rounds the matrix to six digits and the white apart from it: the a and b of its greys reach 0.005, and here
        they are 0 up to rounding.
    """
    check_images(images, None, channels=3)
    (rgb,) = promote(images)
    with full_precision(images.device):
        # the clamps keep the power that `where` drops away from values at which it or its slope is not finite
        linear = torch.where(rgb <= 0.04045, rgb / 12.92, ((rgb.clamp(min=0.04045) + 0.055) / 1.055) ** 2.4)
        relative = (rgb.new_tensor(_RELATIVE) @ linear.flatten(2)).view_as(linear)
        root = relative.clamp(min=_BEND) ** (1 / 3)
        x, y, z = torch.where(relative > _BEND, root, relative * (29 / 6) ** 2 / 3 + 4 / 29).unbind(1)
        return torch.stack([116 * y - 16, 500 * (x - y), 200 * (y - z)], dim=1).to(images.dtype)


def cmc_views(
    images: Tensor,
    *,
    size: int = 224,
    scale: Sequence[float] = (0.2, 1.0),
    generator: torch.Generator | None = None,
) -> tuple[Tensor, Tensor]:
    r"""CMC's two views, L and ab of one crop: crop, flip, Lab, split.

    $$x \mapsto (x - \text{middle}) / \text{half range}$$ for each channel, so that every sRGB colour lies in [-1, 1].

    Both views show the same crop, and no colour is jittered: the views differ by what they measure.

    Args:
        images: (B, 3, H, W) float, sRGB in [0, 1].
        size: side of the views, pixels.
        scale: smallest and largest share of the image's area, in (0, 1].
        generator: where all parameters come from.

    Returns:
        L (B, 1, size, size) and ab (B, 2, size, size).

    Raises:
        ValueError: a number out of range or the wrong shape.
        TypeError: an argument is of the wrong type.

    Example:
        >>> lightness, color = cmc_views(torch.rand(2, 3, 40, 48), size=32)
        >>> lightness.shape, color.shape
        (torch.Size([2, 1, 32, 32]), torch.Size([2, 2, 32, 32]))

    References:
        "Contrastive Multiview Coding" (Tian et al., 2020), section 4.1, and the authors' code: scale (0.2, 1) for
        AlexNet, (0.08, 1) for ResNets; the middles and half ranges are its constants (blue's b is -1.00003 by them).
    """
    check_view(images, size, generator)
    check_scale(scale)
    places = boxes(images, scale, RATIO, generator)
    x = cropped(images, places, size, chosen(len(images), 0.5, generator))
    lab = standardized(rgb_to_lab(x), mean=_MIDDLE, std=_HALF_RANGE)
    return lab[:, :1], lab[:, 1:]
