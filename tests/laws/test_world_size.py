"""Law 1: many processes give what one process with all rows gives."""

from __future__ import annotations

import pytest

from contrastive_ops.testing import run_distributed
from tests.distributed.world import compare_with_one_process
from tests.table import TABLE

SIZES = ([8], [4, 4], [5, 3], [7, 1], [5, 3, 0])


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
