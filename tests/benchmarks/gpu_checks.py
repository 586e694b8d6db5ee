"""The checking half of the GPU benchmark: every kernel, and every loss that uses one, against float64."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from unittest.mock import patch

import torch

from tests.kernels.cases import OPTIONS, Case, both_directions, cases, one_direction, unit_rows
from tests.kernels.losses import loss_errors, losses

WIDTHS = (1, 16, 96, 128, 256, 513, 1024)
DTYPES = (torch.float32, torch.bfloat16, torch.float16)
UNBOUNDED = float("inf")
HALF_BOUND = 1e-3


def checks(device: torch.device) -> list[Case]:
    """All cases in sizes for a device: odd, empty, batched, few rows against many columns and the reverse."""
    by_size = [_by_law(case) for case in cases(1000, 3001, WIDTHS, DTYPES)]
    sizes = {"few rows": (3, 20_001), "few columns": (20_001, 3), "no rows": (0, 5), "no columns": (5, 0)}
    shapes = [
        Case(name, partial(one_direction, rows=rows, columns=columns, width=64), 1e-5)
        for name, (rows, columns) in sizes.items()
    ]
    shapes += [Case("batches", partial(one_direction, rows=33, columns=70, width=24, batch=(5, 3), masked=True), 1e-5)]
    # more blocks of rows than one launch takes
    shapes += [Case("a large square", partial(both_directions, rows=9001, width=32, drop_own=False), 1e-5)]
    shapes += [Case("the same bits again", same_bits, 0.0)]
    return [*by_size, *shapes, *loss_checks(device), *other_precision(by_size)]


def _by_law(case: Case) -> Case:
    """Half rows are held to what the losses promise for them: tensor cores add less exactly than the interpreter."""
    return case if case.name.endswith("float32") else case._replace(bound=HALF_BOUND)


def loss_checks(device: torch.device) -> list[Case]:
    """Every loss, and some of them compiled into one graph."""
    backend = "inductor" if device.type == "cuda" else "aot_eager"
    eager = [Case(f"loss: {name}", partial(loss_errors, name=name), 1e-5) for name in losses(device)]
    compiled = [
        Case(f"compiled loss: {name}", partial(loss_errors, name=name, backend=backend), 1e-5)
        for name in ("queue", "in batch", "nt_xent", "clip")
    ]
    return eager + compiled


def other_precision(found: list[Case]) -> list[Case]:
    """The float32 cases with products on tensor cores (tf32x3), for information: it is not what the kernels use."""
    return [
        Case(f"tf32x3: {case.name}", partial(_with_precision, case), UNBOUNDED)
        for case in found
        if case.name.endswith("float32")
    ]


def _with_precision(case: Case, device: torch.device) -> dict[str, float]:
    with float32_products("tf32x3"):
        return case.errors(device)


@contextmanager
def float32_products(precision: str) -> Iterator[None]:
    """Float32 products by another method of Triton's than the exact one."""
    with patch("contrastive_ops.kernels._triton_launch.PRECISION", precision):
        yield


def same_bits(device: torch.device, *, count: int = 2000) -> dict[str, float]:
    """0 where a second run of the same input gives the same bits, else 1."""
    from contrastive_ops.kernels import _triton_passes as triton

    rows = unit_rows(count, 128, seed=1, device=device, dtype=torch.float32)
    lse = triton.attend_self(rows, 10.0, **OPTIONS)
    again = triton.attend_self(rows, 10.0, **OPTIONS)
    first, second = (triton.self_gradient(rows, 10.0, lse, torch.ones_like(lse), **OPTIONS) for _ in range(2))
    return {"lse": float(not torch.equal(lse, again)), "gradient": float(not torch.equal(first, second))}


def run(found: list[Case], device: torch.device) -> list[dict[str, object]]:
    """Name, worst error, bound and verdict of each; an exception is an error like any other, and named."""
    return [_outcome(case, device) for case in found]


def _outcome(case: Case, device: torch.device) -> dict[str, object]:
    head = {"check": case.name, "bound": None if case.bound == UNBOUNDED else case.bound}
    try:
        errors = case.errors(device)
    except Exception as error:
        return {**head, "holds": False, "error": None, "why": f"{type(error).__name__}: {error}"[:500]}
    worst = max(errors, key=lambda name: errors[name])
    holds = all(error <= case.bound for error in errors.values())
    return {**head, "holds": holds, "error": errors[worst], "why": worst}
