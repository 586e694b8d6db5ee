"""The mathematics of info_nce: invariances, closed forms, bounds, limits, and what an enqueue may do to it."""

from __future__ import annotations

from math import log
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import contrastive_ops as co
from tests import oracles

SEEDS = st.integers(0, 2**31)
SHAPES = st.tuples(st.integers(1, 9), st.integers(1, 12), st.integers(1, 7))  # B, K, D


def _batch(seed: int, rows: int, keys: int, width: int) -> tuple[Tensor, Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)

    def make(count: int) -> Tensor:
        return torch.randn(count, width, generator=generator, dtype=torch.float64)

    return make(rows), make(rows), make(keys)


@given(SHAPES, SEEDS, st.floats(0.01, 10), st.integers(1, 13), st.booleans(), st.booleans())
def test_equals_the_oracle(
    shape: tuple[int, int, int], seed: int, temperature: float, block: int, use_mask: bool, normalize: bool
) -> None:
    query, key, queue = _batch(seed, *shape)
    for negatives in (None, queue):
        columns = len(query) if negatives is None else len(queue)
        mask = torch.rand(len(query), columns, generator=torch.Generator().manual_seed(seed)) < 0.4
        observed = co.info_nce(
            query, key, negatives, temperature=temperature, reduction="none", normalize=normalize,
            mask=mask if use_mask else None, block_size=block,
        )  # fmt: skip
        expected = oracles.info_nce(
            query.tolist(), key.tolist(), None if negatives is None else queue.tolist(),
            temperature=temperature, mask=mask.tolist() if use_mask else None, normalize=normalize,
        )  # fmt: skip
        torch.testing.assert_close(observed, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-12)


@given(SHAPES, SEEDS)
def test_blocks_do_not_matter(shape: tuple[int, int, int], seed: int) -> None:
    values = [x.requires_grad_() for x in _batch(seed, *shape)]
    whole = co.info_nce(*values, block_size=10_000)
    for block in (1, 3):
        parts = co.info_nce(*values, block_size=block)
        torch.testing.assert_close(parts, whole, rtol=1e-12, atol=1e-12)
        for a, b in zip(
            torch.autograd.grad(parts, values), torch.autograd.grad(whole, values, retain_graph=True), strict=True
        ):
            torch.testing.assert_close(a, b, rtol=1e-9, atol=1e-12)


@given(SHAPES, SEEDS)
def test_invariances(shape: tuple[int, int, int], seed: int) -> None:
    """A joint permutation, a rotation of the space, and positive factors of rows change nothing."""
    query, key, queue = _batch(seed, *shape)
    generator = torch.Generator().manual_seed(seed)
    order, shuffled = torch.randperm(len(query), generator=generator), torch.randperm(len(queue), generator=generator)
    rotation = torch.linalg.qr(torch.randn(shape[2], shape[2], generator=generator, dtype=torch.float64)).Q
    factor = torch.rand(len(query), 1, generator=generator, dtype=torch.float64) + 0.1
    value = co.info_nce(query, key, queue)
    in_batch = co.info_nce(query, key)
    for a, b, c in (
        (query[order], key[order], queue[shuffled]),
        (query @ rotation, key @ rotation, queue @ rotation),
        (query * factor, key / factor, queue * 3),
    ):
        torch.testing.assert_close(co.info_nce(a, b, c), value, rtol=1e-9, atol=1e-12)
        torch.testing.assert_close(co.info_nce(a, b), in_batch, rtol=1e-9, atol=1e-12)


@given(SHAPES, SEEDS)
def test_symmetric_is_the_mean_and_does_not_mind_a_swap(shape: tuple[int, int, int], seed: int) -> None:
    query, key, _ = _batch(seed, *shape)
    both = co.info_nce(query, key, symmetric=True)
    torch.testing.assert_close(both, (co.info_nce(query, key) + co.info_nce(key, query)) / 2)
    torch.testing.assert_close(both, co.info_nce(key, query, symmetric=True))


@given(SHAPES, SEEDS)
def test_one_more_negative_never_lowers_it(shape: tuple[int, int, int], seed: int) -> None:
    query, key, queue = _batch(seed, *shape)
    fewer = co.info_nce(query, key, queue[:-1], reduction="none")
    more = co.info_nce(query, key, queue, reduction="none")
    assert (more > fewer).all()
    assert (fewer >= 0).all()
    assert (more <= log(1 + len(queue)) + 2 / 0.1).all()  # similarities differ by at most 2


@given(st.integers(1, 20), st.integers(1, 20), st.floats(0.01, 5))
def test_equal_embeddings_give_the_log_of_the_candidates(rows: int, keys: int, temperature: float) -> None:
    same = torch.ones(rows, 3)
    assert co.info_nce(same, same, temperature=temperature).item() == pytest.approx(log(rows), rel=1e-5, abs=1e-6)
    queue = torch.ones(keys, 3)
    value = co.info_nce(same, same, queue, temperature=temperature).item()
    assert value == pytest.approx(log(1 + keys), rel=1e-5)


def test_temperature_limits() -> None:
    """Towards infinity: the log of the candidates. Towards 0: 0 where the positive is nearest."""
    query, key, queue = _batch(0, 5, 7, 4)
    assert co.info_nce(query, key, queue, temperature=1e9).item() == pytest.approx(log(8), rel=1e-6)
    assert co.info_nce(query, query, queue, temperature=1e-3).item() == pytest.approx(0, abs=1e-12)


