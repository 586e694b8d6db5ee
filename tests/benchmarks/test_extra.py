"""What the extra `benchmarks` installs."""

from __future__ import annotations

from importlib.metadata import requires

from packaging.requirements import Requirement


def _installs(extra: str) -> set[str]:
    """The names that the extra asks for, those of the extras that it names included."""
    names: set[str] = set()
    for needed in map(Requirement, requires("contrastive-ops") or []):
        if needed.marker is not None and needed.marker.evaluate({"extra": extra}):
            own = needed.name == "contrastive-ops"
            names |= set[str]().union(*map(_installs, needed.extras)) if own else {needed.name}
    return names


def test_benchmarks_start_with_nothing_but_their_extra() -> None:
    """They check contestants with `contrastive_ops.testing`, which needs its own extra."""
    assert _installs("testing") == {"hypothesis", "pytest"}
    assert _installs("testing") <= _installs("benchmarks")
    assert "sphinx" not in _installs("benchmarks")
