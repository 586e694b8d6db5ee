"""SplitBatchNorm2d against batch norm in loops."""

from __future__ import annotations

import copy

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import nn

import contrastive_ops as co
from tests import oracles


@given(st.integers(1, 4), st.integers(0, 5), st.integers(0, 2**31))
def test_each_chunk_is_normalised_by_its_own_statistics(splits: int, more: int, seed: int) -> None:
    rows = 2 * splits + more
    x = torch.randn(rows, 1, 1, 1, dtype=torch.float64, generator=torch.Generator().manual_seed(seed))
    observed = co.SplitBatchNorm2d(1, splits, affine=False).double()(x).flatten()
    expected = [
        value
        for chunk in oracles.chunks(rows, splits)
        for value in oracles.batch_norm([x[i].item() for i in chunk], 1e-5)
    ]
    torch.testing.assert_close(observed, torch.tensor(expected, dtype=torch.float64), rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("momentum", [0.1, None])
def test_one_split_is_batch_norm_in_training_and_evaluation(momentum: float | None) -> None:
    ours, theirs = co.SplitBatchNorm2d(3, 1, momentum=momentum), nn.BatchNorm2d(3, momentum=momentum)
    for step in range(3):
        x = torch.randn(6, 3, 4, 4, generator=torch.Generator().manual_seed(step))
        torch.testing.assert_close(ours(x), theirs(x))
    ours.eval(), theirs.eval()
    torch.testing.assert_close(ours(x), theirs(x))
    assert ours.state_dict().keys() == theirs.state_dict().keys()
    assert all(torch.allclose(v, theirs.state_dict()[k]) for k, v in ours.state_dict().items())


def test_running_statistics_are_the_mean_over_chunks() -> None:
    x = torch.randn(8, 2, 3, 3)
    ours = co.SplitBatchNorm2d(2, 4)
    ours(x)
    parts = [nn.BatchNorm2d(2) for _ in range(4)]
    for part, chunk in zip(parts, x.chunk(4), strict=True):
        part(chunk)
    torch.testing.assert_close(ours.running_mean, torch.stack([p.running_mean for p in parts]).mean(0))
    torch.testing.assert_close(ours.running_var, torch.stack([p.running_var for p in parts]).mean(0))


def test_gradient_is_that_of_separate_batch_norms() -> None:
    x = torch.randn(6, 2, 2, 2, dtype=torch.float64, requires_grad=True)
    ours = co.SplitBatchNorm2d(2, 3).double()
    theirs = copy.deepcopy(ours)
    (a,) = torch.autograd.grad(ours(x).pow(3).sum(), x)
    y = torch.cat([nn.functional.batch_norm(c, None, None, theirs.weight, theirs.bias, True) for c in x.chunk(3)])
    (b,) = torch.autograd.grad(y.pow(3).sum(), x)
    torch.testing.assert_close(a, b)


def test_a_batch_that_is_too_small_changes_no_statistics() -> None:
    norm = co.SplitBatchNorm2d(2, 4)
    with pytest.raises(ValueError, match="num_splits=4"):
        norm(torch.randn(3, 2, 2, 2))
    assert (norm.running_mean == 0).all()
    assert norm.num_batches_tracked == 0
