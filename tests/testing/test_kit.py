"""The kit is held to faulty losses and modules: each breaks the law that is there for it, its sound twin none."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from torch import Tensor, nn

import contrastive_ops as co
from contrastive_ops.testing import BrokenLaws, LawViolation, check_holder, check_loss, laws
from contrastive_ops.testing.strategies import pairs, with_negatives
from tests.testing import faulty, faulty_holders

WITH_NEGATIVES = (laws.more_negatives, *laws.LOCAL)
FIFO = (laws.first_in_first_out, *laws.LOCAL_HOLDER)

SLOW = pytest.mark.slow  # every start of processes imports torch in each of them
EVEN = laws.even_same_on_every_rank
FEW = 8  # examples a law is given here


def broken_by(check: Callable[..., None], *args: Any, **options: Any) -> set[str]:
    """Names of the broken laws; each of them must be reported in full."""
    try:
        check(*args, **options)
    except BrokenLaws as report:
        caught = report
    else:
        return set()
    for violation in caught.violations:
        assert isinstance(violation, LawViolation)
        assert violation.demand
        assert violation.example
        for part in (violation.law, violation.demand, violation.observed, violation.expected, *violation.example):
            assert part.splitlines()[0] in str(caught)
    return {violation.law for violation in caught.violations}


# one process ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("loss", "broken"),
    [
        (faulty.sound, set()),
        (faulty.symmetric, set()),
        (faulty.positive_among_negatives, {"positive_is_no_negative"}),
        (faulty.no_maximum_subtracted, {"finite", "precision"}),
        (faulty.computed_in_half, {"precision"}),
        (faulty.not_normalised, {"rescaling"}),
        (faulty.huge_at_zero, {"zero_rows"}),
        (faulty.length_without_gradient, {"gradient"}),
        (faulty.by_position, {"permutation"}),
        (faulty.by_axis, {"rotation"}),
        (faulty.flat_view, {"strides"}),
        (faulty.draws, {"deterministic"}),
        (faulty.MaskOfTheFirstBatch(), {"batch_of_any_size"}),
        (faulty.LearnsInEval(), {"pure"}),
    ],
)
def test_each_fault_breaks_its_law(loss: Callable[..., Tensor], broken: set[str]) -> None:
    assert broken_by(check_loss, loss, laws=laws.LOCAL, max_examples=FEW) == broken


def test_writing_to_an_input_is_caught() -> None:
    assert "pure" in broken_by(check_loss, faulty.writes_to_its_input, laws=laws.BEHAVIOUR)


def test_only_a_symmetric_loss_may_swap_its_views() -> None:
    assert broken_by(check_loss, faulty.sound, laws=[laws.view_swap]) == {"view_swap"}
    assert broken_by(check_loss, faulty.symmetric, laws=[laws.view_swap]) == set()


@pytest.mark.parametrize(
    ("loss", "broken"),
    [
        (faulty.queue, set()),
        (faulty.key_in_its_queue, {"positive_is_no_negative"}),
        (faulty.mean_of_negatives, {"more_negatives"}),
    ],
)
def test_each_fault_with_negatives_breaks_its_law(loss: Callable[..., Tensor], broken: set[str]) -> None:
    assert broken_by(check_loss, loss, inputs=with_negatives(), laws=WITH_NEGATIVES, max_examples=FEW) == broken


def test_a_loss_that_raises_or_returns_no_scalar_breaks_every_law() -> None:
    def raises(z1: Tensor, z2: Tensor) -> Tensor:
        raise ZeroDivisionError("the reason")

    with pytest.raises(BrokenLaws, match="ZeroDivisionError: the reason"):
        check_loss(raises, laws=[laws.rotation])
    with pytest.raises(BrokenLaws, match=r"tensor of shape \(2,\)"):
        check_loss(lambda z1, z2: (z1 * z2).sum(1), laws=[laws.rotation])


def test_a_law_of_ones_own() -> None:
    def positive(loss: Callable[..., Tensor], inputs: Sequence[Tensor]) -> None:
        """The loss is above zero."""
        assert loss(*inputs) > 0, "below"

    check_loss(faulty.sound, laws=[positive], inputs=pairs(kinds=["hard"]))
    with pytest.raises(BrokenLaws, match="positive: The loss is above zero"):
        check_loss(lambda z1, z2: -faulty.sound(z1, z2), laws=[positive], inputs=pairs(kinds=["hard"]))


def test_a_law_is_a_function_of_its_own() -> None:
    laws.rotation(faulty.sound, (torch.eye(3), torch.eye(3).flip(0)))
    with pytest.raises(AssertionError) as caught:
        laws.rotation(faulty.by_axis, (torch.eye(3), torch.eye(3).flip(0)))
    assert caught.value.law == "rotation"
    assert caught.value.example["z1"].equal(torch.eye(3, dtype=torch.float64))


def test_the_same_report_every_time() -> None:
    reports = []
    for _ in range(2):
        with pytest.raises(BrokenLaws, match="z1 +\\[\\[1, 0\\],\n") as caught:  # shrunk: two rows of two numbers
            check_loss(faulty.by_axis, laws=[laws.rotation])
        reports.append(str(caught.value))
    assert reports[0] == reports[1]


# several processes ---------------------------------------------------------------------------------------------------


def test_a_sound_loss_is_the_same_in_several_processes() -> None:
    check_loss(faulty.gathered, laws=laws.WORLD, world_sizes=[3])


@pytest.mark.parametrize(
    ("loss", "broken"),
    [
        (faulty.gathered_without_gradient, {"world_size_gradient", "even_world_size_gradient"}),
        pytest.param(faulty.gathered_with_own_slice, {"world_size_gradient", "even_world_size_gradient"}, marks=SLOW),
        (faulty.one_over_world_size, {"world_size_gradient", "even_world_size_gradient"}),
        (faulty.reports_its_own_mean, {"world_size_value", "even_world_size_value"}),
        pytest.param(faulty.waits_where_uneven, {"world_size_value", "world_size_gradient"}, marks=SLOW),
    ],
)
def test_each_fault_of_several_processes_breaks_its_law(loss: Callable[..., Tensor], broken: set[str]) -> None:
    assert broken_by(check_loss, loss, laws=(*laws.WORLD, *laws.EVEN_WORLD), world_sizes=[2]) == broken


def test_labels_without_offset_break_value_and_gradient() -> None:
    with pytest.raises(BrokenLaws, match=r"rows by rank +\[1, 1\]") as caught:
        check_loss(faulty.without_offset, laws=laws.WORLD, world_sizes=[2])
    assert {v.law for v in caught.value.violations} == {"world_size_value", "world_size_gradient"}


# modules that remember -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "broken"),
    [
        (faulty_holders.Queue, set()),
        (faulty_holders.DropsAtTheWrap, {"first_in_first_out"}),
        (faulty_holders.PointerIsAnAttribute, {"resumes", "persistent_in_place"}),
        (faulty_holders.EnqueuesInEval, {"eval_never_mutates"}),
    ],
)
def test_each_faulty_queue_breaks_its_law(make: Callable[[], nn.Module], broken: set[str]) -> None:
    found = broken_by(check_holder, make, update=make.enqueue, read=faulty_holders.rows_held, dim=2, laws=FIFO)
    assert found == broken


@pytest.mark.parametrize(
    ("make", "broken"),
    [
        (faulty_holders.Center, set()),
        (faulty_holders.NotInTheStateDict, {"resumes", "persistent_in_place"}),
        (faulty_holders.SharedByCopies, {"copies_are_apart"}),
    ],
)
def test_each_faulty_center_breaks_its_law(make: Callable[[], nn.Module], broken: set[str]) -> None:
    assert broken_by(check_holder, make, update=make.update, dim=2, laws=laws.LOCAL_HOLDER) == broken


@pytest.mark.parametrize(
    ("make", "update", "broken"),
    [
        pytest.param(faulty_holders.Center, faulty_holders.Center.update, set(), marks=SLOW),
        (faulty_holders.MeanOfLocalMeans, faulty_holders.Center.update, {"same_on_every_rank"}),
        pytest.param(faulty_holders.LocalMean, faulty_holders.Center.update, {"same_on_every_rank"}, marks=SLOW),
        pytest.param(faulty_holders.LocalQueue, faulty_holders.LocalQueue.enqueue, {"same_on_every_rank"}, marks=SLOW),
    ],
)
def test_ranks_that_differ_are_caught(make: Callable[[], nn.Module], update: Any, broken: set[str]) -> None:
    kept = [laws.same_on_every_rank]
    assert broken_by(check_holder, make, update=update, dim=2, laws=kept, world_sizes=[2]) == broken


@pytest.mark.slow
def test_a_mean_of_local_means_is_right_for_even_batches_only() -> None:
    for make, broken in ((faulty_holders.MeanOfLocalMeans, set()), (faulty_holders.LocalMean, {EVEN.__name__})):
        assert broken_by(check_holder, make, update=make.update, dim=2, laws=[EVEN], world_sizes=[2]) == broken


# bad calls -----------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("call", "error", "argument"),
    [
        (lambda: check_loss("loss"), TypeError, "loss"),
        (lambda: check_loss(lambda z1, z2: z1.sum()), ValueError, "loss.*laws.LOCAL"),
        (lambda: check_loss(co.info_nce, laws=[]), ValueError, "laws"),
        (lambda: check_loss(co.info_nce, laws=laws.finite), TypeError, "laws"),
        (lambda: check_loss(co.info_nce, inputs=(torch.eye(2), torch.eye(2))), TypeError, "inputs"),
        (lambda: check_loss(co.info_nce, max_examples=0), ValueError, "max_examples"),
        (lambda: check_loss(co.info_nce, world_sizes=[0]), ValueError, "world_sizes"),
        (lambda: check_loss(co.info_nce, timeout=0), ValueError, "timeout"),
        (lambda: check_holder(None, update=print, dim=2), TypeError, "make"),
        (lambda: check_holder(faulty_holders.Queue, update=None, dim=2), TypeError, "update"),
        (lambda: check_holder(faulty_holders.Queue, update=print, dim=0), ValueError, "dim"),
        (lambda: check_holder(faulty_holders.Queue, update=print, dim=2, laws=laws.FIFO), ValueError, "read"),
        (lambda: check_holder(faulty_holders.Queue, update=lambda q, x: 0, dim=2), ValueError, "update.*LOCAL_HOLDER"),
    ],
)
def test_bad_calls_are_named(call: Callable[[], None], error: type[Exception], argument: str) -> None:
    with pytest.raises(error, match=f"^{argument}"):
        call()
