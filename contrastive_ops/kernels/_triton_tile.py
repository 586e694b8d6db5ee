"""What Triton's kernels share: loading rows, one tile of logits, and the weighted sum of rows that follows it.

The owner of a program is a block of rows ("own"); it meets all rows of the other side ("other") block by block. A
program writes only the rows it owns: no atomics, so the same input gives the same bits.

Rows are float32, bfloat16 or float16 and every sum runs in float32. A weight is rounded to half rows' type in two
parts, of which the second holds what the first one lost: one more product, where a gradient would lose its digits.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def load_rows(base, rows, stride, total, columns, WIDTH: tl.constexpr):
    """(rows, columns) of a matrix WIDTH wide; 0 outside."""
    inside = (rows[:, None] < total) & (columns[None, :] < WIDTH)
    return tl.load(base + rows.to(tl.int64)[:, None] * stride + columns[None, :], mask=inside, other=0.0)


@triton.jit
def product(a, b, total, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """total + a b. UPCAST is for Triton's interpreter, which multiplies bfloat16 as if it were integers."""
    if UPCAST:
        a, b = a.to(tl.float32), b.to(tl.float32)
    return tl.dot(a, b, total, input_precision=PRECISION)


@triton.jit
def inner_products(
    first,
    own_base,
    own,
    own_stride,
    own_total,
    other_base,
    other,
    other_stride,
    other_total,
    WIDTH: tl.constexpr,
    CHUNK: tl.constexpr,
    PRECISION: tl.constexpr,
    UPCAST: tl.constexpr,
):
    """(own, other) inner products, CHUNK of the WIDTH dimensions at a time; `first` is own rows' first chunk."""
    columns = tl.arange(0, CHUNK)
    total = tl.zeros((own.shape[0], other.shape[0]), tl.float32)
    b = load_rows(other_base, other, other_stride, other_total, columns, WIDTH)
    total = product(first, tl.trans(b), total, PRECISION, UPCAST)
    for start in range(CHUNK, WIDTH, CHUNK):
        a = load_rows(own_base, own, own_stride, own_total, start + columns, WIDTH)
        b = load_rows(other_base, other, other_stride, other_total, start + columns, WIDTH)
        total = product(a, tl.trans(b), total, PRECISION, UPCAST)
    return total


@triton.jit
def drop_masked(logits, own, own_total, other, other_total, mask, mask_own, mask_other):
    """-inf outside the matrix and where the mask, whose strides are mask_own and mask_other, is not 0."""
    logits = tl.where(other[None, :] < other_total, logits, float("-inf"))
    if mask is not None:
        inside = (own[:, None] < own_total) & (other[None, :] < other_total)
        place = own.to(tl.int64)[:, None] * mask_own + other.to(tl.int64)[None, :] * mask_other
        logits = tl.where(tl.load(mask + place, mask=inside, other=1) != 0, float("-inf"), logits)
    return logits


@triton.jit
def drop_listed(
    logits, own, own_total, other, other_total, own_drop, own_drops, other_drop, other_drops, DROP_EQUAL: tl.constexpr
):
    """-inf where row i meets row i, for DROP_EQUAL, and where a list says so.

    own_drop (own_total, own_drops) holds other rows that an own row drops; other_drop is the same the other way round.
    """
    if DROP_EQUAL:
        logits = tl.where(own[:, None] == other[None, :], float("-inf"), logits)
    if own_drop is not None:
        for k in range(own_drops):
            column = tl.load(own_drop + own.to(tl.int64) * own_drops + k, mask=own < own_total, other=-1)
            logits = tl.where(column[:, None] == other[None, :], float("-inf"), logits)
    if other_drop is not None:
        for k in range(other_drops):
            row = tl.load(other_drop + other.to(tl.int64) * other_drops + k, mask=other < other_total, other=-1)
            logits = tl.where(own[:, None] == row[None, :], float("-inf"), logits)
    return logits


@triton.jit
def add_weighted(weights, rows, total, LIFT: tl.constexpr, PRECISION: tl.constexpr, UPCAST: tl.constexpr):
    """total + LIFT * weights rows, of weights in [0, 2]. LIFT keeps small float16 weights away from its subnormals."""
    if rows.dtype == tl.float32:
        return product(weights, rows, total, PRECISION, UPCAST)
    weights = weights * LIFT
    high = weights.to(rows.dtype)
    total = product(high, rows, total, PRECISION, UPCAST)
    return product((weights - high.to(tl.float32)).to(rows.dtype), rows, total, PRECISION, UPCAST)
