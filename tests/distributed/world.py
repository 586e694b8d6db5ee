"""What the spawned processes of the world-size law run. Kept free of pytest, so that they start quickly."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

from tests.table import TABLE, Inputs, Row


def compare_with_one_process(
    rank: int, splits: list[list[int]]
) -> list[tuple[dict[str, tuple[float, float]], dict[str, float]]]:
    """For each split of the rows over the ranks, by row of the table, how far they are from one process with all rows.

    Of losses the errors of value and DDP-averaged gradient; of holders, fed over three steps, the largest difference.
    """
    return [
        (
            {row.title: _errors(row, rank, sizes) for row in TABLE if row.rows and row.call},
            {row.title: _state_error(row, rank, sizes) for row in TABLE if row.feed},
        )
        for sizes in splits
    ]


def _mine(row: Row, rank: int, sizes: list[int], inputs: Inputs) -> Inputs:
    first, last = sum(sizes[:rank]), sum(sizes[: rank + 1])
    return {name: x[first:last] if name in row.rows else x for name, x in inputs.items()}


def _state_error(row: Row, rank: int, sizes: list[int]) -> float:
    assert row.inputs and row.feed and row.holder
    shared, alone = row.holder(), row.holder()
    for _ in range(3):
        row.feed(shared, _mine(row, rank, sizes, row.inputs()), None)
        row.feed(alone, row.inputs(), False)
    expected = alone.state_dict()
    return max((x - expected[name]).abs().max().item() for name, x in shared.state_dict().items())


def _errors(row: Row, rank: int, sizes: list[int]) -> tuple[float, float]:
    assert row.inputs
    inputs = row.inputs()
    value, gradient = _value_and_gradient(row, _mine(row, rank, sizes, inputs), group=None)
    expected, exact = _value_and_gradient(row, inputs, group=False)
    for part in gradient:  # what DDP does
        dist.all_reduce(part)
        part.div_(len(sizes))
    error = max((a - b).abs().max().item() for a, b in zip(gradient, exact, strict=True))
    return (value - expected).abs().item(), error


def _value_and_gradient(row: Row, inputs: Inputs, group: bool | None) -> tuple[Tensor, list[Tensor]]:
    """A shared linear encoder stands before every input whose rows are split; other inputs are parameters."""
    assert row.call
    with torch.random.fork_rng():
        torch.manual_seed(0)
        encoder = nn.Linear(5, 5).double()
    trained = {name for name, x in inputs.items() if x.is_floating_point() and name not in row.constant}
    parameters = {name: inputs[name].clone().requires_grad_() for name in trained - set(row.rows)}
    encoded = {name: encoder(inputs[name]) for name in trained & set(row.rows)}
    value = row.call(**{**inputs, **encoded, **parameters}, group=group)
    wanted = [*encoder.parameters(), *(parameters[name] for name in sorted(parameters))]
    return value.detach(), list(torch.autograd.grad(value, wanted))
