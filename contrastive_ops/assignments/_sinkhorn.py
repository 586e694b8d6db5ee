"""The Sinkhorn-Knopp algorithm over the batch of all ranks."""

from __future__ import annotations

from collections.abc import Iterator
from math import log10
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision
from contrastive_ops._group import Group, resolve
from contrastive_ops.collectives import agree, max_over_ranks, sum_over_ranks

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

_BLOCK = 2**17  # entries of a block of rows, which stays in a core's cache from one operation to the next
_DIGITS = {torch.float32: 36, torch.float64: 300}  # that scaling vectors may gain before they leave the dtype


@torch.no_grad()
def sinkhorn(
    scores: Tensor,
    *,
    epsilon: float = 0.05,
    iterations: int = 3,
    hard: bool = False,
    out: Tensor | None = None,
    group: Group = None,
) -> Tensor:
    r"""Soft assignments of rows to prototypes that use all prototypes evenly.

    $$Q = \mathrm{diag}(u)\, e^{S / \epsilon}\, \mathrm{diag}(v), \qquad
      v_k \leftarrow 1 \Big/ \sum_b u_b\, e^{S_{bk}/\epsilon}, \quad
      u_b \leftarrow 1 \Big/ \sum_k e^{S_{bk}/\epsilon}\, v_k$$

    Prototypes first, rows last, so that every row sums to 1 and the prototypes' masses come near N / P. The sums over
    rows are those of all ranks, in each iteration. The matrix is exponentiated once, into the result, with every row's
    and every prototype's largest entry at 1: no score is too large and no epsilon too small. The iterations only read
    it, to make u and v. Nothing else of its size exists.

    Args:
        scores: (B, P) scores of this rank's rows; B may differ between ranks and be 0.
        epsilon: > 0, the entropy's weight: towards 0 assignments become hard.
        iterations: at least 1.
        hard: return one-hot rows, at the largest assignment.
        out: contiguous (B, P) float32 (float64 for float64 scores) memory for the result, apart from that of the
            scores. Given the same one at each step, twice as fast on CPU, where new memory costs more than the work.
        group: ranks whose rows take part; None: the default group, or this process alone; False: alone.

    Returns:
        (B, P) float32 (float64 for float64 scores), rows that sum to 1, without a gradient; `out` where it is given.

    Raises:
        ValueError: a shape or number does not fit; a NaN on CPU; an empty batch when alone or on every rank; on every
            rank where the ranks' scores do not fit together.
        TypeError: an argument is of the wrong type.

    Example:
        >>> scores = torch.tensor([[0.3, 0.0], [0.2, 0.0]])
        >>> sinkhorn(scores, epsilon=0.05)
        tensor([[0.7272, 0.2728],
                [0.2651, 0.7349]])

    References:
        "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (Caron et al., 2020), section
        3.1 and appendix A; "Sinkhorn Distances" (Cuturi, 2013), algorithm 1. The authors' code also divides by P, by
        N and by the first sum, none of which changes the result; it exponentiates scores / epsilon, which overflows
        fp16 at cosines and float32 at unnormalised scores.
    """
    process_group = resolve(group)
    _checks.is_floating("scores", scores, shape=("B", "P"))
    _checks.is_positive("epsilon", epsilon, why="scores are divided by it")
    _checks.is_count("iterations", iterations)
    _checks.is_flag("hard", hard)
    if scores.shape[1] == 0:
        raise ValueError(f"scores: expected at least one prototype, got {_checks.show(scores)}")
    out = _result(scores, out)
    scores, count = scores.detach(), len(scores)
    if process_group is not None:
        scores, sizes = agree(scores, process_group, name="scores")
        count = sum(sizes)
    if count == 0:
        raise ValueError(f"scores: expected at least one row, got {_checks.show(scores)}; skip an empty batch")
    with full_precision(scores.device):
        _assign(scores, out, epsilon, iterations, count, process_group)
    if hard:
        largest = out.max(1, keepdim=True).indices  # the first of equals, in half the time of argmax
        out.zero_().scatter_(1, largest, 1.0)
    return out


