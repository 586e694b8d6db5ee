"""SwAV's network, whose output are scores against prototypes, and its queues, of which every rank has its own."""

from __future__ import annotations

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _runtime.launch import Run
from contrastive_ops import NegativeQueue, Prototypes, all_gather, multi_crop_forward


class PrototypeNetwork(nn.Module):
    """Unit embeddings of each crop and their scores; the head sees the crops of all sizes together."""

    def __init__(self, encoder: nn.Module, head: nn.Module, prototypes: Prototypes) -> None:
        super().__init__()
        self.encoder, self.head, self.prototypes = encoder, head, prototypes

    def forward(self, crops: list[Tensor]) -> tuple[tuple[Tensor, ...], tuple[Tensor, ...]]:
        z = F.normalize(self.head(multi_crop_forward(self.encoder, crops)).float())
        return z.tensor_split(len(crops)), self.prototypes(z).tensor_split(len(crops))


class RankQueues:
    """A queue of this rank's own embeddings for each of `count` crops, with its share of `size` rows; 0: no queues.

    Checkpoints hold those of all ranks. Another number of ranks begins with empty ones, which a few steps fill again.
    """

    def __init__(self, count: int, size: int, dim: int, run: Run) -> None:
        if not (size == 0 or size >= run.world_size):
            raise ValueError(f"--queue-size: expected 0, or a row for each of {run.world_size} ranks, got {size}")
        queues = (NegativeQueue(size // run.world_size, dim, init="zeros") for _ in range(count if size else 0))
        self.queues, self.run = nn.ModuleList(queues).to(run.device), run

    @torch.no_grad()
    def exchange(self, crop: int, z: Tensor, *, begun: bool) -> Tensor:
        """What the crop's queue held before it takes z (B, D): (rows, D), none of them until it is full."""
        earlier = z[:0].detach()
        if begun and len(self.queues):
            queue = self.queues[crop]
            if queue.num_filled == len(queue.keys):
                earlier = queue.keys.clone()
            queue.enqueue(z, group=False)
        return earlier

    def state_dict(self) -> dict[str, Any]:
        """The buffers of all ranks, one rank after another; called on every rank."""
        gathered = {name: all_gather(value.unsqueeze(0)) for name, value in self.queues.state_dict().items()}
        return {"world_size": self.run.world_size, "buffers": gathered}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """This rank's own."""
        if state["world_size"] == self.run.world_size:
            self.queues.load_state_dict({name: values[self.run.rank] for name, values in state["buffers"].items()})
