"""Law 4: no matrix of all queries by all keys exists."""

from __future__ import annotations

import pytest

from tests.allocations import Largest
from tests.laws.rows import having
from tests.table import Row


@pytest.mark.parametrize("row", having("wide"))
def test_no_matrix_of_logits_exists(row: Row) -> None:
    """256 rows or more by 2048 columns in blocks of 64: nothing is larger than what grows in one direction only."""
    assert row.wide
    columns, block = 2048, 64
    with Largest() as largest:
        row.wide(columns, block)
    assert largest.numel <= 2 * columns * block < 256 * columns
