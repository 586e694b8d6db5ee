"""The rows of the table that a law can apply to, and their inputs in another precision."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from tests.table import TABLE


def having(column: str) -> list[Any]:
    """Parameters of a test: the rows that have something in this column."""
    return [pytest.param(row, id=row.title) for row in TABLE if getattr(row, column)]


def rounded(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    """In float64, what a narrower type makes of the inputs: single precision is compared on what it was given."""
    return {name: x.to(dtype).double() if x.dtype.is_floating_point else x for name, x in inputs.items()}


def cast(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: x.to(dtype) if x.dtype.is_floating_point else x for name, x in inputs.items()}


def relative(observed: Tensor | None, expected: Tensor) -> float:
    assert observed is not None
    return float((observed.double() - expected.double()).norm() / expected.double().norm())
