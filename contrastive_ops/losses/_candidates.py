"""What a softmax over candidates is made of: everyone's keys, the own one's place, and how sharp the softmax is."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops.collectives import gather_rows

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def gather_candidates(
    keys: Tensor, group: ProcessGroup | None, *, name: str, columns: int | None = None
) -> tuple[Tensor, Tensor]:
    """The keys of all ranks (their gradients come back summed), and (B, 1) which of them are this rank's own."""
    own = torch.arange(len(keys), device=keys.device)
    if group is None:
        return keys, own.unsqueeze(1)
    keys, sizes = gather_rows(keys, group, name=name, columns=columns)
    return keys, (own + sum(sizes[: group.rank()])).unsqueeze(1)


def sharpness(temperature: float | Tensor, *, normalize: bool) -> tuple[float | Tensor, float | None]:
    """What multiplies inner products, and what no logit exceeds where rows are of unit length.

    The second is a number, or None where it could not be read without waiting for a device.
    """
    scale = 1 / temperature
    return scale, largest_logit(scale, normalize=normalize)


def largest_logit(scale: float | Tensor, *, normalize: bool) -> float | None:
    """What no logit exceeds where rows are of unit length, if it is known."""
    if isinstance(scale, Tensor):
        return float(scale.detach()) if normalize and _checks.readable(scale) else None
    return float(scale) if normalize else None
