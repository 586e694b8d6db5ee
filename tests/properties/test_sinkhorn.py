"""Sinkhorn's scaling vectors: any epsilon, any number of iterations, given memory, and how much of it."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import contrastive_ops as co
from contrastive_ops.assignments import _sinkhorn
from contrastive_ops.testing import run_distributed
from tests.allocations import allocated, size

SEEDS = st.integers(0, 2**31)


def _scores(seed: int, rows: int, prototypes: int) -> Tensor:
    return torch.randn(rows, prototypes, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _in_logarithms(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Every step on the logarithm of the whole matrix, which cannot leave float64."""
    logits = scores.double() / epsilon
    for _ in range(iterations):
        logits = logits - logits.logsumexp(0)
        logits = logits - logits.logsumexp(1, keepdim=True)
    return logits.exp()


@given(SEEDS, st.integers(1, 9), st.integers(1, 7), st.floats(1e-3, 3), st.integers(1, 60), st.integers(1, 5))
def test_equals_the_logarithms_whenever_exponentials_are_made_anew(
    seed: int, rows: int, prototypes: int, epsilon: float, iterations: int, at_once: int
) -> None:
    scores = _scores(seed, rows, prototypes)
    digits = {torch.float64: 1.001 * at_once * torch.tensor(float(max(10, rows * prototypes))).log10().item()}
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(_sinkhorn, "_DIGITS", digits)
        observed = co.sinkhorn(scores, epsilon=epsilon, iterations=iterations)
    torch.testing.assert_close(observed, _in_logarithms(scores, epsilon, iterations), rtol=1e-7, atol=1e-9)


@pytest.mark.parametrize("iterations", [1, 3, 10, 100])
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16], ids=str)
@pytest.mark.parametrize("epsilon", [0.001, 0.01, 0.05])
def test_single_precision_follows_the_logarithms(epsilon: float, dtype: torch.dtype, iterations: int) -> None:
    """The exponent's own rounding is all that is lost: a score's last place over epsilon."""
    scores = (0.3 * _scores(1, 200, 50)).to(dtype)
    observed = co.sinkhorn(scores, epsilon=epsilon, iterations=iterations)
    expected = _in_logarithms(scores, epsilon, iterations)
    torch.testing.assert_close(observed.double(), expected, rtol=0, atol=2e-6 / epsilon)


@pytest.mark.parametrize("block", [1, 33, 10_000])
def test_blocks_change_nothing(block: int, monkeypatch: pytest.MonkeyPatch) -> None:
    scores = _scores(0, 61, 11)
    expected = co.sinkhorn(scores, epsilon=0.1)
    monkeypatch.setattr(_sinkhorn, "_BLOCK", block)
    torch.testing.assert_close(co.sinkhorn(scores, epsilon=0.1), expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("iterations", [1, 3, 50])
@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16], ids=str)
def test_given_memory_holds_the_result(dtype: torch.dtype, hard: bool, iterations: int) -> None:
    scores = _scores(3, 17, 6).to(dtype)
    kept = scores.clone()
    expected = co.sinkhorn(scores, hard=hard, iterations=iterations)
    out = torch.full_like(expected, float("nan"))
    result = co.sinkhorn(scores, hard=hard, iterations=iterations, out=out)
    assert result is out
    assert torch.equal(out, expected)
    assert torch.equal(scores, kept)
    workspace = torch.empty(40, 6, dtype=expected.dtype)  # a batch that is shorter than the memory
    assert torch.equal(co.sinkhorn(scores, hard=hard, iterations=iterations, out=workspace[:17]), expected)


@pytest.mark.parametrize("hard", [False, True])
@pytest.mark.parametrize("iterations", [1, 3, 40])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16], ids=str)
def test_one_matrix_exists_beside_the_scores(dtype: torch.dtype, iterations: int, hard: bool) -> None:
    """The result; and none at all where memory is given: what else is made is a block, or a vector."""
    scores, out = torch.randn(4000, 300).to(dtype), torch.empty(4000, 300)
    seen = allocated(co.sinkhorn, scores, iterations=iterations, hard=hard)
    assert [n for n in seen.made if n >= size(scores) // 2] == [size(out)]
    assert allocated(co.sinkhorn, scores, iterations=iterations, hard=hard, out=out).largest <= 4 * _sinkhorn._BLOCK
    assert size(out) > 8 * 4 * _sinkhorn._BLOCK


@pytest.mark.parametrize("sizes", [[5, 3], [7, 0, 4]], ids=str)
def test_ranks_agree_whatever_epsilon_and_iterations(sizes: list[int]) -> None:
    assert all(error <= 1e-9 for errors in run_distributed(_errors, len(sizes), sizes) for error in errors)


def _errors(rank: int, sizes: list[int]) -> list[float]:
    """This rank's largest difference from one process with all rows; the last scores fit no exponential."""
    _sinkhorn._DIGITS = {torch.float64: 5}
    scores, first = _scores(0, sum(sizes), 6), sum(sizes[:rank])
    errors = []
    for scale, epsilon, iterations in ((1.0, 0.05, 3), (1.0, 0.05, 20), (1.0, 0.5, 7), (1000.0, 0.001, 5)):
        mine = scale * scores[first : first + sizes[rank]]
        out = torch.empty_like(mine)
        co.sinkhorn(mine, epsilon=epsilon, iterations=iterations, out=out)
        expected = co.sinkhorn(scale * scores, epsilon=epsilon, iterations=iterations, group=False)
        errors.append(float((out - expected[first : first + sizes[rank]]).abs().max()) if len(mine) else 0.0)
    return errors
