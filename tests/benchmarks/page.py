"""docs/benchmarks/index.md, from the JSON and nothing else."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from tests.benchmarks import record, words
from tests.benchmarks.areas import AREAS
from tests.benchmarks.contest import FLOOR, OURS, Area
from tests.benchmarks.figures import Results, matches, slope
from tests.benchmarks.plots import picture
from tests.benchmarks.reasons import REASONS

Record = Mapping[str, Any]

INTRODUCTION = """# Benchmarks

How fast the pieces are, how much memory they take and how both grow: against the work that no implementation avoids
(the floor), against the formulas written plainly, and against other libraries.

**Not measured on a GPU.** All figures are of one CPU thread; between processes, of one thread each.

```bash
pip install -e ".[benchmarks]"
python -m tests.benchmarks --out docs/benchmarks    # this page, its plots, results.json and the README's figures
```

How it is measured: contestants take turns within one process, round after round, and a ratio is the median of the
ratios within the rounds (in brackets the quartiles), in CPU time of one thread, so that whatever else the machine does
falls on all alike. Between processes it is wall time, and both where it says so. Before anything is timed all
contestants must agree in value and gradient with the formula in float64 (with each other in float32 where float64
would take too long); views of random augmentations must agree in shape, mean and deviation. Memory is the peak
resident set above what was resident before the call, in a process that has done nothing else. Received bytes are
counted by the kernel.

