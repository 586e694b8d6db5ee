"""Alignment, uniformity and effective rank: closed forms, symmetries, bounds and limits."""

from __future__ import annotations

from functools import partial
from math import comb, exp, log
from unittest.mock import patch

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import contrastive_ops as co
from tests import oracles

SEEDS = st.integers(0, 2**31)
ROWS, WIDTHS = st.integers(2, 12), st.integers(1, 7)


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _rotation(width: int, seed: int) -> Tensor:
    return torch.linalg.qr(_normal(width, width, seed=seed)).Q


@given(SEEDS, ROWS, WIDTHS, st.floats(0.3, 5.0), st.floats(0.1, 10.0))
def test_they_equal_their_oracles(seed: int, rows: int, width: int, alpha: float, t: float) -> None:
    x, y = _normal(rows, width, seed=seed), _normal(rows, width, seed=seed + 1)
    assert co.alignment(x, y, alpha=alpha).item() == pytest.approx(
        oracles.alignment(x.tolist(), y.tolist(), alpha=alpha), rel=1e-10
    )
    assert co.uniformity(x, t=t).item() == pytest.approx(oracles.uniformity(x.tolist(), t=t), rel=1e-10, abs=1e-12)
    for center in (False, True):
        z = x + 2
        expected = oracles.effective_rank(z.tolist(), center=center)
        assert co.effective_rank(z, center=center).item() == pytest.approx(expected, rel=1e-9)


@given(SEEDS, ROWS, st.integers(2, 7), st.floats(0.01, 100.0))
def test_symmetries(seed: int, rows: int, width: int, scale: float) -> None:
    """Order of rows, rotation, length (of rows where they are normalised), the two views."""
    x, y = _normal(rows, width, seed=seed), _normal(rows, width, seed=seed + 1)
    order, turn = torch.randperm(rows), _rotation(width, seed)
    lengths = scale * torch.rand(rows, 1, dtype=torch.float64) + 0.01
    same = partial(torch.testing.assert_close, rtol=1e-9, atol=1e-9)
    for x2, y2 in ((x[order], y[order]), (x @ turn, y @ turn), (x * lengths, y), (y, x)):
        same(co.alignment(x2, y2), co.alignment(x, y))
    for x2 in (x[order], x @ turn, x * lengths, -x):
        same(co.uniformity(x2), co.uniformity(x))
    for center in (False, True):
        for x2 in (x[order], x @ turn, x * scale, x * 1e200, -x):
            same(co.effective_rank(x2, center=center), co.effective_rank(x, center=center))
    same(co.effective_rank(x + 5, center=True), co.effective_rank(x, center=True))
    same(co.effective_rank(x.T), co.effective_rank(x))


@given(SEEDS, ROWS, WIDTHS, st.floats(0.3, 5.0), st.floats(0.1, 10.0))
def test_bounds(seed: int, rows: int, width: int, alpha: float, t: float) -> None:
    x, y = _normal(rows, width, seed=seed), _normal(rows, width, seed=seed + 1)
    slack = 1e-9
    assert 0 <= co.alignment(x, y, alpha=alpha) <= 2**alpha + slack
    assert -4 * t - slack <= co.uniformity(x, t=t) <= slack
    # Jensen: the log of a mean is no less than the mean of the logs
    distances = torch.pdist(torch.nn.functional.normalize(x)).square()
    assert co.uniformity(x, t=t) >= -t * distances.mean() - slack
    assert 1 - slack <= co.effective_rank(x) <= min(rows, width) + slack


def test_alignment_is_twice_one_minus_the_cosine() -> None:
    x, y = _normal(9, 5), _normal(9, 5, seed=1)
    cosine = torch.nn.functional.cosine_similarity(x, y).mean()
    torch.testing.assert_close(co.alignment(x, y), 2 - 2 * cosine)
    assert co.alignment(x, 3 * x).item() == pytest.approx(0, abs=1e-30)
    assert co.alignment(x, -x, alpha=3.0).item() == pytest.approx(8)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 1.5, 2.0, 3.0])
def test_the_gradient_of_a_pair_that_coincides_is_zero(alpha: float) -> None:
    x, y = _normal(3, 4).requires_grad_(True), _normal(3, 4, seed=1)
    with torch.no_grad():
        y[1] = x[1]
    co.alignment(x, y, alpha=alpha).backward()
    assert torch.isfinite(x.grad).all()
    assert not x.grad[1].any()
    assert x.grad[0].any()


def test_uniformity_in_closed_form() -> None:
    """Two antipodal points, all points one, n orthogonal ones, the axes of both signs."""
    assert co.uniformity(torch.tensor([[3.0, 0.0], [-1.0, 0.0]])).item() == -8
    assert co.uniformity(torch.ones(5, 3)).item() == pytest.approx(0, abs=1e-6)
    assert co.uniformity(torch.eye(6), t=1.5).item() == pytest.approx(-3.0)
    axes = torch.cat([torch.eye(3), -torch.eye(3)])
    expected = log((3 * exp(-8) + (comb(6, 2) - 3) * exp(-4)) / comb(6, 2))
    assert co.uniformity(axes).item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("width", [32, 128])
