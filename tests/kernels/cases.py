"""Each pass by Triton's kernels against dense float64, on any device: relative errors by name."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F

from tests.kernels.dense import dense_logits, dense_lse, pulled, relative, wide

OPTIONS: dict[str, Any] = {"block_size": None, "bound": None}
BOUNDS = {torch.float32: 1e-5, torch.float16: 1e-5, torch.bfloat16: 5e-5}  # rows are rounded before, for both sides
WIDTHS = (1, 96, 128, 513, 1024)

Errors = dict[str, float]


class Case(NamedTuple):
    """A name, what it compares on a device, and the largest error that it may have."""

    name: str
    errors: Callable[[torch.device], Errors]
    bound: float


def unit_rows(*shape: int, seed: int, device: torch.device, dtype: torch.dtype, temperature: float = 1.0) -> Tensor:
    """Rows of length 1 / temperature, in dtype."""
    rows = torch.randn(shape, generator=torch.Generator().manual_seed(seed))
    return (F.normalize(rows, dim=-1) / temperature).to(device, dtype)


def one_direction(
    device: torch.device,
    *,
    rows: int,
    columns: int,
    width: int,
    dtype: torch.dtype = torch.float32,
    batch: tuple[int, ...] = (),
    temperature: float = 0.1,
    masked: bool = False,
    drops: int = 0,
) -> Errors:
    """Forward with its output, and the keys' gradient."""
    from contrastive_ops.kernels import _triton_passes as triton

    query = unit_rows(*batch, rows, width, seed=1, device=device, dtype=dtype, temperature=temperature)
    keys = unit_rows(*batch, columns, width, seed=2, device=device, dtype=dtype)
    generator = torch.Generator().manual_seed(3)
    pull = (torch.randn(*batch, rows, generator=generator) / 1000).to(device)
    mask = (torch.rand(*batch, rows, columns, generator=generator) < 0.3).to(device) if masked else None
    if mask is not None:
        mask[..., :1, :] = True  # the first row has nothing left
    drop = torch.randint(-1, max(columns, 1), (*batch, rows, drops), generator=generator).to(device) if drops else None
    lse, output = triton.attend(query, keys, mask, drop, with_output=True, **OPTIONS)
    alone, nothing = triton.attend(query, keys, mask, drop, with_output=False, **OPTIONS)
    for_keys = triton.keys_gradient(query, keys, lse, pull, mask, drop, **OPTIONS)
    exact_query, exact_keys = wide(query, keys)
    exact = dense_lse(dense_logits(exact_query, exact_keys, mask=mask, drop=drop))
    [mean] = torch.autograd.grad(pulled((exact, torch.ones_like(exact))), exact_query, retain_graph=True)
    [sums] = torch.autograd.grad(pulled((exact, pull.double())), exact_keys)
    errors = {"lse": relative(lse, exact), "lse alone": relative(alone, exact), "output": relative(output, mean)}
    return {**errors, "keys": relative(for_keys, sums), "no output": 0.0 if nothing is None else float("inf")}


def both_directions(
    device: torch.device,
    *,
    rows: int,
    width: int,
    dtype: torch.dtype = torch.float32,
    temperature: float = 0.1,
    drop_own: bool = True,
    one_sided: bool = False,
) -> Errors:
    """Both directions of a square matrix, and the gradients of both sides."""
    from contrastive_ops.kernels import _triton_passes as triton

    left = unit_rows(rows, width, seed=1, device=device, dtype=dtype, temperature=temperature)
    right = unit_rows(rows, width, seed=2, device=device, dtype=dtype)
    generator = torch.Generator().manual_seed(3)
    pulls = [(torch.randn(rows, generator=generator) / 1000).to(device) for _ in range(2)]
    lses = triton.attend_pairs(left, right, drop_own=drop_own, **OPTIONS)
    both = (lses[0], None, pulls[0], None) if one_sided else (*lses, *pulls)
    gradients = triton.pairs_gradient(left, right, *both, drop_own=drop_own, **OPTIONS)
    exact_left, exact_right = wide(left, right)
    logits = dense_logits(exact_left, exact_right, drop_own=drop_own)
    exact = dense_lse(logits), dense_lse(logits.T)
    sides = list(zip(exact, (pull.double() for pull in pulls), strict=True))[: 1 if one_sided else 2]
    sums = torch.autograd.grad(pulled(*sides), (exact_left, exact_right))
    names = ("row lse", "column lse", "left", "right")
    pairs = zip(names, (*lses, *gradients), (*exact, *sums), strict=True)
    return {name: relative(ours, wanted) for name, ours, wanted in pairs}


