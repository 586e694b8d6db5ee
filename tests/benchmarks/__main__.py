"""Measure everything and write the page, its plots and the README's figures.

    python -m tests.benchmarks --out docs/benchmarks           # all, about 20 minutes on one core
    python -m tests.benchmarks --only nt_xent sinkhorn --out runs/benchmarks
    python -m tests.benchmarks --quick --out runs/benchmarks   # small sizes, about two minutes
    python -m tests.benchmarks --page-only --out docs/benchmarks

Single-process figures are CPU time of one thread, so another load on the machine disturbs little. `--only` keeps the
other items that stand in the JSON, if they are of the same machine and versions.
"""

from __future__ import annotations

import argparse
import os
import time
import traceback
import warnings
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import machine, page, peers, plots, readme, record
from tests.benchmarks.areas import AREAS
from tests.benchmarks.contest import Area
from tests.benchmarks.measure import measure

COMMITTED = machine.ROOT / "docs" / "benchmarks"


def main() -> None:
    flags = parse()
    torch.set_num_threads(1)
    warnings.simplefilter("ignore")  # of other libraries about themselves, once per call
    os.environ["PYTHONWARNINGS"] = "ignore"  # in processes that are started, too
    results, failed = record.load(flags.out), []
    if not flags.page_only:
        results = begin(results, quick=flags.quick)
        chosen = [area for area in AREAS if not flags.only or area.name in flags.only]
        failed = [area.name for area in chosen if not added(area, results, flags)]
    write(flags.out)
    if failed:
        raise SystemExit(f"failed, and not on the page: {', '.join(failed)}")


def parse() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("runs/benchmarks"))
    parser.add_argument("--only", nargs="+", choices=[area.name for area in AREAS], default=[], metavar="NAME")
    parser.add_argument("--quick", action="store_true", help="small sizes, no memory; for no published figure")
    parser.add_argument("--page-only", action="store_true", help="from the JSON that is there")
    return parser.parse_args()


def begin(old: dict[str, Any], *, quick: bool) -> dict[str, Any]:
    """The head of the JSON, with the items of an earlier run that may stand beside those of this one."""
    head = {"machine": machine.machine(), "versions": machine.versions(), "quick": quick}
    same = all(old.get(name) == value for name, value in head.items())
    if old and not same:
        print("the JSON that is there is of another machine, other versions or another mode: it is replaced")
    order = {area.name: old["areas"][area.name] for area in AREAS if same and area.name in old["areas"]}
    return {**head, "absent": peers.absent(), "areas": order}


def added(area: Area, results: dict[str, Any], flags: argparse.Namespace) -> bool:
    """Measure one item and keep it; a failure is told, and the others go on."""
    results["areas"].pop(area.name, None)
    try:
        results["areas"][area.name] = run(area, quick=flags.quick)
    except Exception:  # whatever it is, the others' results are not lost by it
        traceback.print_exc()
    record.save(flags.out, results)
    return area.name in results["areas"]


def run(area: Area, *, quick: bool) -> dict[str, Any]:
    """One item, with when, of which commit and in how many seconds."""
    start, records = time.perf_counter(), []
    about: dict[str, Any] = {"commit": machine.commit(), "date": machine.date()}
    for size in area.quick if quick else area.sizes:
        begun = time.perf_counter()
        records.append(measure(area, size, with_memory=not quick and size in area.remember))
        told = " ".join(f"{name} {value}" for name, value in size.items())
        print(f"{area.name}  {told}  {time.perf_counter() - begun:.1f} s", flush=True)
    return record.area_record(area.name, records, about | {"seconds": time.perf_counter() - start})


def write(out: Path) -> None:
    """The page and its plots; the README's figures, where these are the results that are committed."""
    results = record.load(out)
    if not results:
        raise SystemExit(f"--out: expected a folder with {record.NAME}, found none in {out}; leave --page-only out")
    results = record.again(results)
    record.save(out, results)
    pictures = plots.draw(results, out)
    (out / "index.md").write_text(page.text(results), encoding="utf-8")
    print(f"{out / 'index.md'} and {len(pictures)} plots")
    if out.resolve() == COMMITTED and not results["quick"]:
        readme.update(results)


if __name__ == "__main__":
    main()
