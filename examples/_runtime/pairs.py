"""Which images are compared with which, by their labels: CRD's negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from _runtime.launch import Run


class Pairs:
    """Draws K other images for each image of a batch: of other classes, or any.

    What is drawn depends on (seed, step) and the place in the global batch alone: any number of ranks draw the same.
    """

    def __init__(self, labels: Tensor, run: Run, *, seed: int, by_label: bool) -> None:
        self.labels, self.run, self.seed, self.by_label = labels.to(run.device), run, seed, by_label
        self.counts = self.labels.bincount()
        self.starts = self.counts.cumsum(0) - self.counts  # of each class among the images sorted by class
        self.sorted = self.labels.argsort(stable=True)
        if by_label and int(self.counts.max()) == len(labels):
            raise ValueError("--negatives: label needs images of two classes or more, got one; use --negatives index")

    def draw(self, batch: Tensor, count: int, *, step: int) -> Tensor:
        """(b, 1 + count) indices for this rank's rows of a global batch: the image itself, then its negatives."""
        device = self.run.device
        batch = batch.to(device).unsqueeze(1)
        generator = torch.Generator(device).manual_seed(7_654_321 * (self.seed + 1) + step)
        # far more values than images, so that the remainder is as good as uniform
        drawn = torch.randint(1 << 53, (len(batch), count), generator=generator, device=device)
        negatives = self.of_other_classes(batch, drawn) if self.by_label else drawn % len(self.labels)
        return torch.cat([batch, negatives], dim=1).tensor_split(self.run.world_size)[self.run.rank]

    def of_other_classes(self, batch: Tensor, drawn: Tensor) -> Tensor:
        """The drawn numbers as places among the images sorted by class, with the image's own class stepped over."""
        label = self.labels[batch]
        place = drawn % (len(self.labels) - self.counts[label])
        return self.sorted[place + self.counts[label] * (place >= self.starts[label])]
