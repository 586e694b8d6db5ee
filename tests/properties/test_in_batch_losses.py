"""The mathematics of the losses whose negatives are the batch: NT-Xent, CLIP, CMC, InvaSpread, CPC."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from itertools import combinations
from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import contrastive_ops as co
from tests import oracles

SEEDS = st.integers(0, 2**31)
ROWS = st.integers(1, 9)
TEMPERATURES = st.floats(0.02, 5)


def _clip(z1: Tensor, z2: Tensor, *, temperature: float = 0.1, **options: object) -> Tensor:
    return co.clip_loss(z1, z2, 1 / temperature, **options)


def _cmc(z1: Tensor, z2: Tensor, **options: object) -> Tensor:
    return co.cmc_loss([z1, z2], **options)


LOSSES = {"nt_xent": co.nt_xent, "clip_loss": _clip, "cmc_loss": _cmc, "spread_loss": co.spread_loss}
each = pytest.mark.parametrize("loss", LOSSES.values(), ids=LOSSES)


def _pair(seed: int, rows: int, width: int = 4) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    z1, z2 = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for _ in range(2))
    return z1, z2


def _gradient(loss: Callable[..., Tensor], *rows: Tensor) -> tuple[Tensor, ...]:
    leaves = [x.detach().clone().requires_grad_() for x in rows]
    return torch.autograd.grad(loss(*leaves), leaves)


@each
@given(seed=SEEDS, rows=ROWS)
def test_invariances(loss: Callable[..., Tensor], seed: int, rows: int) -> None:
    """A joint permutation, a rotation, positive factors of rows, and a swap of the views change nothing."""
    z1, z2 = _pair(seed, rows)
    generator = torch.Generator().manual_seed(seed)
    order = torch.randperm(rows, generator=generator)
    rotation = torch.linalg.qr(torch.randn(4, 4, generator=generator, dtype=torch.float64)).Q
    factor = torch.rand(rows, 1, generator=generator, dtype=torch.float64) + 0.1
    value = loss(z1, z2)
    for a, b in ((z1[order], z2[order]), (z1 @ rotation, z2 @ rotation), (z1 * factor, z2 / factor), (z2, z1)):
        torch.testing.assert_close(loss(a, b), value, rtol=1e-9, atol=1e-12)


@each
@given(seed=SEEDS, rows=ROWS)
def test_reductions_agree(loss: Callable[..., Tensor], seed: int, rows: int) -> None:
    z1, z2 = _pair(seed, rows)
    each_row = loss(z1, z2, reduction="none")
    assert each_row.shape == (2 * rows if loss in (co.nt_xent, co.spread_loss) else rows,)
    torch.testing.assert_close(each_row.mean(), loss(z1, z2))
    torch.testing.assert_close(each_row.sum(), loss(z1, z2, reduction="sum"))


@each
@given(seed=SEEDS, rows=ROWS, block=st.integers(1, 7))
def test_blocks_do_not_matter(loss: Callable[..., Tensor], seed: int, rows: int, block: int) -> None:
    z1, z2 = _pair(seed, rows)
    torch.testing.assert_close(loss(z1, z2, block_size=block), loss(z1, z2), rtol=1e-9, atol=1e-12)
    parts = _gradient(partial(loss, block_size=block), z1, z2)
    for part, whole in zip(parts, _gradient(loss, z1, z2), strict=True):
        torch.testing.assert_close(part, whole, rtol=1e-8, atol=1e-11)


@each
def test_a_zero_row_gets_no_gradient_and_harms_nobody(loss: Callable[..., Tensor]) -> None:
    z1, z2 = _pair(0, 4)
    z1[2], z2[0] = 0, 0
    first, second = _gradient(loss, z1, z2)
    assert (first[2] == 0).all() and (second[0] == 0).all()
    assert all(g.isfinite().all() and g.abs().max() < 100 for g in (first, second))


@each
def test_alone_there_is_nothing_to_tell_apart(loss: Callable[..., Tensor]) -> None:
    z1, z2 = _pair(0, 1)
    assert loss(z1, z2) == 0
    assert all((g == 0).all() for g in _gradient(loss, z1, z2))


@each
@pytest.mark.parametrize("temperature", [0.01, 0.1, 1.0])
def test_opposite_aligned_pairs_cost_next_to_nothing(loss: Callable[..., Tensor], temperature: float) -> None:
    """Fails where a positive stands among its own negatives: no temperature then brings the loss below ln 2."""
    z = torch.tensor([[1.0, 0.0], [-1.0, 0.0]])
    assert loss(z, z, temperature=temperature).item() < log(2)
    assert loss(z, z, temperature=0.01).item() < 1e-30


@given(rows=ROWS, temperature=TEMPERATURES)
def test_closed_forms_at_equality(rows: int, temperature: float) -> None:
    z = torch.ones(rows, 3, dtype=torch.float64)
    others = 2 * rows - 1
    assert co.nt_xent(z, z, temperature=temperature).item() == pytest.approx(log(others), abs=1e-12)
    assert co.clip_loss(z, z, 1 / temperature).item() == pytest.approx(log(rows), abs=1e-12)
    assert co.cmc_loss([z, z, z], temperature=temperature).item() == pytest.approx(6 * log(rows), abs=1e-12)
    core = co.cmc_loss([z, z, z], temperature=temperature, graph="core")
    assert core.item() == pytest.approx(4 * log(rows), abs=1e-12)
    spread = log(others) + (others - 1) * log(others / max(others - 1, 1))
    assert co.spread_loss(z, z, temperature=temperature).item() == pytest.approx(spread, abs=1e-11)
    latents = torch.ones(rows, 4, 3, dtype=torch.float64)
    for negatives, candidates in (("batch", rows), ("time", 4), ("batch_and_time", 4 * rows)):
        value = co.cpc_loss(latents.unsqueeze(2), latents, negatives=negatives, temperature=temperature)
        assert value.item() == pytest.approx(log(candidates), abs=1e-12)


@given(seed=SEEDS, rows=ROWS, temperature=TEMPERATURES)
def test_compositions_of_info_nce(seed: int, rows: int, temperature: float) -> None:
    """CLIP is the symmetric InfoNCE, CMC the sum of both directions; NT-Xent is InfoNCE with the other rows given."""
    z1, z2 = _pair(seed, rows)
    symmetric = co.info_nce(z1, z2, temperature=temperature, symmetric=True)
    torch.testing.assert_close(co.clip_loss(z1, z2, 1 / temperature), symmetric)
    torch.testing.assert_close(co.cmc_loss([z1, z2], temperature=temperature), 2 * symmetric)
    rest = [torch.cat([z1[:i], z1[i + 1 :], z2[:i], z2[i + 1 :]]) for i in range(rows)]
    negatives = torch.stack([*rest, *rest])
    query, key = torch.cat([z1, z2]), torch.cat([z2, z1])
    paired = co.info_nce(query, key, negatives, negative_mode="paired", temperature=temperature, reduction="none")
    torch.testing.assert_close(co.nt_xent(z1, z2, temperature=temperature, reduction="none"), paired)


@given(seed=SEEDS, rows=st.integers(2, 5), views=st.integers(2, 5))
def test_cmc_graphs_sum_their_pairs(seed: int, rows: int, views: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    z = [torch.randn(rows, 3, generator=generator, dtype=torch.float64) for _ in range(views)]
    pairs = {(a, b): co.cmc_loss([z[a], z[b]]) for a, b in combinations(range(views), 2)}
    torch.testing.assert_close(co.cmc_loss(z), sum(pairs.values()))
    core = sum(value for (a, _), value in pairs.items() if a == 0)
    torch.testing.assert_close(co.cmc_loss(z, graph="core"), core)


def test_a_literal_clip_step_at_scale_one_hundred() -> None:
    """Fails where the scale divides: then a well-aligned batch costs ln N."""
    z = torch.eye(8)
    assert co.clip_loss(z, z, 100.0).item() < 1e-30
    log_scale = torch.tensor(log(1 / 0.07), requires_grad=True)
    images, texts = _pair(0, 6)
    co.clip_loss(images, texts, log_scale.exp()).backward()
    assert log_scale.grad is not None and log_scale.grad != 0


@given(seed=SEEDS, rows=st.integers(2, 6), temperature=st.floats(0.05, 2))
def test_spreading_moves_anchors_only(seed: int, rows: int, temperature: float) -> None:
    """The gradient is that of the loss whose right factor is a detached copy; the autograd one is another."""
    z1, z2 = _pair(seed, rows)
    leaves = torch.cat([z1, z2]).requires_grad_()
    left, right = (torch.nn.functional.normalize(x, dim=1) for x in (leaves, leaves.detach()))
    logits = (left @ right.T / temperature).fill_diagonal_(float("-inf"))
    p = logits.softmax(1)
    partner = torch.arange(2 * rows).roll(rows)
    apart = torch.ones_like(p, dtype=torch.bool).fill_diagonal_(False)
    apart[torch.arange(2 * rows), partner] = False
    wanted = p[torch.arange(2 * rows), partner].log()
    expected = -(wanted + torch.where(apart, torch.log1p(-p.masked_fill(~apart, 0)), 0).sum(1)).mean()
    torch.testing.assert_close(co.spread_loss(z1, z2, temperature=temperature), expected)
    (reference,) = torch.autograd.grad(expected, leaves)
    observed = torch.cat(_gradient(partial(co.spread_loss, temperature=temperature), z1, z2))
    torch.testing.assert_close(observed, reference, rtol=1e-7, atol=1e-9)


def test_spreading_survives_a_negative_that_takes_all() -> None:
    """1 - p of the nearest negative is e^-199 here: in float32 a plain log(1 - p) is -inf."""
    z1 = torch.tensor([[1.0, 0.0], [1.0, 0.0]])
    z2 = torch.tensor([[-1.0, 0.0], [-1.0, 0.0]])
    value = co.spread_loss(z1, z2, temperature=0.01)
    # the positive's share is e^-200 / (1 + 2 e^-200), and that of all but the nearest is twice as large
    assert value.item() == pytest.approx(200 + 200 - log(2), rel=1e-5)
    first, second = _gradient(partial(co.spread_loss, temperature=0.01), z1 + 0.1, z2 - 0.1)
    assert first.isfinite().all() and second.isfinite().all()


@given(
    seed=SEEDS,
    shape=st.tuples(st.integers(1, 4), st.integers(2, 5), st.integers(1, 6), st.integers(1, 4)),
    negatives=st.sampled_from(["batch", "time", "batch_and_time"]),
    block=st.integers(1, 9),
)
def test_cpc_equals_the_oracle(seed: int, shape: tuple[int, int, int, int], negatives: str, block: int) -> None:
    """Any length, and more steps than the sequence has."""
    rows, times, steps, width = shape
    generator = torch.Generator().manual_seed(seed)
    latents = torch.randn(rows, times, width, generator=generator, dtype=torch.float64)
    predictions = torch.randn(rows, times, steps, width, generator=generator, dtype=torch.float64)
    options = {"negatives": negatives, "temperature": 0.7, "block_size": block}
    expected = torch.tensor(
        oracles.cpc(predictions.tolist(), latents.tolist(), temperature=0.7, negatives=negatives), dtype=torch.float64
    )
    observed = co.cpc_loss(predictions, latents, **options, reduction="none")
    torch.testing.assert_close(observed, expected, rtol=1e-9, atol=1e-12)
    torch.testing.assert_close(co.cpc_loss(predictions, latents, **options), expected.mean())
    torch.testing.assert_close(co.cpc_loss(predictions, latents, **options, reduction="sum"), expected.sum())


def test_what_falls_beyond_the_end_is_ignored() -> None:
    latents = torch.randn(2, 4, 3)
    predictions = torch.randn(2, 4, 2, 3, requires_grad=True)
    value = co.cpc_loss(predictions, latents)
    value.backward()
    beyond = torch.tensor([[t + s >= 4 for s in (1, 2)] for t in range(4)])
    assert predictions.grad is not None
    assert (predictions.grad[:, beyond] == 0).all()
    assert (predictions.grad[:, ~beyond].abs().sum(-1) > 0).all()
    changed = predictions.detach().clone()
    changed[:, beyond] = 1e6
    assert co.cpc_loss(changed, latents) == value


def test_cpc_normalises_over_candidates_not_over_contexts() -> None:
    """A shift that all candidates share for one context changes nothing; one that a candidate has for all does."""
    latents = torch.randn(3, 4, 2, dtype=torch.float64)
    predictions = torch.randn(3, 4, 1, 2, dtype=torch.float64)
    wider, longer = (torch.cat([x, torch.ones_like(x[..., :1])], -1) for x in (predictions, latents))
    shifted = wider.clone()
    shifted[1, 0, 0, 2] += 5.0  # one context's logits all rise by 5
    torch.testing.assert_close(co.cpc_loss(shifted, longer), co.cpc_loss(wider, longer))
    other = longer.clone()
    other[1, 2, 2] += 5.0  # one candidate's logits rise for all contexts
    assert abs(co.cpc_loss(wider, other) - co.cpc_loss(wider, longer)) > 0.1
