"""The page and the README say what the committed JSON says."""

from __future__ import annotations

import argparse
import re
from pathlib import Path

import pytest

from tests.benchmarks import __main__ as main
from tests.benchmarks import page, readme, record, words
from tests.benchmarks.__main__ import COMMITTED, begin
from tests.benchmarks.areas import AREAS, by_name
from tests.benchmarks.reasons import REASONS
from tests.benchmarks.test_figures import RECORDS

RESULTS = record.load(COMMITTED)


def test_the_page_is_made_from_the_results() -> None:
    written = (COMMITTED / "index.md").read_text(encoding="utf-8")
    assert written == page.text(RESULTS)
    pictures = re.findall(r"\]\((\w+\.png)\)", written)
    assert pictures
    assert {path.name for path in COMMITTED.glob("*.png")} == set(pictures)


def test_the_readme_is_made_from_the_results() -> None:
    assert readme.shown() == readme.figures(RESULTS)
    assert len(re.findall(r"^\| ", readme.shown(), flags=re.MULTILINE)) == 2 + len(readme.ROWS)


def test_every_missed_target_has_its_reason() -> None:
    missed = {a.name for a in AREAS for t in RESULTS["areas"][a.name]["targets"] if t["met"] is False}
    assert missed <= set(REASONS) <= {area.name for area in AREAS}


def test_the_results_are_complete() -> None:
    """Every item at every size, not of the quick sizes, with its targets judged by its own figures."""
    assert RESULTS["quick"] is False
    for area in AREAS:
        found = RESULTS["areas"][area.name]
        assert [r["size"] for r in found["records"]] == [dict(size) for size in area.sizes], area.name
        assert all(set(r["seconds"]) == set(r["kinds"]) for r in found["records"])
        for target in found["targets"]:
            if target["figure"] is not None:
                median, limit = target["figure"][1], target["limit"]
                assert target["met"] is (median >= limit if target["at_least"] else median <= limit)
    assert record.again(RESULTS) == RESULTS


def test_numbers_and_tables() -> None:
    shown = [words.short(x) for x in (0, 0.01234, 1.234, 12.34, 123.4, 12345.6)]
    assert shown == ["0", "0.012", "1.23", "12.3", "123", "12346"]
    assert words.spread((1.0, 2.0, 3.0)) == "2.00 (1.00 to 3.00)"
    assert words.spread((2.0, 2.0, 2.0)) == "2.00"
    assert words.table(("a", "b"), [["1", "2"]]) == "| a | b |\n| --- | --- |\n| 1 | 2 |\n\n"
    assert words.table(("a",), []) == ""
    assert words.told(RECORDS[1], "seconds", ["ours"]) == "2000 ms"
    assert words.told(RECORDS[1], "memory", ["ours", "other"]) == "ours 128 MiB"


def test_the_json_is_read_as_it_was_written(tmp_path: Path) -> None:
    record.save(tmp_path, {"a": [1.0, 2.123456789], "b": {"c": [[1], []], "d": "x [1,\n 2]"}, "e": None})
    assert record.load(tmp_path) == {"a": [1.0, 2.1235], "b": {"c": [[1], []], "d": "x [1,\n 2]"}, "e": None}
    assert record.load(tmp_path / "nothing") == {}


def test_a_failure_is_told_and_leaves_no_old_figure(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("it went wrong")

    monkeypatch.setattr(main, "run", fail)
    results = {"areas": {"knn": {"old": 1}, "cpc": {"kept": 1}}}
    assert not main.added(by_name("knn"), results, argparse.Namespace(quick=True, out=tmp_path))
    assert record.load(tmp_path) == {"areas": {"cpc": {"kept": 1}}}
    assert "it went wrong" in capsys.readouterr().err


def test_other_machines_and_modes_do_not_share_a_table(capsys: pytest.CaptureFixture[str]) -> None:
    mine = begin({}, quick=False)
    kept = mine | {"areas": {"knn": {"title": "kNN"}}}
    assert begin(kept, quick=False)["areas"] == kept["areas"]
    assert begin(kept, quick=True)["areas"] == {}
    assert begin(kept | {"machine": {}}, quick=False)["areas"] == {}
    assert "replaced" in capsys.readouterr().out
