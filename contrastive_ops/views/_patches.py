"""CPC's view of an image: a grid of overlapping patches."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops.views._color import random_grayscale
from contrastive_ops.views._draw import check_images, uniform
from contrastive_ops.views._geometry import random_horizontal_flip


def patch_grid(images: Tensor, *, patch: int = 64, stride: int = 32) -> Tensor:
    r"""Cut each image into a grid of patches, which overlap where the stride is smaller than the patch.

    $$\text{rows} = \lfloor (H - \text{patch}) / \text{stride} \rfloor + 1, \qquad
      y_{r,c} = x[r\,\text{stride} : r\,\text{stride} + \text{patch},\ c\,\text{stride} : \ldots]$$

    Args:
        images: (B, C, H, W) float.
        patch: side of a patch, pixels.
        stride: distance between neighbours, pixels. What remains below and to the right of the last whole patch is
            left out.

    Returns:
        (B, rows, columns, C, patch, patch): a view of the images, in which overlapping patches share memory; write
            to a `.clone()`.

    Raises:
        ValueError: a number out of range, or an image smaller than a patch.
        TypeError: an argument is of the wrong type.

    Example:
        >>> patch_grid(torch.zeros(2, 3, 256, 256)).shape
        torch.Size([2, 7, 7, 3, 64, 64])

    References:
        CPC (van den Oord et al., 2018), section 3.2: 7 x 7 patches of 64 x 64 with half of each shared.
    """
    check_images(images, None)
    _checks.is_count("patch", patch)
    _checks.is_count("stride", stride)
    _check_fits("patch", patch, images)
    return images.unfold(2, patch, stride).unfold(3, patch, stride).permute(0, 2, 3, 1, 4, 5)


def cpc_patches(
    images: Tensor,
    *,
    size: int = 256,
    patch: int = 64,
    stride: int = 32,
    crop: int = 60,
    generator: torch.Generator | None = None,
) -> Tensor:
    r"""CPC's patches: crop, flip, greyscale, grid, and in each patch a crop of its own.

    $$x \to x[\text{size} \times \text{size at random}] \to \text{flip} \to \text{grey} \to \text{grid} \to
      \text{pad}(y_{r,c}[\text{crop} \times \text{crop at random}])$$

    The crop inside a patch moves what neighbours share, so that their common border gives less away. Nothing is
    resized: both crops are whole pixels at their places.

    Args:
        images: (B, 3, H, W) float in [0, 1], neither side smaller than `size`.
        size: side of the square that is cut out first, pixels.
        patch: side of a patch, pixels, at most `size`.
        stride: distance between neighbouring patches, pixels.
        crop: side of the random part of a patch that is kept, pixels, at most `patch`; it is put in the middle, with
            zeros around.
        generator: where all parameters come from.

    Returns:
        (B, rows, columns, 3, patch, patch) in [0, 1], the three channels equal: any image encoder takes them, and one
            for a single channel takes `[..., :1, :, :]`.

    Raises:
        ValueError: a number out of range, or one larger than what it is cut from.
        TypeError: an argument is of the wrong type.

    Example:
        >>> cpc_patches(torch.rand(2, 3, 300, 300)).shape
        torch.Size([2, 7, 7, 3, 64, 64])

    References:
        "Representation Learning with Contrastive Predictive Coding" (van den Oord et al., 2018), section 3.2: 256
        x 256 from 300 x 300, flipped half of the time, greyscale, patches cropped to 60 x 60 and padded back to 64 x
        64. The paper does not say what with and where, nor does it give statistics: here zeros on all sides, and no
        normalisation. There is no code by the authors.
    """
    check_images(images, generator, channels=3)
    for name, value in (("size", size), ("patch", patch), ("stride", stride), ("crop", crop)):
        _checks.is_count(name, value)
    _check_fits("size", size, images)
    for name, value, limit, whole in (("patch", patch, size, "size"), ("crop", crop, patch, "patch")):
        if value > limit:
            raise ValueError(f"{name}: expected at most {limit}, the {whole} it is cut from, got {value}")
    x = random_horizontal_flip(_random_window(images, size, generator), generator=generator)
    grid = patch_grid(random_grayscale(x, p=1.0, generator=generator), patch=patch, stride=stride)
    kept = _random_window(grid.flatten(0, 2), crop, generator)
    before = (patch - crop) // 2
    after = patch - crop - before
    return F.pad(kept, (before, after, before, after)).view(grid.shape)


def _check_fits(name: str, side: int, images: Tensor) -> None:
    """A square of this side can be cut out of the images."""
    height, width = images.shape[2:]
    if side > min(height, width):
        raise ValueError(
            f"{name}: expected at most {min(height, width)}, as images are {height} x {width}, got {side}"
        )


def _random_window(images: Tensor, size: int, generator: torch.Generator | None) -> Tensor:
    """(B, C, size, size), cut out of each image at whole pixels, every place as likely as another."""
    window = images
    for dim in (2, 3):
        slack = images.shape[dim] - size
        start = uniform(len(images), 0, slack + 1, generator).long().to(images.device)
        index = start.unsqueeze(1) + torch.arange(size, device=images.device)
        shape = [len(images), 1, size, 1] if dim == 2 else [len(images), 1, 1, size]
        window = window.gather(dim, index.view(shape).expand([*window.shape[:dim], size, *window.shape[dim + 1 :]]))
    return window
