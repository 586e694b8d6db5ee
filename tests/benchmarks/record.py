"""The JSON: raw rounds of everybody, and beside them what is derived: medians, ratios, targets met or not."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from tests.benchmarks.areas import by_name
from tests.benchmarks.contest import FLOOR, OURS, Area, Target
from tests.benchmarks.figures import Figure, Results, figure, ratio

NAME = "results.json"


def derived(record: dict[str, Any]) -> dict[str, Any]:
    """A record with quartiles: milliseconds, ratios to the floor, and how many times slower than ours each is."""
    seconds, kinds = record["seconds"], record["kinds"]
    floor = next((name for name, kind in kinds.items() if kind == FLOOR), None)
    quartiles = {"milliseconds": {name: figure([1000 * t for t in times]) for name, times in seconds.items()}}
    if floor:
        quartiles["over_floor"] = {n: ratio(times, seconds[floor]) for n, times in seconds.items() if n != floor}
    quartiles["over_ours"] = {n: ratio(t, seconds["ours"]) for n, t in seconds.items() if kinds[n] != OURS}
    return record | {"quartiles": quartiles}


def judged(area: Area, records: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """The targets of the sizes that are there; figure and met are None where somebody did not take part."""
    results = Results(records)
    return [_judged(target, target.figure(results)) for target in area.targets if results.at(target.size)]


def _judged(target: Target, measured: Figure | None) -> dict[str, Any]:
    return {
        **{"text": target.text, "limit": target.limit, "at_least": target.at_least},
        **{"size": dict(target.size), "quantity": target.quantity, "figure": measured},
        "met": None if measured is None else target.met(measured),
    }


def met(results: Mapping[str, Any]) -> list[bool]:
    """Of every target that was measured, whether it is met."""
    targets = [target for found in results["areas"].values() for target in found["targets"]]
    return [target["met"] for target in targets if target["met"] is not None]


def area_record(name: str, records: list[dict[str, Any]], about: Mapping[str, Any]) -> dict[str, Any]:
    """All of one item."""
    area, records = by_name(name), rounded(records)
    return {
        **about,
        "title": area.title,
        "about": area.about,
        "clock": "wall" if area.in_processes else "cpu",
        "records": [derived(record) for record in records],
        "targets": judged(area, records),
    }


def rounded(value: Any) -> Any:
    """Five digits: more are noise."""
    if isinstance(value, float):
        return float(f"{value:.5g}")
    if isinstance(value, dict):
        return {key: rounded(item) for key, item in value.items()}
    return [rounded(item) for item in value] if isinstance(value, (list, tuple)) else value


def again(results: dict[str, Any]) -> dict[str, Any]:
    """What is derived, from the same rounds anew: targets and pages may change, what was measured not."""
    areas = {
        name: area_record(name, found["records"], {key: found[key] for key in ("commit", "date", "seconds")})
        for name, found in results["areas"].items()
    }
    return rounded({**results, "areas": areas})


def load(out: Path) -> dict[str, Any]:
    """What is there; empty at first."""
    path = out / NAME
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def save(out: Path, results: Mapping[str, Any]) -> None:
    """Lists of numbers on one line, so that a diff can be read."""
    text = json.dumps(rounded(dict(results)), indent=1)
    out.mkdir(parents=True, exist_ok=True)
    (out / NAME).write_text(_flat_lists(text) + "\n", encoding="utf-8")


def _flat_lists(text: str) -> str:
    return re.sub(r"\[[^\[\]{}]*\]", lambda match: "[" + " ".join(match[0][1:-1].split()) + "]", text)
