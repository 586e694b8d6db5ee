"""Rows of the views."""

from __future__ import annotations

from typing import Any

import torch

import contrastive_ops as co
from tests.table.row import Row, normal

_IMAGES = torch.rand(6, 3, 12, 10, generator=torch.Generator().manual_seed(0))


def _view_row(name: str, *, bad: tuple[tuple[dict[str, Any], str], ...], **options: Any) -> Row:
    function = getattr(co, name)
    wrong = [
        (lambda: function(_IMAGES.mul(255).byte(), **options), "images"),
        (lambda: function(_IMAGES[0], **options), "images"),
        (lambda: function("cat.png", **options), "images"),
        (lambda: function(_IMAGES, **{**options, "generator": 0}), "generator"),
    ]
    wrong += [(lambda extra=extra: function(_IMAGES, **{**options, **extra}), argument) for extra, argument in bad]
    return Row(
        name,
        random=lambda generator: function(_IMAGES, **options, generator=generator),
        bad=tuple(wrong),
        compiles=lambda: function(_IMAGES, **options),
        why_not={"world": "views never communicate", "reference": "random: see properties/test_views.py"},
    )


_P = (({"p": 1.5}, "p"), ({"p": "always"}, "p"))


ROWS: tuple[Row, ...] = (
    _view_row("moco_v1_view", size=8, bad=(({"size": 0}, "size"),)),
    _view_row("moco_v2_view", size=8, bad=(({"size": 7.5}, "size"),)),
    _view_row(
        "random_resized_crop",
        size=8,
        bad=(
            ({"size": 0}, "size"),
            ({"scale": (0.5, 1.5)}, "scale"),
            ({"scale": (0.5, 0.2)}, "scale"),
            ({"scale": 0.5}, "scale"),
            ({"ratio": (0, 1)}, "ratio"),
        ),
    ),
    _view_row("random_rotation", degrees=30.0, bad=(({"degrees": -1}, "degrees"), ({"degrees": 200}, "degrees"))),
    _view_row("random_horizontal_flip", bad=_P),
    _view_row(
        "color_jitter",
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.2,
        p=0.5,
        bad=(
            ({"brightness": -1}, "brightness"),
            ({"contrast": -1}, "contrast"),
            ({"saturation": "0"}, "saturation"),
            ({"hue": 0.6}, "hue"),
            *_P,
        ),
    ),
    _view_row("random_grayscale", bad=_P),
    _view_row("random_solarize", bad=(({"threshold": 2}, "threshold"), *_P)),
    _view_row("random_invert", bad=_P),
    _view_row("gaussian_blur", bad=(({"sigma": (0, 1)}, "sigma"), ({"sigma": (2, 1)}, "sigma"), *_P)),
    Row(
        "normalize",
        call=lambda images: co.normalize(images).square().mean(),
        inputs=lambda: {"images": normal(2, 3, 4, 4)},
        oracle=lambda i: (
            sum(
                ((i["images"][:, c] - m) / s).square().sum()
                for c, (m, s) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)])
            )
            / i["images"].numel()
        ),
        bad=(
            (lambda: co.normalize(_IMAGES.long()), "images"),
            (lambda: co.normalize(_IMAGES, mean=(0.5,)), "mean"),
            (lambda: co.normalize(_IMAGES, std=(0.5, 0.5, 0.0)), "std"),
        ),
        compiles=lambda: co.normalize(_IMAGES),
        why_not={"world": "views never communicate"},
    ),
)
