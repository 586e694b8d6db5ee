"""The forward pass on NVIDIA GPUs: log-sum-exp of every row, and its attention output, in one pass."""

from __future__ import annotations

import triton
import triton.language as tl

from contrastive_ops.kernels._triton_tile import add_weighted, drop_listed, drop_masked, inner_products, load_rows


@triton.jit(do_not_specialize=["own_total", "other_total", "own_drops", "stripe"])
def attend_kernel(
    own_base,
    other_base,
    scale,
    mask,
    own_drop,
    lse,
    output,
    own_total,
    other_total,
    own_drops,
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

    With an output the weighted sum is kept for SLICE of its WIDTH dimensions at most: wider rows make their logits
    once per slice, since a wider sum does not fit into registers.
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
    first = load_rows(own_base, own, own_stride, own_total, tl.arange(0, CHUNK), WIDTH)
    columns = tl.program_id(1) * SLICE + tl.arange(0, SLICE)
    maximum = tl.full((OWN,), float("-inf"), tl.float32)
    total = tl.zeros((OWN,), tl.float32)
    if output is not None:
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
        logits = drop_listed(logits, own, own_total, other, other_total, own_drop, own_drops, None, 0, DROP_EQUAL)
        largest = tl.maximum(maximum, tl.max(logits, 1))
        # a row that has met no column yet: exp(-inf - 0) is the 0 that -inf - -inf would not be
        shift = tl.where(largest == float("-inf"), 0.0, largest)
        weights, decay = tl.exp(logits - shift[:, None]), tl.exp(maximum - shift)
        total = total * decay + tl.sum(weights, 1)
        if output is not None:
            rows = load_rows(other_base, other, other_stride, other_total, columns, WIDTH)
            summed = add_weighted(weights, rows, summed * decay[:, None], LIFT, PRECISION, UPCAST)
        maximum = largest
    place = (tl.program_id(2) * batches + batch) * own_total + own
    if tl.program_id(1) == 0:
        tl.store(lse + place, maximum + tl.log(total), mask=own < own_total)
    if output is not None:
        mean = summed / (tl.where(total == 0, 1.0, total) * LIFT)[:, None]
        inside = (own[:, None] < own_total) & (columns[None, :] < WIDTH)
        tl.store(output + place[:, None] * WIDTH + columns[None, :], mean, mask=inside)
