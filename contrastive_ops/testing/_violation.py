"""What is said of a broken law: its name, what it demands, the example, what was observed and what was expected."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

_NAMES = {2: ("z1", "z2"), 3: ("query", "key", "negatives")}
_SHOWN = 64  # entries of a tensor that are printed in full


class LawViolation(AssertionError):
    """One broken law, with the example that shows it.

    Args:
        law: the law's name.
        demand: one sentence of what it demands.
        example: what the loss (or holder) was given, by name.
        observed: what came of it.
        expected: what should have come.

    Attributes:
        law: the law's name.
        demand: one sentence of what it demands.
        example: tensors and other facts of the example, by name.
        observed: what came of it, as text.
        expected: what should have come, as text.

    Example:
        >>> z1 = torch.eye(2)
        >>> print(LawViolation("finite", demand="No NaN.", example={"z1": z1}, observed="nan", expected="a number"))
        finite: No NaN.
            z1        [[1, 0],
                       [0, 1]] float32
            observed  nan
            expected  a number
    """

    def __init__(self, law: str, *, demand: str, example: Mapping[str, object], observed: str, expected: str) -> None:
        self.law, self.demand, self.example = law, demand, dict(example)
        self.observed, self.expected = observed, expected
        super().__init__(law)

    def __str__(self) -> str:
        facts = {**self.example, "observed": self.observed, "expected": self.expected}
        width = max(len(name) for name in facts) + 2
        lines = [f"{self.law}: {self.demand}"]
        for name, value in facts.items():
            text = (readable(value) if not isinstance(value, str) else value).splitlines() or [""]
            lines.append(f"    {name:<{width}}{text[0]}")
            lines += [" " * (width + 4) + line for line in text[1:]]
        return "\n".join(lines)

    def __reduce__(self) -> Any:  # an exception is pickled by its positional arguments otherwise
        return _rebuilt, (self.law, self.demand, self.example, self.observed, self.expected)


def _rebuilt(law: str, demand: str, example: dict[str, object], observed: str, expected: str) -> LawViolation:
    return LawViolation(law, demand=demand, example=example, observed=observed, expected=expected)


class BrokenLaws(AssertionError):
    """All that `check_loss` or `check_holder` found, as one report.

    Args:
        subject: what was checked.
        violations: one for each broken law.
        kept: names of the laws that hold.

    Attributes:
        violations: one `LawViolation` for each broken law.
        kept: names of the laws that hold.

    Example:
        >>> nan = LawViolation("finite", demand="No NaN.", example={}, observed="nan", expected="a number")
        >>> print(BrokenLaws("my_loss", [nan], ["rotation"]))
        my_loss breaks 1 of 2 laws.
        <BLANKLINE>
        finite: No NaN.
            observed  nan
            expected  a number
        <BLANKLINE>
        It keeps: rotation.
    """

    def __init__(self, subject: str, violations: Sequence[LawViolation], kept: Sequence[str]) -> None:
        self.subject, self.violations, self.kept = subject, tuple(violations), tuple(kept)
        super().__init__(subject, self.violations, self.kept)

    def __str__(self) -> str:
        count = len(self.violations)
        head = f"{self.subject} breaks {count} of {count + len(self.kept)} laws."
        tail = f"It keeps: {', '.join(self.kept)}." if self.kept else "It keeps none."
        return "\n\n".join([head, *map(str, self.violations), tail])


class Broken(Exception):
    """What a law's body raises; `laws` adds the name and the sentence and makes a LawViolation of it."""

    def __init__(self, example: Mapping[str, object], observed: object, expected: object) -> None:
        super().__init__(observed)
        self.example, self.observed, self.expected = example, observed, expected


def named(inputs: Sequence[Any]) -> dict[str, object]:
    """The arguments of a loss by the names that the report uses."""
    return dict(zip(_NAMES.get(len(inputs), [f"x{i}" for i in range(len(inputs))]), inputs, strict=True))


def numbered(batches: Sequence[Any]) -> dict[str, object]:
    """The batches of a holder by the names that the report uses."""
    return {f"batch {step}": batch for step, batch in enumerate(batches)}


def readable(value: object) -> str:
    """A tensor as nested lists with four digits, rows below each other; large ones are summarised."""
    if not isinstance(value, Tensor):
        return f"{value:.6g}" if isinstance(value, float) else str(value)
    value = value.detach().cpu()
    kind = "" if value.dtype in (torch.float64, torch.int64) else f" {str(value.dtype).removeprefix('torch.')}"
    if value.numel() > _SHOWN:
        wide = value.double()
        return f"shape {tuple(value.shape)}{kind}, entries from {wide.min():.4g} to {wide.max():.4g}"
    if value.numel() == 0:
        return f"shape {tuple(value.shape)}{kind}"
    return _nested(value.tolist()) + kind


def _nested(value: Any) -> str:
    if not isinstance(value, list):
        return f"{value:.4g}" if isinstance(value, float) else str(value)
    rows = isinstance(value[0], list)
    return "[" + (",\n " if rows else ", ").join(_nested(v).replace("\n", "\n ") for v in value) + "]"


def as_text(value: object) -> str:
    """What was observed or expected: numbers and tensors readably, words as they are."""
    if isinstance(value, Tensor) and value.ndim == 0:
        return f"{value.item():.6g}"
    return value if isinstance(value, str) else readable(value)
