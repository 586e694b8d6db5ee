"""Losses and modules of other libraries, in the form that the kit takes; importable, as processes are spawned."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
import torch.distributed as dist
import torch.nn.functional as F
from lightly.loss import DINOLoss, NegativeCosineSimilarity, NTXentLoss, SwaVLoss
from lightly.models.modules.memory_bank import MemoryBankModule
from pytorch_metric_learning import losses as metric
from pytorch_metric_learning.utils import distributed as metric_distributed
from torch import Tensor, nn

from contrastive_ops.testing import laws
from contrastive_ops.testing.strategies import pairs

WORLDS = (*laws.EVEN_WORLD, *laws.WORLD)
T = 0.1


@dataclass(frozen=True)
class Subject:
    """What is checked: a loss, or (with `update`) a module that remembers."""

    package: str
    name: str
    make: Callable[[], Any]
    laws: tuple[Any, ...]
    remark: str
    inputs: Any = None
    update: Callable[[Any, Tensor], object] | None = None
    read: Callable[[Any], Tensor] | None = None
    max_rows: int | None = None


class Dino(nn.Module):
    """Both views through the student; the teacher's are the same without gradient."""

    def __init__(self) -> None:
        super().__init__()
        self.loss = DINOLoss(3)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        return self.loss([z1.detach(), z2.detach()], [z1, z2])


class Swav(nn.Module):
    """Unit rows stand for the scores, which are cosines there."""

    def __init__(self, **options: Any) -> None:
        super().__init__()
        self.loss = SwaVLoss(**options)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        return self.loss([F.normalize(z1), F.normalize(z2)], [])


class DistributedMetric(nn.Module):
    """NT-Xent of all ranks' pairs: labels that no other rank uses, as the wrapper's documentation asks."""

    def __init__(self, *, efficient: bool) -> None:
        super().__init__()
        self.alone = metric.NTXentLoss(temperature=T)
        self.together = metric_distributed.DistributedLossWrapper(self.alone, efficient=efficient)

    def forward(self, z1: Tensor, z2: Tensor) -> Tensor:
        rank = dist.get_rank() if dist.is_initialized() else 0
        labels = torch.arange(len(z1)).repeat(2) + 1000 * rank
        return (self.together if dist.is_initialized() else self.alone)(torch.cat([z1, z2]), labels)


def enqueue(bank: MemoryBankModule, rows: Tensor) -> None:
    bank(rows, update=True)


def bank_rows(bank: MemoryBankModule) -> Tensor:
    return bank.bank


def move_center(loss: DINOLoss, rows: Tensor) -> None:
    loss.update_center(rows.unsqueeze(0))


def remember(memory: metric.CrossBatchMemory, rows: Tensor) -> None:
    memory(rows, torch.arange(len(rows)))


def memory_rows(memory: metric.CrossBatchMemory) -> Tensor:
    return memory.embedding_memory


def cross_batch_memory() -> nn.Module:
    return metric.CrossBatchMemory(metric.NTXentLoss(), 2, memory_size=5)


SIMILARITY = (*laws.SIMILARITY, *WORLDS)
NT_XENT = (laws.view_swap, *laws.LOCAL, *WORLDS)
SCORES = (laws.permutation, laws.finite, *laws.BEHAVIOUR, *WORLDS)
# what is updated by a call of its own, in evaluation mode too: that the caller decides is no fault
ON_DEMAND = tuple(law for law in (*laws.HOLDER, laws.even_same_on_every_rank) if law is not laws.eval_never_mutates)

SUBJECTS = (
    Subject(
        "lightly", "NTXentLoss(temperature=0.1)", partial(NTXentLoss, temperature=T), NT_XENT,
        "`gather_distributed=False` is the documented default: each process is its own batch.",
    ),
    Subject(
        "lightly", "NTXentLoss(temperature=0.1, gather_distributed=True)",
        partial(NTXentLoss, temperature=T, gather_distributed=True), NT_XENT,
        "The gradient is exact for even batches; the value that it reports is that of the process.",
    ),
    Subject(
        "lightly", "NegativeCosineSimilarity()", NegativeCosineSimilarity, SIMILARITY,
        "A mean over the rows of the process, as most losses are.",
    ),
    Subject(
        "lightly", "DINOLoss(3)", Dino, (laws.precision, *SCORES),
        "Its centre moves whenever it is called, in `eval()` too. Half inputs are refused outside autocast.",
        inputs=pairs(dim=3, kinds=["plain", "hard", "near"]),
    ),
    Subject(
        "lightly", "DINOLoss(3).update_center", partial(DINOLoss, 3), ON_DEMAND,
        "The centre resumes; a new tensor takes its place at each update. A mean of the processes' means.",
        update=move_center,
    ),
    Subject(
        "lightly", "SwaVLoss()", Swav, (laws.view_swap, *SCORES),
        "`sinkhorn_gather_distributed=False` is the documented default.", inputs=pairs(dim=3),
    ),
    Subject(
        "lightly", "SwaVLoss(sinkhorn_gather_distributed=True)",
        partial(Swav, sinkhorn_gather_distributed=True), (laws.view_swap, *SCORES),
        "The assignments are those of all rows; the value that it reports is that of the process.",
        inputs=pairs(dim=3),
    ),
    Subject(
        "lightly", "MemoryBankModule((5, 2), gather_distributed=True)",
        partial(MemoryBankModule, (5, 2), gather_distributed=True), (laws.first_in_first_out, *ON_DEMAND),
        "Its buffers are kept out of the state_dict on purpose (`persistent=False`); ranks fill it at random first.",
        update=enqueue, read=bank_rows,
    ),
    Subject(
        "pytorch-metric-learning", "SelfSupervisedLoss(NTXentLoss(temperature=0.1))",
        lambda: metric.SelfSupervisedLoss(metric.NTXentLoss(temperature=T)), (laws.view_swap, *laws.LOCAL),
        "Made for one process; `DistributedLossWrapper` is there for several.",
    ),
    Subject(
        "pytorch-metric-learning", "DistributedLossWrapper(NTXentLoss(temperature=0.1))",
        partial(DistributedMetric, efficient=False), WORLDS,
        "Documented: the gradient of one process, for even batches. The value is W times that of one process.",
    ),
    Subject(
        "pytorch-metric-learning", "DistributedLossWrapper(NTXentLoss(temperature=0.1), efficient=True)",
        partial(DistributedMetric, efficient=True), WORLDS,
        "Documented: less memory and time, and gradients that are not those of one process.",
    ),
    Subject(
        "pytorch-metric-learning", "CrossBatchMemory(NTXentLoss(), 2, memory_size=5)", cross_batch_memory,
        (*laws.LOCAL_HOLDER, laws.first_in_first_out),
        "A larger batch than the memory is refused by an `assert`, so none is drawn here.",
        update=remember, read=memory_rows, max_rows=5,
    ),
)  # fmt: skip
