"""Law 5: state is saved, changed by verbs, never by a read, never in evaluation."""

from __future__ import annotations

from typing import Any

import pytest
import torch

from contrastive_ops.testing import laws
from tests.laws.rows import having
from tests.table import Row


@pytest.mark.parametrize("law", laws.LOCAL_HOLDER, ids=lambda law: law.__name__)
@pytest.mark.parametrize("row", having("holder"))
def test_state(row: Row, law: Any) -> None:
    """The laws that the conformance kit offers to everybody, over six steps."""
    assert row.holder and row.verb and row.read
    law(laws.Holder(row.holder, row.verb, row.read), range(6))


@pytest.mark.parametrize("row", having("holder"))
def test_a_verb_changes_the_state_and_all_buffers_are_saved(row: Row) -> None:
    """Without this the laws before would hold of a module that does nothing."""
    assert row.holder and row.verb
    holder = row.holder()
    assert set(dict(holder.named_buffers())) <= set(holder.state_dict())
    before = {name: value.clone() for name, value in holder.state_dict().items()}
    row.verb(holder, 0)
    assert not all(torch.equal(value, before[name]) for name, value in holder.state_dict().items())


@pytest.mark.parametrize("row", having("holder"))
def test_holders_move(row: Row) -> None:
    assert row.holder
    holder = row.holder().to("meta")
    assert all(value.device.type == "meta" for value in holder.state_dict().values())
