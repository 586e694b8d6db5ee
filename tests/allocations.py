"""What an operation allocates: a fact, where seconds and bytes in use are noise."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import torch
from torch import Tensor
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Bytes of every tensor that is made inside: results in memory of their own, not views, not written arguments.

    `made` lists them; `peak` is the most that existed of them at once.
    """

    def __init__(self) -> None:
        super().__init__()
        self.made: list[int] = []
        self.peak = 0
        self._alive: list[tuple[StorageWeakRef, int]] = []

    @property
    def largest(self) -> int:
        return max(self.made, default=0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_memory(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        new = [x for x in tree_leaves(result) if isinstance(x, Tensor) and _memory(x) not in given]
        self._remember({_memory(x): x.untyped_storage() for x in new}.values())
        return result

    def _remember(self, storages: Iterable[torch.UntypedStorage]) -> None:
        for storage in storages:
            self.made.append(storage.nbytes())
            self._alive.append((StorageWeakRef(storage), storage.nbytes()))
        self._alive = [(ref, size) for ref, size in self._alive if not ref.expired()]
        self.peak = max(self.peak, sum(size for _, size in self._alive))


def _memory(x: Tensor) -> int:
    return x.untyped_storage()._cdata


def size(*tensors: Tensor) -> int:
    """Bytes of these tensors."""
    return sum(x.numel() * x.element_size() for x in tensors)


def allocated(call: Any, *args: Any, **options: Any) -> Allocations:
    """What one call allocates."""
    with Allocations() as seen, torch.no_grad():
        call(*args, **options)
    return seen


class Largest(TorchDispatchMode):
    """Remembers the largest tensor that any operation made, in numbers: also one that has no memory of its own."""

    def __init__(self) -> None:
        super().__init__()
        self.numel = 0

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        for x in result if isinstance(result, (tuple, list)) else (result,):
            self.numel = max(self.numel, x.numel() if isinstance(x, Tensor) else 0)
        return result
