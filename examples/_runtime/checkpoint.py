"""Checkpoints that survive a crash at any moment, and runs that continue exactly where they stopped.

A checkpoint is written to a temporary name, fsynced, and renamed to one that carries the digest of its bytes: a file
under its final name was complete, and if it has been damaged since, the digest tells. On resume the newest valid file
is used and each damaged one is named and skipped.
"""

from __future__ import annotations

import hashlib
import os
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Protocol

import torch
from torch import Tensor

from _runtime.config import CommonConfig
from _runtime.launch import Run
from _runtime.log import RunLog
from contrastive_ops import all_gather

KEEP = 2  # the newest checkpoints that stay; with two, a damaged file costs little


class Stateful(Protocol):
    """Modules, optimisers, scalers and averages all are."""

    def state_dict(self) -> Any: ...

    def load_state_dict(self, state_dict: Any, /) -> Any: ...


class Checkpoints:
    """The checkpoints of one run: its parts, every rank's random state, and the number of steps made.

    The step is also the sampler's position, since the order of images depends on (seed, epoch) alone.
    """

    def __init__(
        self,
        config: CommonConfig,
        run: Run,
        parts: Mapping[str, Stateful | None],
        generator: torch.Generator,
    ) -> None:
        self.folder, self.every = Path(str(config.out)) / "checkpoints", config.checkpoint_steps
        self.run, self.generator = run, generator
        self.parts = {name: part for name, part in parts.items() if part is not None}

    def save(self, step: int, log: RunLog) -> None:
        """Called on every rank after `step` steps; rank 0 writes. A loss that is not finite stops the run before."""
        log.flush()
        random = gather_random_states(self.generator, self.run)
        parts = {name: part.state_dict() for name, part in self.parts.items()}  # one may gather what differs by rank
        if not self.run.is_main:
            return
        state = {"step": step, "seconds": log.seconds, "world_size": self.run.world_size, "random": random}
        write({**state, "parts": parts}, self.folder, step)
        for old in list(newest_first(self.folder))[KEEP:]:
            old.unlink(missing_ok=True)

    def save_now_and_then(self, step: int, log: RunLog) -> None:
        """Saves after every `--checkpoint-steps` steps, so that a crash in a long epoch costs little."""
        if step % self.every == 0:
            self.save(step, log)

    def resume(self) -> tuple[int, float]:
        """Restores the newest valid checkpoint: (steps made, seconds spent), or (0, 0.0) where there is none."""
        state = load_newest(self.folder, verbose=self.run.is_main)
        step = 0 if state is None else int(state["step"])
        steps = all_gather(torch.tensor([step], device=self.run.device)).tolist()
        if len(set(steps)) > 1:
            raise RuntimeError(
                f"the ranks found checkpoints of different steps {steps}; is {self.folder} shared by all?"
            )
        if state is None:
            return 0, 0.0
        missing = set(self.parts) ^ set(state["parts"])
        if missing:
            raise ValueError(
                f"the checkpoint and this run differ in {sorted(missing)}; use the flags the run began with"
            )
        for name, part in self.parts.items():
            part.load_state_dict(state["parts"][name])
        # with more ranks than before the new ones keep the states they were seeded with
        if self.run.rank < len(state["random"]):
            restore_random_state(state["random"][self.run.rank], self.generator)
        return step, float(state["seconds"])


def newest_first(folder: Path) -> Iterator[Path]:
    """The checkpoints of a folder; whether they are valid is another question."""
    return iter(sorted(folder.glob("step-*-*.pt"), reverse=True))


def write(state: Mapping[str, Any], folder: Path, step: int) -> Path:
    """Writes `step-STEP-DIGEST.pt`: complete and on the disk before it gets that name."""
    folder.mkdir(parents=True, exist_ok=True)
    unfinished = folder / "unfinished.tmp"
    with open(unfinished, "wb") as file:
        torch.save(dict(state), file)
        file.flush()
        os.fsync(file.fileno())
    path = folder / f"step-{step:09d}-{digest(unfinished)}.pt"
    os.replace(unfinished, path)
    if os.name == "posix":  # the new name is durable once the folder is
        descriptor = os.open(folder, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
    return path


def load_newest(folder: Path, *, verbose: bool = True) -> dict[str, Any] | None:
    """The newest checkpoint whose bytes are those that were written, or None."""
    for path in newest_first(folder):
        if digest(path) == path.stem.rpartition("-")[2]:
            return torch.load(path, map_location="cpu", weights_only=True)
        if verbose:
            print(f"damaged checkpoint skipped: {path} ({path.stat().st_size} bytes)", file=sys.stderr)
    return None


def digest(path: Path) -> str:
    """The first 16 hexadecimal digits of SHA-256 of a file."""
    hasher = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            hasher.update(block)
    return hasher.hexdigest()[:16]


def seeded_generator(seed: int, run: Run) -> torch.Generator:
    """The random numbers of this rank's views, on its device; torch's own generator is seeded for the rank as well."""
    torch.manual_seed(seed * 10_007 + run.rank + 1)
    return torch.Generator(run.device).manual_seed(seed * 10_007 + run.rank + 1)


def random_state(generator: torch.Generator, device: torch.device) -> dict[str, Tensor]:
    """All random state of this rank: the views' generator and torch's own."""
    state = {"views": generator.get_state(), "torch": torch.get_rng_state()}
    if device.type == "cuda":
        state["cuda"] = torch.cuda.get_rng_state(device)
    return state


def restore_random_state(state: Mapping[str, Tensor], generator: torch.Generator) -> None:
    """A generator of another kind of device than before keeps its seed."""
    torch.set_rng_state(state["torch"])
    if len(state["views"]) == len(generator.get_state()):
        generator.set_state(state["views"])
    if "cuda" in state and generator.device.type == "cuda":
        torch.cuda.set_rng_state(state["cuda"], generator.device)


def gather_random_states(generator: torch.Generator, run: Run) -> list[dict[str, Tensor]]:
    """Every rank's random state, on every rank."""
    mine = random_state(generator, run.device)
    every = {name: all_gather(value.to(run.device).unsqueeze(0)).cpu() for name, value in mine.items()}
    return [{name: values[rank].clone() for name, values in every.items()} for rank in range(run.world_size)]
