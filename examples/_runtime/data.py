"""Images in memory or in files, in an order that depends on (seed, epoch) alone.

The order is that of the global batches, which the ranks divide among themselves: with any number of ranks a step sees
the same images, and "step 1234" is all there is to remember of the sampler's position.
"""

from __future__ import annotations

import signal
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset

from _runtime.launch import Run

UNREADABLE_LIMIT = 0.01  # of the images of a data set; one is always forgiven


class Batch(NamedTuple):
    """This rank's part of a global batch: uint8 images (B, 3, H, W), labels (B,) and indices (B,), on the device."""

    images: Tensor
    labels: Tensor
    indices: Tensor


def global_batches(count: int, *, batch_size: int, seed: int, epoch: int) -> list[Tensor]:
    """The shuffled indices of an epoch in batches; a last batch below a quarter of a batch is left out.

    So small a rest would be noise for batch normalisation; its images come in another epoch.
    """
    generator = torch.Generator().manual_seed(seed * 1_000_003 + epoch)
    batches = list(torch.randperm(count, generator=generator).split(batch_size))
    return batches[:-1] if len(batches) > 1 and 4 * len(batches[-1]) < batch_size else batches


def steps_per_epoch(count: int, batch_size: int) -> int:
    """How many batches `global_batches` makes."""
    full, rest = divmod(count, batch_size)
    return max(1, full + (4 * rest >= batch_size and rest > 0))


@dataclass(frozen=True)
class MemoryImages:
    """Images that fit in memory: uint8 `pixels` (N, 3, H, W) and `labels` (N,), on the device they are used on."""

    pixels: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.pixels)

    def subset(self, index: Tensor) -> MemoryImages:
        index = index.to(self.pixels.device)
        return MemoryImages(self.pixels[index], self.labels[index])

    def read(self, batches: Sequence[Tensor], *, run: Run, workers: int) -> Iterator[Batch]:
        """This rank's part of each of the given global batches of indices."""
        for batch in batches:
            index = batch.tensor_split(run.world_size)[run.rank].to(self.pixels.device)
            yield Batch(self.pixels[index], self.labels[index], index)


class FileImages:
    """Images that worker processes decode and resize to uint8 squares as they are needed."""

    def __init__(self, source: Dataset[Any], *, size: int, index: Tensor | None = None) -> None:
        self.files = Decoded(source, size)
        self.index = torch.arange(len(self.files)) if index is None else index
        self.unreadable: dict[int, str] = {}

    def __len__(self) -> int:
        return len(self.index)

    def subset(self, index: Tensor) -> FileImages:
        return FileImages(self.files.source, size=self.files.size, index=self.index[index])

    def read(self, batches: Sequence[Tensor], *, run: Run, workers: int) -> Iterator[Batch]:
        """This rank's part of each of the given global batches of indices, decoded ahead of their use."""
        parts = [batch.tensor_split(run.world_size)[run.rank] for batch in batches]
        loader = DataLoader(
            self.files,
            batch_sampler=[self.index[part].tolist() for part in parts],
            num_workers=workers,
            collate_fn=collate,
            pin_memory=run.device.type == "cuda",
            worker_init_fn=leave_interrupts_to_the_trainer,
            generator=torch.Generator(),  # the loader draws a seed; not from the generator of the run
        )
        for part, (pixels, labels, failures) in zip(parts, loader, strict=True):
            self.note(failures)
            yield Batch(pixels.to(run.device, non_blocking=True), labels.to(run.device), part.to(run.device))

    def note(self, failures: list[tuple[int, str]]) -> None:
        """Names each unreadable image once, counts them, and stops where they are too many."""
        for index, reason in failures:
            if index not in self.unreadable:
                self.unreadable[index] = reason
                print(f"unreadable image {len(self.unreadable)}, replaced by its neighbour: {reason}", file=sys.stderr)
        if len(self.unreadable) > max(1, UNREADABLE_LIMIT * len(self)):
            raise RuntimeError(
                f"{len(self.unreadable)} of {len(self)} images cannot be read, more than {UNREADABLE_LIMIT:.0%}; "
                f"the last was {self.unreadable[next(reversed(self.unreadable))]}. Repair or remove them."
            )


class Decoded(Dataset[Any]):
    """Decodes image i to an uint8 square; the next readable neighbour stands in for one that cannot be read."""

    def __init__(self, source: Any, size: int) -> None:
        self.source, self.size = source, size

    def __len__(self) -> int:
        return len(self.source)

    def __getitem__(self, index: int) -> tuple[Tensor, int, list[tuple[int, str]]]:
        failures: list[tuple[int, str]] = []
        for candidate in (torch.arange(index, index + min(10, len(self))) % len(self)).tolist():
            try:
                return *decode(self.source, candidate, self.size), failures
            except Exception as error:  # decoders raise almost anything on broken files
                failures.append((candidate, f"{name_of(self.source, candidate)} ({error})"))
        raise RuntimeError("ten images in a row cannot be read: " + "; ".join(reason for _, reason in failures))


def decode(source: Any, index: int, size: int) -> tuple[Tensor, int]:
    """Image and label of a data set of timm (through its reader, which hides no error) or of torchvision."""
    from PIL import Image

    if not hasattr(source, "reader"):
        image, label = source[index]
        return square(image, size), int(label)
    file, label, *_ = source.reader[index]
    with file:
        return square(Image.open(file), size), -1 if label is None else int(label)


def name_of(source: Any, index: int) -> str:
    """The file name of an image where the data set knows one."""
    return source.filename(index, absolute=True) if hasattr(source, "filename") else f"image {index}"


def square(image: Any, size: int) -> Tensor:
    """The shorter side resized to `size`, the centre cut out, as uint8 (3, size, size)."""
    image.draft("RGB", (size, size))  # lets the JPEG decoder skip detail that the resizing would remove
    image = image.convert("RGB")
    scale = size / min(image.size)
    width, height = (max(size, round(side * scale)) for side in image.size)
    left, top = (width - size) // 2, (height - size) // 2
    image = image.resize((width, height)).crop((left, top, left + size, top + size))
    return torch.from_numpy(np.array(image)).permute(2, 0, 1)


def collate(items: list[tuple[Tensor, int, list[tuple[int, str]]]]) -> tuple[Tensor, Tensor, list[tuple[int, str]]]:
    """Stacks a batch; a rank whose part of an uneven batch is empty gets an empty batch."""
    images = torch.stack([item[0] for item in items]) if items else torch.empty(0, 3, 1, 1, dtype=torch.uint8)
    return images, torch.tensor([item[1] for item in items], dtype=torch.long), [f for item in items for f in item[2]]


def leave_interrupts_to_the_trainer(worker: int) -> None:
    """Ctrl-C reaches every process of the terminal; the trainer finishes its step and still needs its workers."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
