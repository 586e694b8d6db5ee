"""What CPC's networks see: an image as a grid of patches, or as windows of its columns, in grey.

A sequence is a grid of one column, time goes down the rows: what sees and predicts rows sees and predicts times.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from _runtime.views import MEAN, STD, displayable, plain_view
from contrastive_ops import (
    color_jitter,
    cpc_patches,
    normalize,
    patch_grid,
    random_grayscale,
    random_invert,
    random_resized_crop,
    random_rotation,
)


@dataclass(frozen=True)
class Cut:
    """Images (B, 3, H, W) as grids (B, rows, columns, 3, height, width) of squares, or of windows of full height."""

    modality: str  # image or sequence
    patch: int  # side of a patch, or width of a window
    stride: int  # between neighbours

    def __call__(self, images: Tensor) -> Tensor:
        if self.modality == "image":
            return patch_grid(images, patch=self.patch, stride=self.stride)
        return images.unfold(3, self.patch, self.stride).permute(0, 3, 1, 2, 4).unsqueeze(2)

    def grid(self, size: int, *, first: int, steps: int) -> tuple[int, int]:
        """(rows, columns) of an image of that size, of which rows `first` to `steps` ahead can be predicted."""
        if not 1 <= self.patch <= size:
            raise ValueError(f"--patch: expected 1 to --image-size {size}, got {self.patch}")
        if self.stride < 1:
            raise ValueError(f"--stride: expected at least 1, got {self.stride}")
        rows, columns = self(torch.zeros(1, 3, size, size)).shape[1:3]
        if not 1 <= first <= steps < rows:
            raise ValueError(
                f"--first, --steps: expected 1 <= first <= steps < the {rows} rows of patches or windows, got "
                f"{first} and {steps}; a smaller --stride or --patch makes more rows"
            )
        return rows, columns


def grey_digits_view(images: Tensor, *, cut: Cut, size: int, generator: torch.Generator | None = None) -> Tensor:
    """A grid of an image that was cropped, turned and made grey as one; each cell has its own brightness and sign.

    Otherwise a cell's background tells which image it is of, and there is no need to look at the digit.
    """
    x = random_resized_crop(images, size=size, scale=(0.5, 1.0), generator=generator)
    x = random_rotation(x, degrees=15, generator=generator)
    grid = cut(random_grayscale(x, p=1.0, generator=generator))
    cells = color_jitter(grid.flatten(0, 2), brightness=0.6, contrast=0.6, generator=generator)
    cells = random_invert(cells, p=0.5, generator=generator)
    return normalize(cells, mean=MEAN, std=STD).view(grid.shape)


def grey_patches_view(images: Tensor, *, cut: Cut, size: int, generator: torch.Generator | None = None) -> Tensor:
    """The paper's: `cpc_patches`, in which each patch keeps 15 of 16 of its width (60 of 64 pixels), normalised."""
    if cut.modality != "image":
        raise ValueError("--views cpc cuts patches: expected --modality image, got sequence; use --views digits")
    crop = cut.patch * 15 // 16
    x = cpc_patches(images, size=size, patch=cut.patch, stride=cut.stride, crop=crop, generator=generator)
    return normalize(x.flatten(0, 2), mean=MEAN, std=STD).view(x.shape)


def grey_view(images: Tensor, *, cut: Cut, size: int, generator: torch.Generator | None = None) -> Tensor:
    """No augmentation but grey: a control."""
    return cut(grey_again(plain_view(images, size=size)))


def grey_again(normalised: Tensor) -> Tensor:
    """Grey of normalised images, with the weights of `random_grayscale`, from which nothing is drawn here."""
    weights = normalised.new_tensor([0.299, 0.587, 0.114]).view(3, 1, 1)
    grey = (displayable(normalised) * weights).sum(1, keepdim=True)
    return normalize(grey.expand_as(normalised), mean=MEAN, std=STD)


def tile(grid: Tensor) -> Tensor:
    """Images in which the cells of a grid stand apart by a pixel: what the network saw, one cell at a time."""
    cells = F.pad(grid.float(), (0, 1, 0, 1))
    if grid.shape[2] == 1 and grid.shape[4] > grid.shape[5]:
        cells = cells.transpose(1, 2)  # windows side by side, as time goes
    return cells.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3)
