"""The page docs/test_your_own_loss.md: its files run, its report is what is reported, its tables are complete."""

from __future__ import annotations

import importlib
import re
from pathlib import Path
from types import ModuleType

import pytest

from contrastive_ops.testing import BrokenLaws, laws, strategies

PAGE = (Path(__file__).parents[2] / "docs" / "test_your_own_loss.md").read_text(encoding="utf-8")
FILES = dict(re.findall(r"<!-- file: (\w+)\.py -->\n```python\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL))
REPORTS = dict(re.findall(r"<!-- report: (\w+)\.py -->\n```text\n(.*?)^```$", PAGE, flags=re.MULTILINE | re.DOTALL))


@pytest.fixture
def written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, ModuleType]:
    """The page's files as modules that spawned processes can import."""
    monkeypatch.syspath_prepend(str(tmp_path))
    for name, text in FILES.items():
        tmp_path.joinpath(f"{name}.py").write_text(text, encoding="utf-8")
    return {name: importlib.import_module(name) for name in FILES}


def test_the_first_loss_gets_the_report_shown(written: dict[str, ModuleType]) -> None:
    code = [line for line in FILES["a_first_loss"].splitlines() if line]
    assert len(code) <= 10, "ten lines, it says"
    with pytest.raises(BrokenLaws) as caught:
        written["a_first_loss"].test_my_loss()
    assert _skeleton(str(caught.value)) == _skeleton(REPORTS["a_first_loss"])


def _skeleton(report: str) -> list[str]:
    """Without the digits, which another release of torch or hypothesis may change."""
    return re.sub(r"-?[\d.]+(e[+-]\d+)?", "0", report).split()


def test_the_mended_loss_passes(written: dict[str, ModuleType]) -> None:
    written["a_mended_loss"].test_my_loss()


@pytest.mark.slow
def test_the_queue_passes(written: dict[str, ModuleType]) -> None:
    written["a_queue"].test_my_queue()


def test_the_tables_are_complete() -> None:
    listed = re.findall(r"^\| `(\w+)` \|", PAGE, flags=re.MULTILINE)
    functions = [name for name in laws.__all__ if name != "Holder"]
    assert sorted(listed) == sorted([*functions, *strategies.__all__])


def test_the_tuples_shown_hold_their_laws() -> None:
    tuples = {name: value for name, value in vars(laws).items() if name.isupper() and isinstance(value, tuple)}
    for law, _, shown in re.findall(r"^\| `(\w+)` \| ([^|]+) \| ([^|]+) \|$", PAGE, flags=re.MULTILINE):
        for name in re.findall(r"`(\w+)`", shown):
            assert getattr(laws, law) in tuples[name], (law, name)
