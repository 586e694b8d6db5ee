"""Batch norm over the batches of all ranks, on CPUs: what one process with all rows computes."""

from __future__ import annotations

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


def compare(rank: int, sizes: list[int], shape: tuple[int, ...], kind: str) -> float:
    """Largest difference of outputs, gradients and running statistics from one process's."""
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
    shared = synchronise_norms(make(shape[0]).double(), Run(rank, rank, len(sizes), torch.device("cpu")))
    mine, error = slice(sum(sizes[:rank]), sum(sizes[: rank + 1])), 0.0
    for _ in range(2):
        x, weights = (torch.randn(sum(sizes), *shape, generator=generator, dtype=torch.float64) + 3 for _ in range(2))
        expected = _step(alone, x, weights)
        observed = _step(shared, x[mine], weights[mine])
        pairs = zip(observed, expected, strict=True)
        error = max([error, *((a - b[mine]).norm(torch.inf).item() for a, b in pairs if len(a))])
    for parameter in shared.parameters():
        assert parameter.grad is not None
        dist.all_reduce(parameter.grad)
    for a, b in zip(shared.parameters(), alone.parameters(), strict=True):
        error = max(error, (a.grad - b.grad).abs().max().item())
    states = zip(shared.state_dict().values(), alone.state_dict().values(), strict=True)
    return max([error, *((a - b).abs().max().item() for a, b in states)])


@pytest.mark.parametrize(
    ("sizes", "shape", "kind"),
    [
        ([4, 4], (3,), "1d"),
        ([5, 2], (3, 4, 4), "2d"),
        ([5, 2], (3, 4, 4), "and ReLU"),
        ([3, 2], (3,), "no bias"),
        ([3, 2], (3,), "plain"),
        ([4, 0, 1], (3, 2, 2), "2d"),
    ],
)
def test_two_processes_normalise_as_one(sizes: list[int], shape: tuple[int, ...], kind: str) -> None:
    assert max(run_distributed(compare, len(sizes), sizes, shape, kind)) < 1e-10


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
