"""The laws that a loss can be held to, each a function `law(loss, inputs)` that raises `LawViolation`.

A law of your own is any function of (loss, inputs) that raises AssertionError; the first sentence of its docstring is
what the report says it demands.
"""

from __future__ import annotations

from contrastive_ops.testing._behaviour import batch_of_any_size, deterministic, pure
from contrastive_ops.testing._evaluate import Law
from contrastive_ops.testing._invariances import (
    more_negatives,
    permutation,
    positive_is_no_negative,
    rescaling,
    rotation,
    strides,
    view_swap,
)
from contrastive_ops.testing._numerics import finite, gradient, precision, zero_rows
from contrastive_ops.testing._shared_state import even_same_on_every_rank, same_on_every_rank
from contrastive_ops.testing._state import (
    Holder,
    copies_are_apart,
    eval_never_mutates,
    first_in_first_out,
    persistent_in_place,
    resumes,
)
from contrastive_ops.testing._world import (
    even_world_size_gradient,
    even_world_size_value,
    world_size_gradient,
    world_size_value,
)

__all__ = [
    "Holder",
    "batch_of_any_size",
    "copies_are_apart",
    "deterministic",
    "eval_never_mutates",
    "even_same_on_every_rank",
    "even_world_size_gradient",
    "even_world_size_value",
    "finite",
    "first_in_first_out",
    "gradient",
    "more_negatives",
    "permutation",
    "persistent_in_place",
    "positive_is_no_negative",
    "precision",
    "pure",
    "rescaling",
    "resumes",
    "rotation",
    "same_on_every_rank",
    "strides",
    "view_swap",
    "world_size_gradient",
    "world_size_value",
    "zero_rows",
]

WORLD: tuple[Law, ...] = (world_size_value, world_size_gradient)
EVEN_WORLD: tuple[Law, ...] = (even_world_size_value, even_world_size_gradient)
BEHAVIOUR: tuple[Law, ...] = (deterministic, pure, batch_of_any_size, strides)
NUMERICS: tuple[Law, ...] = (finite, zero_rows, precision, gradient)

# any loss of embeddings that normalises its inputs; with negatives or without
SIMILARITY: tuple[Law, ...] = (permutation, rotation, rescaling, *NUMERICS, *BEHAVIOUR)
# the default: what tells partners from negatives, in one process and in several
LOCAL: tuple[Law, ...] = (positive_is_no_negative, *SIMILARITY)
CONTRASTIVE: tuple[Law, ...] = (*LOCAL, *WORLD)
# for losses of (query, key, negatives)
WITH_NEGATIVES: tuple[Law, ...] = (more_negatives, *CONTRASTIVE)
# every law of a loss, to choose from: few losses keep all, as most have no negatives or treat their views differently
ALL: tuple[Law, ...] = (view_swap, *WITH_NEGATIVES, *EVEN_WORLD)

# for modules that remember (`check_holder`)
LOCAL_HOLDER: tuple[Law, ...] = (resumes, persistent_in_place, eval_never_mutates, copies_are_apart)
HOLDER: tuple[Law, ...] = (*LOCAL_HOLDER, same_on_every_rank)
EVEN_HOLDER: tuple[Law, ...] = (*LOCAL_HOLDER, even_same_on_every_rank)
# for queues: with `read`, the rows held
FIFO: tuple[Law, ...] = (first_in_first_out, *HOLDER)
