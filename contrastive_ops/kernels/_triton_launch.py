"""How Triton's kernels are cut and started: tile shapes, stripes of columns, and the layout of what they are given."""

from __future__ import annotations

from typing import Any

import torch
import triton
from torch import Tensor

# of float32 products. "tf32x3" puts them on tensor cores, in three parts; emulated on a CPU it is as exact, but how
# exactly the hardware adds is to be seen on it first: tests/benchmarks/gpu.py compares the two
PRECISION = "ieee"
IDLE = 8  # multiprocessors that a device without a count of its own is taken to have (Triton's interpreter)


def tile(rows: Tensor) -> dict[str, Any]:
    """Shapes of one program's tile, by dtype and width alone: measuring them would make results depend on the clock.

    Float32 products run outside the tensor cores, where a long chunk of D only unrolls; half rows are kept whole up to
    128. At most 256 of D are summed by one program: (64, 256) of float32 is 64 registers in each of 256 threads.
    """
    half, width = rows.dtype != torch.float32, rows.shape[-1]
    whole = max(16, triton.next_power_of_2(width))
    return {
        "OWN": 128 if half and whole <= 128 else 64,
        "OTHER": 64 if half else 32,
        "WIDTH": width,
        "CHUNK": (whole if whole <= 128 else 64) if half else min(whole, 32),
        "SLICE": min(whole, 256),
        "LIFT": 2.0**14 if rows.dtype == torch.float16 else 1.0,
        "PRECISION": PRECISION,
        "num_warps": 8,
        "num_stages": 2,
    }


def stripes(programs: int, others: int, other: int, device: torch.device) -> tuple[int, int]:
    """(stripes, rows of each): few own rows leave most of the device idle unless the others are dealt out too."""
    blocks = triton.cdiv(others, other)
    wanted = min(2 * _multiprocessors(device) // programs, blocks // 4)
    stripe = triton.cdiv(blocks, max(1, wanted)) * other
    return triton.cdiv(others, stripe), stripe


def _multiprocessors(device: torch.device) -> int:
    return torch.cuda.get_device_properties(device).multi_processor_count if device.type == "cuda" else IDLE


def start(kernel: Any, grid: tuple[int, ...], *arguments: Any, device: torch.device, **options: Any) -> None:
    """Runs it where the tensors are, which need not be the current device."""
    upcast = not isinstance(kernel, triton.JITFunction)
    index = device.index if device.type == "cuda" else -1
    with torch.cuda.device(index):
        kernel[grid](*arguments, UPCAST=upcast, **options)


def matrices(x: Tensor) -> Tensor:
    """(batch, rows, D) of (..., rows, D), each row contiguous; a copy only where strides do not fit."""
    flat = _flat(x)
    return flat if flat.stride(-1) == 1 or flat.shape[-1] == 1 else flat.contiguous()


def _flat(x: Tensor) -> Tensor:
    return x.unsqueeze(0) if x.ndim == 2 else x.flatten(0, -3)


def dropped(mask: Tensor | None) -> tuple[Tensor | None, tuple[int, int, int]]:
    """The mask as bytes, and its strides; a broadcast or transposed one is read as it is."""
    if mask is None:
        return None, (0, 0, 0)
    flat = _flat(mask).view(torch.uint8)
    return flat, (flat.stride(0), flat.stride(1), flat.stride(2))


def columns(drop: Tensor | None) -> tuple[Tensor | None, int]:
    """Dropped columns of each row, and how many."""
    return (None, 0) if drop is None or drop.shape[-1] == 0 else (drop.contiguous(), drop.shape[-1])
