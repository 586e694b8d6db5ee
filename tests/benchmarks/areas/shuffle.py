"""Shuffling BN: rows of images change places over the processes."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor

import contrastive_ops as co
from tests.benchmarks.contest import FLOOR, FORM, OURS, Area, Contest, Entry, Growth, Run, Size
from tests.benchmarks.targets import bytes_below, faster, memory_below

SCATTER = 1.05  # a uniform permutation moves this share of rows on the average, not each time


def _batch(size: Size) -> Tensor:
    """Images of this rank; the first pixel is the image's number in the global batch."""
    rank, count, side = dist.get_rank(), int(size["B"]), int(size["side"])
    images = torch.zeros(count, 3, side, side)
    images[:, 0, 0, 0] = torch.arange(count) + rank * count
    return images


def _ours(size: Size) -> Run:
    images = _batch(size)
    shuffled, handle = co.shuffle_bn(images)
    if not co.unshuffle_bn(shuffled, handle).equal(images):
        raise AssertionError("unshuffle_bn did not bring the rows back")
    return lambda: [co.shuffle_bn(images)[0]]


def _released(size: Size) -> Run:
    """Every rank gathers all images, takes rank 0's permutation and picks its part."""
    images, ranks, rank = _batch(size), dist.get_world_size(), dist.get_rank()

    def run() -> list[Tensor]:
        parts = [torch.empty_like(images) for _ in range(ranks)]
        dist.all_gather(parts, images)
        everything = torch.cat(parts)
        order = torch.randperm(len(everything))
        dist.broadcast(order, src=0)
        return [everything[order.view(ranks, -1)[rank]]]

    return run


def _local(size: Size) -> Run:
    images = _batch(size)
    order = torch.randperm(len(images))
    return lambda: [images[order]]


def _numbers(outcome: list[Tensor]) -> list[Tensor]:
    """The images that all ranks hold together, in order."""
    own = outcome[0][:, 0, 0, 0].contiguous()
    parts = [torch.empty_like(own) for _ in range(dist.get_world_size())]
    dist.all_gather(parts, own)
    return [torch.cat(parts).sort().values]


def contest(size: Size) -> Contest:
    total = int(size["W"]) * int(size["B"])
    entries = {
        "local index": Entry(lambda: _local(size), FLOOR),
        "ours": Entry(lambda: _ours(size), OURS),
        "released gather form": Entry(lambda: _released(size), FORM),
    }
    return Contest(entries, lambda: [torch.arange(total).float()], tolerance=0, digest=_numbers)


def _at(ranks: int, batch: int) -> Size:
    return {"W": ranks, "B": batch, "side": 224}


SIZES = [_at(2, 64), _at(4, 32)]


def _bytes(size: Size) -> int:
    return int(size["B"]) * 3 * int(size["side"]) ** 2 * 4


AREAS = (
    Area(
        "shuffle_bn", "Shuffling BN",
        "B images of 3 x 224 x 224 numbers on each of W gloo processes of this machine; b is their bytes. The floor "
        "is an index within one process. The released form gathers all images on every rank.",
        contest, sizes=SIZES, quick=[{"W": 2, "B": 8, "side": 32}], toy={"W": 2, "B": 4, "side": 4}, remember=SIZES,
        targets=[
            target
            for size, times in zip(SIZES, (2, 5), strict=True)
            for target in (
                bytes_below(
                    SCATTER * (int(size["W"]) - 1) / int(size["W"]), _bytes(size),
                    "bytes received <= (W - 1) / W x b, and 5 % for the scatter of permutations", size,
                ),
                memory_below(2.1 * _bytes(size) / 2**20, "2.1 b", size),
                faster("released gather form", times, size),
            )
        ],
        in_processes=True, rounds=9, seconds=12.0, growth=(Growth("W", {"side": 224}, "processes"),),
    ),
)  # fmt: skip