def test_aligned_positives_and_orthogonal_negatives_reach_zero() -> None:
    """Fails where a positive stands among its own negatives: then the loss cannot go below ln 2."""
    eye = torch.eye(6)
    assert co.info_nce(eye, eye, temperature=0.01).item() < 1e-30
    assert co.info_nce(eye[:3], eye[:3], eye[3:], temperature=0.01).item() < 1e-30


def test_small_losses_keep_their_digits() -> None:
    """log(1 + e^x): in float32 the difference of two logarithms would be 0 here."""
    query = torch.tensor([[1.0, 0.0]])
    value = co.info_nce(query, query, torch.tensor([[0.0, 1.0]]), temperature=0.05)
    assert value.item() == pytest.approx(2.0611536e-9, rel=1e-5)


@pytest.mark.parametrize("scale", [1e-30, 1e-20, 1e20, 1e30])
def test_rows_of_any_length_normalise(scale: float) -> None:
    query, key, queue = (x.float() for x in _batch(1, 4, 5, 3))
    expected = co.info_nce(query, key, queue)
    torch.testing.assert_close(co.info_nce(query * scale, key, queue * scale), expected)


def test_a_zero_row_gets_no_gradient_and_harms_nobody() -> None:
    query = torch.tensor([[0.0, 0.0], [1.0, 2.0], [2.0, -1.0]], requires_grad=True)
    key = torch.tensor([[1.0, 0.0], [0.0, 0.0], [2.0, 1.0]], requires_grad=True)
    for negatives in (None, torch.zeros(3, 2)):
        loss = co.info_nce(query, key, negatives)
        grads = torch.autograd.grad(loss, (query, key))
        assert torch.isfinite(loss)
        assert (grads[0][0] == 0).all()
        assert (grads[1][1] == 0).all()
        assert all(torch.isfinite(g).all() and g.abs().max() < 100 for g in grads)


def test_fully_masked_rows_and_no_negatives_are_zero_without_gradient() -> None:
    query, key, queue = (x.requires_grad_() for x in _batch(2, 3, 4, 5))
    mask = torch.zeros(3, 4, dtype=torch.bool)
    mask[1] = True
    paired = queue.expand(3, 4, 5)
    for call in (
        lambda: co.info_nce(query, key, queue, mask=mask, reduction="none"),
        lambda: co.info_nce(query, key, paired, mask=mask, reduction="none", negative_mode="paired"),
    ):
        rows = call()
        assert rows[1] == 0
        assert (rows[[0, 2]] > 0).all()
        grads = torch.autograd.grad(rows.sum(), (query, key, queue))
        assert all(torch.isfinite(g).all() for g in grads)
        assert (grads[0][1] == 0).all()
    for empty in (queue[:0], paired[:, :0]):
        mode = "unpaired" if empty.ndim == 2 else "paired"
        loss = co.info_nce(query, key, empty, negative_mode=mode)
        assert loss == 0
        assert all((g == 0).all() for g in torch.autograd.grad(loss, (query, key)))
    assert co.info_nce(query[:1], key[:1]) == 0  # in-batch, alone


def test_the_own_column_of_an_in_batch_mask_is_ignored() -> None:
    query, key, _ = _batch(3, 4, 1, 5)
    mask = torch.rand(4, 4) < 0.5
    values = [co.info_nce(query, key, mask=mask.clone().fill_diagonal_(own)) for own in (True, False)]
    assert values[0] == values[1]


@pytest.mark.parametrize("trainable", [False, True])
def test_an_enqueue_between_forward_and_backward_is_never_silently_wrong(trainable: bool) -> None:
    """Negatives without a gradient: the gradient is right all the same. With one: autograd says what happened."""
    query, key, rows = _batch(4, 3, 5, 4)
    queue = co.NegativeQueue(5, 4, dtype=torch.float64)
    queue.enqueue(rows)
    query.requires_grad_()
    queue.keys.requires_grad_(trainable)
    (expected,) = torch.autograd.grad(co.info_nce(query, key, queue.keys, normalize=False), query)
    loss = co.info_nce(query, key, queue.keys, normalize=False)
    queue.keys.requires_grad_(False)
    queue.enqueue(key)
    if trainable:
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            loss.backward()
    else:
        loss.backward()
        assert query.grad is not None
        assert torch.equal(query.grad, expected)


def test_the_temperature_learns() -> None:
    temperature = torch.tensor(0.5, dtype=torch.float64, requires_grad=True)
    query, key, queue = _batch(5, 4, 6, 3)
    for negatives in (None, queue):

        def loss(t: Tensor, negatives: Any = negatives) -> Tensor:
            return co.info_nce(query, key, negatives, temperature=t)

        assert torch.autograd.gradcheck(loss, (temperature,))


@given(SEEDS, st.sampled_from([torch.float32, torch.float64, torch.bfloat16, torch.float16]))
def test_strides_do_not_matter(seed: int, dtype: torch.dtype) -> None:
    query, key, queue = (x.to(dtype) for x in _batch(seed, 4, 6, 3))
    strided = [torch.stack([x, -x], dim=2)[:, :, 0] for x in (query, key, queue)]
    transposed = [x.T.contiguous().T for x in (query, key, queue)]
    for other in (strided, transposed):
        torch.testing.assert_close(co.info_nce(*other), co.info_nce(query, key, queue))


def test_mixed_precisions_promote() -> None:
    query, key, queue = _batch(6, 4, 6, 3)
    assert co.info_nce(query.bfloat16(), key.float(), queue.half()).dtype == torch.float32
    assert co.info_nce(query.bfloat16(), key.float(), queue).dtype == torch.float64
