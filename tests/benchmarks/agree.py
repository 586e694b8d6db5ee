"""No contestant is timed before its values and gradients are those of the formula."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from tests.benchmarks.contest import FLOOR, FORM, Contest, Run


class DisagreementError(Exception):
    """A contestant computes something else."""


def difference(found: Sequence[Tensor], expected: Sequence[Tensor]) -> float:
    """The largest relative difference, in norm, of value and gradients."""
    if len(found) != len(expected):
        return float("inf")
    return max((_relative(a, b) for a, b in zip(found, expected, strict=True)), default=0.0)


def _relative(found: Tensor, expected: Tensor) -> float:
    if found.shape != expected.shape:
        return float("inf")
    a, b = found.detach().double(), expected.detach().double()
    error = torch.linalg.vector_norm(a - b) / torch.linalg.vector_norm(b).clamp(min=1e-30)
    return float("inf") if error.isnan() else error.item()


@dataclass(frozen=True)
class Started:
    """Runs that were called once, the CPU seconds that took, and their differences from the truth."""

    runs: dict[str, Run]
    first: dict[str, float]
    differences: dict[str, float]


def start(contest: Contest, names: Sequence[str]) -> Started:
    """Make every run, call it at once (what runs share is then as it was made) and compare; say who differs."""
    runs, first, outcomes = {}, {}, {}
    for name in names:
        entry = contest.entries[name]
        runs[name] = entry.make()
        begun = time.process_time()
        outcome = runs[name]()
        first[name] = time.process_time() - begun
        if entry.kind != FLOOR:
            outcomes[name] = [x.detach().clone() for x in contest.digest(outcome)]
    differences = _differences(contest, outcomes)
    if wrong := {name: error for name, error in differences.items() if not error <= contest.tolerance}:
        raise DisagreementError(f"expected relative differences up to {contest.tolerance:g}, got {wrong}")
    return Started(runs, first, differences)


def _differences(contest: Contest, outcomes: Mapping[str, Sequence[Tensor]]) -> dict[str, float]:
    """From the truth, or from the first form where there is none."""
    first = next((name for name in outcomes if contest.entries[name].kind == FORM), "")
    common = contest.truth() if contest.truth else outcomes[first]
    differences = {}
    for name, outcome in outcomes.items():
        own = contest.entries[name].expected
        differences[name] = difference(outcome, own() if own else common)
    return differences
