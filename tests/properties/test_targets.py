"""Targets without a gradient: SimSiam, BYOL, distillation, and views against distributions."""

from __future__ import annotations

from collections.abc import Callable
from math import log

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import contrastive_ops as co

SEEDS = st.integers(0, 2**31)
SIAMESE = [co.stop_grad_cosine, co.byol_loss, co.stop_grad_cross_entropy]
each = pytest.mark.parametrize("loss", SIAMESE, ids=lambda f: f.__name__)


def _pair(seed: int, rows: int = 4, width: int = 5) -> tuple[Tensor, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    p, z = (torch.randn(rows, width, generator=generator, dtype=torch.float64) for _ in range(2))
    return p, z


@each
@given(seed=SEEDS)
def test_the_gradient_stops_at_the_target(loss: Callable[..., Tensor], seed: int) -> None:
    p, z = (x.requires_grad_() for x in _pair(seed))
    gradients = torch.autograd.grad(loss(p, z), (p, z), allow_unused=True)
    assert gradients[0] is not None and gradients[0].abs().sum() > 0
    assert gradients[1] is None


@each
@given(seed=SEEDS, rows=st.integers(1, 6))
def test_reductions_and_permutations(loss: Callable[..., Tensor], seed: int, rows: int) -> None:
    p, z = _pair(seed, rows)
    each_row, order = loss(p, z, reduction="none"), torch.randperm(rows)
    torch.testing.assert_close(loss(p[order], z[order], reduction="none"), each_row[order])
    torch.testing.assert_close(each_row.mean(), loss(p, z))
    torch.testing.assert_close(each_row.sum(), loss(p, z, reduction="sum"))


@given(SEEDS)
def test_siamese_bounds_and_identities(seed: int) -> None:
    """SimSiam in [-1, 1], BYOL in [0, 4] for one direction, and BYOL = 2 + 2 SimSiam."""
    p, z = _pair(seed)
    cosine, squared = (f(p, z, reduction="none") for f in (co.stop_grad_cosine, co.byol_loss))
    assert (cosine.abs() <= 1 + 1e-12).all()
    torch.testing.assert_close(squared, 2 + 2 * cosine)
    unit = [torch.nn.functional.normalize(x, dim=1) for x in (p, z)]
    torch.testing.assert_close(squared, (unit[0] - unit[1]).square().sum(1))
    assert co.stop_grad_cosine(p, 3 * p).item() == pytest.approx(-1)
    assert co.byol_loss(p, -p).item() == pytest.approx(4)
    symmetric = co.byol_loss(p, z) + co.byol_loss(z, p)  # on the same inputs 4 + 4 times SimSiam's half sum
    torch.testing.assert_close(symmetric, 4 + 2 * (co.stop_grad_cosine(p, z) + co.stop_grad_cosine(z, p)))


@given(SEEDS)
def test_invariances(seed: int) -> None:
    p, z = _pair(seed)
    rotation = torch.linalg.qr(torch.randn(5, 5, generator=torch.Generator().manual_seed(seed)).double()).Q
    for loss in (co.stop_grad_cosine, co.byol_loss):
        torch.testing.assert_close(loss(p @ rotation, z @ rotation), loss(p, z))
        torch.testing.assert_close(loss(7 * p, z / 3), loss(p, z))
    torch.testing.assert_close(co.stop_grad_cross_entropy(p + 3, z - 2), co.stop_grad_cross_entropy(p, z))


@pytest.mark.parametrize("loss", [co.stop_grad_cosine, co.byol_loss])
def test_a_zero_row_gets_no_gradient(loss: Callable[..., Tensor]) -> None:
    p, z = _pair(0)
    p[1], z[2] = 0, 0
    p.requires_grad_()
    loss(p, z).backward()
    assert p.grad is not None and p.grad.isfinite().all()
    assert (p.grad[1:3] == 0).all()


@given(SEEDS, st.floats(0.05, 20))
def test_distillation_is_smallest_where_the_student_is_the_teacher(seed: int, temperature: float) -> None:
    student, teacher = _pair(seed)
    own = co.distillation_loss(teacher, teacher, temperature=temperature)
    assert own <= co.distillation_loss(student, teacher, temperature=temperature) + 1e-12
    soft = (teacher / temperature).softmax(1)
    torch.testing.assert_close(own, torch.distributions.Categorical(soft).entropy().mean())
    leaf = student.clone().requires_grad_()
    co.distillation_loss(leaf, teacher, temperature=temperature).backward()
    divergence = torch.nn.functional.kl_div(
        (student / temperature).log_softmax(1).requires_grad_(), soft, reduction="batchmean"
    )
    expected = ((student / temperature).softmax(1) - soft) / temperature / len(student)
    torch.testing.assert_close(leaf.grad, expected)
    torch.testing.assert_close(co.distillation_loss(student, teacher, temperature=temperature) - own, divergence)


@given(st.integers(2, 40))
def test_constant_scores_cost_the_log_of_the_prototypes(prototypes: int) -> None:
    scores = [torch.full((3, prototypes), float(v)) for v in range(3)]
    targets = [torch.rand(3, prototypes).softmax(1) for _ in range(2)]
    assert co.swapped_prediction(scores, targets).item() == pytest.approx(log(prototypes), rel=1e-5)
    assert co.dino_loss(student=scores, teacher=targets).item() == pytest.approx(log(prototypes), rel=1e-5)


def _views(seed: int, views: int, targets: int) -> tuple[list[Tensor], list[Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    scores = [torch.randn(3, 4, generator=generator, dtype=torch.float64) for _ in range(views)]
    return scores, [torch.randn(3, 4, generator=generator, dtype=torch.float64).softmax(1) for _ in range(targets)]


@given(SEEDS, st.integers(2, 5), st.data())
def test_pairs_of_views(seed: int, views: int, data: st.DataObject) -> None:
    """G (V - 1) terms: the mean of the losses of the pairs, none of a view with itself."""
    count = data.draw(st.integers(1, views))
    scores, targets = _views(seed, views, count)
    terms = [
        -(q * (s / 0.2).log_softmax(1)).sum(1).mean()
        for i, q in enumerate(targets)
        for v, s in enumerate(scores)
        if i != v
    ]
    assert len(terms) == count * (views - 1)
    torch.testing.assert_close(co.swapped_prediction(scores, targets, temperature=0.2), torch.stack(terms).mean())
    dino = co.dino_loss(student=scores, teacher=targets, student_temperature=0.2)
    torch.testing.assert_close(dino, torch.stack(terms).mean())


def test_views_that_are_only_predicted_from_get_a_gradient_and_targets_none() -> None:
    scores, targets = _views(0, 4, 2)
    leaves = [x.requires_grad_() for x in (*scores, *targets)]
    gradients = torch.autograd.grad(co.swapped_prediction(scores, targets), leaves, allow_unused=True)
    assert all(g is not None and g.abs().sum() > 0 for g in gradients[:4])
    assert gradients[4:] == (None, None)


def test_distributions_in_half_precision_are_accepted() -> None:
    logits = torch.randn(4, 512)
    for dtype in (torch.bfloat16, torch.float16):
        probabilities = logits.softmax(1).to(dtype)
        assert co.dino_loss(student=[logits, logits], teacher=[probabilities]).isfinite()
