"""Triton's kernels as three operators of torch: to torch.compile each is one node, whatever it launches."""

from __future__ import annotations

from collections.abc import Sequence

import torch
import triton
from torch import Tensor

from contrastive_ops.kernels._triton_attend import attend_kernel
from contrastive_ops.kernels._triton_launch import columns, dropped, matrices, start, stripes, tile
from contrastive_ops.kernels._triton_pairs import pairs_kernel
from contrastive_ops.kernels._triton_weighted import weighted_kernel

BLOCKS_AT_ONCE = 64  # blocks of rows whose column sums wait to be added: O(N) numbers, where all would be O(N * N)


@torch.library.custom_op(
    "contrastive_ops::attend",
    mutates_args=(),
    schema="(Tensor own, Tensor other, Tensor? scale, Tensor? mask, Tensor? own_drop, bool drop_equal,"
    " bool with_output) -> (Tensor, Tensor)",
)
def attend(
    own: Tensor,
    other: Tensor,
    scale: Tensor | None,
    mask: Tensor | None,
    own_drop: Tensor | None,
    drop_equal: bool,
    with_output: bool,
) -> tuple[Tensor, Tensor]:
    """(..., N) log sum_j e^{scale <own_i, other_j>} and (..., N, D) the softmax's mean of the other rows, or (0,)."""
    shape, shapes = own.shape, tile(own)
    lse, output = empty_attend(own, other, scale, mask, own_drop, drop_equal, with_output)
    if lse.numel() == 0 or other.shape[-2] == 0:
        return lse.fill_(float("-inf")), output.zero_()
    own, other = matrices(own), matrices(other)
    (seen, mask_strides), (drops, count) = dropped(mask), columns(own_drop)
    slices = triton.cdiv(shapes["WIDTH"], shapes["SLICE"]) if with_output else 1
    programs = triton.cdiv(shape[-2], shapes["OWN"]) * len(own)
    parts, stripe = stripes(programs * slices, other.shape[-2], shapes["OTHER"], own.device)
    lses = lse if parts == 1 else lse.new_empty(parts, *lse.shape)
    outputs = output if parts == 1 or not with_output else output.new_empty(parts, *shape)
    start(
        attend_kernel,
        (programs, slices, parts),
        *(own, other, scale, seen, drops, lses, outputs if with_output else None),
        *(shape[-2], other.shape[-2], count, stripe, *own.stride()[:2], *other.stride()[:2], *mask_strides),
        device=own.device,
        DROP_EQUAL=drop_equal,
        **shapes,
    )
    return (lse, output) if parts == 1 else _merged(lses, outputs, with_output)


@attend.register_fake
def empty_attend(
    own: Tensor,
    other: Tensor,
    scale: Tensor | None,
    mask: Tensor | None,
    own_drop: Tensor | None,
    drop_equal: bool,
    with_output: bool,
) -> tuple[Tensor, Tensor]:
    """Its results, unwritten."""
    output = own.shape if with_output else (0,)
    return _unwritten(own.shape[:-1], own), _unwritten(output, own)


def _unwritten(shape: Sequence[int], like: Tensor) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device=like.device)


def _merged(lses: Tensor, outputs: Tensor, with_output: bool) -> tuple[Tensor, Tensor]:
    """What the stripes found, as one: outputs count by their share of the sum."""
    lse = lses.logsumexp(0)
    if not with_output:
        return lse, outputs
    shares = (lses - lse.masked_fill(lse == float("-inf"), 0)).exp()
    return lse, outputs.mul_(shares.unsqueeze(-1)).sum(0)


