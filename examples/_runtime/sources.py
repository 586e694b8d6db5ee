"""Where images come from: the embedded digits, CIFAR-10's archive, a folder of classes, or any data set of timm.

`load_images` returns the training images and those that the result is evaluated on. With `evaluate_on="validation"`
these are a part held out of the training images, so that settings are chosen without a look at the test images.
"""

from __future__ import annotations

import io
import pickle
import tarfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.utils.data import IterableDataset

from _runtime import digits
from _runtime.config import CommonConfig
from _runtime.data import FileImages, MemoryImages
from _runtime.launch import Run

Images = MemoryImages | FileImages
HELD_OUT = 0.1  # part of the training images that validates where the data have no split for it


def load_images(config: CommonConfig, run: Run) -> tuple[Images, Images]:
    """(training images, evaluation images) of the data set that `--data` names."""
    name, _, path = config.data.partition(":")
    device, evaluate_on = run.device, config.evaluate_on
    if name == "digits":
        splits = ("train", "test") if evaluate_on == "test" else ("fit", "validation")
        return digits_images(splits[0], device), digits_images(splits[1], device)
    train, test = cifar10(path, device) if name == "cifar10" else timm_images(name, path, size=config.image_size)
    if evaluate_on == "validation" or test is None:
        return hold_out(train)
    return train, test


def digits_images(split: str, device: torch.device) -> MemoryImages:
    """One split of the embedded data; always the same images, whatever the seed of the run."""
    data = digits.load(split)
    return MemoryImages(data.images.to(device), data.labels.to(device))


def hold_out(images: Images) -> tuple[Images, Images]:
    """Divides images in a fixed random way into those that train and those that validate."""
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    held = max(1, round(HELD_OUT * len(images)))
    return images.subset(order[held:].sort().values), images.subset(order[:held].sort().values)


def timm_images(name: str, path: str, *, size: int) -> tuple[FileImages, FileImages | None]:
    """`folder:PATH` and all names that timm knows: torch/cifar100:PATH, hfds/OWNER/NAME, a tar file, ..."""
    from timm.data import create_dataset

    if name == "folder" and not Path(path).is_dir():
        raise ValueError(
            f"--data: expected folder:PATH of an existing folder with a folder for each class, got {path!r}"
        )
    reader, root = ("" if name == "folder" else name), path or None
    train = create_dataset(reader, root=root, split="train")
    if isinstance(train, IterableDataset):
        raise ValueError(f"--data: {name!r} is a stream; a run that can be resumed needs images by index")
    if getattr(train, "reader", None) is not None and hasattr(train.reader, "class_to_idx"):
        classes: Any = train.reader.class_to_idx  # the same numbers in both splits, even where one lacks a class
        test = create_dataset(reader, root=root, split="validation", class_map=classes)
    else:
        test = create_dataset(reader, root=root, split="validation")
    stored = size * 8 // 7  # 256 for views of 224: what is resized and cut out before it reaches the device
    if name == "folder" and test.reader.root == train.reader.root:
        return FileImages(train, size=stored), None
    return FileImages(train, size=stored), FileImages(test, size=stored)


def cifar10(path: str, device: torch.device) -> tuple[MemoryImages, MemoryImages]:
    """CIFAR-10's python version: cifar-10-python.tar.gz, or the folder cifar-10-batches-py, or what contains it."""
    train = [read_cifar_batch(cifar_file(Path(path), f"data_batch_{i}")) for i in range(1, 6)]
    pixels, labels = (torch.cat(parts).to(device) for parts in zip(*train, strict=True))
    test_pixels, test_labels = read_cifar_batch(cifar_file(Path(path), "test_batch"))
    return MemoryImages(pixels, labels), MemoryImages(test_pixels.to(device), test_labels.to(device))


def cifar_file(path: Path, name: str) -> bytes:
    """The bytes of one batch file, from the archive or from the folder."""
    if path.is_file():
        with tarfile.open(path) as archive:
            member = next((m for m in archive if Path(m.name).name == name), None)
            content = archive.extractfile(member) if member else None
            if content:
                return content.read()
    for folder in (path, path / "cifar-10-batches-py"):
        if (folder / name).is_file():
            return (folder / name).read_bytes()
    raise ValueError(
        f"--data: expected cifar10:PATH of cifar-10-python.tar.gz or of the folder cifar-10-batches-py; "
        f"found no {name} in {str(path)!r}"
    )


def read_cifar_batch(content: bytes) -> tuple[Tensor, Tensor]:
    """uint8 images (N, 3, 32, 32) and labels (N,) of one pickled batch."""
    batch = ArrayUnpickler(io.BytesIO(content), encoding="bytes").load()
    return torch.from_numpy(batch[b"data"]).view(-1, 3, 32, 32), torch.tensor(batch[b"labels"])


class ArrayUnpickler(pickle.Unpickler):
    """Reads pickles of arrays and plain containers only: a pickle from elsewhere could run any code."""

    def find_class(self, module: str, name: str) -> Any:
        if module.split(".", maxsplit=1)[0] == "numpy" and name in ("_reconstruct", "ndarray", "dtype"):
            return super().find_class(module, name)
        if (module, name) == ("_codecs", "encode"):
            return super().find_class(module, name)
        raise pickle.UnpicklingError(f"a CIFAR-10 batch holds arrays and lists, found {module}.{name}")
