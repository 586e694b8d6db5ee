"""From laws and strategies to one report: hypothesis searches and shrinks, the same way in every run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeVar

from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from hypothesis.errors import Flaky
from torch import Tensor

from contrastive_ops._checks import is_count, show
from contrastive_ops.testing._evaluate import Law, in_short, violation
from contrastive_ops.testing._violation import BrokenLaws, LawViolation, readable

ExampleT = TypeVar("ExampleT")
_DRAWN = 150  # examples from which a few are taken
_SIZES = 4  # numbers of rows among these few, two examples of each


def smallest(judge: Law, subject: Any, examples: st.SearchStrategy[Any], max_examples: int) -> LawViolation | None:
    """What the law finds at the smallest example that breaks it, or None."""

    @_quiet(max_examples, Phase.generate, Phase.shrink)
    @given(examples)
    def holds(example: Any) -> None:
        judge(subject, example)

    try:
        holds()
    except LawViolation as found:
        return found
    except AssertionError as error:  # a law of the caller's own
        return violation(judge, {}, str(error) or "an assertion failed", "the assertion holds")
    except Flaky as error:  # broken once, kept the next time: the result depends on more than the inputs
        return violation(judge, {}, f"not the same in two runs ({in_short(error)})", "the same in every run")
    return None


def few(examples: st.SearchStrategy[tuple[Tensor, ...]], *, least: int = 2) -> list[tuple[Tensor, ...]]:
    """Two examples for each of the smallest numbers of rows: one that shows most, and the last one drawn."""
    drawn: dict[int, list[tuple[Tensor, ...]]] = {}

    @_quiet(_DRAWN, Phase.generate)
    @given(examples)
    def collect(example: tuple[Tensor, ...]) -> None:
        drawn.setdefault(len(example[0]), []).append(tuple(example))

    collect()
    sizes = sorted(rows for rows in drawn if rows >= least)[:_SIZES] or sorted(drawn)
    return [example for rows in sizes for example in (min(drawn[rows], key=_obscurity), drawn[rows][-1])]


def _obscurity(example: tuple[Tensor, ...]) -> tuple[bool, bool, int]:
    """Rows that are alike, or nearest to their partners anyway, hide what is mistaken; then, long numbers."""
    rows = [x.double().flatten(1) for x in example if x.is_floating_point()]
    alike = any(len(set(map(tuple, x.tolist()))) < len(x) for x in rows)
    easy = rows[0].shape == rows[1].shape and bool((rows[0] * rows[1]).sum(1).max() > 0) if rows[1:] else False
    return alike, easy, sum(len(readable(x)) for x in rows)


def _quiet(max_examples: int, *phases: Phase) -> settings:
    """The same examples in every run, nothing stored, whatever profile the caller has loaded."""
    return settings(
        max_examples=max_examples, derandomize=True, database=None, deadline=None, phases=phases,
        suppress_health_check=list(HealthCheck), report_multiple_bugs=False,
    )  # fmt: skip


def check_laws(laws: object, max_examples: int) -> None:
    """Input errors that both checks share."""
    if not isinstance(laws, Sequence) or not all(map(callable, laws)):
        raise TypeError(f"laws: expected a sequence of functions such as laws.CONTRASTIVE, got {show(laws)}")
    if not laws:
        raise ValueError("laws: expected at least one law, got none")
    is_count("max_examples", max_examples)


def raise_broken(subject: object, laws: Sequence[Law], found: Mapping[Law, LawViolation | None]) -> None:
    """One report of all that was found, in the order of the laws."""
    broken = [violated for judge in laws if (violated := found[judge]) is not None]
    if broken:
        raise BrokenLaws(title(subject), broken, [_name(judge) for judge in laws if found[judge] is None])


def _name(judge: Law) -> str:
    return str(getattr(judge, "__name__", judge))


def title(subject: object) -> str:
    """A name for the report: that of a function, of what a partial calls, or of a module's class."""
    inner = getattr(subject, "func", subject)
    return str(getattr(inner, "__name__", type(inner).__name__))