Besides the libraries there are forms, written from the papers' formulas for this comparison: a plain reference has all
logits in memory; a released form makes the steps of the authors' code (a clone of the queue, a product for each
direction, a new tensor for each parameter); the gather + cross-entropy form is what solo-learn computes.
"""


def text(results: Record) -> str:
    """The whole page."""
    areas = [(area, results["areas"][area.name]) for area in AREAS if area.name in results["areas"]]
    met = record.met(results)
    parts = [INTRODUCTION, _surroundings(results, areas), "## Targets\n\n"]
    parts.append(f'{sum(met)} of {len(met)} targets are met. "{NONE}" is an item without a target.\n\n')
    head = ("item", "at", "ours", "peers", "floor", "target", "measured", "met")
    parts.append(words.table(head, [row for area, found in areas for row in _targets(area, found)]))
    parts.append(_missed(areas))
    parts += [_section(area, found) for area, found in areas]
    return "\n".join(part.strip("\n") + "\n" for part in parts)


NONE = "no target"
MET = {True: "yes", False: "**no**", None: ""}


def _missed(areas: Sequence[tuple[Area, Record]]) -> str:
    """What is known of the targets that are not met."""
    missed = [area for area, found in areas if any(target["met"] is False for target in found["targets"])]
    lines = [f"- {area.title}: {REASONS.get(area.name, 'not known.')}" for area in missed]
    return "\n".join(["## Why targets are missed", "", *lines, ""]) if lines else ""


def _surroundings(results: Record, areas: Sequence[tuple[Area, Record]]) -> str:
    machine, minutes = results["machine"], sum(found["seconds"] for _, found in areas) / 60
    commits = sorted({f"{found['commit'][:7]}{'+' * found['commit'].endswith('+')}" for _, found in areas})
    dates = sorted({found["date"] for _, found in areas})
    lines = [
        f"- {machine['cpu']} (family and model {machine['family']}), {machine['cores']} cores, "
        f"{machine['memory_gib']} GiB, {machine['system']}; {machine['threads']} thread",
        f"- commit {', '.join(commits)}; {' to '.join(dates[:1] + dates[1:][-1:])}; {minutes:.0f} minutes"
        + ("; quick sizes only" if results["quick"] else ""),
        "- " + ", ".join(f"{name} {number}" for name, number in results["versions"].items()),
        *(f"- {name}: {reason}" for name, reason in results["absent"].items()),
    ]
    return "\n".join(lines) + "\n"


def _named(found: Record, *kinds: str) -> list[str]:
    return [name for name, kind in found["kinds"].items() if kind in kinds]


def _others(found: Record) -> list[str]:
    return [name for name, kind in found["kinds"].items() if kind not in (OURS, FLOOR)]


def _targets(area: Area, found: Record) -> list[list[str]]:
    """One row for each size and quantity, with the targets that are asked there."""
    groups: dict[tuple[str, str], list[Record]] = {}
    for target in found["targets"]:
        groups.setdefault((words.size(target["size"]), target["quantity"]), []).append(target)
    rows = [_row(area, found, group[0]["size"], group[0]["quantity"], group) for group in groups.values()]
    return rows or [_row(area, found, found["records"][-1]["size"], "seconds", [])]


def _row(area: Area, found: Record, size: Record, quantity: str, targets: Sequence[Record]) -> list[str]:
    shown = next(one for one in found["records"] if matches(one["size"], size))
    several = shown["size"] != size and "grows" in targets[0]["text"]
    cells = ["" if several else words.told(shown, quantity, names) for names in
             (_named(shown, OURS), _others(shown), _named(shown, FLOOR))]  # fmt: skip
    asked = "<br>".join(target["text"] for target in targets) or NONE
    measured = "<br>".join(_measured(target) for target in targets)
    met = "<br>".join(MET[target["met"]] for target in targets)
    return [area.title, words.size(size), *cells, asked, measured, met]


def _measured(target: Record) -> str:
    unit = " MiB" if target["text"].startswith("memory of") and "grows" not in target["text"] else ""
    return words.spread(target["figure"]) + unit if target["figure"] else "not measured"


def _section(area: Area, found: Record) -> str:
    """Everything that was measured of one item."""
    parts = [f"## {area.title}\n", area.about + "\n", _times(found)]
    parts += [_amounts(found, "memory", "Peak memory"), _amounts(found, "cpu", "CPU time, mean of the ranks")]
    parts += [
        _amounts(found, "received", "Bytes received by a rank, of losses forward + backward"),
        _missing(found),
        _growth(area, found),
    ]
    return "\n".join(part for part in parts if part)


def _columns(found: Record, *, floors: bool = True) -> list[str]:
    names = dict.fromkeys(name for one in found["records"] for name in one["kinds"])
    kinds = {name: kind for one in found["records"] for name, kind in one["kinds"].items()}
    order = sorted(names, key=lambda name: (OURS, FLOOR).index(kinds[name]) if kinds[name] in (OURS, FLOOR) else 2)
    return [name for name in order if floors or kinds[name] != FLOOR]


def _times(found: Record) -> str:
    """Milliseconds, and the ratio to the floor, or to ours where there is none."""
    names, clock = _columns(found), "Wall" if found["clock"] == "wall" else "CPU"
    rows = [[words.size(r["size"]), *(_time(r, name) for name in names)] for r in found["records"]]
    per = "floor" if _named(found["records"][0], FLOOR) else "ours"
    return f"{clock} time, ms (and times {per}):\n\n" + words.table(["at", *names], rows)


def _time(shown: Record, name: str) -> str:
    value = words.amount(shown, "seconds", name)
    if value is None:
        return ""
    quartiles = shown["quartiles"]
    ratios = quartiles.get("over_floor", quartiles["over_ours"])
    return words.short(value) + (f" ({words.short(ratios[name][1])} x)" if name in ratios else "")


def _amounts(found: Record, quantity: str, title: str) -> str:
    names, records = _columns(found, floors=False), [one for one in found["records"] if one.get(quantity)]
    rows = [[words.size(one["size"]), *(_amount(one, quantity, name) for name in names)] for one in records]
    return f"{title}, {words.UNITS[quantity]}:\n\n" + words.table(["at", *names], rows) if rows else ""


def _amount(shown: Record, quantity: str, name: str) -> str:
    """Bytes by phase, forward + backward."""
    value = words.amount(shown, quantity, name)
    if value is None or quantity != "received":
        return "" if value is None else words.short(value)
    return " + ".join(words.short(phase / 2**20) for phase in shown["received"][name])


def _missing(found: Record) -> str:
    reasons = {name: reason for one in found["records"] for name, reason in one["missing"].items()}
    return "".join(f"- {name}: {reason}\n" for name, reason in reasons.items())


def _growth(area: Area, found: Record) -> str:
    """The plots, and the exponents of growth over the upper half of the sizes."""
    parts, results = [], Results(found["records"])
    for growth in area.growth:
        points = {q: {name: slope(results.along(growth.axis, name, growth.fixed, quantity=q))
                      for name in _columns(found)} for q in ("seconds", "memory")}  # fmt: skip
        rows = [
            [name, *("" if points[q][name] is None else f"{points[q][name]:.2f}" for q in points)]
            for name in _columns(found)
            if any(points[q][name] is not None for q in points)
        ]
        if rows:
            alt = f"Time and memory of {area.title} against {growth.label}; not measured on a GPU"
            parts.append(f"![{alt}]({picture(area, growth)})\n")
            parts.append(f"Exponents of growth with {growth.axis}, upper half of the sizes:\n")
            parts.append(words.table([f"p of {growth.axis}^p", "time", "memory"], rows))
    return "\n".join(parts)
