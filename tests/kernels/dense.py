"""The passes in float64 with the whole matrix of logits, and their gradients by autograd."""

from __future__ import annotations

import torch
from torch import Tensor


def dense_logits(
    own: Tensor,
    other: Tensor,
    *,
    scale: float = 1.0,
    mask: Tensor | None = None,
    drop: Tensor | None = None,
    drop_own: bool = False,
) -> Tensor:
    """(..., N, M) float64 logits, -inf where something drops them."""
    logits = scale * own @ other.transpose(-1, -2)
    columns = torch.arange(other.shape[-2], device=own.device)
    if mask is not None:
        logits = logits.masked_fill(mask, float("-inf"))
    if drop is not None:
        logits = logits.masked_fill((drop.unsqueeze(-1) == columns).any(-2), float("-inf"))
    if drop_own:
        logits = logits.masked_fill(torch.eye(len(columns), dtype=torch.bool, device=own.device), float("-inf"))
    return logits


def dense_lse(logits: Tensor) -> Tensor:
    """Log-sum-exp over the last dimension, -inf without a gradient where nothing is left."""
    empty = (logits == float("-inf")).all(-1)
    return logits.masked_fill(empty.unsqueeze(-1), 0).logsumexp(-1).masked_fill(empty, float("-inf"))


def pulled(*sides: tuple[Tensor, Tensor]) -> Tensor:
    """sum of pull * lse over (lse, pull) of one or two directions: its gradients are what the passes return."""
    return sum(((pull * lse.masked_fill(lse == float("-inf"), 0)).sum() for lse, pull in sides), torch.tensor(0.0))


def wide(*tensors: Tensor) -> list[Tensor]:
    """Leaves in float64 with the very same values."""
    return [x.detach().double().requires_grad_() for x in tensors]


def relative(ours: Tensor | None, exact: Tensor) -> float:
    """Norm of the error over the norm; infinite where -inf, NaN, shape or dtype differ."""
    exact = exact.detach()
    if ours is None or ours.shape != exact.shape or ours.dtype != torch.float32:
        return float("inf")
    finite = exact.isfinite()
    if not torch.equal(ours.isfinite(), finite) or not torch.equal(ours[~finite].double(), exact[~finite]):
        return float("inf")
    difference = (ours.double() - exact)[finite].norm()
    return (difference / exact[finite].norm().clamp_min(1e-30)).item()
