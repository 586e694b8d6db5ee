"""Modules that remember, with one fault each; importable, as processes are spawned."""

from __future__ import annotations

import torch
import torch.distributed as dist
from torch import Tensor, nn

import contrastive_ops as co

K, DIM, M = 5, 2, 0.9


class Queue(nn.Module):
    """A sound ring, from which the faulty ones differ in one method or line."""

    keys: Tensor
    pointer: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("keys", torch.zeros(K, DIM))
        self.register_buffer("pointer", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def enqueue(self, rows: Tensor) -> None:
        if self.training:
            rows = co.all_gather(rows)
            places = (int(self.pointer) + torch.arange(len(rows)))[-K:] % K
            self.keys[places] = rows[-K:]
            self.pointer += len(rows)


class DropsAtTheWrap(Queue):
    @torch.no_grad()
    def enqueue(self, rows: Tensor) -> None:
        if self.training:
            rows = co.all_gather(rows)
            first = int(self.pointer)
            fitting = rows[: K - first]
            self.keys[first : first + len(fitting)] = fitting
            self.pointer.fill_((first + len(rows)) if first + len(rows) < K else 0)


class PointerIsAnAttribute(Queue):
    def __init__(self) -> None:
        super().__init__()
        del self.pointer
        self.pointer = 0

    @torch.no_grad()
    def enqueue(self, rows: Tensor) -> None:
        if self.training:
            rows = co.all_gather(rows)
            self.keys[(self.pointer + torch.arange(len(rows)))[-K:] % K] = rows[-K:]
            self.pointer = self.pointer + len(rows)


class EnqueuesInEval(Queue):
    def enqueue(self, rows: Tensor) -> None:
        training = self.training
        self.train()
        super().enqueue(rows)
        self.train(training)


class LocalQueue(Queue):
    @torch.no_grad()
    def enqueue(self, rows: Tensor) -> None:
        if self.training:
            self.keys[(int(self.pointer) + torch.arange(len(rows)))[-K:] % K] = rows[-K:]
            self.pointer += len(rows)


class Center(nn.Module):
    """A sound moving mean of all ranks' rows."""

    center: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("center", torch.zeros(DIM))

    def mean(self, rows: Tensor) -> Tensor:
        return co.all_gather(rows).mean(0)

    @torch.no_grad()
    def update(self, rows: Tensor) -> None:
        if self.training:
            self.center.mul_(M).add_((1 - M) * self.mean(rows))


class MeanOfLocalMeans(Center):
    def mean(self, rows: Tensor) -> Tensor:
        mean = rows.mean(0) if len(rows) else torch.zeros(DIM)
        if dist.is_initialized():
            dist.all_reduce(mean)
            mean /= dist.get_world_size()
        return mean


class LocalMean(Center):
    def mean(self, rows: Tensor) -> Tensor:
        return rows.mean(0) if len(rows) else torch.zeros(DIM)


class NotInTheStateDict(Center):
    def __init__(self) -> None:
        super().__init__()
        del self.center
        self.register_buffer("center", torch.zeros(DIM), persistent=False)


class SharedByCopies(Center):
    def __deepcopy__(self, memo: object) -> SharedByCopies:
        return self


def rows_held(queue: Queue) -> Tensor:
    return queue.keys
