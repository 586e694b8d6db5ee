"""From this rank's rows to the value that every rank reports."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops.collectives import sum_over_ranks
from contrastive_ops.kernels import reduced

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

REDUCTIONS = ("mean", "sum", "none")


def check_options(*, reduction: str = "mean", normalize: bool = True, block_size: int | None = None) -> None:
    """The options that most losses share."""
    _checks.is_choice("reduction", reduction, REDUCTIONS)
    _checks.is_flag("normalize", normalize)
    if block_size is not None:
        _checks.is_count("block_size", block_size)


def check_rows(name: str, x: Tensor, group: ProcessGroup | None) -> None:
    """An empty batch is an error alone and fine on one rank of several."""
    if len(x) == 0 and group is None:
        raise ValueError(f"{name}: expected at least one row, got {_checks.show(x)}; skip the step of an empty batch")


def reduce_rows(rows: Tensor, reduction: str, group: ProcessGroup | None, *, name: str) -> Tensor:
    """ "none": this rank's rows. "sum", "mean": over all rows of the group, the same on every rank.

    The value is the all-reduced sum of local sums (over the all-reduced count); the gradient is W times the local
    part, so that the mean over ranks which DDP takes is the gradient of the value.
    """
    if reduction == "none":
        return rows
    if group is None:
        return reduced(rows, reduction)
    # always float64: ranks whose inputs differ in dtype must not send each other another number of bytes
    total = sum_over_ranks(
        torch.stack([rows.sum().double(), rows.new_tensor(rows.numel(), dtype=torch.float64)]), group
    )
    if _checks.readable(total) and not bool(total[1].detach()):
        raise ValueError(f"{name}: expected at least one row on some rank, got an empty batch on every rank")
    value = total[0] / total[1].detach() if reduction == "mean" else total[0]
    return value.to(rows.dtype)