def itself(
    device: torch.device,
    *,
    pairs: int,
    width: int,
    dtype: torch.dtype = torch.float32,
    temperature: float = 0.1,
    as_tensor: bool = False,
) -> Errors:
    """A set of rows against itself, without each row and its pair."""
    from contrastive_ops.kernels import _triton_passes as triton

    rows = unit_rows(2 * pairs, width, seed=1, device=device, dtype=dtype)
    pull = (torch.randn(2 * pairs, generator=torch.Generator().manual_seed(3)) / 1000).to(device)
    scale = torch.tensor(1 / temperature, device=device) if as_tensor else 1 / temperature
    lse = triton.attend_self(rows, scale, **OPTIONS)
    gradient = triton.self_gradient(rows, scale, lse, pull, **OPTIONS)
    [exact_rows] = wide(rows)
    pair = torch.arange(2 * pairs, device=device).roll(pairs).unsqueeze(1)
    exact = dense_lse(dense_logits(exact_rows, exact_rows, scale=float(scale), drop=pair, drop_own=True))
    [sums] = torch.autograd.grad(pulled((exact, pull.double())), exact_rows)
    return {"lse": relative(lse, exact), "gradient": relative(gradient, sums)}


def rows_alone(
    device: torch.device,
    *,
    rows: int,
    columns: int,
    width: int,
    dtype: torch.dtype = torch.float32,
    drops: int = 1,
) -> Errors:
    """One side's gradient where rows and columns are not of one square: what a rank does with all ranks' columns."""
    from contrastive_ops.kernels import _triton_passes as triton

    left, right = (unit_rows(n, width, seed=n, device=device, dtype=dtype) for n in (rows, columns))
    generator = torch.Generator().manual_seed(3)
    numbers: list[Any] = [torch.rand(n, generator=generator).to(device) for n in (rows, rows, columns, columns)]
    drop = torch.randint(-1, max(columns, 1), (rows, drops), generator=generator).to(device)
    errors = {}
    for name, used in {
        "both": numbers,
        "rows": [*numbers[:2], None, None],
        "columns": [None] * 2 + numbers[2:],
    }.items():
        ours = triton.rows_gradient(left, right, *used, drop, **OPTIONS)
        [exact_left] = wide(left)
        logits = dense_logits(exact_left, right.double(), drop=drop)
        weighed = torch.zeros_like(logits)
        for (level, pull), axis in ((used[:2], 1), (used[2:], 0)):
            if level is not None and pull is not None:
                weighed = weighed + pull.double().unsqueeze(axis) * (logits - level.double().unsqueeze(axis)).exp()
        errors[name] = relative(ours, torch.autograd.grad(weighed.sum(), exact_left)[0])
    return errors


def cases(rows: int, columns: int, widths: tuple[int, ...], dtypes: tuple[torch.dtype, ...]) -> list[Case]:
    """Every pass for every width and dtype, odd sizes, at a temperature of 0.01 too."""
    found = []
    for dtype in dtypes:
        for width in widths:
            shared: dict[str, Any] = {"width": width, "dtype": dtype}
            each = {
                "one direction": partial(one_direction, rows=rows, columns=columns, masked=True, drops=2, **shared),
                "rows alone": partial(rows_alone, rows=rows, columns=columns, **shared),
                "both directions": partial(both_directions, rows=rows, temperature=0.01, **shared),
                "itself": partial(itself, pairs=rows // 2 + 1, temperature=0.01, **shared),
            }
            names = {f"{name} {width} {str(dtype)[6:]}": errors for name, errors in each.items()}
            found += [Case(name, errors, BOUNDS[dtype]) for name, errors in names.items()]
    return found
