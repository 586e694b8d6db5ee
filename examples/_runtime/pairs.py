"""Which images are compared with which, by their labels: CRD's positives and negatives."""

from __future__ import annotations

import torch
from torch import Tensor

from _runtime.data import MemoryImages
from _runtime.launch import Run
from _runtime.sources import Images


class Pairs:
    """Draws, for each image of a batch, a positive and K others.

    What is drawn depends on (seed, step) and the place in the global batch alone: any number of ranks draw the same.
    """

    def __init__(self, labels: Tensor, run: Run, *, seed: int, positive: str, negatives: str) -> None:
        self.labels, self.run, self.seed = labels, run, seed
        self.relaxed, self.by_label = positive == "relax", negatives == "label"
        self.counts = labels.bincount()
        self.starts = self.counts.cumsum(0) - self.counts  # of each class among the images sorted by class
        self.sorted = labels.argsort(stable=True)
        if self.by_label and int(self.counts.max()) == len(labels):
            raise ValueError("--negatives: label needs images of at least two classes, got one; use --negatives index")

    def draw(self, batch: Tensor, count: int, *, step: int) -> Tensor:
        """(b, 1 + count) indices for this rank's rows of a global batch: a positive, then negatives."""
        device = self.labels.device
        generator = torch.Generator(device).manual_seed(7_654_321 * (self.seed + 1) + step)
        batch = batch.to(device)
        # far more values than images, so that the remainder is as good as uniform
        drawn = torch.randint(1 << 53, (len(batch), 1 + count), generator=generator, device=device)
        rows = torch.cat([self.positives(batch, drawn[:, :1]), self.negatives(batch, drawn[:, 1:])], dim=1)
        return rows.tensor_split(self.run.world_size)[self.run.rank]

    def positives(self, batch: Tensor, drawn: Tensor) -> Tensor:
        """The image itself, or any of its class."""
        if not self.relaxed:
            return batch.unsqueeze(1)
        label = self.labels[batch].unsqueeze(1)
        return self.sorted[self.starts[label] + drawn % self.counts[label]]

    def negatives(self, batch: Tensor, drawn: Tensor) -> Tensor:
        """Images of other classes, or any."""
        if not self.by_label:
            return drawn % len(self.labels)
        label = self.labels[batch].unsqueeze(1)
        place = drawn % (len(self.labels) - self.counts[label])
        return self.sorted[place + self.counts[label] * (place >= self.starts[label])]


def all_labels(images: Images) -> Tensor:
    """The label of every image, without decoding one."""
    if isinstance(images, MemoryImages):
        return images.labels
    source = getattr(images.files.source, "reader", images.files.source)
    labels = getattr(source, "targets", None)
    if labels is None and hasattr(source, "samples"):
        labels = [sample[1] for sample in source.samples]
    if labels is None:
        raise ValueError(
            f"--data: expected data that tell all labels before they are read, as folder:PATH does; got {source!r}"
        )
    return torch.as_tensor(labels)[images.index].long()
