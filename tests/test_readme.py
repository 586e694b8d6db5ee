"""What the README says is so: its commands come first, its example prints what it shows, its list is complete."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch

import contrastive_ops

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text(encoding="utf-8")
BLOCKS = re.findall(r"^```python\n(.*?)^```$", README, flags=re.MULTILINE | re.DOTALL)


def test_the_two_commands_come_first() -> None:
    first = README.splitlines()[:30]
    learn = first.index('pip install -e ".[examples]" && python examples/moco.py')
    check = first.index('pip install -e ".[dev]" && pytest')
    assert learn < check
    assert "python" not in first[:learn], "nothing longer before the commands"


def test_there_is_an_example() -> None:
    assert BLOCKS


@pytest.mark.parametrize("block", BLOCKS)
def test_examples_print_what_they_show(block: str, capsys: pytest.CaptureFixture[str]) -> None:
    shown = re.findall(r"^ *print\(.*\)  # (.+)$", block, flags=re.MULTILINE)
    assert shown, "expected a print(...)  # with its output"
    with torch.random.fork_rng():
        exec(compile(block, "README.md", "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out.splitlines() == shown


def test_every_piece_is_listed() -> None:
    pieces = README.split("## The pieces")[1].split("\n## ")[0]
    cells = [line.split("|")[1] for line in pieces.splitlines() if line.startswith("|")]
    listed = re.findall(r"`(\w+)`", " ".join(cells))
    assert sorted(listed) == sorted(contrastive_ops.__all__)


def test_every_trainer_is_listed() -> None:
    files = {path.name for path in (ROOT / "examples").glob("*.py")} - {"run_all.py"}
    assert set(re.findall(r"^\| `examples/(\w+\.py)`", README, flags=re.MULTILINE)) == files


def test_what_it_links_to_is_there() -> None:
    targets = [target for target in re.findall(r"\]\(([^)#]+)", README) if not target.startswith("http")]
    assert targets
    assert [target for target in targets if not (ROOT / target).exists()] == []
