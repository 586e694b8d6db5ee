"""Noise-contrastive estimation: the loss, the memory bank against a dictionary, the partition function."""

from __future__ import annotations

import io
from math import exp, log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from torch import Tensor

import contrastive_ops as co

SEEDS = st.integers(0, 2**31)


def _rows(seed: int, *shapes: tuple[int, ...]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(*shape, generator=generator, dtype=torch.float64) for shape in shapes]


@given(st.integers(1, 5000), st.integers(1, 100000))
def test_value_where_every_probability_is_uniform(noise: int, data: int) -> None:
    """P n = 1 everywhere: ln(1 + K) + K ln(1 + 1/K), which is 9.318 at K = 4096."""
    query, rows = torch.zeros(2, 3, dtype=torch.float64), torch.zeros(noise, 3, dtype=torch.float64)
    value = co.nce_loss(query, query, rows, log_partition=log(data), num_data=data)
    assert value.item() == pytest.approx(log(1 + noise) + noise * log(1 + 1 / noise), rel=1e-9)
    if noise == 4096:
        assert value.item() == pytest.approx(9.318, abs=1e-3)


@given(SEEDS, st.integers(1, 6), st.integers(1, 9), st.integers(1, 5))
def test_shared_noise_is_the_same_noise_for_each(seed: int, rows: int, noise: int, block: int) -> None:
    query, positive, others = _rows(seed, (rows, 3), (rows, 3), (noise, 3))
    leaves = [x.requires_grad_() for x in (query, positive, others)]
    constants = {"log_partition": 3.0, "num_data": 20, "temperature": 0.5}
    shared = co.nce_loss(query, positive, others, **constants, block_size=block)
    paired = co.nce_loss(query, positive, others.expand(rows, noise, 3), **constants)
    torch.testing.assert_close(shared, paired)
    for a, b in zip(torch.autograd.grad(shared, leaves), torch.autograd.grad(paired, leaves), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@given(SEEDS, st.integers(1, 4), st.integers(1, 6))
def test_noise_is_summed_and_rows_are_averaged(seed: int, rows: int, noise: int) -> None:
    query, positive, others = _rows(seed, (rows, 3), (rows, 3), (rows, noise, 3))

    def times(count: int, **options: str) -> Tensor:
        """Noise and data both `count` fold: K / n, and so every single term, stays."""
        repeated = others.repeat(1, count, 1)
        return co.nce_loss(
            query, positive, repeated, temperature=1.0, log_partition=1.0, num_data=7 * count, **options
        )

    once, twice, thrice = (times(count, reduction="none") for count in (1, 2, 3))
    assert (twice > once).all()
    torch.testing.assert_close(thrice - twice, twice - once)
    torch.testing.assert_close(once.mean(), times(1))
    torch.testing.assert_close(once.sum(), times(1, reduction="sum"))


def test_the_partition_is_a_constant_to_autograd() -> None:
    query, positive, noise = _rows(0, (2, 3), (2, 3), (4, 3))
    constant = torch.tensor(2.0, requires_grad=True)
    query.requires_grad_()
    co.nce_loss(query, positive, noise, log_partition=constant, num_data=9).backward()
    assert constant.grad is None
    assert query.grad is not None


def test_huge_scores_do_not_overflow() -> None:
    """exp(1 / 0.001) has 434 digits; the loss is their logarithm."""
    query, noise = torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]])
    value = co.nce_loss(query, -query, noise, temperature=0.001, log_partition=0.0, num_data=1)
    assert value.item() == pytest.approx(2000.0)


