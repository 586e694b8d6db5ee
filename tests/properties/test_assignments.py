"""Sinkhorn's assignments, the prototypes, and DINO's centre."""

from __future__ import annotations

import io
from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import Tensor

import contrastive_ops as co
from tests import oracles

SEEDS = st.integers(0, 2**31)


def _scores(seed: int, rows: int, prototypes: int) -> Tensor:
    return torch.randn(rows, prototypes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


@given(SEEDS, st.integers(1, 8), st.integers(1, 7), st.floats(0.03, 3), st.integers(1, 6))
def test_equals_the_oracle(seed: int, rows: int, prototypes: int, epsilon: float, iterations: int) -> None:
    scores = _scores(seed, rows, prototypes)
    expected = oracles.sinkhorn(scores.tolist(), epsilon=epsilon, iterations=iterations)
    observed = co.sinkhorn(scores, epsilon=epsilon, iterations=iterations)
    torch.testing.assert_close(observed, torch.tensor(expected, dtype=torch.float64), rtol=1e-8, atol=1e-10)
    torch.testing.assert_close(observed.sum(1), torch.ones(rows, dtype=torch.float64))


@given(SEEDS, st.integers(2, 6), st.integers(2, 5))
def test_invariances(seed: int, rows: int, prototypes: int) -> None:
    """Constants added to all scores, to a row or to a prototype's column change nothing; orders are followed."""
    scores = _scores(seed, rows, prototypes)
    value = co.sinkhorn(scores, epsilon=0.5)
    torch.testing.assert_close(co.sinkhorn(scores + 7, epsilon=0.5), value)
    column = torch.randn(prototypes, dtype=torch.float64)
    torch.testing.assert_close(co.sinkhorn(scores + column, epsilon=0.5), value)
    order, shuffled = torch.randperm(rows), torch.randperm(prototypes)
    torch.testing.assert_close(co.sinkhorn(scores[order][:, shuffled], epsilon=0.5), value[order][:, shuffled])
    torch.testing.assert_close(co.sinkhorn(3 * scores, epsilon=1.5), value)


@given(SEEDS, st.integers(2, 6), st.integers(2, 5))
def test_masses_become_even(seed: int, rows: int, prototypes: int) -> None:
    masses = co.sinkhorn(_scores(seed, rows, prototypes), epsilon=1.0, iterations=300).sum(0)
    torch.testing.assert_close(masses, torch.full_like(masses, rows / prototypes), rtol=1e-6, atol=1e-6)


def test_limits() -> None:
    """Equal rows are uniform; a small epsilon is sharp, and picks a permutation where there is one."""
    torch.testing.assert_close(co.sinkhorn(torch.randn(1, 5).expand(4, 5)), torch.full((4, 5), 0.2))
    scores = torch.tensor([[0.9, 0.8, 0.0], [0.9, 0.1, 0.0], [0.5, 0.4, 0.3]])
    sharp = co.sinkhorn(scores, epsilon=0.01, iterations=200)
    torch.testing.assert_close(sharp, torch.eye(3)[[1, 0, 2]], rtol=0, atol=0.005)
    assert torch.equal(co.sinkhorn(scores, epsilon=0.01, iterations=200, hard=True), sharp.round())


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
@pytest.mark.parametrize(("deviation", "epsilon"), [(1000.0, 0.001), (1000.0, 0.05), (1.0, 0.001), (1e-3, 1e-3)])
def test_finite_whatever_the_scores(dtype: torch.dtype, deviation: float, epsilon: float) -> None:
    scores = (deviation * torch.randn(64, 33, generator=torch.Generator().manual_seed(0))).to(dtype)
    for hard in (False, True):
        assignments = co.sinkhorn(scores, epsilon=epsilon, hard=hard)
        assert assignments.isfinite().all()
        assert assignments.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
        torch.testing.assert_close(assignments.sum(1), torch.ones(64, dtype=assignments.dtype))


def test_autocast_and_half_scores_are_computed_in_float32() -> None:
    scores = torch.randn(16, 8, generator=torch.Generator().manual_seed(0)).bfloat16()
    expected = co.sinkhorn(scores.double()).float()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        torch.testing.assert_close(co.sinkhorn(scores), expected, rtol=1e-4, atol=1e-6)


def test_assignments_have_no_gradient() -> None:
    assert not co.sinkhorn(torch.randn(3, 4, requires_grad=True)).requires_grad


def test_hard_assignments_are_one_hot_at_the_largest() -> None:
    scores = _scores(0, 12, 5)
    soft, hard = co.sinkhorn(scores), co.sinkhorn(scores, hard=True)
    assert torch.equal(hard.argmax(1), soft.argmax(1))
    assert torch.equal(hard.sort(1).values[:, -1], torch.ones(12, dtype=torch.float64))
    assert (hard.sum(1) == 1).all()


# prototypes ----------------------------------------------------------------------------------------------------------


@given(SEEDS, st.integers(1, 6), st.integers(1, 5))
def test_prototypes_are_unit_rows_and_scores_inner_products(seed: int, dim: int, count: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    prototypes = co.Prototypes(dim, count, generator=generator)
    torch.testing.assert_close(prototypes.weight.norm(dim=1), torch.ones(count))
    with torch.no_grad():
        prototypes.weight.mul_(3).add_(0.1)
    directions = torch.nn.functional.normalize(prototypes.weight.detach(), dim=1)
    address = prototypes.weight.data_ptr()
    prototypes.normalize_()
    torch.testing.assert_close(prototypes.weight.detach(), directions)
    assert prototypes.weight.data_ptr() == address
    z = torch.randn(3, dim, generator=generator)
    torch.testing.assert_close(prototypes(z), z @ prototypes.weight.T)


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_scores_are_float32_under_autocast_both_ways(dtype: torch.dtype) -> None:
    prototypes = co.Prototypes(16, 8, generator=torch.Generator().manual_seed(0))
    z = torch.randn(4, 16, generator=torch.Generator().manual_seed(1)).to(dtype).requires_grad_()
    exact = z.detach().double().requires_grad_()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        scores = prototypes(z)
        scores.square().sum().backward()
    assert scores.dtype == torch.float32
    wide = prototypes.weight.detach().double().requires_grad_()
    (exact @ wide.T).square().sum().backward()
    torch.testing.assert_close(prototypes.weight.grad, wide.grad.float(), rtol=1e-5, atol=1e-5)
    limit = 3e-3 if dtype == torch.bfloat16 else 1e-5
    assert (z.grad.double() - exact.grad).norm() <= limit * exact.grad.norm()


# the centre ----------------------------------------------------------------------------------------------------------


class CenterMachine(RuleBasedStateMachine):
    """The centre against a running mean of plain numbers."""

    @initialize(momentum=st.sampled_from([0.0, 0.5, 0.9, 1.0]), seed=SEEDS)
    def start(self, momentum: float, seed: int) -> None:
        self.center = co.DINOCenter(2, momentum=momentum)
        self.model = [0.0, 0.0]
        self.generator = torch.Generator().manual_seed(seed)

    @rule(shape=st.sampled_from([(1,), (3,), (2, 3)]))
    def update(self, shape: tuple[int, ...]) -> None:
        logits = torch.randn(*shape, 2, generator=self.generator)
        self.center.update(logits)
        m, rows = self.center.momentum, logits.view(-1, 2).tolist()
        mean = [sum(column) / len(rows) for column in zip(*rows, strict=True)]
        self.model = [m * c + (1 - m) * x for c, x in zip(self.model, mean, strict=True)]

    @rule()
    def evaluation_and_reading_change_nothing(self) -> None:
        self.center.eval()
        self.center.update(torch.ones(3, 2))
        self.center.train()
        self.center(torch.ones(3, 2), temperature=0.1)

    @rule()
    def save_and_load(self) -> None:
        file = io.BytesIO()
        torch.save(self.center.state_dict(), file)
        file.seek(0)
        self.center = co.DINOCenter(2, momentum=self.center.momentum)
        self.center.load_state_dict(torch.load(file, weights_only=True))

    @invariant()
    def is_the_running_mean(self) -> None:
        assert self.center.center.tolist() == pytest.approx(self.model, rel=1e-5, abs=1e-6)


TestCenterMachine = CenterMachine.TestCase


@given(SEEDS, st.floats(0.02, 2))
def test_teacher_distributions(seed: int, temperature: float) -> None:
    """Rows sum to 1, a constant added to all logits changes nothing, a centre at the logits gives the uniform one."""
    center, logits = co.DINOCenter(5), _scores(seed, 3, 5)
    probabilities = center(logits, temperature=temperature)
    torch.testing.assert_close(probabilities.sum(1), torch.ones(3, dtype=torch.float64))
    torch.testing.assert_close(center(logits + 4, temperature=temperature), probabilities)
    identical = logits[:1].expand(3, 5)
    sharp = co.DINOCenter(5, momentum=0.0)
    sharp.update(identical)
    uniform = sharp(identical, temperature=temperature)
    torch.testing.assert_close(uniform, torch.full_like(uniform, 0.2), rtol=1e-4, atol=1e-4)
    entropy = -(uniform * uniform.log()).sum(1)
    assert entropy.mean().item() == pytest.approx(log(5), rel=1e-4)


def test_a_step_uses_the_centre_before_it_is_updated() -> None:
    center, logits = co.DINOCenter(2), torch.tensor([[2.0, 0.0]])
    before = center(logits, temperature=1.0)
    center.update(logits)
    assert not torch.equal(center(logits, temperature=1.0), before)
    torch.testing.assert_close(before, logits.softmax(1))
    assert not center(logits.requires_grad_(), temperature=1.0).requires_grad
