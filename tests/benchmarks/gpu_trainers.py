"""A few steps of every trainer on the GPU, in bfloat16, by its own command line."""

from __future__ import annotations

import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
OTHERS = ("run_all", "linear_probe")  # runs the others; and what reads the run of another, which goes last
TRAINED = ["examples/simclr.py", "--epochs", "1"]  # the run that the probe reads: it has to be a finished one
SECONDS = 900  # more than a run of three steps with its evaluation can need


def trainers() -> list[str]:
    """Every trainer of examples/; the probe last, since it reads the folder of a finished run."""
    names = sorted(path.stem for path in (ROOT / "examples").glob("*.py"))
    return [*(name for name in names if name not in OTHERS), "linear_probe"]


def command(name: str, folder: Path, device: str) -> list[str]:
    """The command line of three steps."""
    flags = ["--preset", "digits", "--device", device, "--precision", "bf16", "--max-steps", "3"]
    flags += ["--trained", str(folder / "trained")] if name == "linear_probe" else []
    return [f"examples/{name}.py", *flags, "--out", str(folder / name)]


def run(names: Sequence[str], device: str) -> list[dict[str, Any]]:
    """Name, exit code, seconds and the end of what a failed one printed."""
    with tempfile.TemporaryDirectory() as folder:
        if "linear_probe" in names:
            _run("trained", [*TRAINED, "--device", device, "--out", f"{folder}/trained"])
        return [_run(name, command(name, Path(folder), device)) for name in names]


def _run(name: str, line: Sequence[str]) -> dict[str, Any]:
    begun, process = time.perf_counter(), [sys.executable, *line]
    try:
        done = subprocess.run(process, check=False, cwd=ROOT, capture_output=True, text=True, timeout=SECONDS)
    except subprocess.TimeoutExpired:
        return {"trainer": name, "code": None, "seconds": SECONDS, "why": "did not end"}
    row = {"trainer": name, "code": done.returncode, "seconds": round(time.perf_counter() - begun, 1)}
    return row if done.returncode == 0 else {**row, "why": done.stderr[-2000:]}
