"""Run a function on several gloo processes of this machine, with a hard end: no hang, no orphan."""

from __future__ import annotations

import io
import multiprocessing
import os
import signal
import sys
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from multiprocessing.connection import wait
from pathlib import Path
from typing import Any, TypeVar, cast

import torch

from contrastive_ops._checks import is_count, is_positive, show
from contrastive_ops.testing import _child
from contrastive_ops.testing._child import packed

ResultT = TypeVar("ResultT")
GRACE = 5.0  # seconds that the other ranks get once one has failed, and that all get to leave


def run_distributed(
    fn: Callable[..., ResultT], world_size: int, *args: Any, timeout: float = 120.0, threads: int = 1
) -> list[ResultT]:
    """Call `fn(rank, *args)` on `world_size` new CPU processes that form the default (gloo) process group.

    Every rank's process ends before this returns or raises, whatever happened: an exception, a deadlock, Ctrl-C, even
    this process being killed. On Linux one idle process that has imported torch, of which they are forked, stays until
    this one ends; elsewhere each starts afresh. Scripts need the `if __name__ == "__main__":` of multiprocessing.

    Args:
        fn: A function at the top level of an importable module: it is pickled by name, and nothing of this process
            but its environment variables and its output is there.
        world_size: How many processes.
        *args: Passed on to `fn` by pickle; tensors arrive as copies.
        timeout: Seconds for everything, the start of the processes included (the first one imports torch).
        threads: `torch.set_num_threads` of each process.

    Returns:
        What `fn` returned, by rank; tensors as copies.

    Raises:
        TypeError: `fn` is no function or a number of the wrong type; nothing was started.
        ValueError: a number out of range, or `fn` or `args` cannot be pickled; nothing was started.
        RuntimeError: a rank failed; the message holds the traceback of every rank that did.
        TimeoutError: time is up; the message names the ranks that had not finished, with their stacks.

    Example:
        >>> import operator
        >>> run_distributed(operator.mul, 2, 10.0)  # rank * 10.0 on each of two ranks
        [0.0, 10.0]
    """
    if not callable(fn):
        raise TypeError(f"fn: expected a function, got {show(fn)}")
    is_count("world_size", world_size)
    is_positive("timeout", timeout)
    is_count("threads", threads)
    deadline = time.monotonic() + timeout
    packed("fn", fn)
    call = packed("args", (fn, args))
    with tempfile.TemporaryDirectory(prefix="run_distributed-", ignore_cleanup_errors=True) as folder:
        Path(folder, "call").write_bytes(call)
        ranks = [_Rank(i, folder, world_size, float(timeout), threads) for i in range(world_size)]
        try:
            for rank in ranks:
                rank.start()
            return _collect(ranks, deadline, timeout)
        finally:  # on every way out, KeyboardInterrupt included
            for rank in ranks:
                rank.end()


def _start_method() -> Any:
    """Forked from a process that has imported torch and does nothing else, others start in a tenth of a second."""
    if sys.platform != "linux":
        return multiprocessing.get_context("spawn")
    multiprocessing.set_forkserver_preload([_child.__name__])
    return multiprocessing.get_context("forkserver")


class _Rank:
    """One child process, as its parent sees it."""

    def __init__(self, rank: int, folder: str, *settings: Any) -> None:
        context = _start_method()
        self.rank, self.stack_file = rank, Path(folder, f"stack-{rank}")
        self.done, self.result, self.error = False, None, ""
        self.pipe, self.far_end = context.Pipe()
        surroundings = (_child.Streams(), dict(os.environ))
        self.process = context.Process(target=_child.run, args=(*surroundings, self.far_end, rank, folder, *settings))

    def start(self) -> None:
        self.process.start()
        self.far_end.close()  # only the child holds it now: its death is the end of the file

    def poll(self) -> None:
        """Take the answer if it is there; a process that is gone without one has failed."""
        gone = self.process.exitcode is not None  # asked first: what it sent before it went is still in the pipe
        with suppress(EOFError, OSError):  # it is about to be gone
            if self.pipe.poll():
                self.error, self.result = torch.load(io.BytesIO(self.pipe.recv_bytes()), weights_only=False)
                self.done = True
        if gone and not self.done:
            self.error, self.done = f"ended with exit code {self.process.exitcode} and without an answer\n", True

    def stack(self) -> str:  # written by a signal handler in C, which needs no GIL
        if not self.stack_file.exists():
            return "still starting (importing torch)\n"
        with suppress(ProcessLookupError):
            os.kill(cast("int", self.process.pid), signal.SIGUSR1)
        time.sleep(0.5)
        return self.stack_file.read_text() or "no answer\n"

    def end(self) -> None:
        """Let it leave if it is done, then kill it and what it started."""
        self.pipe.close()
        if self.process.pid is None:  # not started
            return
        if self.done:
            self.process.join(GRACE)
        with suppress(ProcessLookupError, PermissionError):
            os.killpg(self.process.pid, signal.SIGKILL)  # its own session, hence its children too
        self.process.kill()  # in case it had not made its session yet
        self.process.join()


def _collect(ranks: list[_Rank], deadline: float, timeout: float) -> list[Any]:
    """The results in rank order; raises for a failure or when time is up."""
    while (waiting := [r for r in ranks if not r.done]) and time.monotonic() < deadline:
        # not for long: a grandchild may hold the pipe of a dead child open, and then only its exit code tells
        wait([r.pipe for r in waiting], 0.1)
        for rank in waiting:
            rank.poll()
            if rank.error:
                deadline = min(deadline, time.monotonic() + GRACE)
    failed = "".join(f"\nrank {r.rank}: {r.error}" for r in ranks if r.error)
    unfinished = "".join(f"\nrank {r.rank} had not finished:\n{r.stack()}" for r in waiting)
    if failed:
        raise RuntimeError(f"{sum(bool(r.error) for r in ranks)} of {len(ranks)} ranks failed{failed}{unfinished}")
    if unfinished:
        raise TimeoutError(f"ranks {[r.rank for r in waiting]} had not finished after {timeout:g} s{unfinished}")
    return [r.result for r in ranks]
