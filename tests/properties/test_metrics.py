"""kNN, deviation, gradient norm and the alarm."""

from __future__ import annotations

from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import contrastive_ops as co
from contrastive_ops.metrics import _knn
from tests import oracles
from tests.allocations import allocated, size

SEEDS = st.integers(0, 2**31)


@given(SEEDS, st.integers(1, 20), st.integers(1, 9), st.integers(1, 25), st.floats(0.02, 2.0), st.integers(1, 4))
def test_knn_equals_the_oracle(seed: int, bank: int, queries: int, k: int, temperature: float, chunk: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    rows = torch.randn(bank, 3, generator=generator, dtype=torch.float64)
    features = torch.randn(queries, 3, generator=generator, dtype=torch.float64)
    labels = torch.randint(0, 4, (bank,), generator=generator)
    observed = co.knn_predict(
        features, rows, labels, k=k, temperature=temperature, num_classes=4, chunk_size=chunk
    )  # fmt: skip
    expected = oracles.knn(
        features.tolist(), rows.tolist(), labels.tolist(), k=k, temperature=temperature, classes=4
    )  # fmt: skip
    torch.testing.assert_close(observed, torch.tensor(expected, dtype=torch.float64), rtol=1e-8, atol=1e-12)


def test_knn_visits_a_bank_larger_than_its_part(monkeypatch: pytest.MonkeyPatch) -> None:
    features, bank = torch.randn(5, 4), torch.randn(50, 4)
    labels = torch.randint(0, 3, (50,))
    whole = co.knn_predict(features, bank, labels, k=7)
    monkeypatch.setattr("contrastive_ops.metrics._knn._BANK_CHUNK", 6)
    torch.testing.assert_close(co.knn_predict(features, bank, labels, k=7), whole)


@given(SEEDS, st.integers(1, 5), st.integers(1, 200), st.integers(1, 12))
def test_the_largest_are_found_by_groups(seed: int, rows: int, columns: int, k: int) -> None:
    """Also where many are equal: then any of them will do."""
    x = torch.randint(-9, 9, (rows, columns), generator=torch.Generator().manual_seed(seed)).float()
    values, places = _knn._largest(x, k)
    assert torch.equal(values, x.topk(min(k, columns)).values)
    assert torch.equal(x.gather(1, places), values)
    assert all(len(set(row)) == len(row) for row in places.tolist())


def test_knn_makes_nothing_of_the_banks_size(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_knn, "_BANK_CHUNK", 64)
    bank, labels = torch.randn(6400, 32), torch.arange(6400) % 10
    seen = allocated(co.knn_predict, torch.randn(40, 32), bank, labels, k=5, num_classes=10, chunk_size=16)
    assert seen.largest <= size(bank) // 50


@pytest.mark.parametrize("temperature", [0.001, 0.01, 0.0125])
def test_knn_scores_stay_finite_and_ordered_at_small_temperatures(temperature: float) -> None:
    features, bank = torch.randn(20, 4), torch.randn(300, 4)
    labels = torch.randint(0, 3, (300,))
    scores = co.knn_predict(features, bank, labels, k=200, temperature=temperature)
    exact = co.knn_predict(features.double(), bank.double(), labels, k=200, temperature=temperature)
    assert torch.isfinite(scores).all()
    assert torch.equal(scores.argmax(1), exact.argmax(1))


def test_knn_limits() -> None:
    """k = 1: the nearest neighbour at any temperature. A huge temperature: the vote of the majority."""
    features, bank, labels = torch.randn(9, 3), torch.randn(12, 3), torch.randint(0, 3, (12,))
    near = torch.nn.functional.normalize(features) @ torch.nn.functional.normalize(bank).T
    assert torch.equal(co.knn_predict(features, bank, labels, k=1).argmax(1), labels[near.argmax(1)])
    votes = co.knn_predict(features, bank, labels, k=5, temperature=1e6, num_classes=3)
    counts = nn.functional.one_hot(labels[near.topk(5).indices], 3).sum(1)
    torch.testing.assert_close(votes, counts.float(), rtol=1e-4, atol=1e-4)
    scaled = co.knn_predict(features * 7, bank * 0.3, labels, k=5)
    torch.testing.assert_close(scaled, co.knn_predict(features, bank, labels, k=5))


def test_feature_std_of_a_healthy_and_a_collapsed_batch() -> None:
    z = torch.randn(20000, 32)
    assert co.feature_std(z).item() == pytest.approx(32**-0.5, rel=1e-2)
    assert co.feature_std(torch.ones(8, 4)).item() == 0
    torch.testing.assert_close(co.feature_std(z * 100), co.feature_std(z))


@given(SEEDS)
def test_gradient_infinity_norm_is_the_largest_entry(seed: int) -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.Linear(4, 2))
    net(torch.randn(5, 3, generator=torch.Generator().manual_seed(seed))).square().sum().backward()
    largest = max(p.grad.abs().max().item() for p in net.parameters() if p.grad is not None)
    assert co.gradient_infinity_norm(net).item() == largest
    assert co.gradient_infinity_norm(list(net.parameters())).item() == largest
    assert co.gradient_infinity_norm(net[0]).item() <= largest


def test_gradient_infinity_norm_of_nothing_and_of_nan() -> None:
    net = nn.Linear(2, 2)
    assert co.gradient_infinity_norm(net) == 0
    assert co.gradient_infinity_norm([]) == 0
    net.weight.grad = torch.tensor([[1.0, float("nan")], [0.0, 2.0]])
    net.bias.grad = torch.ones(2)
    assert torch.isnan(co.gradient_infinity_norm(net))


def test_the_monitor_is_silent_when_healthy() -> None:
    monitor = co.CollapseMonitor(16, chance_loss=log(100), chance_name="ln(1+K)", floor_loss=0.0, patience=3)
    for _ in range(10):
        monitor.update(torch.randn(64, 16), torch.tensor(2.0))
    assert monitor.report() == []


def test_the_monitor_says_which_constant_it_sees() -> None:
    monitor = co.CollapseMonitor(
        16, chance_loss=log(100), chance_name="ln(1+K)", floor_loss=-1.0, floor_name="-1", patience=3
    )
    for _ in range(3):
        monitor.update(torch.ones(64, 16) + 1e-4 * torch.randn(64, 16), torch.tensor(4.60))
    low, chance = monitor.report()
    assert "1/sqrt(16) = 0.2500" in low
    assert "one way" in low
    assert "ln(1+K) = 4.6052" in chance
    assert "3 updates" in chance
    for _ in range(3):
        monitor.update(torch.randn(64, 16), -0.9999)
    (floor,) = monitor.report()
    assert "-1 = -1.0000" in floor
    assert "trivial" in floor


def test_low_std_is_the_part_of_an_even_spread_below_which_the_monitor_speaks() -> None:
    z = torch.eye(4).repeat(2, 1) + 1.0
    ratio = float(co.feature_std(z)) * 4**0.5
    for low_std, speaks in ((ratio - 0.01, False), (ratio + 0.01, True)):
        monitor = co.CollapseMonitor(4, low_std=low_std, patience=1)
        monitor.update(z)
        assert bool(monitor.report()) is speaks


def test_one_good_step_resets_the_monitor() -> None:
    monitor = co.CollapseMonitor(4, patience=2)
    for z in (torch.ones(8, 4), torch.randn(8, 4), torch.ones(8, 4)):
        monitor.update(z)
    assert monitor.report() == []
    monitor.update(torch.ones(8, 4))
    assert len(monitor.report()) == 1
