"""The backward pass on NVIDIA GPUs: every own row's weighted sum of the other rows, its weights made again."""

from __future__ import annotations

import triton
import triton.language as tl

from contrastive_ops.kernels._triton_tile import add_weighted, drop_listed, drop_masked, inner_products, load_rows


@triton.jit
def weights_of(logits, lse, pull, rows, total, AXIS: tl.constexpr):
    """pull e^{logits - lse}, lse and pull of the rows along AXIS; a row with nothing left has no weight anywhere."""
    level = tl.load(lse + rows, mask=rows < total, other=0.0)
    pulled = tl.load(pull + rows, mask=rows < total, other=0.0)
    level = tl.where(level == float("-inf"), 0.0, level)
    return tl.expand_dims(pulled, AXIS) * tl.exp(logits - tl.expand_dims(level, AXIS))


@triton.jit(do_not_specialize=["own_total", "other_total", "own_drops", "other_drops", "stripe"])
def weighted_kernel(
    own_base,
    other_base,
    scale,
    mask,
    own_drop,
    other_drop,
    own_lse,
    own_pull,
    other_lse,
    other_pull,
    output,
    own_total,
    other_total,
    own_drops,
    other_drops,
    stripe,
    own_batch,
    own_stride,
    other_batch,
    other_stride,
    mask_batch,
    mask_own,
    mask_other,
    OWN: tl.constexpr,
    OTHER: tl.constexpr,
    WIDTH: tl.constexpr,
    CHUNK: tl.constexpr,
    SLICE: tl.constexpr,
    LIFT: tl.constexpr,
    DROP_EQUAL: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """One block of own rows against one stripe of other rows; grid (row blocks x batch, slices of D, stripes).

    output_i = sum_j (own_pull_i e^{s_ij - own_lse_i} + other_pull_j e^{s_ij - other_lse_j}) other_j, where either term
    may be absent (None). Slices as in the forward pass.
    """
    row_blocks = tl.cdiv(own_total, OWN)
    batch = (tl.program_id(0) // row_blocks).to(tl.int64)
    batches = tl.num_programs(0) // row_blocks
    own = (tl.program_id(0) % row_blocks) * OWN + tl.arange(0, OWN)
    own_base += batch * own_batch
    other_base += batch * other_batch
    if mask is not None:
        mask += batch * mask_batch
    if own_drop is not None:
        own_drop += batch * own_total * own_drops
    if other_drop is not None:
        other_drop += batch * other_total * other_drops
    if own_lse is not None:
        own_lse += batch * own_total
        own_pull += batch * own_total
    if other_lse is not None:
        other_lse += batch * other_total
        other_pull += batch * other_total
    first = load_rows(own_base, own, own_stride, own_total, tl.arange(0, CHUNK), WIDTH)
    columns = tl.program_id(1) * SLICE + tl.arange(0, SLICE)
    summed = tl.zeros((OWN, SLICE), tl.float32)
    start = tl.program_id(2) * stripe
    for place in range(start, tl.minimum(start + stripe, other_total), OTHER):
        other = place + tl.arange(0, OTHER)
        logits = inner_products(
            first,
            own_base,
            own,
            own_stride,
            own_total,
            other_base,
            other,
            other_stride,
            other_total,
            WIDTH,
            CHUNK,
            PRECISION,
            UPCAST,
        )
        if scale is not None:
            logits *= tl.load(scale)
        logits = drop_masked(logits, own, own_total, other, other_total, mask, mask_own, mask_other)
        logits = drop_listed(
            logits, own, own_total, other, other_total, own_drop, own_drops, other_drop, other_drops, DROP_EQUAL
        )
        weights = tl.zeros((OWN, OTHER), tl.float32)
        if own_lse is not None:
            weights += weights_of(logits, own_lse, own_pull, own, own_total, 1)
        if other_lse is not None:
            weights += weights_of(logits, other_lse, other_pull, other, other_total, 0)
        rows = load_rows(other_base, other, other_stride, other_total, columns, WIDTH)
        summed = add_weighted(weights, rows, summed, LIFT, PRECISION, UPCAST)
    summed /= LIFT
    if scale is not None:
        summed *= tl.load(scale)
    place = (tl.program_id(2) * batches + batch) * own_total + own
    inside = (own[:, None] < own_total) & (columns[None, :] < WIDTH)
    tl.store(output + place[:, None] * WIDTH + columns[None, :], summed, mask=inside)