@torch.library.custom_op(
    "contrastive_ops::weighted",
    mutates_args=(),
    schema="(Tensor own, Tensor other, Tensor? scale, Tensor? mask, Tensor? own_drop, Tensor? other_drop,"
    " Tensor? own_lse, Tensor? own_pull, Tensor? other_lse, Tensor? other_pull, bool drop_equal) -> Tensor",
)
def weighted(
    own: Tensor,
    other: Tensor,
    scale: Tensor | None,
    mask: Tensor | None,
    own_drop: Tensor | None,
    other_drop: Tensor | None,
    own_lse: Tensor | None,
    own_pull: Tensor | None,
    other_lse: Tensor | None,
    other_pull: Tensor | None,
    drop_equal: bool,
) -> Tensor:
    """(..., N, D) scale * sum_j (own_pull_i e^{s_ij - own_lse_i} + other_pull_j e^{s_ij - other_lse_j}) other_j."""
    shape, shapes = own.shape, tile(own)
    output = _unwritten(shape, own)
    if output.numel() == 0 or other.shape[-2] == 0:
        return output.zero_()
    pulls, largest = _lifted(own, own_pull, other_pull)
    own, other = matrices(own), matrices(other)
    (seen, mask_strides), (drops, count), (other_drops, others) = dropped(mask), columns(own_drop), columns(other_drop)
    slices = triton.cdiv(shapes["WIDTH"], shapes["SLICE"])
    programs = triton.cdiv(shape[-2], shapes["OWN"]) * len(own)
    parts, stripe = stripes(programs * slices, other.shape[-2], shapes["OTHER"], own.device)
    outputs = output if parts == 1 else output.new_empty(parts, *shape)
    sides = ((own_lse, own_pull), (other_lse, other_pull))
    levels = [None if lse is None or pull is None else lse.contiguous() for lse, pull in sides]
    start(
        weighted_kernel,
        (programs, slices, parts),
        *(own, other, scale, seen, drops, other_drops, levels[0], pulls[0], levels[1], pulls[1], outputs),
        *(shape[-2], other.shape[-2], count, others, stripe),
        *(*own.stride()[:2], *other.stride()[:2], *mask_strides),
        device=own.device,
        DROP_EQUAL=drop_equal,
        **shapes,
    )
    output = outputs if parts == 1 else outputs.sum(0)
    return output if largest is None else output.mul_(largest)


def _lifted(own: Tensor, *pulls: Tensor | None) -> tuple[list[Tensor | None], Tensor | None]:
    """Pulls as the kernel wants them: for float16 weights, whose range is small, the largest one is 1."""
    given = [pull for pull in pulls if pull is not None]
    if own.dtype != torch.float16 or not given:
        return [None if pull is None else pull.contiguous() for pull in pulls], None
    largest = torch.stack([pull.abs().amax() for pull in given]).amax()
    unit = largest.masked_fill(largest == 0, 1)
    return [None if pull is None else (pull / unit).contiguous() for pull in pulls], largest


@weighted.register_fake
def _empty_weighted(own: Tensor, *_: object) -> Tensor:
    return _unwritten(own.shape, own)


@torch.library.custom_op(
    "contrastive_ops::pairs",
    mutates_args=(),
    schema="(Tensor left, Tensor right, bool drop_equal) -> (Tensor, Tensor)",
)
def pairs(left: Tensor, right: Tensor, drop_equal: bool) -> tuple[Tensor, Tensor]:
    """(N,) log sum_j e^{<left_i, right_j>} and (N,) log sum_i, from one product."""
    shapes, total = tile(left), len(left)
    del shapes["SLICE"], shapes["LIFT"]
    row_lse, column_lse = (_unwritten((total,), left).fill_(float("-inf")) for _ in range(2))
    left, right = matrices(left)[0], matrices(right)[0]
    row_blocks = triton.cdiv(total, shapes["OWN"])
    for first in range(0, row_blocks, BLOCKS_AT_ONCE):
        here = min(BLOCKS_AT_ONCE, row_blocks - first)
        parts, stripe = stripes(here, total, shapes["OTHER"], left.device)
        rows, found = _unwritten((parts, total), left), _unwritten((here, total), left)
        arguments = (left, right, rows, found, total, first, stripe, left.stride(0), right.stride(0))
        start(pairs_kernel, (here, parts), *arguments, device=left.device, DROP_EQUAL=drop_equal, **shapes)
        own = slice(first * shapes["OWN"], (first + here) * shapes["OWN"])
        row_lse[own] = rows[:, own].logsumexp(0)
        column_lse = torch.logaddexp(column_lse, found.logsumexp(0))
    return row_lse, column_lse


@pairs.register_fake
def _empty_pairs(left: Tensor, right: Tensor, drop_equal: bool) -> tuple[Tensor, Tensor]:
    return _unwritten(left.shape[:1], left), _unwritten(left.shape[:1], left)
