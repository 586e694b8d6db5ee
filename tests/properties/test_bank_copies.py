"""The memories write rows and read views: nothing as large as what they hold is made."""

from __future__ import annotations

import copy
import pickle

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import contrastive_ops as co
from contrastive_ops import _embeddings
from contrastive_ops._embeddings import to_unit_rows_, unit_rows
from contrastive_ops.memory import _queue
from tests.allocations import allocated, size
from tests.fake_gpu import fake_gpu


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
@pytest.mark.parametrize("batch", [1, 7, 64])
def test_enqueue_makes_nothing_of_the_queues_size(batch: int, dtype: torch.dtype) -> None:
    """Nor of the batch's where it need not be converted: an addition to the pointer and a sum are all there is."""
    queue, keys = co.NegativeQueue(1000, 16, dtype=dtype), torch.randn(batch, 16)
    for _ in range(1 + 1000 // batch):  # over the end too
        assert allocated(queue.enqueue, keys).largest <= keys.element_size()


def test_more_keys_than_the_queue_holds_make_no_copy_either() -> None:
    queue, keys = co.NegativeQueue(10, 4), torch.randn(5000, 4)
    assert allocated(queue.enqueue, keys).largest <= keys.element_size()
    assert torch.equal(queue.keys, keys[-10:])


@given(st.integers(1, 9), st.integers(0, 40), st.integers(0, 9))
def test_slices_and_index_arithmetic_write_the_same(size: int, start: int, rows: int) -> None:
    newest = torch.randn(min(rows, size), 2)
    sliced, indexed = torch.zeros(size, 2), torch.zeros(size, 2)
    _queue._write_slices(sliced, newest, start % size)
    _queue._write_rows(indexed, newest, torch.tensor(start))
    assert torch.equal(sliced, indexed)


def test_the_pointer_is_read_anew_at_each_step() -> None:
    """Whoever writes the buffers, by loading, copying or by hand: the next key goes where they say."""
    queue = co.NegativeQueue(5, 1, init="zeros")
    queue.enqueue(torch.ones(3, 1))
    others = [copy.deepcopy(queue), pickle.loads(pickle.dumps(queue)), co.NegativeQueue(5, 1)]
    others[2].load_state_dict(queue.state_dict())
    queue.enqueue(torch.full((1, 1), 2.0))
    for other in others:
        other.enqueue(torch.full((1, 1), 2.0))
        assert torch.equal(other.keys, queue.keys)
    queue.num_enqueued.fill_(6)
    queue.enqueue(torch.full((1, 1), 7.0))
    assert queue.keys.flatten().tolist() == [1.0, 7.0, 1.0, 2.0, 0.0]


@fake_gpu
def test_enqueue_waits_for_no_device() -> None:
    """Fake tensors of a GPU have no values: reading the pointer would raise."""
    with FakeTensorMode():
        queue = co.NegativeQueue(6, 2, init="zeros")
        queue.keys, queue.num_enqueued = (torch.empty_like(x, device="cuda") for x in (queue.keys, queue.num_enqueued))
        for rows in (0, 4, 9):
            queue.enqueue(torch.empty(rows, 2, device="cuda"))
        assert queue.keys.device.type == "cuda"


def test_reads_are_views() -> None:
    queue = co.NegativeQueue(6, 2)
    assert queue.keys is queue.keys
    assert queue.keys.data_ptr() == dict(queue.named_buffers())["keys"].data_ptr()
    before = queue.keys
    queue.enqueue(torch.ones(2, 2))
    assert (before[:2] == 1).all()


def test_a_loss_over_the_queue_needs_no_clone_of_it() -> None:
    """The gradient is that of the keys at the time of the forward pass, whatever is enqueued before the backward."""
    queue = co.NegativeQueue(4000, 8)
    positive = torch.randn(3, 8)
    for normalize in (True, False):
        gradients = []
        for overwritten in (False, True):
            torch.manual_seed(0)
            query = torch.randn(3, 8, requires_grad=True)
            loss = co.info_nce(query, positive, queue.keys, temperature=0.5, normalize=normalize, block_size=64)
            if overwritten:
                queue.enqueue(torch.randn(4000, 8))
            loss.backward()
            gradients.append(query.grad)
        assert torch.equal(*gradients)
    seen = allocated(co.info_nce, positive, positive, queue.keys, normalize=False, block_size=64)
    assert seen.largest < size(queue.keys) // 4


@pytest.mark.parametrize(
    "make",
    [lambda: co.NegativeQueue(5000, 8), lambda: co.MemoryBank(5000, 8), lambda: co.Prototypes(8, 5000)],
)
def test_first_rows_are_normalised_by_blocks(make: object, monkeypatch: pytest.MonkeyPatch) -> None:
    """Bit for bit what all at once gives, with one block of temporaries."""
    assert callable(make)
    torch.manual_seed(0)
    expected = next(iter(make().state_dict().values()))
    monkeypatch.setattr(_embeddings, "_BLOCK", 80)
    torch.manual_seed(0)
    with_blocks = make()
    assert torch.equal(next(iter(with_blocks.state_dict().values())), expected)
    torch.manual_seed(0)
    made = sorted(allocated(make).made, reverse=True)
    assert made[0] == size(expected)
    assert made[1] <= 80 * 8  # a block, or its rows by eight bytes


@given(st.integers(0, 30), st.integers(1, 5), st.integers(1, 40))
def test_blocks_of_unit_rows_are_unit_rows(rows: int, width: int, block: int) -> None:
    x = torch.randn(rows, width, dtype=torch.float64)
    expected = unit_rows(x)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_embeddings, "_BLOCK", block)
        to_unit_rows_(x)
    assert torch.equal(x, expected)


def test_prototypes_are_normalised_by_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(_embeddings, "_BLOCK", 80)
    prototypes = co.Prototypes(8, 5000)
    assert allocated(prototypes.normalize_).largest <= 80 * 8


def test_a_bank_is_read_and_written_by_rows() -> None:
    bank, index = co.MemoryBank(5000, 8), torch.arange(16)
    z = unit_rows(torch.randn(16, 8))

    def step() -> Tensor:
        bank.update(index, z)
        bank.sample(4, 8)
        return bank.lookup(index)

    assert allocated(step).largest <= size(z)


def test_the_partition_and_the_centre_make_what_a_batch_needs() -> None:
    logits = torch.randn(64, 500)
    center, partition = co.DINOCenter(500), co.NCEPartition(100)
    assert sum(n >= size(logits) for n in allocated(center, logits, temperature=0.1).made) <= 2
    assert allocated(center.update, logits).largest <= size(logits[0])
    assert sum(n >= size(logits) for n in allocated(partition.update, logits).made) <= 2
