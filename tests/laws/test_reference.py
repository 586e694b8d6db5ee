"""Law 2: every formula equals loops in float64 that were written from the paper."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.laws.rows import cast, having, relative, rounded
from tests.table import Row


def _leaves(row: Row, dtype: torch.dtype) -> dict[str, Tensor]:
    assert row.inputs is not None
    return {
        name: x.to(dtype).requires_grad_(name not in row.constant) if x.dtype.is_floating_point else x
        for name, x in row.inputs().items()
    }


def _differences(row: Row) -> dict[str, Tensor]:
    """The oracle's gradient by central differences, extrapolated once (error of order h^4)."""
    assert row.inputs and row.oracle
    inputs, held = row.inputs(), row.inputs()

    def slope(x: Tensor, index: int, h: float) -> float:
        flat, values = x.view(-1), []
        keep = flat[index].item()
        for shifted in (keep + h, keep - h):
            flat[index] = shifted
            values.append(float(row.held(inputs, held) if row.held else row.oracle(inputs)))
        flat[index] = keep
        return (values[0] - values[1]) / (2 * h)

    return {
        name: torch.tensor(
            [(4 * slope(x, i, 5e-4) - slope(x, i, 1e-3)) / 3 for i in range(x.numel())], dtype=torch.float64
        ).view_as(x)
        for name, x in inputs.items()
        if x.dtype.is_floating_point and name not in row.constant
    }


@pytest.mark.parametrize("row", having("oracle"))
def test_reference_values(row: Row) -> None:
    assert row.oracle and row.call and row.inputs
    expected = row.oracle(row.inputs())
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        observed = row.call(**cast(row.inputs(), dtype))
        assert observed.dtype == dtype
        reference = expected if dtype == torch.float64 else row.oracle(rounded(row.inputs(), dtype))
        torch.testing.assert_close(observed.double(), reference, rtol=tolerance, atol=0)


@pytest.mark.parametrize("row", [p for p in having("oracle") if "gradient" not in p.values[0].why_not])
def test_reference_gradients(row: Row) -> None:
    """Against differences of the oracle, which shares no code; float32 against float64 to 1e-5."""
    assert row.oracle and row.call and row.inputs
    wide = _leaves(row, torch.float64)
    row.call(**wide).backward()
    expected = _differences(row)
    narrow = _leaves(row, torch.float32)
    row.call(**narrow).backward()
    for name, x in wide.items():
        if not x.requires_grad:
            continue
        assert x.grad is not None
        torch.testing.assert_close(x.grad, expected[name], rtol=1e-7, atol=1e-8)
        assert relative(narrow[name].grad, x.grad) <= 1e-5, name


@pytest.mark.parametrize(
    "row", [p for p in having("call") if not {"gradient", "gradcheck"} & p.values[0].why_not.keys()]
)
def test_gradcheck(row: Row) -> None:
    assert row.call
    leaves = _leaves(row, torch.float64)
    call = row.call
    assert torch.autograd.gradcheck(lambda *xs: call(**dict(zip(leaves, xs, strict=True))), tuple(leaves.values()))
