"""NegativeQueue against a deque, as a state machine: any batch size, saved and loaded at any moment."""

from __future__ import annotations

import io
from collections import deque

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

import contrastive_ops as co
from tests import oracles


class QueueMachine(RuleBasedStateMachine):
    """Keys are numbered in the order in which they come, so that any slip of a row shows."""

    @initialize(size=st.integers(1, 9))
    def start(self, size: int) -> None:
        self.queue = co.NegativeQueue(size, 1, init="zeros", dtype=torch.float64)
        self.model: deque[float] = deque([0.0] * size, maxlen=size)
        self.count = 0

    @rule(batch=st.integers(0, 25))
    def enqueue(self, batch: int) -> None:
        keys = torch.arange(self.count + 1, self.count + batch + 1, dtype=torch.float64).unsqueeze(1)
        self.queue.enqueue(keys)
        self.model.extend(keys.flatten().tolist())
        self.count += batch

    @rule()
    def save_and_load(self) -> None:
        file = io.BytesIO()
        torch.save(self.queue.state_dict(), file)
        file.seek(0)
        self.queue = co.NegativeQueue(len(self.queue.keys), 1, dtype=torch.float64)
        self.queue.load_state_dict(torch.load(file, weights_only=True))

    @rule(batch=st.integers(0, 5))
    def evaluation_stores_nothing(self, batch: int) -> None:
        self.queue.eval()
        self.queue.enqueue(torch.full((batch, 1), -1.0))
        self.queue.train()

    @invariant()
    def holds_the_newest_in_ring_order(self) -> None:
        size, keys = len(self.queue.keys), self.queue.keys.flatten().tolist()
        oldest = self.count % size
        assert keys[oldest:] + keys[:oldest] == list(self.model)
        assert self.queue.num_filled == min(self.count, size)


TestQueueMachine = QueueMachine.TestCase


@given(st.integers(1, 8), st.lists(st.integers(0, 12), max_size=6))
def test_equals_the_oracle(size: int, batches: list[int]) -> None:
    keys = [torch.randn(n, 2, dtype=torch.float64) for n in batches]
    queue = co.NegativeQueue(size, 2, init="zeros", dtype=torch.float64)
    for batch in keys:
        queue.enqueue(batch)
    oldest = sum(batches) % size
    ordered = torch.cat([queue.keys[oldest:], queue.keys[:oldest]])
    assert ordered.tolist() == oracles.queue(size, 2, [batch.tolist() for batch in keys])


@given(st.integers(1, 8), st.integers(0, 12), st.integers(0, 12))
def test_two_enqueues_are_one_of_both(size: int, first: int, second: int) -> None:
    a, b = torch.randn(first, 2), torch.randn(second, 2)
    apart, together = co.NegativeQueue(size, 2), co.NegativeQueue(size, 2)
    apart.enqueue(a)
    apart.enqueue(b)
    together.enqueue(torch.cat([a, b]))
    assert torch.equal(apart.keys, together.keys)
    assert torch.equal(apart.num_enqueued, together.num_enqueued)


def test_starts_from_unit_rows_that_no_random_state_changes() -> None:
    torch.manual_seed(1)
    one = co.NegativeQueue(6, 4).keys
    torch.manual_seed(2)
    two = co.NegativeQueue(6, 4).keys
    assert torch.equal(one, two)
    torch.testing.assert_close(one.norm(dim=1), torch.ones(6))


def test_stores_keys_as_given_in_its_own_dtype() -> None:
    queue = co.NegativeQueue(2, 2, dtype=torch.bfloat16)
    queue.enqueue(torch.tensor([[3.0, 4.0]]))
    assert queue.keys.dtype == torch.bfloat16
    assert queue.keys[0].tolist() == [3.0, 4.0]


def test_keys_that_require_a_gradient_leave_no_graph_behind() -> None:
    queue = co.NegativeQueue(2, 2)
    queue.enqueue(torch.ones(1, 2, requires_grad=True) * 2)
    assert not queue.keys.requires_grad


def test_a_failed_enqueue_changes_nothing() -> None:
    queue = co.NegativeQueue(3, 2)
    before = {name: value.clone() for name, value in queue.state_dict().items()}
    for bad in (torch.ones(2, 3), torch.full((1, 2), float("nan")), torch.ones(2)):
        with pytest.raises(ValueError, match="keys"):
            queue.enqueue(bad)
    assert all(torch.equal(value, before[name]) for name, value in queue.state_dict().items())
