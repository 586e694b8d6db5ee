"""Recipes that make two views of each image at once: BYOL's and MoCo v3's, whose two views differ in kind.

Every recipe takes float images (B, 3, H, W) in [0, 1] and returns two normalised views (B, 3, size, size).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor

from _runtime.views import VIEWS, distort_digits, plain_view
from contrastive_ops import byol_views, moco_v3_views

Pair = tuple[Tensor, Tensor]
BLUR_AND_SOLARIZE = ((1.0, 0.0), (0.1, 0.2))  # probabilities in the first view and in the second: BYOL's
MOSTLY = 0.9  # are grey: shape is then what two views have in common from the start, and slow starters start sooner


def digits_pair(images: Tensor, *, size: int, generator: torch.Generator | None = None) -> Pair:
    """BYOL's pair for the digits: crop, rotation, jitter, grey; first always blurred, second solarised at times.

    Digits keep to their crop and hand, as in `digits_v2_view`, and colours are inverted half the time.
    """
    first, second = (
        distort_digits(images, size=size, blur=blur, solarize=solarize, generator=generator)
        for blur, solarize in BLUR_AND_SOLARIZE
    )
    return first, second


def alike_pair(
    view: Callable[..., Tensor], images: Tensor, *, size: int, generator: torch.Generator | None = None
) -> Pair:
    """Two views of one kind."""
    return view(images, size=size, generator=generator), view(images, size=size, generator=generator)


def unchanged_pair(images: Tensor, *, size: int, generator: torch.Generator | None = None) -> Pair:
    """No augmentation, and the right and left sides of one view exchanged so that the two differ: a control."""
    plain = plain_view(images, size=size)
    return plain, plain.flip(-1)


VIEW_PAIRS: dict[str, Callable[..., Pair]] = {  # by the names that `--views` takes
    "digits": digits_pair,
    "digits-v2": partial(alike_pair, VIEWS["digits-v2"]),
    "digits-vit": partial(alike_pair, partial(VIEWS["digits-v2"], grey=MOSTLY)),
    "none": unchanged_pair,
    "byol": byol_views,
    "moco-v2": partial(alike_pair, VIEWS["moco-v2"]),
    "moco-v3": partial(moco_v3_views, scale=(0.2, 1.0)),
    "moco-v3-vit": moco_v3_views,
}
