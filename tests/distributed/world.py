"""What the spawned processes of the world-size law run. Kept free of pytest, so that they start quickly."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.table import TABLE, Inputs, Row


def compare_with_one_process(rank: int, sizes: list[int], titles: list[str]) -> dict[str, tuple[float, float]]:
    """Errors of value and DDP-averaged gradient against one process with all rows, by row of the table."""
    return {row.title: _errors(row, rank, sizes) for row in TABLE if row.title in titles}


def _errors(row: Row, rank: int, sizes: list[int]) -> tuple[float, float]:
    assert row.inputs
    inputs = row.inputs()
    first, last = sum(sizes[:rank]), sum(sizes[: rank + 1])
    mine = {name: x[first:last] if name in row.rows else x for name, x in inputs.items()}
    value, gradient = _value_and_gradient(row, mine, group=None)
    expected, exact = _value_and_gradient(row, inputs, group=False)
    for part in gradient:  # what DDP does
        dist.all_reduce(part)
        part.div_(len(sizes))
    error = max((a - b).abs().max().item() for a, b in zip(gradient, exact, strict=True))
    return (value - expected).abs().item(), error


def _value_and_gradient(row: Row, inputs: Inputs, group: bool | None) -> tuple[Tensor, list[Tensor]]:
    """A shared linear encoder stands before every input whose rows are split."""
    assert row.call
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.Linear(5, 5).double()
    encoded = {name for name in row.rows if inputs[name].is_floating_point() and name not in row.constant}
    given = {name: _encode(encoder, x) if name in encoded else x for name, x in inputs.items()}
    value = row.call(**given, group=group)
    return value.detach(), list(torch.autograd.grad(value, list(encoder.parameters())))


def _encode(encoder: nn.Module, x: Tensor) -> Tensor:
    encoded: Tensor = encoder(x)
    return encoded
