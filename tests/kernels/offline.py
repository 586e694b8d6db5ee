"""Machine code for GPUs that are not here, by Triton's compiler: `python -m tests.kernels.offline 80,90 fp32 128`.

One line of JSON for each kernel: what it is, and what it takes from the device.
"""

from __future__ import annotations

import json
import sys
from typing import Any

import torch
import triton
from triton.backends.compiler import GPUTarget
from triton.compiler import ASTSource

from contrastive_ops.kernels._triton_attend import attend_kernel
from contrastive_ops.kernels._triton_launch import tile
from contrastive_ops.kernels._triton_pairs import pairs_kernel
from contrastive_ops.kernels._triton_weighted import weighted_kernel

DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}
ROWS = ("own_base", "other_base", "left", "right")
BYTES, LONGS = ("mask",), ("own_drop", "other_drop")
FLOATS = ("scale", "lse", "output", "own_lse", "own_pull", "other_lse", "other_pull", "row_lse", "column_lse")
# kernel, and the arguments that its pass leaves out
USES: dict[str, tuple[Any, set[str]]] = {
    "attend": (attend_kernel, {"scale"}),
    "attend self": (attend_kernel, {"mask", "output"}),
    "keys gradient": (weighted_kernel, {"scale", "own_drop", "own_lse", "own_pull"}),
    "self gradient": (weighted_kernel, {"mask", "other_drop"}),
    "pairs": (pairs_kernel, set()),
}


def compiled(use: str, architecture: int, dtype: str, width: int) -> dict[str, Any]:
    """Shared memory in bytes and the size of the machine code of one kernel, as its pass starts it."""
    kernel, absent = USES[use]
    shapes = tile(torch.empty(1, width, dtype=DTYPES[dtype]))
    options = {name: shapes.pop(name) for name in ("num_warps", "num_stages")}
    given = {**shapes, "DROP_EQUAL": "self" in use, "UPCAST": False, **dict.fromkeys(absent)}
    constants = {name: value for name, value in given.items() if name in kernel.arg_names}
    signature = {name: "constexpr" if name in constants else _type(name, dtype) for name in kernel.arg_names}
    source = ASTSource(kernel, signature, constants, _aligned(kernel.arg_names, signature, width))
    result = triton.compile(source, target=GPUTarget("cuda", architecture, 32), options=options)
    return {
        **{"use": use, "sm": architecture, "dtype": dtype, "width": width, "shared": result.metadata.shared},
        **{"bytes": len(result.asm["cubin"]), "tensor_cores": "mma" in result.asm["ptx"]},
    }


def _type(name: str, dtype: str) -> str:
    kinds = {**dict.fromkeys(ROWS, f"*{dtype}"), **dict.fromkeys(FLOATS, "*fp32")}
    return {**kinds, **dict.fromkeys(BYTES, "*u8"), **dict.fromkeys(LONGS, "*i64")}.get(name, "i32")


def _aligned(names: list[str], signature: dict[str, str], width: int) -> dict[tuple[int, ...], list[list[Any]]]:
    """Pointers are multiples of 16 bytes, and strides are where the width is."""
    strides = ("_batch", "_stride") if width % 16 == 0 else ()
    aligned = [name for name in names if signature[name].startswith("*") or (strides and name.endswith(strides))]
    return {(names.index(name),): [["tt.divisibility", 16]] for name in aligned}


if __name__ == "__main__":
    for wanted in sys.argv[1].split(","):
        for each in USES:
            print(json.dumps(compiled(each, int(wanted), sys.argv[2], int(sys.argv[3]))), flush=True)
