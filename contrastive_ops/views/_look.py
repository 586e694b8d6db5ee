"""What the recipes with a blur have in common: all that is drawn for a view, and how it is made of it.

Drawing comes first and view by view; then views of one size are made together, as if of one larger batch.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from typing import NamedTuple

import torch
from torch import Tensor

from contrastive_ops.views._blur import blurred, draw_blur
from contrastive_ops.views._color import draw_jitter, greyed, jittered
from contrastive_ops.views._crop import cropped
from contrastive_ops.views._draw import chosen
from contrastive_ops.views._tone import solarized

_SIGMA = (0.1, 2.0)  # in every recipe that has a blur
_TOGETHER = 1 << 22  # values; what is larger is fresh memory each time, whose first use costs more than the work


class Look(NamedTuple):
    """One number or choice per image, in the last dimension."""

    mirror: Tensor
    factors: Tensor  # (4, N)
    jitter: Tensor
    grey: Tensor
    widths: Tensor
    blur: Tensor
    solarize: Tensor


def draw_look(
    count: int,
    *,
    jitter: Sequence[float],
    blur: float,
    solarize: float = 0.0,
    mirror_last: bool = False,
    generator: torch.Generator | None,
) -> Look:
    """Flip, jitter with p = 0.8, greyscale with p = 0.2, blur, solarisation, or the flip at their end.

    Nothing is drawn for a solarisation that never comes.
    """
    flip = None if mirror_last else chosen(count, 0.5, generator)
    factors, some = draw_jitter(count, jitter, 0.8, generator)
    grey = chosen(count, 0.2, generator)
    widths, soft = draw_blur(count, _SIGMA, blur, generator)
    solar = chosen(count, solarize, generator) if solarize else torch.zeros_like(grey)
    flip = chosen(count, 0.5, generator) if flip is None else flip
    return Look(flip, factors, some, grey, widths, soft, solar)


def make_views(
    images: Tensor, places: Sequence[Tensor], looks: Sequence[Look], size: int, finish: Callable[[Tensor], Tensor]
) -> list[Tensor]:
    """(B, C, size, size) for each view, made of its boxes and its look; views are made together while they are small.

    A flip commutes with all that follows the crop, so it is made with it wherever it was drawn. `finish` is done last,
    on images that are ours.
    """
    together = max(1, _TOGETHER // max(1, images.shape[0] * images.shape[1] * size * size))
    views: list[Tensor] = []
    for start in range(0, len(looks), together):
        group = slice(start, start + together)
        look = Look(*(torch.cat(parts, dim=-1) for parts in zip(*looks[group], strict=True)))
        x = cropped(images, torch.cat(list(places[group]), dim=2), size, look.mirror)
        views += finish(_distorted(x, look)).chunk(len(looks[group]))
    return views


def _distorted(x: Tensor, look: Look) -> Tensor:
    """Jitter, greyscale, blur, solarisation."""
    x = jittered(x, look.factors, look.jitter, own=True)
    x = greyed(x, look.grey, own=True)
    x = blurred(x, look.widths, look.blur, radius=ceil(3 * _SIGMA[1]), own=True)
    return solarized(x, look.solarize, own=True)
