"""Laws of what remembers: it resumes bit for bit, is copied whole, and changes only when it is told to."""

from __future__ import annotations

import copy
import io
import pickle
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from contrastive_ops.testing._behaviour import identical, remembered
from contrastive_ops.testing._evaluate import law
from contrastive_ops.testing._violation import Broken, as_text, numbered


@dataclass(frozen=True)
class Holder:
    """A module with state, as its laws see it: how to make it, change it and look at it.

    Args:
        make: makes a fresh one.
        update: called with the module and one batch; changes the state.
        read: called with the module; looks at the state and returns what it sees.

    Example:
        >>> from contrastive_ops.testing import laws
        >>> queue = laws.Holder(lambda: NegativeQueue(3, 2), NegativeQueue.enqueue, lambda queue: queue.keys)
        >>> laws.resumes(queue, [torch.ones(2, 2), torch.zeros(2, 2)])
    """

    make: Callable[[], nn.Module]
    update: Callable[[Any, Any], object]
    read: Callable[[Any], object] | None = None


def state(holder: Holder, module: nn.Module) -> dict[str, Any]:
    """All that it remembers, and what a read shows."""
    seen = remembered(module)
    if holder.read is not None:
        shown = holder.read(module)
        seen["what read() shows"] = shown.detach().clone() if isinstance(shown, Tensor) else copy.deepcopy(shown)
    return seen


def compare(observed: dict[str, Any], expected: dict[str, Any], example: dict[str, object]) -> None:
    """Raise for the first thing remembered that is not the same, bit for bit."""
    for name in expected.keys() | observed.keys():
        a, b = observed.get(name), expected.get(name)
        if not _alike(a, b):
            raise Broken(example, f"{name} = {as_text(a)}", f"{name} = {as_text(b)}")


def _alike(a: Any, b: Any) -> bool:
    if isinstance(a, (tuple, list)) and isinstance(b, (tuple, list)):
        return len(a) == len(b) and all(map(_alike, a, b))
    return identical(a, b)


@law
def resumes(holder: Holder, batches: Sequence[Any]) -> None:
    """A state_dict saved and loaded at any step continues bit for bit."""
    through, saved = holder.make(), []
    for batch in batches:
        saved.append(_saved(through))
        holder.update(through, batch)
    expected = state(holder, through)
    for step, file in [*enumerate(saved), (len(batches), _saved(through))]:
        loaded = holder.make()
        loaded.load_state_dict(torch.load(file, weights_only=True))
        for batch in batches[step:]:
            holder.update(loaded, batch)
        where = {**numbered(batches), "saved": f"after {step} of {len(batches)} batches, loaded, and gone on"}
        compare(state(holder, loaded), expected, where)


def _saved(module: nn.Module) -> io.BytesIO:
    file = io.BytesIO()
    torch.save(module.state_dict(), file)
    file.seek(0)
    return file


@law
def persistent_in_place(holder: Holder, batches: Sequence[Any]) -> None:
    """All that an update changes is in state_dict(), and buffers are changed in place."""
    module = holder.make()
    for batch in batches:
        before, places = remembered(module), _places(module)
        holder.update(module, batch)
        for name, after in remembered(module).items():
            if not identical(before.get(name), after) and name not in module.state_dict():
                change = f"{name} went from {as_text(before.get(name))} to {as_text(after)}"
                raise Broken(numbered(batches), f"{change} and is not in state_dict()", "a persistent buffer")
        moved = [name for name, place in _places(module).items() if places.get(name) != place]
        if moved:
            raise Broken(numbered(batches), f"an update replaced {', '.join(moved)}", "the same memory, written to")


def _places(module: nn.Module) -> dict[str, int]:
    return {name: buffer.data_ptr() for name, buffer in module.named_buffers()}


@law
def eval_never_mutates(holder: Holder, batches: Sequence[Any]) -> None:
    """A read changes nothing; in evaluation mode, neither does an update."""
    module = holder.make()
    for batch in batches:
        holder.update(module, batch)
    before = remembered(module)
    if holder.read is not None:
        holder.read(module)
        compare(remembered(module), before, {**numbered(batches), "then": "a read"})
    module.eval()
    state(holder, module)
    for batch in batches[-1:]:
        holder.update(module, batch)
    compare(remembered(module), before, {**numbered(batches), "then": "the last batch once more, after eval()"})


def _pickled(module: nn.Module) -> Any:
    return pickle.loads(pickle.dumps(module))


@law
def copies_are_apart(holder: Holder, batches: Sequence[Any]) -> None:
    """A deep copy and a pickled copy are equal to the original, and what changes them does not change it."""
    for how, copied in (("copy.deepcopy", copy.deepcopy), ("pickle", _pickled)):
        module = holder.make()
        for batch in batches[:-1]:
            holder.update(module, batch)
        before, twin = state(holder, module), copied(module)
        compare(state(holder, twin), before, {**numbered(batches), "copied by": how})
        for batch in batches[-1:]:
            holder.update(twin, batch)
        compare(state(holder, module), before, {**numbered(batches), "its copy": f"by {how}, updated"})


@law
def first_in_first_out(holder: Holder, batches: Sequence[Tensor]) -> None:
    """After batches of any size it holds exactly the newest rows, at the wrap and from batches larger than itself too.

    Only the shapes of the batches are used: rows are numbered 1, 2, ..., so that a lost one shows.
    """
    module, count = holder.make(), 0
    for step, batch in enumerate(batches):
        numbers = torch.arange(count + 1, count + len(batch) + 1, dtype=batch.dtype)
        holder.update(module, numbers.view(-1, *[1] * (batch.ndim - 1)).expand_as(batch).clone())
        count += len(batch)
        held = holder.read(module) if holder.read is not None else None
        if not isinstance(held, Tensor):
            raise Broken(
                numbered(batches), f"read returned {type(held).__name__}", "read=, the rows held, as a tensor"
            )
        numbers_held = sorted(held.flatten(1)[:, 0].tolist())
        newest = [float(n) for n in range(max(1, count - len(held) + 1), count + 1)]
        filled = [n for n in numbers_held if n in newest]
        if filled != newest or (len(newest) == len(held) and numbers_held != newest):
            example = {"queue of": f"{len(held)} rows", "batches of": f"{[len(b) for b in batches[: step + 1]]} rows"}
            raise Broken(example, f"rows number {_listed(numbers_held)}", f"rows number {_listed(newest)}")


def _listed(numbers: Sequence[float]) -> str:
    return ", ".join(f"{n:g}" for n in numbers) or "none"
