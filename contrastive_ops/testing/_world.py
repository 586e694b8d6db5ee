"""The laws of world size, in real processes: one start for each number of ranks, all examples inside it."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from contrastive_ops.testing._evaluate import Inputs, Law, Loss, cast, law, norm, same, tolerance, violation
from contrastive_ops.testing._ranks import Case, Result, alone, together
from contrastive_ops.testing._violation import LawViolation, as_text, named

SHARED = (2,)  # arguments that every rank has whole: the negatives
TIMEOUT = 90.0


@law
def world_size_value(loss: Loss, inputs: Inputs) -> None:
    """Every one of W ranks reports the value of one process with all their rows, however these are split."""
    _raise_first(world_size_value, loss, inputs)


@law
def world_size_gradient(loss: Loss, inputs: Inputs) -> None:
    """DDP's mean over W ranks of their gradients is the gradient of one process with all rows, however split."""
    _raise_first(world_size_gradient, loss, inputs)


@law
def even_world_size_value(loss: Loss, inputs: Inputs) -> None:
    """Every one of W ranks with equally many rows reports the value of one process with all of them."""
    _raise_first(even_world_size_value, loss, inputs)


@law
def even_world_size_gradient(loss: Loss, inputs: Inputs) -> None:
    """DDP's mean over W ranks with equally many rows each is the gradient of one process with all of them."""
    _raise_first(even_world_size_gradient, loss, inputs)


LAWS: tuple[Law, ...] = (
    world_size_value, world_size_gradient, even_world_size_value, even_world_size_gradient,
)  # fmt: skip
_EVEN = LAWS[2:]
_VALUE = (world_size_value, even_world_size_value)


def _raise_first(judge: Law, loss: Loss, inputs: Inputs) -> None:
    found = judge_world((judge,), loss, [tuple(inputs)])[judge]
    if found is not None:
        raise found


def judge_world(
    laws: Sequence[Law],
    loss: Loss,
    examples: Sequence[tuple[Tensor, ...]],
    *,
    world_sizes: Sequence[int] = (2, 3),
    shared: Sequence[int] = SHARED,
    timeout: float = TIMEOUT,
) -> dict[Law, LawViolation | None]:
    """What each of these laws finds, at the smallest split that shows it; one start of processes per world size."""
    found: dict[Law, LawViolation | None] = dict.fromkeys(laws)
    only_even = all(judge in _EVEN for judge in laws)
    for world_size in world_sizes:
        if None not in found.values():
            break
        cases = [c for c in _cases(examples, world_size) if c.even or not only_even]
        for case, results in zip(cases, together(loss, cases, world_size, shared, timeout), strict=True):
            expected = alone(loss, case)
            for judge in laws:
                if found[judge] is None and (case.even or judge not in _EVEN):
                    found[judge] = _judged(judge, case, results, expected, shared)
            if isinstance(results, str):
                break  # what comes after a crash did not run
    return found


def _judged(
    judge: Law, case: Case, results: list[Result] | str, expected: Result | str, shared: Sequence[int]
) -> LawViolation | None:
    example = {**named(case.inputs), "rows by rank": str(list(case.sizes))}
    if isinstance(expected, str):
        return violation(judge, example, f"{expected} (in one process)", "no error")
    if isinstance(results, str):
        return violation(judge, example, results, "no error")
    if judge in _VALUE:
        if all(same(value, expected[0]) for value, _, _ in results):
            return None
        values = ", ".join(as_text(value) for value, _, _ in results)
        return violation(judge, example, f"{values} on the ranks", f"{as_text(expected[0])} on each")
    return _judged_gradients(judge, example, case, results, expected, shared)


def _judged_gradients(
    judge: Law, example: dict[str, object], case: Case, results: list[Result], expected: Result, shared: Sequence[int]
) -> LawViolation | None:
    """DDP's mean: of what is shared, over ranks; a row is on one rank only, so its gradient is divided by W."""
    ranks = len(results)
    names = [name for name, x in named(case.inputs).items() if isinstance(x, Tensor) and x.is_floating_point()]
    whole = [list(named(case.inputs)).index(name) in shared for name in names]
    parts = [list(zip(*(result[i] for result in results), strict=True)) for i in (1, 2)]
    arguments = [
        sum(part) / ranks if all_ranks else torch.cat(part) / ranks
        for part, all_ranks in zip(parts[0], whole, strict=True)
    ]
    parameters = [sum(part) / ranks for part in parts[1]]
    names += [f"parameter {i}" for i in range(len(parameters))]
    for name, observed, exact in zip(names, [*arguments, *parameters], [*expected[1], *expected[2]], strict=True):
        if norm([observed - exact]) > tolerance(expected[0]) * norm([exact]).clamp(min=1):
            return violation(judge, example, *_compared(name, observed, exact))
    return None


def _compared(name: str, observed: Tensor, exact: Tensor) -> tuple[str, str]:
    long, wanted = norm([observed]), norm([exact])
    text = f"gradient of {name} of length {as_text(long)}"
    if long > 0 and wanted > 0:
        text += f", cosine {as_text((observed * exact).sum() / (long * wanted))} with that of one process"
    return text, f"of length {as_text(wanted)}, cosine 1"


def _cases(examples: Sequence[tuple[Tensor, ...]], world_size: int) -> list[Case]:
    """Even splits first, as a loss that cannot do others may crash there; then few rows before many."""
    cases = [Case(tuple(cast(x)), sizes) for x in examples for sizes in splits_of(len(x[0]), world_size)]
    return sorted(cases, key=lambda case: (not case.even, 0 in case.sizes, sum(case.sizes)))


def splits_of(rows: int, world_size: int) -> list[tuple[int, ...]]:
    """As even as can be; all but one on the first; none on the last, or on the first rank."""

    def even(ranks: int) -> tuple[int, ...]:
        return tuple(rows // ranks + (rank < rows % ranks) for rank in range(ranks))

    lopsided = (rows - world_size + 1, *[1] * (world_size - 1))
    wanted = [even(world_size), lopsided, (*even(world_size - 1), 0), (0, *even(world_size - 1))]
    return [sizes for sizes in dict.fromkeys(wanted) if min(sizes) >= 0]
