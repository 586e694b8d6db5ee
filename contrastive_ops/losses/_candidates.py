"""What a softmax over candidates is made of: everyone's keys, and the own one's place."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

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
