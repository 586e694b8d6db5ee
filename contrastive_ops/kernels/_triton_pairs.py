"""Both directions of one square matrix on NVIDIA GPUs: row and column log-sum-exps from one product."""

from __future__ import annotations

import triton
import triton.language as tl

from contrastive_ops.kernels._triton_tile import drop_listed, drop_masked, inner_products, load_rows


@triton.jit(do_not_specialize=["total", "first_block", "stripe"])
def pairs_kernel(
    left,
    right,
    row_lse,
    column_lse,
    total,
    first_block,
    stripe,
    left_stride,
    right_stride,
    OWN: tl.constexpr,
    OTHER: tl.constexpr,
    WIDTH: tl.constexpr,
    CHUNK: tl.constexpr,
    DROP_EQUAL: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """One block of left rows against one stripe of right rows; grid (row blocks of this launch, stripes).

    row_lse (stripes, total): what each row finds in each stripe. column_lse (row blocks of this launch, total): what
    each column finds in each block of rows, so that no two programs write to one place.
    """
    own = (first_block + tl.program_id(0)) * OWN + tl.arange(0, OWN)
    first = load_rows(left, own, left_stride, total, tl.arange(0, CHUNK), WIDTH)
    maximum = tl.full((OWN,), float("-inf"), tl.float32)
    summed = tl.zeros((OWN,), tl.float32)
    start = tl.program_id(1) * stripe
    for place in range(start, tl.minimum(start + stripe, total), OTHER):
        other = place + tl.arange(0, OTHER)
        logits = inner_products(
            first, left, own, left_stride, total, right, other, right_stride, total, WIDTH, CHUNK, PRECISION, UPCAST
        )
        logits = drop_masked(logits, own, total, other, total, None, 0, 0)
        logits = drop_listed(logits, own, total, other, total, None, 0, None, 0, DROP_EQUAL)
        largest = tl.maximum(maximum, tl.max(logits, 1))
        shift = tl.where(largest == float("-inf"), 0.0, largest)
        summed = summed * tl.exp(maximum - shift) + tl.sum(tl.exp(logits - shift[:, None]), 1)
        maximum = largest
        # rows beyond the matrix are no candidates of a column
        logits = tl.where(own[:, None] < total, logits, float("-inf"))
        largest = tl.max(logits, 0)
        shift = tl.where(largest == float("-inf"), 0.0, largest)
        found = largest + tl.log(tl.sum(tl.exp(logits - shift[None, :]), 0))
        tl.store(column_lse + tl.program_id(0).to(tl.int64) * total + other, found, mask=other < total)
    place = tl.program_id(1).to(tl.int64) * total + own
    tl.store(row_lse + place, maximum + tl.log(summed), mask=own < total)
