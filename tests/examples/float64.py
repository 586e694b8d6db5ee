"""A trainer in float64: what rounding leaves between two runs is then far below what any mistake does."""

from collections.abc import Iterator
from contextlib import contextmanager
from unittest import mock

import torch


@contextmanager
def in_float64(wanted: bool) -> Iterator[None]:
    """Weights are made in float64, and what trainers and package cast to float32 is cast to float64."""
    if not wanted:
        yield
        return
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    try:
        with mock.patch.object(torch.Tensor, "float", torch.Tensor.double):
            yield
    finally:
        torch.set_default_dtype(before)