def test_uniformity_of_an_even_spread(width: int) -> None:
    z = torch.randn(3000, width)
    assert co.uniformity(z).item() == pytest.approx(-4 + 8 / width, abs=0.03)


def test_uniformity_with_a_row_of_zeros() -> None:
    """At distance 1 from every direction, at 0 from another row of zeros; no NaN and no gradient."""
    x = torch.tensor([[0.0, 0.0], [2.0, 0.0], [0.0, 0.0]], dtype=torch.float64, requires_grad=True)
    value = co.uniformity(x, t=3.0)
    assert value.item() == pytest.approx(log((1 + 2 * exp(-3)) / 3))
    value.backward()
    assert not x.grad[0].any()
    assert torch.isfinite(x.grad).all()


@given(SEEDS, st.integers(2, 40), st.integers(1, 50))
def test_uniformity_is_the_same_in_blocks(seed: int, rows: int, block: int) -> None:
    results = []
    for size in (block, 1024):
        x = _normal(rows, 4, seed=seed).requires_grad_(True)
        with patch("contrastive_ops.kernels._blocks._CACHE", size):
            value = co.uniformity(x)
            value.backward()
        results.append((value.detach(), x.grad))
    for a, b in zip(*results, strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


def test_they_are_losses() -> None:
    """Descent on alignment and uniformity brings positives together and spreads the rest."""
    torch.manual_seed(0)
    x = torch.nn.Parameter(1 + 0.3 * torch.randn(16, 3))
    y = torch.nn.Parameter(x.detach() + 0.3 * torch.randn(16, 3))
    before = co.alignment(x, y).item(), co.uniformity(x).item()
    optimizer = torch.optim.SGD([x, y], lr=1.0)
    for _ in range(200):
        optimizer.zero_grad()
        (co.alignment(x, y) + (co.uniformity(x) + co.uniformity(y)) / 2).backward()
        optimizer.step()
    assert co.alignment(x, y).item() < 0.3 * before[0]
    assert co.uniformity(x).item() < before[1] - 0.5


def test_uniformity_of_separate_batches_is_not_that_of_all() -> None:
    """Why the docstring gathers: two collapsed halves, each 0, are antipodal together."""
    halves = torch.ones(4, 3), -torch.ones(4, 3)
    assert all(co.uniformity(half).abs() < 1e-6 for half in halves)
    assert co.uniformity(torch.cat(halves)) < -0.5


def test_effective_rank_in_closed_form() -> None:
    columns = torch.linalg.qr(_normal(50, 8)).Q
    assert co.effective_rank(columns).item() == pytest.approx(8, rel=1e-9)
    assert co.effective_rank(columns.float()).item() == pytest.approx(8, rel=1e-5)
    line = torch.randn(500, 1) @ torch.randn(1, 256)
    assert co.effective_rank(line).item() == 1, "rounding is no dimension"
    # two directions with singular values 3 and 1: exp of the entropy of (3/4, 1/4)
    two = columns[:, :2] * torch.tensor([3.0, 1.0])
    assert co.effective_rank(two).item() == pytest.approx(exp(-0.75 * log(0.75) - 0.25 * log(0.25)), rel=1e-9)


def test_effective_rank_of_an_offset() -> None:
    """A common offset is a dimension, unless centred; rows that are all equal have none left then."""
    z = torch.cat([torch.linalg.qr(_normal(50, 3)).Q, torch.full((50, 1), 100.0)], 1)
    assert co.effective_rank(z) < 1.1
    assert 2.5 < co.effective_rank(z, center=True) <= 3.0001
    for rows in (50, 300, 3000):
        assert co.effective_rank(torch.randn(1, 7).expand(rows, 7), center=True) == 0, "rounding is no dimension"
    assert co.effective_rank(torch.zeros(3, 4)) == 0
    assert co.effective_rank(torch.ones(1, 1)) == 1


@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_effective_rank_knows_no_scale(scale: float) -> None:
    z = torch.randn(20, 5)
    torch.testing.assert_close(co.effective_rank(z * scale), co.effective_rank(z))


def test_effective_rank_falls_with_collapse() -> None:
    z, line = torch.randn(200, 16), torch.randn(200, 1) @ torch.randn(1, 16)
    ranks = [co.effective_rank(line + part * z).item() for part in (10.0, 1.0, 0.1, 0.01, 0.0)]
    assert ranks == sorted(ranks, reverse=True)
    assert ranks[0] > 14
    assert ranks[-1] == pytest.approx(1, abs=1e-3)