def _result(scores: Tensor, out: Tensor | None) -> Tensor:
    """The memory of the result: new, or what was given once it fits."""
    dtype = torch.float64 if scores.dtype == torch.float64 else torch.float32
    if out is None:
        return torch.empty(scores.shape, dtype=dtype, device=scores.device)
    _checks.is_tensor("out", out, shape=scores.shape)
    if out.dtype != dtype or out.requires_grad or not out.is_contiguous():
        raise ValueError(
            f"out: expected a contiguous {str(dtype).removeprefix('torch.')} tensor without a gradient, got "
            f"{_checks.show(out)} with strides {out.stride()} and requires_grad={out.requires_grad}"
        )
    _checks.same_device(scores=scores, out=out)
    if _checks.readable(out) and out.untyped_storage().data_ptr() == scores.untyped_storage().data_ptr() != 0:
        raise ValueError("out: expected memory of its own, got that of scores; make it with torch.empty")
    return out


def _assign(
    scores: Tensor, out: Tensor, epsilon: float, iterations: int, count: int, group: ProcessGroup | None
) -> None:
    """All iterations, with fresh exponentials before scaling vectors can have left what the dtype holds.

    A row's entries are exp(score / epsilon - low - high), low the row's shift and high the prototype's; a step over
    the rows is a new `low`. An iteration changes u and v by factors of at most `count` and P, whatever the scores.
    """
    low = out.new_zeros(len(out))
    at_once = max(1, int(_DIGITS[out.dtype] / log10(max(10, count * out.shape[1]))))
    for done in range(0, iterations, at_once):
        high = _highest(scores, out, low if done else None, 1 / epsilon)
        high = high if group is None else max_over_ranks(high, group)
        sums = _exponentiate(scores, out, high, low, 1 / epsilon)
        for _ in range(min(at_once, iterations - done) - 1):
            sums = sums if group is None else sum_over_ranks(sums, group)
            _, sums = _balance(out, sums.reciprocal_())
        sums = sums if group is None else sum_over_ranks(sums, group)
        if done + at_once < iterations:
            rows, _ = _balance(out, sums.reciprocal_())
            low.sub_(rows.log_())
    columns = sums.reciprocal_()
    for (q,) in _blocks(out):
        rows = torch.mv(q, columns).reciprocal_()
        q.mul_(columns).mul_(rows.unsqueeze(1))


def _blocks(out: Tensor, *others: Tensor) -> Iterator[tuple[Tensor, ...]]:
    """Tensors of as many rows in blocks of rows; whole where a block is not read from a cache, or none is left."""
    rows = max(4, _BLOCK // out.shape[1]) if _checks.readable(out) else max(1, len(out))
    return zip(*(torch.split(x, rows) for x in (out, *others)), strict=True) if len(out) else iter(())


def _highest(scores: Tensor, out: Tensor, low: Tensor | None, scale: float) -> Tensor:
    """(P,) each prototype's largest scale * score - low among this rank's rows; `out` is scratch."""
    highest = out.new_full(out.shape[1:], float("-inf"))
    if low is None:
        for _, s in _blocks(out, scores):
            torch.maximum(highest, s.amax(0), out=highest)
        return highest.mul_(scale)
    for q, s, shift in _blocks(out, scores, low):
        torch.maximum(highest, torch.add(-shift.unsqueeze(1), s, alpha=scale, out=q).amax(0), out=highest)
    return highest


def _exponentiate(scores: Tensor, out: Tensor, high: Tensor, low: Tensor, scale: float) -> Tensor:
    """Exponentials into `out`, with `low` set anew so that each row's largest is 1; (P,) sums of the old rows.

    The row that holds a prototype's largest score keeps its `low`: each prototype has an entry of 1 too.
    """
    sums, below = torch.zeros_like(high), -high
    for q, s, shift in _blocks(out, scores, low):
        torch.add(below, s, alpha=scale, out=q)
        largest = q.amax(1)
        q.sub_(largest.unsqueeze(1)).exp_()
        sums.addmv_(q.T, (largest - shift).exp_())
        shift.copy_(largest)
    return sums


def _balance(out: Tensor, columns: Tensor) -> tuple[Tensor, Tensor]:
    """(B,) what scales the rows of out * columns to sums of 1, and (P,) the sums over the rows that follow from it."""
    rows, sums = out.new_empty(len(out)), torch.zeros_like(columns)
    for q, u in _blocks(out, rows):
        torch.mv(q, columns, out=u).reciprocal_()
        sums.addmv_(q.T, u)  # the same block again, while it is in the cache
    return rows, sums
