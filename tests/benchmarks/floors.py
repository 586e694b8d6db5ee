"""Work that no implementation avoids: the matrix products of a loss, the bytes of a copy. Outputs are there before."""

from __future__ import annotations

import torch
from torch import Tensor

from tests.benchmarks.contest import Run


def products(rows: int, columns: int, width: int, *, symmetric: bool = False, gradients: int = 2) -> Run:
    """The logits, and the gradients of the rows (1) and of the columns (2): what a dense loss multiplies.

    symmetric: logits are those of rows with themselves, so that no product needs their transpose, which is slower.
    """
    left, right = torch.randn(rows, width), torch.randn(columns, width)
    logits = torch.zeros(rows, columns)
    first, second = torch.zeros(rows, width), torch.zeros(columns, width)

    def run() -> list[Tensor]:
        torch.mm(left, right.T, out=logits)
        if gradients >= 1:
            torch.mm(logits, right, out=first)
        if gradients == 2:
            torch.mm(logits if symmetric else logits.T, left, out=second)
        return []

    return run


def repeated(run: Run, times: int) -> Run:
    def repeat() -> list[Tensor]:
        for _ in range(times):
            run()
        return []

    return repeat


def copy(*shape: int) -> Run:
    """One tensor into another that exists."""
    source, destination = torch.randn(*shape), torch.zeros(*shape)

    def run() -> list[Tensor]:
        destination.copy_(source)
        return []

    return run
