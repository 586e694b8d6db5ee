"""Law 4: no matrix of all queries by all keys exists."""

from __future__ import annotations

from typing import Any

import pytest
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from tests.laws.rows import having
from tests.table import Row


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


@pytest.mark.parametrize("row", having("wide"))
def test_no_matrix_of_logits_exists(row: Row) -> None:
    """256 rows or more by 2048 columns in blocks of 64: nothing is larger than what grows in one direction only."""
    assert row.wide
    columns, block = 2048, 64
    with _Largest() as largest:
        row.wide(columns, block)
    assert largest.numel <= 2 * columns * block < 256 * columns
