"""A set of rows against itself, where row i and its positive, row (i + M/2) mod M, are no candidates of row i.

The matrix is its own transpose: its tiles above the diagonal are all there is to make, and one product is the gradient
of both factors.
"""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from contrastive_ops.kernels._blocks import scratch, spans, tile, tile_size, unshifted
from contrastive_ops.kernels._pull import part, pulled, side


def attend_self(rows: Tensor, scale: float | Tensor, *, block_size: int | None, bound: float | None) -> Tensor:
    """(M,) log sum_j e^{scale <rows_i, rows_j>}."""
    scaled = rows * scale
    plain = unshifted(scaled.dtype, bound)
    result = rows.new_full((len(rows),), 0.0 if plain else float("-inf"))
    for above, here, there in _upper_tiles(scaled, rows, block_size):
        if plain:
            weights = above.exp_()
            result[here] += weights.sum(1)
            if here != there:
                result[there] += weights.sum(0)
        else:
            result[here] = torch.logaddexp(result[here], above.logsumexp(1))
            if here != there:
                result[there] = torch.logaddexp(result[there], above.logsumexp(0))
    return result.log_() if plain else result


def _upper_tiles(scaled: Tensor, rows: Tensor, block_size: int | None) -> Iterator[tuple[Tensor, slice, slice]]:
    """Tiles of logits on and above the diagonal, each with its rows and columns; what is no candidate is -inf."""
    size = tile_size(len(rows), rows.device, block_size)
    half, parts, room = len(rows) // 2, spans(len(rows), size), scratch(rows, size, size)
    for i in range(len(parts)):
        for j in range(i, len(parts)):
            here, there = parts[i], parts[j]
            logits = tile(scaled[here], rows[there], room)
            for offset in (-half, 0, half):
                _fill_diagonal(logits, offset + here.start - there.start)
            yield logits, here, there


def _fill_diagonal(logits: Tensor, offset: int) -> None:
    """-inf where column - row = offset, if there is any such place."""
    if -logits.shape[0] < offset < logits.shape[1]:
        logits.diagonal(offset).fill_(float("-inf"))


def self_gradient(
    rows: Tensor, scale: float | Tensor, lse: Tensor, pull: Tensor, *, block_size: int | None, bound: float | None
) -> Tensor:
    """(M, D) scale * sum_j e^{s_ij} (pull_i e^{-lse_i} + pull_j e^{-lse_j}) rows_j."""
    scaled, result = rows * scale, torch.zeros_like(rows)
    pulls = side(lse, pull, unshifted(scaled.dtype, bound))
    size = tile_size(len(rows), rows.device, block_size)
    other = scratch(rows, size, size)
    for above, here, there in _upper_tiles(scaled, rows, block_size):
        weights = pulled(above, part(pulls, here), part(pulls, there), other)
        result[here].addmm_(weights, rows[there])
        if here != there:
            result[there].addmm_(weights.t(), rows[here])
    return result.mul_(scale)
