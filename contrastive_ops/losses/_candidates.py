"""What a softmax over candidates is made of: everyone's keys, the own one's place, and the cross-entropy."""

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
    """The keys of all ranks (their gradients come back summed), and (B,) which of them are this rank's own."""
    own = torch.arange(len(keys), device=keys.device)
    if group is None:
        return keys, own
    keys, sizes = gather_rows(keys, group, name=name, columns=columns)
    return keys, own + sum(sizes[: group.rank()])


def candidate_loss(positive: Tensor, negative: Tensor) -> Tensor:
    """-log of the positive's share, from its logit and the log sum exp of the negatives' (-inf where there is none).

    log(1 + e^x) keeps the digits of a small loss, which the difference of two logarithms loses.
    """
    return torch.logaddexp(torch.zeros_like(negative), negative - positive)
