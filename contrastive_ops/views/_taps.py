"""Weighted sums of a few pixels along columns and rows: what a crop and a blur are, on CPU in float32.

A matrix product with all pixels would multiply mostly by zero: of 256 a crop needs two or three, a blur thirteen.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops._embeddings import full_precision

_VALUES = 1 << 19  # that are summed down the columns before they are along the rows: the nearest cache holds them
_BLOCK = 16  # pixels of a line that are made by one product
_DENSE = 64  # lines up to this length are made by one product as a whole


class Taps(NamedTuple):
    """For each image and each pixel of a line of the result, the pixels of the source that count and how much."""

    pixel: Tensor  # (N, size, taps) integers; a first dimension of 1 serves all images
    weights: Tensor  # (N, size, taps)


class _Band(NamedTuple):
    """Taps along a row as products: block j of the result is a matrix on the source from `first + j * stride` on."""

    first: list[int]
    stride: list[int]
    length: list[int]
    matrices: Tensor  # (N, blocks, longest, block)


def weigh(
    images: Tensor,
    source: Tensor,
    down: Taps,
    across: Taps,
    result: Tensor,
    target: Tensor,
    mirror: Tensor | None = None,
) -> None:
    """`result[target]` is `images[source]`, weighted down the columns by `down` and then along the rows by `across`.

    Rows come out mirrored where `mirror` (N,) is True. Source and target (N,) may be the same places of the same
    memory: an image is read before it is written.
    """
    images, width, size = images.contiguous(), images.shape[3], result.shape[2]
    if mirror is not None:
        across = _mirrored(across, mirror, width)
    line, weights = _lines_of(images, source, down)
    band = None if width <= _DENSE else _banded(across, width)
    step = max(1, _VALUES // max(1, images.shape[1] * size * width)) if band else max(1, len(source))
    with full_precision(images.device):
        for start in range(0, len(source), step):
            part = slice(start, start + step)
            lines = _down(images, line[part], weights[part], spare=int(band is not None))
            if mirror is not None:
                for i in mirror[part].nonzero().flatten().tolist():
                    lines[i] = lines[i].flip(2)
            if band is None:
                result.index_copy_(0, target[part], _dense(lines, across))
            else:
                _along_bands(lines, band, start, result, target[part].tolist())


def _mirrored(taps: Taps, mirror: Tensor, width: int) -> Taps:
    """What takes a mirrored line to a mirrored result."""
    some = mirror.view(-1, 1, 1)
    pixel = torch.where(some, width - 1 - taps.pixel.flip(1, 2), taps.pixel)
    return Taps(pixel, torch.where(some, taps.weights.flip(1, 2), taps.weights))


def _lines_of(images: Tensor, source: Tensor, taps: Taps) -> tuple[Tensor, Tensor]:
    """Numbers of lines in the images, and their weights, for each line of the result: (N, C, size, taps)."""
    _, channels, height, _ = images.shape
    line = torch.arange(0, channels * height, height, dtype=torch.int32).view(-1, 1, 1) + taps.pixel.int().unsqueeze(1)
    line = line + (source.int() * (channels * height)).view(-1, 1, 1, 1)
    return line, taps.weights.unsqueeze(1).expand(line.shape)


def _down(images: Tensor, line: Tensor, weights: Tensor, *, spare: int) -> Tensor:
    """(N, C, size, W): each line of the result a weighted sum of lines, as embeddings are summed in bags.

    So many spare lines stand before the first and after the last: `_along_bands` may look there.
    """
    count, channels, size, each = line.shape
    width = images.shape[3]
    numbers, weighed = line.reshape(-1), weights.reshape(-1)
    if spare:
        numbers, weighed = (F.pad(x, (spare * each, spare * each)) for x in (numbers, weighed))
    bags = torch.arange(0, len(numbers), each, dtype=torch.int32)
    summed: Tensor = torch.embedding_bag(images.view(-1, width), numbers, bags, False, 0, False, weighed)[0]
    return summed[spare : len(summed) - spare].view(count, channels, size, width)


def _dense(lines: Tensor, taps: Taps) -> Tensor:
    """All images in one batched product."""
    size = taps.weights.shape[1]
    matrices = lines.new_zeros(len(lines), lines.shape[3], size)
    pixel = taps.pixel.expand_as(taps.weights)
    matrices.scatter_add_(1, pixel.transpose(1, 2), taps.weights.transpose(1, 2))
    return torch.bmm(lines.flatten(1, 2), matrices).view(*lines.shape[:3], size)


def _along_bands(lines: Tensor, band: _Band, start: int, result: Tensor, target: list[int]) -> None:
    """Image by image, all blocks in one batched product, of windows that overlap in memory.

    A window that leaves its line finds a neighbour's values there, which are finite, and multiplies them by zero.
    """
    _, channels, height, width = lines.shape
    blocks, block = band.matrices.shape[1], band.matrices.shape[3]
    made = result.view(len(result), channels * height, blocks, block).transpose(1, 2)
    each = len(band.first) - 1  # 0 where all images share one band
    for i, place in enumerate(target):
        first, stride, length = (values[min(start + i, each)] for values in (band.first, band.stride, band.length))
        shape, strides = (blocks, channels * height, length), (stride, width, 1)
        windows = lines.as_strided(shape, strides, lines.storage_offset() + i * channels * height * width + first)
        torch.bmm(windows, band.matrices[start + i].narrow(1, 0, length), out=made[place])


def _banded(taps: Taps, width: int) -> _Band:
    """The windows that are shortest, and the matrices on them."""
    count, size, each = taps.weights.shape
    block = next((b for b in range(_BLOCK, _BLOCK // 2, -1) if size % b == 0), size)
    pixel = taps.pixel.view(-1, size // block, block, each)
    first, stride, length = _windows(pixel[..., 0].amin(2), pixel[..., -1].amax(2) + 1, width)
    starts = first.unsqueeze(1) + stride.unsqueeze(1) * torch.arange(size // block)
    place = (pixel - starts.view(len(pixel), -1, 1, 1)).expand(count, -1, -1, -1)
    matrices = taps.weights.new_zeros(count, size // block, int(length.max()), block)
    matrices.scatter_add_(2, place.transpose(2, 3), taps.weights.view(place.shape).transpose(2, 3))
    return _Band(first.tolist(), stride.tolist(), length.tolist(), matrices)


def _windows(low: Tensor, high: Tensor, width: int) -> tuple[Tensor, Tensor, Tensor]:
    """First pixel, stride and length (N,) of the shortest windows of which number j holds [low_j, high_j).

    All strides are tried, as there are few. None is longer than a line, as stride 0 makes all of them one window.
    """
    blocks = low.shape[1]
    stride = torch.arange(width // blocks + 2)
    shift = torch.arange(blocks).view(-1, 1, 1) * stride
    first = (low.T.unsqueeze(2) - shift).amin(0)
    length, best = ((high.T.unsqueeze(2) - shift).amax(0) - first).min(1)
    return first.gather(1, best.unsqueeze(1)).squeeze(1), best, length
