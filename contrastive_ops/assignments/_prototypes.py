"""SwAV's prototypes: the directions that rows are assigned to."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote, to_unit_rows_


class Prototypes(nn.Module):
    r"""P unit vectors and the scores of embeddings against them.

    $$S_{bk} = \langle z_b, c_k \rangle, \qquad \lVert c_k \rVert = 1$$

    The prototypes are a parameter that the optimiser moves off the sphere: call `normalize_()` before each forward
    pass. There is no bias, and `z` is taken as given: normalise it for cosines. Scores are float32 under autocast
    too, since they are divided by 0.1 and by 0.05 next.

    Args:
        dim: D, width of the embeddings.
        num_prototypes: P.
        generator: draws the first directions; None is torch's default generator, as in other layers.

    Attributes:
        weight: (P, D) parameter, the prototypes.

    Raises:
        ValueError: `dim` or `num_prototypes` below 1, or embeddings of another width.
        TypeError: an argument is of the wrong type.

    Example:
        >>> prototypes = Prototypes(2, 3)
        >>> _ = nn.init.constant_(prototypes.weight, 2.0)
        >>> prototypes.normalize_()
        >>> prototypes(torch.tensor([[1.0, 0.0]])).detach()
        tensor([[0.7071, 0.7071, 0.7071]])

    References:
        Caron et al. (2020), section 3.1 and algorithm 1. The authors' code starts from torch's linear layer and
        normalises before the first forward pass; here the first prototypes are unit vectors, uniform on the sphere.
        For the first epoch they stay where they are: set `weight.grad = None` before the optimiser's step.
    """

    def __init__(self, dim: int, num_prototypes: int, *, generator: torch.Generator | None = None) -> None:
        _checks.is_count("dim", dim)
        _checks.is_count("num_prototypes", num_prototypes)
        _checks.is_generator(generator)
        super().__init__()
        device = None if generator is None else generator.device
        rows = torch.randn(num_prototypes, dim, generator=generator, device=device)
        to_unit_rows_(rows)
        self.weight = nn.Parameter(rows.to(torch.get_default_device()))

    def forward(self, z: Tensor) -> Tensor:
        """(B, P) float32 (float64 for float64 inputs) scores of the embeddings (B, D)."""
        _checks.is_floating("z", z, shape=("B", self.weight.shape[1]))
        _checks.same_device(prototypes=self.weight, z=z)
        scores: Tensor = _Products.apply(*promote(z, self.weight))
        return scores

    @torch.no_grad()
    def normalize_(self) -> None:
        """Bring every prototype back to length 1, in place."""
        to_unit_rows_(self.weight)

    def extra_repr(self) -> str:
        return f"dim={self.weight.shape[1]}, num_prototypes={self.weight.shape[0]}"


class _Products(torch.autograd.Function):
    """a b^T, in full precision both ways: autocast would cast the backward pass of a plain product."""

    @staticmethod
    def forward(ctx: Any, a: Tensor, b: Tensor) -> Tensor:
        ctx.save_for_backward(a, b)
        with full_precision(a.device):
            return a @ b.T

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        a, b = ctx.saved_tensors
        with full_precision(gradient.device):
            return gradient @ b, gradient.T @ a
