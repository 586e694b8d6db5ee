"""Our own losses and modules keep the laws that the kit offers."""

from __future__ import annotations

import pytest

from contrastive_ops.testing import check_holder, check_loss, laws
from tests.testing.ours import HOLDERS, LOSSES

FIFO = (laws.first_in_first_out, *laws.LOCAL_HOLDER)
FEW = 8  # examples a law is given here; `-m slow` has the default number


@pytest.mark.parametrize("name", LOSSES)
def test_our_losses_keep_the_laws(name: str) -> None:
    loss, inputs, kept = LOSSES[name]
    check_loss(loss, inputs=inputs, laws=kept, max_examples=FEW)


@pytest.mark.slow
@pytest.mark.parametrize("name", LOSSES)
def test_our_losses_keep_the_laws_in_several_processes(name: str) -> None:
    loss, inputs, kept = LOSSES[name]
    check_loss(loss, inputs=inputs, laws=(*kept, *laws.WORLD))


@pytest.mark.parametrize("name", HOLDERS)
def test_our_modules_keep_the_laws(name: str) -> None:
    make, update, read = HOLDERS[name]
    check_holder(make, update=update, read=read, dim=2, laws=FIFO if read else laws.LOCAL_HOLDER)


@pytest.mark.slow
@pytest.mark.parametrize("name", HOLDERS)
def test_our_modules_keep_the_laws_in_several_processes(name: str) -> None:
    make, update, read = HOLDERS[name]
    check_holder(make, update=update, read=read, dim=2, laws=laws.FIFO if read else laws.HOLDER)
