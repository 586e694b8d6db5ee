"""Order of images, division among ranks, readers of real data, and what happens to images that cannot be read."""

import pickle
import tarfile
from pathlib import Path
from types import SimpleNamespace
from typing import Literal

import numpy as np
import pytest
import torch
from _runtime import CommonConfig, Run, data, sources
from _runtime.sources import Images
from PIL import Image

CPU = torch.device("cpu")


def ranks(count: int) -> list[SimpleNamespace]:
    return [SimpleNamespace(rank=rank, world_size=count, device=CPU) for rank in range(count)]


def load(data: str, *, size: int, evaluate_on: Literal["test", "validation"] = "test") -> tuple[Images, Images]:
    config = CommonConfig(data=data, image_size=size, evaluate_on=evaluate_on)
    return sources.load_images(config, Run(0, 0, 1, CPU))


@pytest.mark.parametrize(("count", "batch_size"), [(100, 10), (100, 32), (101, 25), (5, 64), (130, 64), (64, 64)])
def test_epochs_are_shuffled_differently_and_only_a_small_rest_is_left_out(count: int, batch_size: int):
    epochs = [data.global_batches(count, batch_size=batch_size, seed=3, epoch=epoch) for epoch in (0, 0, 1)]
    seen = [torch.cat(batches) for batches in epochs]
    assert torch.equal(seen[0], seen[1])
    assert not torch.equal(seen[0], seen[2])
    assert len(seen[0].unique()) == len(seen[0]) > count - batch_size / 4
    assert len(epochs[0]) == data.steps_per_epoch(count, batch_size)


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_divide_the_same_global_batches(world_size: int):
    images = data.MemoryImages(torch.arange(50).view(50, 1, 1, 1), torch.arange(50))
    batches = data.global_batches(50, batch_size=8, seed=0, epoch=4)
    read = [list(images.read(batches, run=run, workers=0)) for run in ranks(world_size)]
    for step, batch in enumerate(batches):
        parts = [read[rank][step] for rank in range(world_size)]
        assert torch.equal(torch.cat([part.indices for part in parts]), batch)
        assert torch.equal(torch.cat([part.images for part in parts]).flatten(), batch)


def write_folder(root: Path, per_class: int, split: str = "") -> Path:
    """Images of one grey level each: class a dark, class b bright, so that reading the wrong one shows."""
    for label, name in enumerate("ab"):
        folder = root / split / name
        folder.mkdir(parents=True)
        for i in range(per_class):
            Image.new("RGB", (20 + i % 7, 24), (i, i, 200 * label)).save(folder / f"{i:03d}.png")
    return root


@pytest.mark.parametrize("workers", [0, 2])
def test_folder_of_classes(tmp_path: Path, workers: int):
    for split in ("train", "val"):
        write_folder(tmp_path, 6, split)
    train, test = load(f"folder:{tmp_path}", size=14)
    assert (len(train), len(test)) == (12, 12)
    batch = next(train.read([torch.tensor([7, 2])], run=ranks(1)[0], workers=workers))
    assert batch.images.shape == (2, 3, 16, 16)
    assert batch.images[:, :, 0, 0].tolist() == [[1, 1, 200], [2, 2, 0]]
    assert (batch.labels.tolist(), batch.indices.tolist()) == ([1, 0], [7, 2])


def test_folder_without_splits_is_divided(tmp_path: Path):
    train, test = load(f"folder:{write_folder(tmp_path, 10)}", size=14)
    assert (len(train), len(test)) == (18, 2)
    assert not set(train.index.tolist()) & set(test.index.tolist())


def test_any_name_of_timm(tmp_path: Path):
    for split in ("train", "val"):
        write_folder(tmp_path, 3, split)
    train, test = load(f"torch/folder:{tmp_path}", size=14)
    batch = next(train.read([torch.tensor([4])], run=ranks(1)[0], workers=0))
    assert (len(train), len(test), batch.labels.tolist()) == (6, 6, [1])


def write_cifar(root: Path, per_batch: int) -> tuple[Path, np.ndarray]:
    folder = root / "cifar-10-batches-py"
    folder.mkdir()
    random = np.random.default_rng(0)
    pixels = random.integers(0, 256, (6, per_batch, 3072), dtype=np.uint8)
    for part, name in zip(pixels, [*(f"data_batch_{i}" for i in range(1, 6)), "test_batch"], strict=True):
        batch = {b"data": part, b"labels": [i % 10 for i in range(per_batch)], b"filenames": [b"x.png"] * per_batch}
        (folder / name).write_bytes(pickle.dumps(batch, protocol=2))
    return folder, pixels


@pytest.mark.parametrize("form", ["folder", "parent", "archive"])
def test_cifar10(tmp_path: Path, form: str):
    folder, pixels = write_cifar(tmp_path, 7)
    path = {"folder": folder, "parent": tmp_path, "archive": tmp_path / "cifar-10-python.tar.gz"}[form]
    if form == "archive":
        with tarfile.open(path, "w:gz") as archive:
            archive.add(folder, "cifar-10-batches-py")
    train, test = load(f"cifar10:{path}", size=32)
    assert torch.equal(train.pixels, torch.from_numpy(pixels[:5]).view(35, 3, 32, 32))
    assert torch.equal(test.pixels, torch.from_numpy(pixels[5]).view(7, 3, 32, 32))
    assert train.labels.tolist() == [*range(7)] * 5
    held = load(f"cifar10:{path}", size=32, evaluate_on="validation")
    assert [len(images) for images in held] == [31, 4]


def test_cifar10_batches_cannot_run_code(tmp_path: Path):
    (tmp_path / "data_batch_1").write_bytes(pickle.dumps(print))
    with pytest.raises(pickle.UnpicklingError, match=r"found builtins\.print|found __builtin__\.print"):
        load(f"cifar10:{tmp_path}", size=32)


def test_what_is_missing_is_named(tmp_path: Path):
    with pytest.raises(ValueError, match="found no data_batch_1 in"):
        load(f"cifar10:{tmp_path}", size=32)
    with pytest.raises(ValueError, match="expected folder:PATH of an existing folder"):
        load("folder:/nowhere", size=32)


def test_an_unreadable_image_is_named_and_replaced_by_its_neighbour(tmp_path: Path, capsys):
    broken = write_folder(tmp_path, 10) / "a" / "003.png"
    broken.write_bytes(broken.read_bytes()[:40])
    images = sources.timm_images("folder", str(tmp_path), size=14)[0]
    for _ in range(2):
        batch = next(images.read([torch.arange(20)], run=ranks(1)[0], workers=0))
        assert batch.images[3, 0, 0, 0] == 4
    assert len(images.unreadable) == 1
    said = capsys.readouterr().err
    assert said.count(str(broken)) == 1 + said.count("identify image file")  # once, though it was met twice


def test_too_many_missing_images_stop_the_run(tmp_path: Path):
    write_folder(tmp_path, 10)
    images = sources.timm_images("folder", str(tmp_path), size=14)[0]
    for i in (2, 5):
        (tmp_path / "b" / f"{i:03d}.png").unlink()
    with pytest.raises(RuntimeError, match=r"2 of 20 images cannot be read, more than 1%.*b/005\.png"):
        next(images.read([torch.arange(20)], run=ranks(1)[0], workers=0))
