"""Every public name has its row, and every row says which laws have nothing to bite on."""

from __future__ import annotations

import re
from pathlib import Path

import contrastive_ops as co
from tests.table import TABLE


def test_every_public_name_has_its_row() -> None:
    assert {row.name for row in TABLE} == set(co.__all__)


def test_every_law_bites_or_says_why_not() -> None:
    """A name without a world-size, reference or compile column says in the table why the law has nothing to bite."""
    for row in TABLE:
        if not row.rows and not row.holder:
            assert "world" in row.why_not, row.title
        if not row.oracle and not row.holder:
            assert "reference" in row.why_not or row.why_not.get("world", "").startswith("distributed/"), row.title
        if not row.compiles:
            assert "compile" in row.why_not, row.title
    for name in co.__all__:
        assert any(row.bad for row in TABLE if row.name == name), f"{name} has no bad calls in the table"


def test_what_stands_in_for_a_law_exists() -> None:
    """Where the table says that a formula's own tests are the reference, it names their file."""
    for row in TABLE:
        for file in re.findall(r"\S+\.py", " ".join(row.why_not.values())):
            assert (Path(__file__).parents[1] / file).is_file(), (row.title, file)
