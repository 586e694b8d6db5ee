"""What turns an image: rotation, flip."""

from __future__ import annotations

from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote
from contrastive_ops.views._draw import change_some, check_images, chosen, uniform


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
    with full_precision(images.device):
        (wide,) = promote(images)  # half precision would know places to a tenth of a pixel
        grid = _turned_grid(angle, wide)
        turned = F.grid_sample(wide, grid, mode="bilinear", padding_mode="border", align_corners=False)
    return turned.to(images.dtype)


def _turned_grid(angle: Tensor, images: Tensor) -> Tensor:
    """(B, H, W, 2): where each pixel of the turned image comes from, -1 to 1 from border to border.

    `affine_grid` without a shift, as one product of (H, 2) and (B, 2, 2 W): the places of a line, x and y in turn, are
    those of its middle and a line through it.
    """
    count, _, height, width = images.shape
    cos, sin, aspect = angle.cos(), angle.sin(), width / height
    turn = torch.stack([cos, sin * aspect, -sin / aspect, cos], dim=1).to(images).view(count, 2, 1, 2)
    x, y = (
        torch.linspace(-1, 1, n, dtype=turn.dtype, device=turn.device).mul_(n - 1).div_(n).unsqueeze(1)
        for n in (width, height)
    )
    lines = torch.stack([turn[:, 0] * x, turn[:, 1].expand(count, width, 2)], dim=1).flatten(2)
    grid = torch.cat([torch.ones_like(y), y], dim=1) @ lines
    return grid.view(count, height, width, 2)


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
    return mirrored(images, chosen(len(images), p, generator))


def mirrored(images: Tensor, some: Tensor, *, own: bool = False) -> Tensor:
    """Some (B,) of the images flipped; with `own` in their memory."""
    return change_some(images, some, lambda x, _: x.flip(3), own=own)
