"""Law 8: one graph, and nothing that waits for the device."""

from __future__ import annotations

import pytest
import torch
from torch._subclasses.fake_tensor import FakeTensorMode

from tests.fake_gpu import fake_gpu
from tests.laws.rows import having
from tests.table import Row


@pytest.mark.parametrize("row", having("compiles"))
def test_compiles_without_a_graph_break(row: Row) -> None:
    assert row.compiles
    torch._dynamo.reset()
    results = []
    for function in (torch.compile(row.compiles, fullgraph=True, backend="aot_eager"), row.compiles):
        torch.manual_seed(0)
        results.append(function(*row.prepare()))
    compiled, expected = results
    if not row.random:  # tracing may order draws from the global state otherwise
        torch.testing.assert_close(compiled, expected)


@fake_gpu
@pytest.mark.parametrize("row", [p for p in having("call") if "waiting" not in p.values[0].why_not])
def test_nothing_waits_for_the_device(row: Row) -> None:
    """Fake tensors of a GPU have no values: an operation that reads one, or chooses rows by one, raises."""
    assert row.call and row.inputs
    inputs = row.inputs()
    with FakeTensorMode():
        given = {name: torch.empty(x.shape, dtype=x.dtype, device="cuda") for name, x in inputs.items()}
        value = row.call(**given)
    assert value.device.type == "cuda"
