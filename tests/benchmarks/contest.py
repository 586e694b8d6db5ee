"""What is compared: the contestants of one size of one item, the sizes of an item, and what is asked of it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from torch import Tensor

if TYPE_CHECKING:
    from tests.benchmarks.figures import Figure, Results

Size = Mapping[str, "int | str"]
Run = Callable[[], Sequence[Tensor]]  # one timed call; what it returns is compared before anything is timed
FLOOR, OURS, FORM, PEER = "floor", "ours", "form", "peer"


def as_returned(outcome: Sequence[Tensor]) -> Sequence[Tensor]:
    return outcome


@dataclass(frozen=True)
class Entry:
    """One contestant. `make` prepares its inputs, so that one that is not asked for costs nothing.

    kind: "ours"; "floor", work that no implementation avoids; "form", a formula written out plainly, as papers and
    released code have it; "peer", another library, which the package `needs` holds.
    """

    make: Callable[[], Run]
    kind: str
    needs: str = ""  # "package", or "package:module" where that module needs more than the rest of it
    expected: Callable[[], Sequence[Tensor]] | None = None  # where its formula is another one than the contest's


@dataclass(frozen=True)
class Contest:
    """All contestants of one size. Without a `truth` the first "form" is what the others are compared with."""

    entries: Mapping[str, Entry]
    truth: Callable[[], Sequence[Tensor]] | None = None
    tolerance: float = 1e-4
    digest: Callable[[Sequence[Tensor]], Sequence[Tensor]] = as_returned  # what is compared of what was returned


@dataclass(frozen=True)
class Target:
    """A number that a figure of the results should stay below, or above."""

    text: str
    figure: Callable[[Results], Figure | None]
    limit: float
    size: Size
    quantity: str  # what the table shows beside it: "seconds", "cpu", "memory" or "received"
    at_least: bool = False

    def met(self, figure: Figure) -> bool:
        median = figure[1]
        return median >= self.limit if self.at_least else median <= self.limit


@dataclass(frozen=True)
class Growth:
    """A plot of time and memory against one number of the size, the others fixed."""

    axis: str
    fixed: Size
    label: str


@dataclass(frozen=True)
class Area:
    """One item of the list: its sizes, what takes part at each, and what is asked of it."""

    name: str
    title: str
    about: str
    contest: Callable[[Size], Contest]
    sizes: Sequence[Size]
    quick: Sequence[Size]
    toy: Size
    remember: Sequence[Size] = ()  # where memory is measured too
    targets: Sequence[Target] = ()
    growth: Sequence[Growth] = ()
    in_processes: bool = False  # size["W"] processes, wall time
    rounds: int = 15
    seconds: float = field(default=3.0)  # for the rounds of one size; at least three rounds are made
