"""check_loss: run laws over drawn inputs and report all that are broken, each by its smallest example."""

from __future__ import annotations

import pickle
from collections.abc import Sequence

from hypothesis import strategies as st
from torch import Tensor

from contrastive_ops._checks import is_count, is_positive, show
from contrastive_ops.testing import _world
from contrastive_ops.testing._evaluate import Law, Loss, in_short
from contrastive_ops.testing._search import check_laws, few, raise_broken, smallest
from contrastive_ops.testing.laws import CONTRASTIVE
from contrastive_ops.testing.strategies import pairs


def check_loss(
    loss: Loss,
    *,
    inputs: st.SearchStrategy[tuple[Tensor, ...]] | None = None,
    laws: Sequence[Law] = CONTRASTIVE,
    max_examples: int = 25,
    world_sizes: Sequence[int] = (2, 3),
    shared: Sequence[int] = _world.SHARED,
    timeout: float = _world.TIMEOUT,
) -> None:
    """Hold a loss to laws, and raise one error that shows every law it breaks by the smallest example.

    Examples are drawn and shrunk by hypothesis, the same in every run. A module is copied before each call, so that
    what it remembers does not enter the comparison. Laws of world size run in real processes, into which the loss is
    pickled by name: it must be a function at the top level of an importable module (a test file is one), a
    `functools.partial` of one, or a module.

    Args:
        loss: any callable of tensors, (z1, z2) or (query, key, negatives), that returns a scalar.
        inputs: a strategy of tuples of tensors; None is `pairs()`. For a loss with negatives: `with_negatives()`.
        laws: what to hold it to: one of the tuples in `contrastive_ops.testing.laws`, or your own.
        max_examples: examples drawn for each law that runs in this process.
        world_sizes: numbers of processes for the laws of world size.
        shared: positions of the arguments that every rank has whole; rows of all others are split.
        timeout: seconds that one start of processes may take.

    Raises:
        BrokenLaws: an AssertionError with all violations.
        ValueError: no law is given, or the loss cannot be pickled and a law of world size is among the laws.
        TypeError: an argument of the wrong type.

    Example:
        >>> from contrastive_ops.testing.laws import deterministic, rescaling
        >>> check_loss(info_nce, laws=[deterministic, rescaling])
        >>> check_loss(lambda a, b: -(a * b).sum(1).mean(), laws=[deterministic, rescaling])
        Traceback (most recent call last):
            ...
        contrastive_ops.testing._violation.BrokenLaws: <lambda> breaks 1 of 2 laws.
        <BLANKLINE>
        rescaling: The length of a row does not matter (for losses that normalise their inputs).
            z1        [[1, 0],
                       [1, 0]]
            z2        [[1, 0],
                       [1, 0]]
            changed   rows multiplied by 2, 1/4, 8, 1/2, 2, ...
            observed  -2.03125
            expected  -1, as before
        <BLANKLINE>
        It keeps: deterministic.
    """
    if not callable(loss):
        raise TypeError(f"loss: expected a callable of tensors, got {show(loss)}")
    _check_settings(inputs, laws, max_examples, world_sizes, timeout)
    drawn = pairs() if inputs is None else inputs
    far = [judge for judge in laws if judge in _world.LAWS]
    if far:
        _check_picklable(loss)
    found = {judge: smallest(judge, loss, drawn, max_examples) for judge in laws if judge not in far}
    if far:
        examples = few(drawn)
        found |= _world.judge_world(far, loss, examples, world_sizes=world_sizes, shared=shared, timeout=timeout)
    raise_broken(loss, laws, found)


def _check_settings(
    inputs: object, laws: Sequence[Law], max_examples: int, world_sizes: Sequence[int], timeout: float
) -> None:
    if inputs is not None and not isinstance(inputs, st.SearchStrategy):
        raise TypeError(f"inputs: expected a hypothesis strategy of tuples of tensors, got {show(inputs)}")
    check_laws(laws, max_examples)
    for world_size in world_sizes:
        is_count("world_sizes", world_size)
    is_positive("timeout", timeout)


def _check_picklable(loss: Loss) -> None:
    try:
        pickle.dumps(loss)
    except Exception as error:
        raise ValueError(
            f"loss: expected what pickle can send to other processes, got {show(loss)} ({in_short(error)}); define it "
            "at the top level of an importable module, or leave the laws of world size out with laws=laws.LOCAL"
        ) from error
