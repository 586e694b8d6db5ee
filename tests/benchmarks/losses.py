"""A loss as a contestant: forward and backward, on inputs of its own."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from tests.benchmarks import traffic
from tests.benchmarks.contest import FORM, OURS, PEER, Entry, Run

Loss = Callable[..., Tensor]


def rows(*shapes: tuple[int, ...], seed: int = 0) -> list[Tensor]:
    """Embeddings of which the i-th rows are related, as those of two views are."""
    generator = torch.Generator().manual_seed(seed)
    first = torch.randn(shapes[0], generator=generator)
    others = [torch.randn(shape, generator=generator) for shape in shapes[1:]]
    return [first, *(0.7 * first + x if x.shape == first.shape else x for x in others)]


def gradients(loss: Loss, inputs: Sequence[Tensor]) -> list[Tensor]:
    """The value and the gradients: what a contestant is compared by."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]
    value = loss(*leaves)
    return [value.detach(), *torch.autograd.grad(value, leaves)]


def forward_backward(loss: Loss, inputs: Sequence[Tensor]) -> Run:
    """Both passes in one call, as a step of training has them."""
    leaves = [x.detach().clone().requires_grad_() for x in inputs]

    def run() -> list[Tensor]:
        for leaf in leaves:
            leaf.grad = None
        value = loss(*leaves)
        traffic.mark()
        value.backward()
        return [value.detach(), *(leaf.grad for leaf in leaves if leaf.grad is not None)]

    return run


def ours(loss: Loss, inputs: Callable[[], Sequence[Tensor]]) -> Entry:
    return Entry(lambda: forward_backward(loss, inputs()), OURS)


def form(loss: Loss, inputs: Callable[[], Sequence[Tensor]]) -> Entry:
    return Entry(lambda: forward_backward(loss, inputs()), FORM)


def peer(needs: str, make: Callable[[], Loss], inputs: Callable[[], Sequence[Tensor]]) -> Entry:
    """`make` imports the library and returns its loss."""
    return Entry(lambda: forward_backward(make(), inputs()), PEER, needs)


def in_float64(loss: Loss, inputs: Callable[[], Sequence[Tensor]]) -> Callable[[], list[Tensor]]:
    """The truth: the plain formula in double precision."""
    return lambda: gradients(loss, [x.double() for x in inputs()])
