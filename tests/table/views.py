"""Rows of the views."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

import contrastive_ops as co
from tests import oracles
from tests.table.row import Row, lists, normal

_IMAGES = torch.rand(6, 3, 12, 10, generator=torch.Generator().manual_seed(0))


def _flat(views: Tensor | Sequence[Tensor]) -> Tensor:
    """One view or several as one tensor."""
    return views if isinstance(views, Tensor) else torch.cat([view.flatten() for view in views])


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
        random=lambda generator: _flat(function(_IMAGES, **options, generator=generator)),
        bad=tuple(wrong),
        compiles=lambda: _flat(function(_IMAGES, **options)),
        why_not={"world": "views never communicate", "reference": "random: see properties/test_views.py"},
    )


_P = (({"p": 1.5}, "p"), ({"p": "always"}, "p"))
_CROPS: tuple[tuple[dict[str, Any], str], ...] = (
    ({"sizes": (8, 0)}, "sizes"),
    ({"sizes": (8, 4, 2)}, "sizes"),
    ({"sizes": 8}, "sizes"),
    ({"counts": (2, -1)}, "counts"),
    ({"counts": (2, 1.5)}, "counts"),
    ({"scales": ((0.4, 1.0), (0.05, 1.4))}, "scales"),
    ({"scales": ((0.4, 1.0), (0.4, 0.05))}, "scales"),
    ({"scales": ((0.4, 1.0), (0.0, 0.4))}, "scales"),
    ({"scales": ((0.4, 1.0), 0.4)}, "scales"),
)


def _encoder(x: Tensor) -> Tensor:
    """Pools and mixes channels, so that rows depend on all of their own crop and on no other."""
    mean, power = x.mean((2, 3)), x.square().mean((2, 3))
    return torch.cat([mean * power, power.sqrt()], dim=1)


def _encoded(crops: list[Any]) -> list[list[float]]:
    rows = []
    for crop in crops:
        for image in crop:
            values = [[value for line in channel for value in line] for channel in image]
            mean = [sum(v) / len(v) for v in values]
            power = [sum(x * x for x in v) / len(v) for v in values]
            rows.append([m * p for m, p in zip(mean, power, strict=True)] + [p**0.5 for p in power])
    return rows


_WEIGHTS = normal(6, 6, seed=9)  # so that a permuted result has another value


ROWS: tuple[Row, ...] = (
    _view_row("moco_v1_view", size=8, bad=(({"size": 0}, "size"),)),
    _view_row("moco_v2_view", size=8, bad=(({"size": 7.5}, "size"),)),
    _view_row("moco_v3_views", size=8, bad=(({"size": 0}, "size"), ({"scale": (0.0, 1.0)}, "scale"))),
    _view_row("instdisc_cifar_view", size=8, bad=(({"size": 0}, "size"),)),
    _view_row("invaspread_view", size=8, bad=(({"size": 0}, "size"),)),
    _view_row(
        "simclr_view",
        size=8,
        bad=(
            ({"size": 0}, "size"),
            ({"strength": -1}, "strength"),
            ({"strength": 3}, "strength"),
            ({"blur": 1.5}, "blur"),
        ),
    ),
    _view_row("swav_views", sizes=(8, 4), counts=(2, 1), bad=_CROPS),
    _view_row("byol_views", size=8, bad=(({"size": 0}, "size"),)),
    _view_row(
        "dino_views",
        sizes=(8, 4),
        counts=(2, 1),
        bad=(
            *_CROPS,
            ({"counts": (3, 1)}, "counts"),
            ({"sizes": (8,), "counts": (2,), "scales": ((0.4, 1),)}, "sizes"),
        ),
    ),
    _view_row("cmc_views", size=8, bad=(({"size": 0}, "size"), ({"scale": (0.5, 1.5)}, "scale"))),
    _view_row(
        "cpc_patches",
        size=9,
        patch=4,
        stride=2,
        crop=3,
        bad=(
            ({"size": 11}, "size"),
            ({"patch": 10}, "patch"),
            ({"crop": 5}, "crop"),
            ({"crop": 0}, "crop"),
            ({"stride": 0}, "stride"),
        ),
    ),
    _view_row("multi_crop", sizes=(8, 4), counts=(2, 1), bad=(*_CROPS, ({"counts": (0, 0)}, "counts"))),
    Row(
        "multi_crop_forward",
        call=lambda a, b, c: (co.multi_crop_forward(_encoder, [a, b, c]) * _WEIGHTS.to(a)).sum(),
        inputs=lambda: {"a": normal(2, 3, 3, 4), "b": normal(2, 3, 2, 2, seed=1), "c": normal(2, 3, 3, 4, seed=2)},
        oracle=lambda i: (
            torch.tensor(_encoded([lists(x) for x in i.values()]), dtype=torch.float64) * _WEIGHTS
        ).sum(),
        bad=(
            (lambda: co.multi_crop_forward("resnet50", [_IMAGES]), "encoder"),
            (lambda: co.multi_crop_forward(_encoder, []), "crops"),
            (lambda: co.multi_crop_forward(_encoder, _IMAGES), "crops"),
            (lambda: co.multi_crop_forward(_encoder, [_IMAGES, None]), "crops"),
            (lambda: co.multi_crop_forward(_encoder, [_IMAGES, _IMAGES[0]]), "crops"),
            (lambda: co.multi_crop_forward(_encoder, [_IMAGES, _IMAGES[:4]]), "crops"),
            (lambda: co.multi_crop_forward(_encoder, [_IMAGES, _IMAGES[:, :1]]), "crops"),
            (lambda: co.multi_crop_forward(_encoder, [_IMAGES, _IMAGES.double()]), "crops"),
            (lambda: co.multi_crop_forward(lambda x: (x, x), [_IMAGES]), "encoder"),
            (lambda: co.multi_crop_forward(lambda x: x, [_IMAGES]), "encoder"),
            (lambda: co.multi_crop_forward(lambda x: x.mean((0, 2)), [_IMAGES]), "encoder"),
            (lambda: co.multi_crop_forward(lambda x: x.flatten(1), [_IMAGES, _IMAGES[..., :4, :4]]), "encoder"),
        ),
        compiles=lambda: co.multi_crop_forward(_encoder, [_IMAGES, _IMAGES[..., :4, :4], _IMAGES]),
        why_not={"waiting": "the encoder of this row is real and on the CPU", "world": "views never communicate"},
    ),
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
    Row(
        "rgb_to_lab",
        call=lambda images: (co.rgb_to_lab(images) / 100).square().mean(),
        inputs=lambda: {"images": torch.rand(2, 3, 2, 3, generator=torch.Generator().manual_seed(0)).double()},
        oracle=lambda i: (
            torch.tensor(
                [oracles.lab(pixel) for pixel in lists(i["images"].permute(0, 2, 3, 1).reshape(-1, 3))],
                dtype=torch.float64,
            )
            .div(100)
            .square()
            .mean()
        ),
        bad=(
            (lambda: co.rgb_to_lab(_IMAGES.mul(255).byte()), "images"),
            (lambda: co.rgb_to_lab(_IMAGES[:, :1]), "images"),
            (lambda: co.rgb_to_lab([0.0, 0.5, 1.0]), "images"),
        ),
        compiles=lambda: co.rgb_to_lab(_IMAGES),
        why_not={"world": "views never communicate"},
    ),
    Row(
        "patch_grid",
        call=lambda images: co.patch_grid(images, patch=3, stride=2).square().mean(),
        inputs=lambda: {"images": normal(2, 2, 5, 8)},
        oracle=lambda i: torch.tensor(
            [
                x * x
                for image in lists(i["images"])
                for channel in image
                for patch in oracles.patches(channel, 3, 2)
                for line in patch
                for x in line
            ],
            dtype=torch.float64,
        ).mean(),
        bad=(
            (lambda: co.patch_grid(_IMAGES[0], patch=4, stride=2), "images"),
            (lambda: co.patch_grid(_IMAGES, patch=11, stride=2), "patch"),
            (lambda: co.patch_grid(_IMAGES, patch=4.0, stride=2), "patch"),
            (lambda: co.patch_grid(_IMAGES, patch=4, stride=0), "stride"),
        ),
        compiles=lambda: co.patch_grid(_IMAGES, patch=4, stride=2),
        why_not={"world": "views never communicate"},
    ),
)
