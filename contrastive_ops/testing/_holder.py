"""check_holder: run the laws of state over drawn batches and report all that are broken."""

from __future__ import annotations

import pickle
from collections.abc import Callable, Sequence
from typing import Any

import torch
from hypothesis import strategies as st
from torch import Tensor, nn

from contrastive_ops._checks import is_count, is_positive, show
from contrastive_ops.testing._evaluate import Law, in_short
from contrastive_ops.testing._search import check_laws, few, raise_broken, smallest
from contrastive_ops.testing._shared_state import LAWS, judge_holder
from contrastive_ops.testing._state import Holder
from contrastive_ops.testing._world import TIMEOUT
from contrastive_ops.testing.laws import HOLDER, first_in_first_out
from contrastive_ops.testing.strategies import embeddings

_BATCHES = 4  # at most, one after another
_ROWS = 7  # of a batch, where nothing is known of the size of what is held


def check_holder(
    make: Callable[[], nn.Module],
    *,
    update: Callable[[Any, Tensor], object],
    dim: int,
    read: Callable[[Any], object] | None = None,
    max_rows: int | None = None,
    laws: Sequence[Law] = HOLDER,
    max_examples: int = 25,
    world_sizes: Sequence[int] = (2, 3),
    timeout: float = TIMEOUT,
) -> None:
    """Hold a module that remembers (a queue, a bank, a centre) to the laws of state, and report all that it breaks.

    Args:
        make: makes a fresh module; a small one (a queue of 5) shows more than a large one, and faster.
        update: `update(module, rows)`, what changes the state.
        dim: width of the rows that `update` takes, float32 tensors (B, dim) of any B from 1 on (from 0 on some rank).
        read: `read(module)`, what looks at the state; for the laws of `laws.FIFO` the rows held, (K, dim).
        max_rows: rows of the largest batch; None is two more than `read` shows, or 7.
        laws: what to hold it to, `laws.HOLDER` or `laws.FIFO`; without other processes: `laws.LOCAL_HOLDER`.
        max_examples: examples drawn for each law that runs in this process.
        world_sizes: numbers of processes for `same_on_every_rank`, into which `make`, `update` and `read` are pickled.
        timeout: seconds that one start of processes may take.

    Raises:
        BrokenLaws: an AssertionError with all violations.
        ValueError: no law is given, a law lacks its `read`, or what must be sent to other processes cannot be pickled.
        TypeError: an argument of the wrong type.

    Example:
        >>> from contrastive_ops.testing.laws import LOCAL_HOLDER, first_in_first_out
        >>> kept = (*LOCAL_HOLDER, first_in_first_out)
        >>> make = lambda: NegativeQueue(5, 2)
        >>> check_holder(make, update=NegativeQueue.enqueue, dim=2, read=lambda queue: queue.keys, laws=kept)
    """
    for name, value in (("make", make), ("update", update)):
        if not callable(value):
            raise TypeError(f"{name}: expected a function, got {show(value)}")
    is_count("dim", dim)
    if max_rows is not None:
        is_count("max_rows", max_rows)
    is_positive("timeout", timeout)
    check_laws(laws, max_examples)
    if first_in_first_out in laws and read is None:
        raise ValueError("read: expected a function that returns the rows held, as first_in_first_out asks; got None")
    holder = Holder(make, update, read)
    if any(judge in LAWS for judge in laws):
        _check_picklable(holder)
    rows = (1, _most(holder) if max_rows is None else max_rows)
    batch = embeddings(rows=rows, dim=dim, dtypes=(torch.float32,), layouts=("contiguous",))
    batches = st.lists(batch, min_size=1, max_size=_BATCHES)
    found = {judge: smallest(judge, holder, batches, max_examples) for judge in laws if judge not in LAWS}
    for judge in [judge for judge in laws if judge in LAWS]:
        examples = [list(example) for example in few(batches.map(tuple), least=1)]
        found[judge] = judge_holder(judge, holder, examples, world_sizes=world_sizes, timeout=timeout)
    raise_broken(make, laws, found)


def _most(holder: Holder) -> int:
    """More than are held, so that a batch may be larger than the queue."""
    held = holder.read(holder.make()) if holder.read is not None else None
    return len(held) + 2 if isinstance(held, Tensor) and held.ndim else _ROWS


def _check_picklable(holder: Holder) -> None:
    for name in ("make", "update", "read"):
        value = getattr(holder, name)
        try:
            pickle.dumps(value)
        except Exception as error:
            raise ValueError(
                f"{name}: expected what pickle can send to other processes, got {show(value)} ({in_short(error)}); "
                "define it at the top level of an importable module, or leave same_on_every_rank out with "
                "laws=laws.LOCAL_HOLDER"
            ) from error
