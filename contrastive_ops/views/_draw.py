"""One number per image, and the checks that every augmentation makes.

Numbers are drawn where the generator lives (the CPU without one) and then moved: the same seed gives the same views
on every device, and choosing a subset by them waits for nothing.
"""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from contrastive_ops import _checks


def check_images(images: object, generator: object, *, channels: int | str = "C") -> Tensor:
    """Float images (B, C, H, W)."""
    checked = _checks.is_floating("images", images, shape=("B", channels, "H", "W"))
    _checks.is_generator(generator)
    return checked


def check_view(images: object, size: object, generator: object) -> None:
    """What a recipe takes: colour images (B, 3, H, W) and the side of the view."""
    check_images(images, generator, channels=3)
    _checks.is_count("size", size)


def check_span(name: str, span: Sequence[float], *, low: float = 0.0, high: float = float("inf")) -> None:
    """A pair (smallest, largest) within [low, high]."""
    if not isinstance(span, Sequence) or len(span) != 2:
        raise TypeError(f"{name}: expected a pair (smallest, largest), got {_checks.show(span)}")
    for value in span:
        _checks.is_real(name, value, low=low, high=high)
    if span[0] > span[1]:
        raise ValueError(f"{name}: expected the smaller number first, got {span!r}")


def uniform(count: int | tuple[int, ...], low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in [low, high)."""
    shape = (count,) if isinstance(count, int) else count
    device = torch.device("cpu") if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device) * (high - low) + low


def chosen(images: Tensor, p: float, generator: torch.Generator | None) -> Tensor:
    """(B,) bool, True with probability p, on the images' device."""
    return (uniform(len(images), 0, 1, generator) < p).to(images.device)
