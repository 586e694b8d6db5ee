"""Crops of several sizes, and one encoder pass for each size."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops.views._crop import RATIO, boxes, cropped
from contrastive_ops.views._draw import check_images, check_span


def multi_crop(
    images: Tensor,
    *,
    sizes: Sequence[int] = (224, 96),
    counts: Sequence[int] = (2, 6),
    scales: Sequence[Sequence[float]] = ((0.14, 1.0), (0.05, 0.14)),
    generator: torch.Generator | None = None,
) -> list[Tensor]:
    r"""Cut several crops of several sizes out of each image: a few large, many small.

    $$V = \sum_r \text{counts}_r, \qquad a_{b,v} \sim U(\text{scales}_{r(v)})\,H W$$

    Every crop v of every image b has a box of its own, of area a; nothing else is done to it.

    Args:
        images: (B, C, H, W) float.
        sizes: side of the crops of each resolution, pixels.
        counts: number of crops of each resolution; 0 leaves one out.
        scales: smallest and largest share of the image's area for each resolution, in (0, 1].
        generator: where the boxes come from.

    Returns:
        V tensors (B, C, size, size): all crops of the first size, then of the next.

    Raises:
        ValueError: a number out of range, the wrong shape, or not as many sizes as counts and scales.
        TypeError: an argument is of the wrong type.

    Example:
        >>> crops = multi_crop(torch.rand(5, 3, 64, 64), sizes=(32, 16), counts=(2, 3))
        >>> [crop.shape[-1] for crop in crops]
        [32, 32, 16, 16, 16]

    References:
        SwAV (Caron et al., 2020), section 3.2; the defaults are those of the released models, 2 x 224 + 6 x 96. The
        paper's ablations use 2 x 160 + 4 x 96. Boxes and resizing are those of `random_resized_crop`.
    """
    check_images(images, generator)
    check_crops(sizes, counts, scales)
    places = draw_crops(images, counts, scales, generator)
    return [cropped(images, box, size) for size, group in zip(sizes, places, strict=True) for box in group]


def draw_crops(
    images: Tensor, counts: Sequence[int], scales: Sequence[Sequence[float]], generator: torch.Generator | None
) -> list[list[Tensor]]:
    """The boxes of all crops of each resolution."""
    return [
        [boxes(images, scale, RATIO, generator) for _ in range(count)]
        for count, scale in zip(counts, scales, strict=True)
    ]


def check_crops(sizes: Sequence[int], counts: Sequence[int], scales: Sequence[Sequence[float]]) -> None:
    """One size, count and scale for each resolution, and a crop at all."""
    for name, values in (("sizes", sizes), ("counts", counts), ("scales", scales)):
        if not isinstance(values, Sequence):
            raise TypeError(f"{name}: expected a sequence, one entry per resolution, got {_checks.show(values)}")
    if not len(sizes) == len(counts) == len(scales):
        raise ValueError(
            "sizes, counts, scales: expected as many of each, one per resolution, "
            f"got {len(sizes)}, {len(counts)} and {len(scales)}"
        )
    for i in range(len(sizes)):
        _checks.is_count(f"sizes[{i}]", sizes[i])
        _checks.is_count(f"counts[{i}]", counts[i], low=0)
        check_span(f"scales[{i}]", scales[i], high=1.0)
        if scales[i][0] <= 0:
            raise ValueError(f"scales[{i}]: expected numbers above 0, got {scales[i]!r}")
    if sum(counts) == 0:
        raise ValueError(f"counts: expected at least one crop in all, got {counts!r}")


def multi_crop_forward(encoder: Callable[[Tensor], Tensor], crops: Sequence[Tensor]) -> Tensor:
    r"""Encode all crops with one pass for each resolution.

    $$\text{rows } vB \ldots (v + 1)B - 1 \text{ of the result} = \text{encoder}(\text{crops}_v)$$

    Crops of equal height and width are concatenated along the batch, so batch norm takes its statistics over all crops
    of one resolution together: neither crop by crop nor over resolutions mixed. This holds wherever in the list the
    crops stand; the rows come out in the order of the list. In evaluation mode it is a loop over the crops.

    Args:
        encoder: any callable or module that maps (rows, C, H, W) to (rows, D), with the same D for every resolution.
        crops: V tensors (B, C, H, W), all of the same B.

    Returns:
        (V * B, D), crop-major: all images of the first crop, then of the second.

    Raises:
        ValueError: no crops, crops that do not fit together, or an encoder whose output has the wrong shape.
        TypeError: an argument, or what the encoder returns, is of the wrong type.

    Example:
        >>> crops = [torch.full((2, 3, size, size), float(size)) for size in (8, 8, 4)]
        >>> multi_crop_forward(lambda x: x.mean((2, 3))[:, :1], crops).flatten()
        tensor([8., 8., 8., 8., 4., 4.])

    References:
        SwAV (Caron et al., 2020), section 3.2 and the authors' code, which joins crops of equal size only where they
        follow each other in the list; with the large crops first, as everywhere, that is the same.
    """
    _check_images_of_crops(encoder, crops)
    groups: dict[tuple[int, int], list[int]] = {}
    for v, crop in enumerate(crops):
        groups.setdefault((crop.shape[2], crop.shape[3]), []).append(v)
    blocks: dict[int, Tensor] = {}
    width: int | None = None
    for members in groups.values():
        features = encoder(torch.cat([crops[v] for v in members]))
        _check_features(features, len(members) * len(crops[0]), width)
        width = features.shape[1]
        blocks.update(zip(members, features.tensor_split(len(members)), strict=True))
    return torch.cat([blocks[v] for v in range(len(crops))])


def _check_images_of_crops(encoder: object, crops: Sequence[Tensor]) -> None:
    """A callable; images of one batch size, number of channels, dtype and device."""
    if not callable(encoder):
        raise TypeError(f"encoder: expected a module or another callable, got {_checks.show(encoder)}")
    if not isinstance(crops, (list, tuple)):
        raise TypeError(f"crops: expected a list of tensors (B, C, H, W), got {_checks.show(crops)}")
    if not crops:
        raise ValueError("crops: expected at least one tensor (B, C, H, W), got an empty list")
    for v, crop in enumerate(crops):
        shape = ("B", "C", "H", "W") if v == 0 else (*crops[0].shape[:2], "H", "W")
        _checks.is_floating(f"crops[{v}]", crop, shape=shape)
        if crop.dtype != crops[0].dtype or crop.device != crops[0].device:
            raise ValueError(
                f"crops[{v}]: expected {crops[0].dtype} on {crops[0].device} as crops[0], "
                f"got {crop.dtype} on {crop.device}"
            )


def _check_features(features: object, rows: int, width: int | None) -> None:
    """A matrix with one row per image, as wide as those of the resolutions before."""
    if not isinstance(features, Tensor):
        raise TypeError(f"encoder: expected it to return a tensor ({rows}, D), got {_checks.show(features)}")
    if features.ndim != 2 or features.shape[0] != rows or width not in (None, features.shape[1]):
        raise ValueError(
            f"encoder: expected it to return ({rows}, {'D' if width is None else width}), one row per image and the "
            f"same D for every resolution, got {_checks.show(features)}; pool over places before the last layer"
        )
