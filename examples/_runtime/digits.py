"""The embedded data set: scikit-learn's handwritten digits, rendered "in the wild" as 32x32 colour images.

Raw pixels and random features are poor at it and learning an invariance visibly pays, so that every trainer has
something to learn on a laptop's CPU in minutes, with nothing to download. All of it is deterministic from a seed.
The sources are split by source digit: no digit whose rendering is in one split has a rendering in another
(the underlying data carry no writer ids, so writers do overlap).
"""

from __future__ import annotations

from dataclasses import dataclass
from math import pi

import torch
import torch.nn.functional as F
from torch import Tensor

TEST_PER_CLASS, TRAIN_PER_CLASS, VALIDATION_PER_CLASS = 50, 124, 20
SPLIT_SEEDS = {"train": 0, "fit": 1, "validation": 2, "test": 3}
LUMA = torch.tensor([0.299, 0.587, 0.114])


@dataclass(frozen=True)
class Digits:
    """Rendered digits: `images` (N, 3, S, S) uint8, `labels` (N,), `sources` (N,) the index of the source digit."""

    images: Tensor
    labels: Tensor
    sources: Tensor
    attributes: dict[str, Tensor]  # background and foreground (N, 3), size (N,), position (N, 2) in [-1, 1]


def source_indices(split: str) -> Tensor:
    """Indices into `sklearn.datasets.load_digits()` of one split, class by class.

    "train" (1240) and "test" (500) are what results are reported on; "fit" (1040) and "validation" (200) divide
    "train" once more, for choosing settings without a look at the test digits.
    """
    import numpy as np
    from sklearn.datasets import load_digits

    if split not in SPLIT_SEEDS:
        raise ValueError(f"split must be one of {sorted(SPLIT_SEEDS)}, got {split!r}")
    labels, random, chosen = load_digits().target, np.random.RandomState(0), []
    held = TEST_PER_CLASS + TRAIN_PER_CLASS - VALIDATION_PER_CLASS
    first, last = {
        "test": (0, TEST_PER_CLASS),
        "train": (TEST_PER_CLASS, TEST_PER_CLASS + TRAIN_PER_CLASS),
        "fit": (TEST_PER_CLASS, held),
        "validation": (held, TEST_PER_CLASS + TRAIN_PER_CLASS),
    }[split]
    for digit in range(10):
        chosen.append(random.permutation(np.flatnonzero(labels == digit))[first:last])
    return torch.from_numpy(np.concatenate(chosen)).long()


def load(split: str = "train", *, seed: int = 0, size: int = 32, renders: int | None = None) -> Digits:
    """Render one split: `renders` images per source digit (4 for training, 2 for testing)."""
    from sklearn.datasets import load_digits

    index = source_indices(split)
    data = load_digits()
    renders = renders or (4 if split in ("train", "fit") else 2)
    sources = index.repeat_interleave(renders)
    strokes = torch.from_numpy(data.images).float().div(16)[sources].unsqueeze(1)
    generator = torch.Generator().manual_seed(seed * len(SPLIT_SEEDS) + SPLIT_SEEDS[split])
    images, attributes = render(strokes, size=size, generator=generator)
    return Digits(images, torch.from_numpy(data.target).long()[sources], sources, attributes)


def render(strokes: Tensor, *, size: int, generator: torch.Generator) -> tuple[Tensor, dict[str, Tensor]]:
    """Paint strokes (N, 1, 8, 8) in [0, 1] in random colours, sizes and places over textured backgrounds."""
    count = len(strokes)

    def uniform(low: float, high: float, *shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator) * (high - low) + low

    enlarged = F.interpolate(strokes, size=(size, size), mode="bicubic", align_corners=False).clamp(0, 1)
    scale, rotation, shear = uniform(0.45, 0.85), uniform(-pi / 18, pi / 18), uniform(-0.1, 0.1)
    position = uniform(-1, 1, 2) * (1 - scale).unsqueeze(1)
    mask = F.grid_sample(enlarged, _warp(scale, rotation, shear, position, size), mode="bilinear", align_corners=False)
    alpha = torch.sigmoid(10 * (mask - uniform(0.35, 0.55, 1, 1, 1)))
    background, foreground = _colours(count, generator)
    ramp = _ramp(uniform(0, 2 * pi), size) * 0.1
    second = uniform(0, 1, 3, 1, 1)
    canvas = background[:, :, None, None] * (1 - ramp) + second * ramp
    canvas = canvas * (1 - alpha) + foreground[:, :, None, None] * alpha
    coarse = F.interpolate(torch.randn(count, 3, 5, 5, generator=generator), size=(size, size), mode="bicubic")
    fine = F.interpolate(torch.randn(count, 1, 12, 12, generator=generator), size=(size, size), mode="bicubic")
    canvas = canvas + (coarse + 0.7 * fine) * uniform(0, 0.03, 1, 1, 1)
    canvas = canvas + 0.02 * torch.randn(canvas.shape, generator=generator)
    attributes = {"background": background, "foreground": foreground, "size": scale, "position": position}
    return canvas.clamp(0, 1).mul(255).round().to(torch.uint8), attributes


def _warp(scale: Tensor, rotation: Tensor, shear: Tensor, position: Tensor, size: int) -> Tensor:
    """Sampling grid (N, S, S, 2) that puts the digit at `position` with `scale`: inverse of the forward affine map."""
    cos, sin = rotation.cos(), rotation.sin()
    turn = torch.stack([cos, -sin, sin, cos], dim=1).view(-1, 2, 2)
    slant = torch.eye(2).repeat(len(scale), 1, 1)
    slant[:, 0, 1] = shear
    inverse = torch.linalg.inv(scale[:, None, None] * turn @ slant)
    theta = torch.cat([inverse, -inverse @ position.unsqueeze(2)], dim=2)
    return F.affine_grid(theta, [len(scale), 1, size, size], align_corners=False)


def _colours(count: int, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """A background and the first of 16 random foregrounds that differs from it by more than 0.4 in luminance."""
    background = torch.rand(count, 3, generator=generator)
    candidates = torch.rand(count, 16, 3, generator=generator)
    contrast = (candidates @ LUMA - (background @ LUMA).unsqueeze(1)).abs()
    # argmax of a boolean is its first True; where none of 16 is far enough the farthest one is taken
    enough = contrast > 0.4
    first = torch.where(enough.any(1), enough.int().argmax(1), contrast.argmax(1))
    return background, candidates[torch.arange(count), first]


def _ramp(angle: Tensor, size: int) -> Tensor:
    """A linear ramp from 0 to 1 across the frame in a direction of its own for each image: (N, 1, S, S)."""
    axis = torch.linspace(-1, 1, size)
    y, x = torch.meshgrid(axis, axis, indexing="ij")
    slope = angle.cos()[:, None, None] * x + angle.sin()[:, None, None] * y
    return (slope / (2 * 2**0.5) + 0.5).unsqueeze(1)
