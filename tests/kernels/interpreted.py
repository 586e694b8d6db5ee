"""What Triton's interpreter runs; tests/kernels/test_triton.py starts it in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from typing import Any
from unittest.mock import patch

import pytest
import torch

assert os.environ.get("TRITON_INTERPRET") == "1", "run tests/kernels/test_triton.py, which sets it"

from contrastive_ops.kernels import _triton_ops, _triton_passes  # noqa: E402
from tests.benchmarks import gpu, gpu_checks  # noqa: E402
from tests.benchmarks.gpu_items import Item, items  # noqa: E402
from tests.kernels.cases import OPTIONS, WIDTHS, Case, both_directions, cases, itself, one_direction, rows_alone  # noqa: E402
from tests.kernels.losses import loss_errors, losses  # noqa: E402

pytestmark = pytest.mark.filterwarnings("ignore:divide by zero encountered in log:RuntimeWarning")
CPU = torch.device("cpu")
START = _triton_ops.start
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


def _holds(errors: dict[str, float], bound: float) -> None:
    assert {name: error for name, error in errors.items() if not error <= bound} == {}


@contextmanager
def _starts() -> Iterator[list[tuple[int, ...]]]:
    """Collects the grids of the kernels that are started."""
    seen: list[tuple[int, ...]] = []

    def start(kernel: Any, grid: tuple[int, ...], *arguments: Any, **options: Any) -> None:
        seen.append(grid)
        START(kernel, grid, *arguments, **options)

    with patch.object(_triton_ops, "start", start):
        yield seen


WIDE = [case for case in cases(17, 40, WIDTHS, FLOATS[:1]) if not case.name.startswith("rows alone")]


@pytest.mark.parametrize("case", WIDE, ids=lambda case: case.name)
def test_widths(case: Case) -> None:
    _holds(case.errors(CPU), case.bound)


@pytest.mark.parametrize(("rows", "columns", "drops"), [(17, 40, 1), (40, 17, 2), (5, 0, 1), (0, 5, 0)])
def test_rows_alone(rows: int, columns: int, drops: int) -> None:
    _holds(rows_alone(CPU, rows=rows, columns=columns, width=33, drops=drops), 1e-5)


@pytest.mark.parametrize("case", cases(20, 33, (33,), FLOATS[1:]), ids=lambda case: case.name)
def test_half_rows(case: Case) -> None:
    _holds(case.errors(CPU), case.bound)


@pytest.mark.slow
@pytest.mark.parametrize("case", cases(131, 300, WIDTHS, FLOATS), ids=lambda case: case.name)
def test_more_rows(case: Case) -> None:
    _holds(case.errors(CPU), case.bound)


@pytest.mark.parametrize(("rows", "columns"), [(1, 1), (0, 5), (5, 0), (0, 0), (65, 1), (1, 65)])
def test_empty_and_single_sides(rows: int, columns: int) -> None:
    _holds(one_direction(CPU, rows=rows, columns=columns, width=3), 1e-5)


@pytest.mark.parametrize("rows", [0, 1, 2])
@pytest.mark.parametrize("drop_own", [False, True])
def test_small_squares(rows: int, drop_own: bool) -> None:
    _holds(both_directions(CPU, rows=rows, width=3, drop_own=drop_own), 1e-5)
    _holds(itself(CPU, pairs=rows, width=3, as_tensor=drop_own), 1e-5)


def test_one_direction_of_a_square_alone() -> None:
    _holds(both_directions(CPU, rows=40, width=5, drop_own=False, one_sided=True), 1e-5)


@pytest.mark.parametrize("batch", [(3,), (2, 2), (0,)])
def test_batches(batch: tuple[int, ...]) -> None:
    _holds(one_direction(CPU, rows=1, columns=40, width=7, batch=batch), 1e-5)  # each query has its own keys
    _holds(one_direction(CPU, rows=5, columns=40, width=7, batch=batch, masked=True, drops=1), 1e-5)


@pytest.mark.parametrize("temperature", [0.01, 100.0])
def test_temperatures(temperature: float) -> None:
    _holds(one_direction(CPU, rows=20, columns=70, width=20, temperature=temperature), 1e-5)


def test_few_rows_meet_many_columns_in_stripes_and_the_other_way_round() -> None:
    with _starts() as seen:
        _holds(one_direction(CPU, rows=5, columns=300, width=4, masked=True, drops=1), 1e-5)
        _holds(one_direction(CPU, rows=300, columns=5, width=4, masked=True, drops=1), 1e-5)
    assert {grid[2] for grid in seen} == {1, 2}


def test_a_square_of_several_launches() -> None:
    with patch.object(_triton_ops, "BLOCKS_AT_ONCE", 1):
        _holds(both_directions(CPU, rows=70, width=3), 1e-5)


def test_the_same_bits_again() -> None:
    query, keys = torch.randn(5, 8), torch.randn(300, 8)
    first, second = (_triton_passes.attend(query, keys, None, None, with_output=True, **OPTIONS) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True) if a is not None and b is not None)


def test_strides_and_broadcasts_are_read_as_they_are() -> None:
    query, keys = torch.randn(2, 8, 5).transpose(1, 2), torch.randn(4, 6).T[:, ::2].repeat(2, 3, 1)[:, :, :3]
    query = query[..., :3]
    mask = torch.tensor([False, True, False] * 6).view(1, 1, 18).expand(2, 5, 18)
    assert not query.is_contiguous() and not mask.is_contiguous()
    ours = _triton_passes.attend(query, keys, mask, None, with_output=True, **OPTIONS)
    copies = (x.contiguous() for x in (query, keys, mask))
    exact = _triton_passes.attend(*copies, None, with_output=True, **OPTIONS)
    torch.testing.assert_close(ours, exact, rtol=0, atol=0)


def test_nothing_hides_a_nan() -> None:
    query, keys = torch.randn(3, 4), torch.randn(5, 4)
    query[1, 2] = float("nan")
    lse, output = _triton_passes.attend(query, keys, None, None, with_output=True, **OPTIONS)
    assert lse.isnan().tolist() == [False, True, False] and output is not None and output[1].isnan().all()


@pytest.mark.parametrize("name", losses(CPU))
def test_losses_have_their_values_and_gradients(name: str) -> None:
    with _starts() as seen:
        _holds(loss_errors(CPU, name), 1e-5)
    assert seen or name == "paired", "no kernel ran"  # paired keys are each met once: torch's sums are as fast


@pytest.mark.parametrize("name", ["queue", "clip"])
def test_a_compiled_loss_is_one_graph(name: str) -> None:
    with _starts() as seen:
        _holds(loss_errors(CPU, name, backend="aot_eager"), 1e-5)
    assert seen


def test_the_operators_are_what_they_declare() -> None:
    rows, others, lse = torch.randn(4, 3), torch.randn(5, 3), torch.randn(4)
    mask, drop = torch.zeros(4, 5, dtype=torch.bool), torch.zeros(4, 1, dtype=torch.int64)
    for with_output in (False, True):
        torch.library.opcheck(_triton_ops.attend, (rows, others, None, mask, drop, False, with_output))
    sides = (lse, torch.ones(4), None, None)
    torch.library.opcheck(_triton_ops.weighted, (rows, others, torch.tensor(2.0), mask, drop, None, *sides, False))
    torch.library.opcheck(_triton_ops.pairs, (rows, rows, True))


def test_the_gpu_benchmark_has_every_case_once() -> None:
    found = gpu_checks.checks(CPU)
    names = [case.name for case in found]
    assert len(set(names)) == len(names) > 100
    assert {case.bound for case in found if "float16" in case.name} == {gpu_checks.HALF_BOUND}  # bfloat16 too


def test_the_gpu_benchmark_checks() -> None:
    found = [
        *cases(5, 7, (3,), FLOATS[:1]),
        *(case for case in gpu_checks.loss_checks(CPU) if case.name == "loss: queue"),
        Case("same bits", partial(gpu_checks.same_bits, count=40), 0.0),
        Case("wrong", lambda device: {"value": 1.0}, 0.5),
        Case("broken", lambda device: one_direction(device, rows=-1, columns=1, width=1), 1.0),
    ]
    outcomes = gpu_checks.run([*found, *gpu_checks.other_precision(found)], CPU)
    assert [o["check"] for o in outcomes if not o["holds"]] == ["wrong", "broken"], outcomes


@pytest.mark.parametrize("item", items(small=True), ids=lambda item: item.name)
def test_the_gpu_benchmark_times(item: Item) -> None:
    """Every contestant runs, and those that compute a loss by other means find the same."""
    runs = item.make(CPU)
    found = {name: runs[name]() for name in runs if name.startswith(("ours", "dense")) and "alone" not in name}
    for name in set(found) - {"ours"} if "dense" in found else ():
        torch.testing.assert_close(found[name], found["ours"], rtol=1e-4, atol=1e-6)
    rows = gpu.times([item], CPU, 1)
    assert [row["contestant"] for row in rows] == list(runs)
    assert all("x_floor" in row for row in rows) and gpu.holds({"times": rows})
    assert len(gpu.table({"machine": {}, "times": rows})) == 1 + len(rows)