class BankMachine(RuleBasedStateMachine):
    """The bank against a dictionary of rows."""

    @initialize(size=st.integers(1, 7), momentum=st.sampled_from([0.0, 0.5, 1.0, 0.9]), seed=SEEDS)
    def start(self, size: int, momentum: float, seed: int) -> None:
        self.bank = co.MemoryBank(size, 2, momentum=momentum).double()
        self.model = {i: self.bank.entries[i].tolist() for i in range(size)}
        self.generator = torch.Generator().manual_seed(seed)

    def _draw(self, batch: int) -> tuple[Tensor, Tensor]:
        index = torch.randint(len(self.model), (batch,), generator=self.generator)
        z = torch.nn.functional.normalize(torch.randn(batch, 2, generator=self.generator, dtype=torch.float64), dim=1)
        return index, z

    @rule(batch=st.integers(0, 12))
    def update(self, batch: int) -> None:
        index, z = self._draw(batch)
        self.bank.update(index, z)
        m = self.bank.momentum
        for i, row in dict(zip(index.tolist(), z.tolist(), strict=True)).items():  # the last row of an index
            mixed = [m * a + (1 - m) * b for a, b in zip(self.model[i], row, strict=True)]
            length = sum(x * x for x in mixed) ** 0.5
            self.model[i] = [x / length for x in mixed]

    @rule(batch=st.integers(1, 4))
    def evaluation_stores_nothing(self, batch: int) -> None:
        self.bank.eval()
        self.bank.update(*self._draw(batch))
        self.bank.train()

    @rule()
    def save_and_load(self) -> None:
        file = io.BytesIO()
        torch.save(self.bank.state_dict(), file)
        file.seek(0)
        self.bank = co.MemoryBank(len(self.model), 2, momentum=self.bank.momentum).double()
        self.bank.load_state_dict(torch.load(file, weights_only=True))

    @invariant()
    def holds_what_the_model_holds(self) -> None:
        expected = torch.tensor(list(self.model.values()), dtype=torch.float64)
        torch.testing.assert_close(self.bank.entries, expected, rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(self.bank.entries.norm(dim=1), torch.ones(len(expected), dtype=torch.float64))


TestBankMachine = BankMachine.TestCase


def test_lookup_is_a_copy_without_a_gradient() -> None:
    bank = co.MemoryBank(5, 3)
    rows = bank.lookup(torch.tensor([[0, 4], [4, 1]]))
    assert rows.shape == (2, 2, 3)
    assert not rows.requires_grad
    rows.zero_()
    assert (bank.entries.norm(dim=1) > 0.99).all()


def test_a_step_of_instance_discrimination_leaves_the_bank_alone_until_its_update() -> None:
    """The loss is formed with the old entries; then exactly the batch's entries change."""
    bank, partition = co.MemoryBank(10, 4), co.NCEPartition(10)
    index = torch.tensor([3, 7])
    z = torch.nn.functional.normalize(torch.randn(2, 4), dim=1).requires_grad_()
    noise = bank.lookup(bank.sample(2, 5))
    partition.update((z.detach().unsqueeze(1) * noise).sum(2) / 0.07)
    loss = co.nce_loss(z, bank.lookup(index), noise, log_partition=partition.log_partition, num_data=10)
    before = bank.entries.clone()
    loss.backward()
    assert torch.equal(before, bank.entries)
    expected = z.grad
    bank.update(index, z)
    changed = (bank.entries != before).any(1).nonzero().flatten()
    assert changed.tolist() == [3, 7]
    assert expected is not None and expected.isfinite().all()


def test_sampling_is_uniform_with_replacement() -> None:
    drawn = co.MemoryBank(5, 2).sample(200, 100, generator=torch.Generator().manual_seed(0))
    assert drawn.shape == (200, 100)
    counts = drawn.flatten().bincount(minlength=5)
    assert (counts / 20000 - 0.2).abs().max() < 0.015  # five standard deviations


@given(SEEDS, st.integers(1, 5), st.integers(1, 6), st.integers(1, 10**6), st.floats(-300, 300))
def test_partition_is_data_times_the_mean(seed: int, rows: int, columns: int, data: int, offset: float) -> None:
    scores = _rows(seed, (rows, columns))[0]
    partition = co.NCEPartition(data)
    partition.update(scores + offset)
    expected = log(data) + log(sum(exp(s) for s in scores.flatten().tolist()) / scores.numel()) + offset
    assert partition.log_partition.item() == pytest.approx(expected, rel=1e-5, abs=1e-4)


def test_partition_is_set_once_or_moves() -> None:
    once, moving = co.NCEPartition(4), co.NCEPartition(4, momentum=0.75)
    for value in (0.0, 2.0, 1.0):
        once.update(torch.full((3,), value))
        moving.update(torch.full((3,), value))
    assert once.log_partition.item() == pytest.approx(log(4))
    z = 0.75 * (0.75 * 4 + 0.25 * 4 * exp(2)) + 0.25 * 4 * exp(1)
    assert moving.log_partition.item() == pytest.approx(log(z))
    for momentum, expected in ((0.0, 1.0), (1.0, 0.0)):
        limit = co.NCEPartition(1, momentum=momentum)
        limit.update(torch.zeros(2))
        limit.update(torch.ones(2))
        assert limit.log_partition.item() == pytest.approx(expected)


def test_a_partition_that_was_never_estimated_is_refused() -> None:
    x = torch.ones(2, 3)
    with pytest.raises(ValueError, match=r"log_partition: .*call NCEPartition.update"):
        co.nce_loss(x, x, x, log_partition=co.NCEPartition(5).log_partition, num_data=5)
