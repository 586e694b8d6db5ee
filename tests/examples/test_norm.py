"""Batch norm over the batches of all ranks, on CPUs: what one process with all rows computes."""

from __future__ import annotations

import copy
import functools

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

import contrastive_ops as co
from contrastive_ops.testing import run_distributed
from tests.examples.conftest import EXAMPLES  # noqa: F401 (puts the examples on the path)


def _step(norm: nn.Module, x: Tensor, weights: Tensor) -> tuple[Tensor, Tensor]:
    x = x.clone().requires_grad_()
    y = norm(x)
    (y * weights).sum().backward()
    assert x.grad is not None
    return y.detach(), x.grad


def _one_by_one(norm: nn.Module, views: list[Tensor], weights: list[Tensor]) -> tuple[Tensor, Tensor]:
    """The outputs of the views, which go through one after the other, and their gradients."""
    steps = [_step(norm, x, w) for x, w in zip(views, weights, strict=True)]
    outputs, gradients = (torch.stack(column) for column in zip(*steps, strict=True))
    return outputs, gradients


def compare(rank: int, sizes: list[int], shape: tuple[int, ...], kind: str, views: int) -> float:
    """Sum of the differences of outputs, gradients and running statistics from one process's, view by view."""
    from _runtime.launch import Run
    from _runtime.norm import scale_only_norm, synchronise_norms
    from timm.layers import BatchNormAct2d

    generator = torch.Generator().manual_seed(0)
    plain = functools.partial(nn.BatchNorm1d, affine=False)
    make = {
        "1d": nn.BatchNorm1d,
        "2d": nn.BatchNorm2d,
        "and ReLU": BatchNormAct2d,
        "no bias": scale_only_norm,
        "plain": plain,
    }[kind]
    alone = make(shape[0]).double()
    run = Run(rank, rank, len(sizes), torch.device("cpu"))
    shared = synchronise_norms(make(shape[0]).double(), run, views=views)
    mine, error = slice(sum(sizes[:rank]), sum(sizes[: rank + 1])), 0.0
    for _ in range(2):
        x, weights = (
            torch.randn(views, sum(sizes), *shape, generator=generator, dtype=torch.float64) + 3 for _ in range(2)
        )
        expected = _one_by_one(alone, list(x), list(weights))
        observed = _step(shared, x[:, mine].flatten(0, 1), weights[:, mine].flatten(0, 1))
        for a, b in zip(observed, expected, strict=True):
            error += (a.view_as(b[:, mine]) - b[:, mine]).abs().sum().item()  # a sum keeps a NaN, max may not
    for parameter in shared.parameters() if len(sizes) > 1 else ():
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)
    for a, b in zip(shared.parameters(), alone.parameters(), strict=True):
        error += (a.grad - b.grad).abs().max().item()
    states = zip(shared.state_dict().values(), alone.state_dict().values(), strict=True)
    return error + sum((a - b).abs().max().item() for a, b in states)


CASES: list[tuple[list[int], tuple[int, ...], str, int]] = [  # rows of each rank, shape of one, norm, views
    ([4, 4], (3,), "1d", 1),
    ([5, 2], (3, 4, 4), "2d", 1),
    ([5, 2], (3, 4, 4), "and ReLU", 2),
    ([3, 2], (3,), "no bias", 2),
    ([3, 2], (3,), "plain", 1),
    ([4, 0, 1], (3, 2, 2), "2d", 2),
]


def compare_each(rank: int, cases: list[tuple[list[int], tuple[int, ...], str, int]]) -> list[float]:
    return [compare(rank, *case) for case in cases]


@pytest.mark.parametrize("world_size", [2, 3])
def test_several_processes_normalise_as_one(world_size: int) -> None:
    """All cases in one start of the processes, which takes longer than they do."""
    cases = [case for case in CASES if len(case[0]) == world_size]
    for errors in run_distributed(compare_each, world_size, cases):
        assert {str(case): error for case, error in zip(cases, errors, strict=True) if not error < 1e-10} == {}


@pytest.mark.parametrize("kind", ["1d", "2d", "and ReLU", "no bias", "plain"])
def test_each_view_has_statistics_of_its_own(kind: str) -> None:
    shape = (3, 4, 4) if kind in {"2d", "and ReLU"} else (3,)
    assert compare(0, [5], shape, kind, 2) < 1e-10


def test_one_view_of_one_process_keeps_its_norms() -> None:
    from _runtime.launch import Run
    from _runtime.norm import synchronise_norms

    norm = nn.BatchNorm2d(3)
    assert type(synchronise_norms(norm, Run(0, 0, 1, torch.device("cpu")))) is nn.BatchNorm2d


def test_evaluation_and_copies_know_nothing_of_views() -> None:
    """An encoder is evaluated on batches of any size, its average is a copy, and the names of its weights stay."""
    from _runtime.launch import Run
    from _runtime.norm import synchronise_norms

    plain, x = nn.BatchNorm2d(3), torch.randn(5, 3, 2, 2)
    norm = copy.deepcopy(synchronise_norms(copy.deepcopy(plain), Run(0, 0, 1, torch.device("cpu")), views=2))
    assert torch.equal(norm.eval()(x), plain.eval()(x))
    assert list(norm.state_dict()) == list(plain.state_dict())


def network_step(rank: int, world_size: int) -> dict[str, Tensor]:
    """DINO's loss of this rank's part of 6 images, and the gradients of the student as DDP averages them."""
    import _runtime as rt
    from _runtime.launch import Run

    run = Run(rank, rank, world_size, torch.device("cpu"))
    torch.manual_seed(0)
    encoder = rt.create_crop_encoder("tiny", drop_path=0.0, compiled=False)
    head = co.DINOHead(encoder.num_features, 8, hidden_dim=8, bottleneck_dim=4, norm=nn.BatchNorm1d)
    student = rt.CropNetwork(encoder, head).double()
    crops = torch.randn(2, 6, 3, 32, 32, dtype=torch.float64).unbind()
    teacher = torch.randn(2, 6, 8, dtype=torch.float64).softmax(-1).unbind()
    mine = torch.arange(6).tensor_split(world_size)[rank]
    model = rt.distribute(rt.synchronise_norms(student, run), run)
    loss = co.dino_loss(student=model([crop[mine] for crop in crops]), teacher=[p[mine] for p in teacher])
    loss.backward()
    gradients = {name: p.grad for name, p in student.named_parameters() if p.grad is not None}
    return {"loss": loss.detach(), **gradients, **dict(student.named_buffers())}


def test_two_processes_take_the_step_of_one() -> None:
    """Crops, BN, head, loss and DDP together, in float64: in float32 rounding soon leads two runs apart."""
    expected = network_step(0, 1)
    for observed in run_distributed(network_step, 2, 2):
        torch.testing.assert_close(observed, expected, rtol=1e-9, atol=1e-12)
