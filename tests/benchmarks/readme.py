"""The few figures of the README, between its markers."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from tests.benchmarks import record, words
from tests.benchmarks.figures import Results
from tests.benchmarks.machine import ROOT

README = ROOT / "README.md"
START, END = "<!-- benchmarks -->\n", "<!-- end of benchmarks -->"
# item, what it is, the size shown, and which of the others
ROWS: tuple[tuple[str, str, dict[str, int | str], tuple[str, ...]], ...] = (
    ("nt_xent", "NT-Xent", {"N": 4096, "d": 128}, ("plain reference", "lightly")),
    ("queue_loss", "InfoNCE, queue", {"K": 65536}, ("released form", "lightly")),
    ("clip", "CLIP", {"N": 4096, "d": 512}, ("plain reference", "released form")),
    ("momentum", "momentum update", {"network": "vit_base_patch16_224"}, ("MoCo's released form", "lightly")),
    ("sinkhorn", "Sinkhorn", {"P": 3000}, ("released form", "lightly")),
    ("enqueue", "enqueue", {"K": 65536}, ("released form with its clone", "lightly")),
    ("multi_crop", "multi-crop", {"B": 32}, ("torchvision on PIL", "kornia")),
    ("nt_xent_ranks", "NT-Xent, 2 processes", {"W": 2, "N": 2048}, ("plain gather form", "lightly")),
)


def update(results: Mapping[str, Any]) -> None:
    """Put the figures where they belong."""
    text = README.read_text(encoding="utf-8")
    if not (START in text and END in text):
        raise ValueError(f"README.md: expected {START.strip()} and {END}, found not both")
    before, rest = text.split(START)
    README.write_text(before + START + figures(results) + END + rest.split(END)[1], encoding="utf-8")


def shown() -> str:
    """What stands there."""
    found = re.search(f"{re.escape(START)}(.*?){re.escape(END)}", README.read_text(encoding="utf-8"), flags=re.DOTALL)
    return found[1] if found else ""


def figures(results: Mapping[str, Any]) -> str:
    """A sentence on where they come from, and the table."""
    rows = [row for name, *about in ROWS if (row := _row(results["areas"].get(name), *about))]
    met = record.met(results)
    head = ("what", "at", "time of ours", "x floor", "time of others / ours", "memory, ours and others, MiB")
    return words.table(head, rows) + f"{_source(results)} {sum(met)} of {len(met)} targets are met.\n"


def _source(results: Mapping[str, Any]) -> str:
    found = results["areas"].values()
    commits = sorted({area["commit"][:7] + "+" * area["commit"].endswith("+") for area in found})
    machine, number = results["machine"], results["versions"]["torch"]
    return (
        f"One thread of {machine['cpu']}, torch {number}, commit {', '.join(commits)}, "
        f"{max(area['date'] for area in found)}. Not measured on a GPU."
    )


def _row(
    area: Mapping[str, Any] | None, title: str, size: Mapping[str, int | str], others: tuple[str, ...]
) -> list[str] | None:
    """One line; None where it was not measured."""
    results = Results(area["records"] if area else [])
    record = results.at(size)
    if record is None:
        return None
    floor = next((name for name, kind in record["kinds"].items() if kind == "floor"), None)
    above = record["quartiles"]["over_floor"]["ours"] if floor else None
    ratios = [f"{name} {words.spread(r)}" for name in others if (r := record["quartiles"]["over_ours"].get(name))]
    memory = [words.amount(record, "memory", name) for name in ("ours", *others)]
    return [
        title,
        words.size(record["size"]),
        words.told(record, "seconds", ["ours"]),
        words.spread(above) if above else "",
        "; ".join(ratios),
        ", ".join("?" if value is None else words.short(value) for value in memory),
    ]
