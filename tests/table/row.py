"""One row of the table: what the laws need to know of a public name."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

Inputs = dict[str, Tensor]
Bad = tuple[tuple[Callable[[], object], str], ...]


@dataclass(frozen=True)
class Row:
    """One public name (or one mode of it) and the columns of the laws."""

    name: str
    mode: str = ""
    # laws 1-4, 8, 9: the name called on float tensors by keyword; `rows` names those split over ranks
    call: Callable[..., Tensor] | None = None
    inputs: Callable[[], Inputs] | None = None
    rows: tuple[str, ...] = ()
    oracle: Callable[[Inputs], Tensor] | None = None  # law 2: plain float64, differentiable only by differences
    constant: tuple[str, ...] = ()  # inputs that the formula stops the gradient at
    # law 2 where the gradient is stopped at one side of a product: the oracle with that side held at the second inputs
    held: Callable[[Inputs, Inputs], Tensor] | None = None
    # law 3: the call at a temperature, on inputs large and hard enough that precision matters
    at: Callable[[float], Callable[..., Tensor]] | None = None
    hard: Callable[[], Inputs] | None = None
    # law 4: called on this many columns with blocks of this size, it makes no matrix of logits
    wide: Callable[[int, int], object] | None = None
    # law 5: a holder with state, a verb that changes it, a read that must not
    holder: Callable[[], nn.Module] | None = None
    verb: Callable[[nn.Module, int], object] | None = None
    read: Callable[[nn.Module], object] | None = None
    # law 1 for holders: one update with the inputs of a rank, or with all of them and group=False
    feed: Callable[[Any, Inputs, Any], object] | None = None
    # law 6: called with a generator
    random: Callable[[torch.Generator], object] | None = None
    # law 7: bad calls, with the argument that the message must name
    bad: Bad = ()
    # law 8: called under torch.compile(fullgraph=True), on what `prepare` makes outside the graph
    compiles: Callable[..., object] | None = None
    prepare: Callable[[], tuple[object, ...]] = tuple
    why_not: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name} {self.mode}".strip()


def normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def lists(x: Tensor) -> Any:
    return x.tolist()


def equal(a: object, b: object) -> bool:
    """Whether two results are the same, bit for bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return a == b


_WRONG = {
    "temperature": (0.0, float("inf"), "0.1", torch.ones(4), torch.tensor(-1.0)),
    "reduction": ("avg", None),
    "normalize": (1, "l2"),
    "block_size": (0, 2.5),
    "group": (True, "world"),
}


def pair_bad(loss: Callable[..., object], first: str, second: str, options: tuple[str, ...]) -> Bad:
    """Bad calls of a loss of two tensors (B, D), and bad values of the options that it has."""
    x = torch.ones(4, 3)
    tensors = (
        ([1.0], x, first),
        (x.long(), x, first),
        (x[0], x, first),
        (x[:0], x[:0], first),
        (torch.full((4, 3), float("nan")), x, first),
        (x, None, second),
        (x, x[:2], second),
        (x, x[:, :2], second),
        (x, x.to("meta"), second),
    )
    bad = [(partial(loss, a, b), name) for a, b, name in tensors]
    bad += [(partial(loss, x, x, **{name: value}), name) for name in options for value in _WRONG[name]]
    return tuple(bad)
