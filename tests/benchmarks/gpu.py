"""Check and time the library on an NVIDIA GPU: one command, JSON, and a short table last.

    python -m tests.benchmarks.gpu                      # kernels against float64, times, three steps of every trainer
    python -m tests.benchmarks.gpu --parts checks       # or times, or trainers
    python -m tests.benchmarks.gpu --out runs/gpu.json

Exit code 0: every check holds and every trainer ran; 1: not so; 2: there is no GPU here, nothing was run.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from collections.abc import Sequence
from datetime import datetime, timezone
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from tests.benchmarks import gpu_checks, gpu_trainers
from tests.benchmarks.gpu_items import Item, items
from tests.benchmarks.gpu_timing import race

PARTS = ("checks", "times", "trainers")
MISSING = "no CUDA device here: nothing was run"


def main(arguments: Sequence[str] | None = None) -> int:
    flags = parse(arguments)
    if not torch.cuda.is_available():
        print(MISSING)
        return 2
    device = torch.device("cuda", torch.cuda.current_device())
    report: dict[str, Any] = {"machine": machine(device)}
    if "checks" in flags.parts:
        report["checks"] = gpu_checks.run(gpu_checks.checks(device), device)
        write(report, flags.out)
    if "times" in flags.parts:
        report["times"] = times(items(small=False), device, flags.rounds)
        write(report, flags.out)
    if "trainers" in flags.parts:
        report["trainers"] = gpu_trainers.run(gpu_trainers.trainers(), "cuda")
    write(report, flags.out)
    print("\n".join(table(report)))
    return 0 if holds(report) else 1


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    parser.add_argument("--rounds", type=int, default=20, help="how often the contestants take turns")
    parser.add_argument("--out", type=Path, default=Path("runs/gpu.json"))
    return parser.parse_args(arguments)


def machine(device: torch.device) -> dict[str, Any]:
    """What the figures belong to."""
    properties = torch.cuda.get_device_properties(device)
    return {
        **{"device": properties.name, "capability": f"{properties.major}.{properties.minor}"},
        **{"multiprocessors": properties.multi_processor_count, "memory_gib": properties.total_memory / 2**30},
        **{"torch": torch.__version__, "cuda": torch.version.cuda, "triton": _version("triton")},
        **{"python": platform.python_version(), "tf32_allowed": torch.backends.cuda.matmul.allow_tf32},
        "when": datetime.now(timezone.utc).isoformat(timespec="seconds"),
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def times(found: Sequence[Item], device: torch.device, rounds: int) -> list[dict[str, Any]]:
    """One row for each contestant of each size."""
    rows = []
    for item in found:
        print(f"{item.name} {item.size}", file=sys.stderr, flush=True)
        results = race(item.make(device), device, floor=item.floor, rounds=rounds)
        rows += [{"item": item.name, **item.size, "floor": item.floor, **result} for result in results]
        if device.type == "cuda":
            torch.cuda.empty_cache()
    return rows


def write(report: dict[str, Any], path: Path) -> None:
    """Whole or not at all."""
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_suffix(".unfinished")
    unfinished.write_text(json.dumps(report, indent=1) + "\n")
    os.replace(unfinished, path)


def holds(report: dict[str, Any]) -> bool:
    """Whether nothing failed; a dense contestant that finds no memory is no failure."""
    ours = [row for row in report.get("times", []) if row["contestant"].startswith("ours")]
    return (
        all(check["holds"] for check in report.get("checks", []))
        and all("failed" not in row for row in ours)
        and all(row["code"] == 0 for row in report.get("trainers", []))
    )


def table(report: dict[str, Any]) -> list[str]:
    """What a reader wants to see first: failures, then times beside their floors."""
    lines = [f"{report['machine'].get('device')}, torch {report['machine'].get('torch')}"]
    checks, trainers = report.get("checks", []), report.get("trainers", [])
    lines += [f"checks: {sum(c['holds'] for c in checks)} of {len(checks)} hold"] if checks else []
    lines += [f"  {c['check']}: {c['error']} at {c['why']}" for c in checks if not c["holds"]]
    lines += [_time(row) for row in report.get("times", [])]
    lines += [f"trainers: {sum(t['code'] == 0 for t in trainers)} of {len(trainers)} ran"] if trainers else []
    lines += [f"  {t['trainer']}: exit code {t['code']}, {t['why'][-300:]}" for t in trainers if t["code"] != 0]
    return lines


def _time(row: dict[str, Any]) -> str:
    size = " ".join(f"{name} {value}" for name, value in row.items() if isinstance(value, int))
    head = f"{row['item']:16} {size:40} {row['contestant']:32}"
    if "failed" in row:
        return f"{head} {row['failed'][:60]}"
    memory = "" if row["mib"] is None else f" {row['mib']:9.1f} MiB"
    ratio = f"{row['ms']:10.3f} ms {row['x_floor']:7.2f} x {row['floor']}" if "ms" in row else "no floor"
    return f"{head} {ratio}{memory}"


if __name__ == "__main__":
    raise SystemExit(main())
