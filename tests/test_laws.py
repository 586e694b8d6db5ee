"""The laws of the design, each over the table of public names."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

import contrastive_ops as co
from contrastive_ops.testing import laws, run_distributed
from tests.distributed.world import compare_with_one_process
from tests.fake_gpu import fake_gpu
from tests.table import TABLE, Row, equal

SIZES = ([8], [4, 4], [5, 3], [7, 1], [5, 3, 0])


def _having(column: str) -> list[Any]:
    return [pytest.param(row, id=row.title) for row in TABLE if getattr(row, column)]


def test_every_public_name_has_its_row() -> None:
    assert {row.name for row in TABLE} == set(co.__all__)


def test_every_law_bites_or_says_why_not() -> None:
    """A name without a world-size, reference or compile column says in the table why the law has nothing to bite."""
    for row in TABLE:
        if not row.rows and not row.holder:
            assert "world" in row.why_not, row.title
        if not row.oracle and not row.holder:
            assert "reference" in row.why_not or row.why_not.get("world", "").startswith("distributed/"), row.title
        if not row.compiles:
            assert "compile" in row.why_not, row.title
    for name in co.__all__:
        assert any(row.bad for row in TABLE if row.name == name), f"{name} has no bad calls in the table"


# 1. world size -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_world_size(world_size: int) -> None:
    """Of W ranks: value and DDP-averaged gradient, in float64, and what holders hold are those of one process."""
    splits = [sizes for sizes in SIZES if len(sizes) == world_size]
    called, fed = {row.title for row in TABLE if row.rows and row.call}, {row.title for row in TABLE if row.feed}
    for rank in run_distributed(compare_with_one_process, world_size, splits):
        for sizes, (errors, states) in zip(splits, rank, strict=True):
            assert set(errors) == called
            assert set(states) == fed
            for title, (value, gradient) in errors.items():
                assert value <= 1e-10, (sizes, title, value)
                assert gradient <= 1e-10, (sizes, title, gradient)
            for title, error in states.items():
                assert error <= 1e-6, (sizes, title, error)  # the buffers are float32


# 2. reference --------------------------------------------------------------------------------------------------------


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


@pytest.mark.parametrize("row", _having("oracle"))
def test_reference_values(row: Row) -> None:
    assert row.oracle and row.call and row.inputs
    expected = row.oracle(row.inputs())
    for dtype, tolerance in ((torch.float64, 1e-10), (torch.float32, 1e-5)):
        observed = row.call(**_cast(row.inputs(), dtype))
        assert observed.dtype == dtype
        # single precision is compared on the inputs that it was given
        reference = expected if dtype == torch.float64 else row.oracle(_rounded(row.inputs(), dtype))
        torch.testing.assert_close(observed.double(), reference, rtol=tolerance, atol=0)


def _rounded(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: x.to(dtype).double() if x.dtype.is_floating_point else x for name, x in inputs.items()}


def _cast(inputs: dict[str, Tensor], dtype: torch.dtype) -> dict[str, Tensor]:
    return {name: x.to(dtype) if x.dtype.is_floating_point else x for name, x in inputs.items()}


@pytest.mark.parametrize("row", [p for p in _having("oracle") if "gradient" not in p.values[0].why_not])
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
        assert _relative(narrow[name].grad, x.grad) <= 1e-5, name


@pytest.mark.parametrize(
    "row", [p for p in _having("call") if not {"gradient", "gradcheck"} & p.values[0].why_not.keys()]
)
def test_gradcheck(row: Row) -> None:
    assert row.call
    leaves = _leaves(row, torch.float64)
    call = row.call
    assert torch.autograd.gradcheck(lambda *xs: call(**dict(zip(leaves, xs, strict=True))), tuple(leaves.values()))


def _relative(observed: Tensor | None, expected: Tensor) -> float:
    assert observed is not None
    return float((observed.double() - expected.double()).norm() / expected.double().norm())


# 3. precision --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("temperature", [0.01, 0.07, 0.5])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16], ids=str)
@pytest.mark.parametrize("row", _having("at"))
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
        assert _relative(observed, expected) <= limit


def _leaf(x: Tensor, trains: bool) -> Tensor:
    return x.detach().requires_grad_(trains)


@pytest.mark.parametrize("row", _having("call"))
def test_half_precision_inputs_are_computed_in_float32(row: Row) -> None:
    assert row.call and row.inputs
    kept = ("multi_crop_forward", "rgb_to_lab", "patch_grid")  # results are images, or what the encoder returns
    if row.name in ("all_gather", "shuffle_bn", "unshuffle_bn", "normalize", *kept):
        assert row.call(**_cast(row.inputs(), torch.bfloat16)).dtype == torch.bfloat16
        return
    for dtype in (torch.bfloat16, torch.float16):
        with torch.autocast("cpu", dtype=torch.bfloat16):
            value = row.call(**_cast(row.inputs(), dtype))
        expected = row.call(**_rounded(row.inputs(), dtype))
        assert value.dtype == torch.float32
        torch.testing.assert_close(value.double(), expected, rtol=1e-5, atol=1e-6)


# 4. memory -----------------------------------------------------------------------------------------------------------


class _Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made: a fact, where seconds and bytes in use are noise."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            if isinstance(x, Tensor):
                self.numel = max(self.numel, x.numel())
        return result


@pytest.mark.parametrize("row", _having("wide"))
def test_no_matrix_of_logits_exists(row: Row) -> None:
    """256 rows or more by 2048 columns in blocks of 64: nothing is larger than what grows in one direction only."""
    assert row.wide
    columns, block = 2048, 64
    with _Largest() as largest:
        row.wide(columns, block)
    assert largest.numel <= 2 * columns * block < 256 * columns


# 5. state ------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("law", laws.LOCAL_HOLDER, ids=lambda law: law.__name__)
@pytest.mark.parametrize("row", _having("holder"))
def test_state(row: Row, law: Any) -> None:
    """The laws that the conformance kit offers to everybody, over six steps."""
    assert row.holder and row.verb and row.read
    law(laws.Holder(row.holder, row.verb, row.read), range(6))


@pytest.mark.parametrize("row", _having("holder"))
def test_a_verb_changes_the_state_and_all_buffers_are_saved(row: Row) -> None:
    """Without this the laws before would hold of a module that does nothing."""
    assert row.holder and row.verb
    holder = row.holder()
    assert set(dict(holder.named_buffers())) <= set(holder.state_dict())
    before = {name: value.clone() for name, value in holder.state_dict().items()}
    row.verb(holder, 0)
    assert not all(torch.equal(value, before[name]) for name, value in holder.state_dict().items())


@pytest.mark.parametrize("row", _having("holder"))
def test_holders_move(row: Row) -> None:
    assert row.holder
    holder = row.holder().to("meta")
    assert all(value.device.type == "meta" for value in holder.state_dict().values())


# 6. determinism ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", _having("random"))
def test_the_generator_alone_decides(row: Row) -> None:
    assert row.random
    before = torch.random.get_rng_state()
    first = row.random(torch.Generator().manual_seed(7))
    torch.manual_seed(123)
    second = row.random(torch.Generator().manual_seed(7))
    third = row.random(torch.Generator().manual_seed(8))
    torch.random.set_rng_state(before)
    assert equal(first, second)
    assert not equal(first, third)


@pytest.mark.parametrize("row", _having("random"))
def test_a_generator_leaves_the_global_state_alone(row: Row) -> None:
    assert row.random
    before = torch.random.get_rng_state()
    row.random(torch.Generator().manual_seed(7))
    assert torch.equal(before, torch.random.get_rng_state())


# 7. errors -----------------------------------------------------------------------------------------------------------

_BAD = [pytest.param(*case, id=f"{row.name}-{i}-{case[1]}") for row in TABLE for i, case in enumerate(row.bad)]


@pytest.mark.parametrize(("call", "argument"), _BAD)
def test_bad_input_is_named(call: Callable[[], object], argument: str) -> None:
    """A ValueError or TypeError that names the argument and says what was expected."""
    with pytest.raises((ValueError, TypeError)) as caught:
        call()
    message = str(caught.value)
    assert re.search(rf"\b{argument}\b", message.split(":", maxsplit=1)[0]), message
    assert "expected" in message, message


# 8. compile ----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("row", _having("compiles"))
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
@pytest.mark.parametrize("row", [p for p in _having("call") if "waiting" not in p.values[0].why_not])
def test_nothing_waits_for_the_device(row: Row) -> None:
    """Fake tensors of a GPU have no values: an operation that reads one, or chooses rows by one, raises."""
    assert row.call and row.inputs
    inputs = row.inputs()
    with FakeTensorMode():
        given = {name: torch.empty(x.shape, dtype=x.dtype, device="cuda") for name, x in inputs.items()}
        value = row.call(**given)
    assert value.device.type == "cuda"
