"""What an operation allocates: a fact, where seconds and bytes in use are noise."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves


class Allocations(TorchDispatchMode):
    """Bytes of every tensor that is made inside: results in memory of their own, not views, not written arguments."""

    def __init__(self) -> None:
        super().__init__()
        self.made: list[int] = []

    @property
    def largest(self) -> int:
        return max(self.made, default=0)

    def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        result = func(*args, **(kwargs or {}))
        given = {_memory(x) for x in tree_leaves((args, kwargs)) if isinstance(x, Tensor)}
        new = [x for x in tree_leaves(result) if isinstance(x, Tensor) and _memory(x) not in given]
        self.made += [x.untyped_storage().nbytes() for x in new]
        return result


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
