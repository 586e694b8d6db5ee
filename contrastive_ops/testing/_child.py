"""What one process of `run_distributed` does, from its start to its end."""

from __future__ import annotations

import atexit
import ctypes
import faulthandler
import io
import multiprocessing
import os
import signal
import sys
import traceback
import warnings
from contextlib import suppress
from datetime import timedelta
from multiprocessing import reduction
from pathlib import Path
from typing import Any, cast

import torch
import torch.distributed as dist

from contrastive_ops._checks import show


def packed(name: str, value: object) -> bytes:
    """Pickle through torch.save: torch's own reductions for processes would move tensors as file descriptors."""
    buffer = io.BytesIO()
    try:
        torch.save(value, buffer)
    except Exception as error:
        hint = "use a function at the top level of a module" if name == "fn" else "use plain data and tensors"
        raise ValueError(f"{name}: expected what pickle can copy, got {show(value)} ({error}); {hint}") from error
    return buffer.getvalue()


class Streams:
    """Where the parent's output goes at the moment: what pickle makes of it in a child goes there, too."""

    def __reduce__(self) -> tuple[Any, ...]:
        return _take_streams, tuple((stream, cast("Any", reduction).DupFd(stream)) for stream in (1, 2))


def _take_streams(*given: tuple[int, Any]) -> None:
    for stream, duplicate in given:
        descriptor = duplicate.detach()
        os.dup2(descriptor, stream)
        os.close(descriptor)


def run(
    _streams: None,
    environment: dict[str, str],
    pipe: Any,
    rank: int,
    folder: str,
    world_size: int,
    timeout: float,
    threads: int,
) -> None:
    """Call the function that lies in the folder; it never returns."""
    error = ""
    try:
        _end_with_parent()
        os.environ.clear()
        os.environ.update(environment)
        stack_file = Path(folder, f"stack-{rank}").open("w")  # noqa: SIM115 (open as long as we live)
        faulthandler.register(signal.SIGUSR1, file=stack_file, all_threads=True)
        os.environ.setdefault("GLOO_SOCKET_IFNAME", "lo" if sys.platform == "linux" else "lo0")  # whatever the host
        torch.set_num_threads(threads)
        meeting = Path(folder, "store").resolve().as_uri()  # a file: a port would be something to race for
        dist.init_process_group("gloo", meeting, timedelta(seconds=timeout), world_size, rank)
        fn, args = torch.load(Path(folder, "call"), weights_only=False)
        answer = packed("what fn returns", ("", fn(rank, *args)))
    except BaseException:  # SystemExit too: no rank may leave without an answer
        error = traceback.format_exc()
        answer = packed("error", (error, None))
    with suppress(OSError, EOFError):  # the parent closes the pipe once every rank is through, or it is gone
        pipe.send_bytes(answer)
        error or pipe.recv_bytes()  # leaving would close the sockets that a slower rank may still read from
    # Without Python's finalisation: there, a gloo thread that lets go of a finished work asks for the GIL, is made to
    # exit from within a destructor, and a process that was done aborts, or hangs (torch 2.13).
    for last in (atexit._run_exitfuncs, sys.stdout.flush, sys.stderr.flush):
        with suppress(Exception):
            last()
    os._exit(1 if error else 0)


def _end_with_parent() -> None:
    """A session of its own, so that the whole family can be killed at once, and no life without the parent."""
    os.setsid()
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG: nor without the process it was forked from
    with warnings.catch_warnings():  # forking is safe here: nothing of torch is used in the new process
        warnings.simplefilter("ignore", DeprecationWarning)
        if os.fork() == 0:  # a guard: takes the grandchildren along when the parent is killed
            above = cast("Any", multiprocessing.parent_process())
            os.closerange(3, above.sentinel)  # who waits for the end of a pipe waits for the child, not for the guard
            os.closerange(above.sentinel + 1, 65536)
            above.join()
            os.killpg(0, signal.SIGKILL)
