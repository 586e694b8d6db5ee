"""Blocks of logits, the only part of their matrix that ever exists, and when their exponentials need no maximum."""

from __future__ import annotations

from math import prod

import torch
from torch import Tensor

from contrastive_ops import _checks

_CACHE = 2**18  # logits of a block on a CPU: 1 MiB of float32, half of the second-level cache that a core has
_DEVICE = 2**24  # elsewhere a block is one launch of a large product
_TILE = 512  # rows of a block, where there are as many: products of 512 x 512 reach the speed of large ones
# e^60 times any number of columns is far from float32's end, and e^-60 over that of rows from its denormal numbers
_SAFE = {torch.float32: 60.0, torch.float64: 600.0}


def block_elements(device: torch.device) -> int:
    """How many logits one block may hold: each thread's share stays in its core's cache."""
    if device.type != "cpu":
        return _DEVICE
    return _CACHE if torch.compiler.is_compiling() else _CACHE * min(torch.get_num_threads(), 4)


def is_one_block(rows: int, columns: int, device: torch.device, block_size: int | None) -> bool:
    """Whether the whole matrix is smaller than a block of a CPU, so that it may be made as a whole."""
    if block_size:
        return columns <= block_size
    return rows * columns <= _CACHE or (device.type == "cpu" and rows * columns <= block_elements(device))


def block_shape(rows: int, columns: int, device: torch.device, block_size: int | None) -> tuple[int, int]:
    """Rows and columns of a block; `block_size` columns where the caller chose."""
    most = block_elements(device)
    if block_size:
        return max(1, min(rows, max(_TILE, most // block_size))), block_size
    height = max(1, min(rows, _TILE if device.type == "cpu" else 2 * _TILE))
    return height, max(1, min(columns, most // height))


def tile_size(rows: int, device: torch.device, block_size: int | None) -> int:
    """Rows and columns of a square tile, of as even a size as `rows` allow."""
    largest = block_size or int(block_elements(device) ** 0.5)
    return max(1, -(-rows // max(1, -(-rows // largest))))


def spans(count: int, size: int) -> list[slice]:
    """[0, size), [size, 2 size), ..., the last one shorter."""
    return [slice(start, min(start + size, count)) for start in range(0, count, size)]


def rows_of(x: Tensor | None, part: slice) -> Tensor | None:
    """Some rows of what there may be."""
    return None if x is None else x[..., part, :]


def known_bound(query: Tensor, keys: Tensor, scale: float | Tensor, *, normalize: bool = False) -> float | None:
    """What no logit exceeds: by Cauchy and Schwarz the longest rows' product, or the scale where rows are normalised.

    None where values cannot be read without waiting for a device.
    """
    if isinstance(scale, Tensor):
        if not _checks.readable(scale):
            return None
        scale = float(scale.detach())
    if normalize:
        return scale
    if not _checks.readable(query):
        return None
    for rows in (query, keys):
        scale *= float(torch.linalg.vector_norm(rows.detach(), dim=-1).max()) if rows.numel() else 0.0
    return scale


def unshifted(dtype: torch.dtype, bound: float | None) -> bool:
    """Whether exponentials are safe as they stand."""
    return bound is not None and bound <= _SAFE.get(dtype, 0.0)


def scratch(like: Tensor, rows: int, columns: int) -> Tensor:
    """Room for one block, filled again and again: a fresh one costs more in page faults than in arithmetic."""
    return like.new_empty(like.shape[:-2].numel() * rows * columns)


def shaped(room: Tensor, *shape: int) -> Tensor:
    """The first entries of a room, in a shape."""
    return room[: prod(shape)].view(shape)


def tile(left: Tensor, right: Tensor, room: Tensor) -> Tensor:
    """(N, M) inner products of two sets of rows."""
    return torch.mm(left, right.t(), out=shaped(room, len(left), len(right)))


def logits_block(
    query: Tensor, keys: Tensor, mask: Tensor | None, drop: Tensor | None, columns: slice, room: Tensor
) -> Tensor:
    """(..., N, columns) inner products; those of dropped columns are -inf.

    Args:
        query: (..., N, D) rows.
        keys: (..., M, D) rows.
        mask: (..., N, M) bool, True drops that column for that row.
        drop: (..., N, k) columns that each row drops besides; those of other blocks are passed over.
        columns: which of the keys.
        room: where to put them.
    """
    some = keys[..., columns, :]
    logits = shaped(room, *query.shape[:-1], some.shape[-2])
    torch.matmul(query, some.transpose(-1, -2), out=logits)
    if mask is not None:
        logits.masked_fill_(mask[..., columns], float("-inf"))
    if drop is not None:
        drop_columns(logits, drop - columns.start, float("-inf"))
    return logits


def drop_columns(block: Tensor, drop: Tensor, value: float) -> None:
    """Set the columns `drop` (..., N, k) of each row to `value`; those outside of the block are passed over."""
    if not block.shape[-1]:
        return
    # by arithmetic, not by choosing rows: no wait for the device, and O(N) where a comparison takes N x size
    places = drop.clamp(0, block.shape[-1] - 1)
    elsewhere = places != drop
    for i in range(drop.shape[-1]):
        place = places[..., i : i + 1]
        kept = block.gather(-1, place).masked_fill_(~elsewhere[..., i : i + 1], value)
        block.scatter_(-1, place, kept)


def wants_gradient(x: object) -> bool:
    """Whether autograd wants a gradient for x: asked outside of autograd functions, where it is always off."""
    return isinstance(x, Tensor) and x.requires_grad and torch.is_grad_enabled()
