"""Which passes run: torch's own operations anywhere, or Triton's kernels on NVIDIA GPUs."""

from __future__ import annotations

import os
import shutil
import sysconfig
from collections.abc import Iterator
from contextlib import contextmanager
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

import torch
from torch import Tensor

from contrastive_ops.kernels import _passes


def _can_build() -> bool:
    """Whether Triton has what it builds the launchers of its kernels with: a C compiler and Python's headers."""
    compilers = (os.environ.get("CC", ""), "gcc", "clang")
    headers = Path(sysconfig.get_paths()["include"], "Python.h")
    return headers.exists() and any(name and shutil.which(name) for name in compilers)


# asked once, here: torch.compile follows no questions to the system
TRITON_IS_HERE = torch.version.cuda is not None and find_spec("triton") is not None and _can_build()
LARGEST_WIDTH = 1024  # that the kernels were written and checked for
_chosen: ModuleType | None = None


def passes(x: Tensor) -> ModuleType:
    """The module whose attend, keys_gradient, rows_gradient, ... run for tensors like x.

    Triton is imported by the first float32 tensor on an NVIDIA GPU, and never without one.
    """
    if _chosen is not None:
        return _chosen
    if TRITON_IS_HERE and x.device.type == "cuda" and x.dtype == torch.float32 and 1 <= x.shape[-1] <= LARGEST_WIDTH:
        return _triton_passes()
    return _passes


def _triton_passes() -> ModuleType:
    from contrastive_ops.kernels import _triton_passes  # noqa: PLC0415 (it imports triton)

    return _triton_passes


@contextmanager
def using(name: str) -> Iterator[None]:
    """ "torch" or "triton" passes for every tensor inside, for tests and benchmarks that compare them."""
    global _chosen  # noqa: PLW0603 (it is what this changes)
    before, _chosen = _chosen, _triton_passes() if name == "triton" else _passes
    try:
        yield
    finally:
        _chosen = before
