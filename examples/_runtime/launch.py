"""From torchrun's environment to a rank with a device, and down again: `launch(main, config)` ends every trainer.

Exit code 0: done, or stopped by SIGTERM or SIGINT, upon which a trainer saves and returns (as asked, and nothing is
lost: no scheduler should count it as a failure). 1: an exception, with its traceback. 130: a second Ctrl-C.
"""

from __future__ import annotations

import atexit
import faulthandler
import os
import random
import signal
import sys
import time
import traceback
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from types import FrameType

import torch
import torch.distributed as dist

from _runtime.config import CommonConfig, ConfigT


@dataclass
class Run:
    """This process among its ranks."""

    rank: int
    local_rank: int
    world_size: int
    device: torch.device
    stopped_at: float | None = field(default=None, repr=False)  # when this rank was told to stop

    @property
    def is_main(self) -> bool:
        return self.rank == 0

    def stop_requested(self) -> bool:
        """Whether any rank was told to stop. Every rank calls it at the same place, once a step."""
        stop = torch.tensor(self.stopped_at is not None, dtype=torch.int32)
        if self.world_size > 1:  # between the CPUs, by gloo: no GPU is waited for
            dist.all_reduce(stop, op=dist.ReduceOp.MAX)
        return bool(stop)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        """Take note of the first SIGTERM or SIGINT; give up at the second."""
        if self.stopped_at is None:
            self.stopped_at = time.monotonic()
        elif time.monotonic() - self.stopped_at > 1:  # before: the same stop, passed on by terminal and launcher
            raise KeyboardInterrupt


def launch(main: Callable[[Run, ConfigT], None], config: ConfigT) -> None:
    """Calls `main(run, config)` on this rank. Under torchrun it then ends the process."""
    if "WORLD_SIZE" not in os.environ:
        return main(start(config), config)
    code = 0
    try:
        main(start(config), config)
    except SystemExit as error:
        code = error.code if isinstance(error.code, int) else int(error.code is not None)
        print(error.code if isinstance(error.code, str) else "", end="", file=sys.stderr)
    except BaseException as error:  # KeyboardInterrupt too: there is no other way out than `leave`
        code = 130 if isinstance(error, KeyboardInterrupt) else 1
        traceback.print_exc()
    leave(code)


def start(config: CommonConfig) -> Run:
    """This rank's device, threads, process group (only under torchrun), seeds and stop signals."""
    rank, local_rank, world_size = (int(os.environ.get(n, "0")) for n in ("RANK", "LOCAL_RANK", "WORLD_SIZE"))
    run = Run(rank, local_rank, max(world_size, 1), choose_device(config.device, local_rank))
    # torchrun itself sets 1 where the user set nothing, which would leave cores idle
    if world_size and os.environ.get("OMP_NUM_THREADS", "1") == "1":
        cores = len(os.sched_getaffinity(0)) if sys.platform == "linux" else os.cpu_count() or 1
        torch.set_num_threads(max(1, cores // int(os.environ.get("LOCAL_WORLD_SIZE", "1"))))
    if run.device.type == "cuda":
        torch.cuda.set_device(run.device)
    if world_size and run.device.type == "cuda":  # gloo moves what lies on the CPU
        dist.init_process_group("cpu:gloo,cuda:nccl", device_id=run.device)
    elif world_size:
        dist.init_process_group("gloo")
    seed_all(config.seed + rank)
    for number in (signal.SIGTERM, signal.SIGINT):
        signal.signal(number, run.on_signal)
    return run


def choose_device(name: str, local_rank: int) -> torch.device:
    """The CPU, or this rank's own GPU; "auto" takes a GPU where there is one."""
    if name not in {"auto", "cpu", "cuda"}:
        raise ValueError(f"--device: expected auto, cpu or cuda, got {name!r}")
    count = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if name == "cpu" or (name == "auto" and not count):
        return torch.device("cpu")
    if local_rank >= count:
        raise ValueError(f"--device: rank needs GPU {local_rank}, found {count}; use --device cpu or fewer processes")
    return torch.device("cuda", local_rank)


def seed_all(seed: int) -> None:
    """Every global random state there is."""
    random.seed(seed)
    torch.manual_seed(seed)
    with suppress(ImportError):
        import numpy as np

        np.random.seed(seed % 2**32)  # noqa: NPY002 (the global state is meant)


def leave(code: int) -> None:
    """Ends the process without Python's finalisation and without taking the process group apart.

    There, a gloo thread that lets go of a finished work asks for the GIL, and Python makes it exit from within a C++
    destructor: a finished run aborts, or hangs (torch 2.13). The group's sockets are closed by the end of the process.
    """
    faulthandler.dump_traceback_later(60, exit=True, file=2)  # a thread of C: it needs no GIL
    if code == 0 and dist.is_initialized():  # a slower rank may still read; after a failure nobody is waited for
        with suppress(Exception):
            if torch.cuda.is_initialized():
                torch.cuda.synchronize()
            dist.all_reduce(torch.zeros(1), async_op=True).wait(timedelta(seconds=10))
    for last in (atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
        with suppress(Exception):
            last()
    os._exit(code)
