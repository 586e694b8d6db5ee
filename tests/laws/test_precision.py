"""Law 3: half precision comes in, float32 is computed."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

from tests.laws.rows import cast, having, relative, rounded
from tests.table import Row


@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("row", having("at"))
def test_precision(row: Row, dtype: torch.dtype, temperature: float) -> None:
    """Under bf16 autocast, and for half inputs: the gradient of the exact formula at the same rounded inputs."""
    assert row.at and row.hard
    call, inputs = row.at(temperature), row.hard()
    given = {name: _leaf(x.to(dtype), name not in row.constant) for name, x in inputs.items()}
    exact = {name: _leaf(x.detach().double(), name not in row.constant) for name, x in given.items()}
    with torch.autocast("cpu", dtype=torch.bfloat16):
        loss = call(**given)
        # inside the autocast region: the backward pass must be full precision too; and scaled as a GradScaler does,
        # or the entries of a mean's gradient would leave fp16 at its lower end
        (loss * 1024).backward()
    reference = call(**exact)
    (reference * 1024).backward()
    assert loss.dtype == torch.float32
    assert abs(loss.item() - reference.item()) <= 1e-4 * max(1.0, abs(reference.item()))
    for name in given.keys() - set(row.constant):
        observed, expected = given[name].grad, exact[name].grad
        assert observed is not None and expected is not None
        assert observed.dtype == dtype
        assert torch.isfinite(observed).all()
        limit = 3e-3 if dtype == torch.bfloat16 else 1e-3
        assert relative(observed, expected) <= limit


def _leaf(x: Tensor, trains: bool) -> Tensor:
    return x.detach().requires_grad_(trains)


@pytest.mark.parametrize("row", having("call"))
def test_half_precision_inputs_are_computed_in_float32(row: Row) -> None:
    assert row.call and row.inputs
    kept = ("multi_crop_forward", "rgb_to_lab", "patch_grid")  # results are images, or what the encoder returns
    if row.name in ("all_gather", "shuffle_bn", "unshuffle_bn", "normalize", *kept):
        assert row.call(**cast(row.inputs(), torch.bfloat16)).dtype == torch.bfloat16
        return
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = row.call(**cast(row.inputs(), dtype))
        expected = row.call(**rounded(row.inputs(), dtype))
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)
