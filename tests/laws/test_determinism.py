"""Law 6: the generator alone decides."""

from __future__ import annotations

import pytest
import torch

from tests.laws.rows import having
from tests.table import Row, equal


@pytest.mark.parametrize("row", having("random"))
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


@pytest.mark.parametrize("row", having("random"))
def test_a_generator_leaves_the_global_state_alone(row: Row) -> None:
    assert row.random
    before = torch.random.get_rng_state()
    row.random(torch.Generator().manual_seed(7))
    assert torch.equal(before, torch.random.get_rng_state())
