"""Peak memory: how far the resident set rises during one call, in a process that has done nothing else."""

from __future__ import annotations

import gc
import multiprocessing
from importlib.util import find_spec
from multiprocessing.connection import Connection
from pathlib import Path

import torch

from tests.benchmarks.contest import Run, Size

CLEAR, STATUS = Path("/proc/self/clear_refs"), Path("/proc/self/status")
PATIENCE = 300.0  # seconds
PRELOAD = ("lightly.loss", "pytorch_metric_learning.losses", "torchvision", "timm")


def why_not() -> str:
    """Why peaks cannot be measured here; empty where they can."""
    return "" if CLEAR.exists() else "peak memory needs Linux's /proc/self/clear_refs"


def _kib(field: str) -> int:
    line = next(line for line in STATUS.read_text().splitlines() if line.startswith(field))
    return int(line.split()[1])


def peak_mib(run: Run) -> float:
    """MiB above what is resident now, at the highest, during one call."""
    gc.collect()
    CLEAR.write_text("5")  # the high-water mark falls to what is resident
    before = _kib("VmRSS:")
    run()
    return (_kib("VmHWM:") - before) / 1024


def peak_in_fresh_process(area: str, size: Size, name: str) -> float | None:
    """MiB of one contestant in a process of its own; None where it did not survive.

    The process is forked from one that has imported what is needed and has computed nothing: it starts in
    milliseconds, and its heap holds no memory that somebody else has given back.
    """
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload(["torch", "tests.benchmarks.areas", *filter(_is_there, PRELOAD)])
    near, far = context.Pipe(duplex=False)
    process = context.Process(target=_child, args=(far, area, dict(size), name))
    process.start()
    far.close()
    try:
        return float(near.recv()) if near.poll(PATIENCE) else None
    except EOFError:
        return None
    finally:
        process.kill()
        process.join()


def _is_there(module: str) -> bool:
    return find_spec(module.split(".", maxsplit=1)[0]) is not None


def _child(pipe: Connection, area: str, size: Size, name: str) -> None:
    from tests.benchmarks.areas import by_name

    torch.set_num_threads(1)
    toy = by_name(area).contest(by_name(area).toy).entries.get(name)
    if toy is not None:  # code is loaded and small buffers are made
        toy.make()()
    pipe.send(peak_mib(by_name(area).contest(size).entries[name].make()))
