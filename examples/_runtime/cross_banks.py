"""Noise-contrastive estimation between modalities: each is scored against the memory banks of the others."""

from __future__ import annotations

import math
from collections.abc import Sequence
from itertools import permutations

import torch
from torch import Tensor, nn

from contrastive_ops import MemoryBank, NCEPartition, nce_loss


def directions(count: int, graph: str) -> list[tuple[int, int]]:
    """(a, b), both ways, for each pair of the graph: all pairs of `count` modalities ("full"), or those of 0."""
    return [(a, b) for a, b in permutations(range(count), 2) if graph == "full" or 0 in (a, b)]


def chance_of_pairs(count: int, graph: str, *, rows: int, noise: int = 0) -> float:
    """The loss of guessing: which of `rows` images, or, with noise, which of one image and so much noise is real."""
    guess = math.log1p(noise) + noise * math.log1p(1 / noise) if noise else math.log(rows)
    return len(directions(count, graph)) * guess


class CrossBanks(nn.Module):
    """A bank for each of `count` modalities, and a Z for each direction in which one is scored against another."""

    def __init__(
        self, num_data: int, dim: int, count: int, *, momentum: float = 0.5, partition_momentum: float | None = None
    ) -> None:
        super().__init__()
        self.num_data = num_data
        generators = [torch.Generator().manual_seed(i) for i in range(count)]  # the same on every rank
        self.banks = nn.ModuleList(MemoryBank(num_data, dim, momentum=momentum, generator=g) for g in generators)
        ways = directions(count, "full")
        self.partitions = nn.ModuleDict(
            {f"{a}-{b}": NCEPartition(num_data, momentum=partition_momentum) for a, b in ways}
        )

    def sample(self, batch: int, noise: int, *, generator: torch.Generator | None = None) -> Tensor:
        """(batch, noise) indices, for all banks together."""
        indices: Tensor = self.banks[0].sample(batch, noise, generator=generator)
        return indices

    def forward(
        self, embeddings: Sequence[Tensor], index: Tensor, noise: Tensor, *, temperature: float, graph: str = "full"
    ) -> Tensor:
        """The sum over directions; embeddings are unit rows (B, dim) of the images `index`, noise other indices."""
        positives, negatives = ([bank.lookup(i) for bank in self.banks] for i in (index, noise))
        losses = []
        for a, b in directions(len(self.banks), graph):
            partition = self.partitions[f"{a}-{b}"]
            partition.update(negatives[b] @ embeddings[a].detach().unsqueeze(2) / temperature)
            constants = {"log_partition": partition.log_partition, "num_data": self.num_data}
            losses.append(nce_loss(embeddings[a], positives[b], negatives[b], temperature=temperature, **constants))
        return torch.stack(losses).sum()

    def update(self, index: Tensor, embeddings: Sequence[Tensor]) -> None:
        """Moves each bank's entries of the images `index` towards their new embeddings, once."""
        for bank, rows in zip(self.banks, embeddings, strict=True):
            bank.update(index, rows.detach())
