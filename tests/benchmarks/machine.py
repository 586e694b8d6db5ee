"""Where and when: what has to stand beside a figure for it to mean anything."""

from __future__ import annotations

import os
import platform
import subprocess
from datetime import datetime, timezone
from pathlib import Path

import contrastive_ops
from tests.benchmarks import peers

ROOT = Path(__file__).parents[2]


def machine() -> dict[str, str | int]:
    """The processor, its cores and the memory."""
    return {
        "cpu": _field("/proc/cpuinfo", "model name") or platform.processor(),
        "family": f"{_field('/proc/cpuinfo', 'cpu family')}-{_field('/proc/cpuinfo', 'model')}".strip("-"),
        "cores": os.cpu_count() or 0,
        "memory_gib": round(int((_field("/proc/meminfo", "MemTotal") or "0").split()[0]) / 2**20),
        "system": f"{platform.system()} {platform.release()}",
        "threads": 1,
    }


def _field(path: str, name: str) -> str:
    """The value of the first line `name : value`; empty where there is none."""
    file = Path(path)
    lines = file.read_text(encoding="utf-8").splitlines() if file.exists() else []
    parts = (line.partition(":") for line in lines)
    return next((value.strip() for key, _, value in parts if key.strip() == name), "")


def versions() -> dict[str, str]:
    return {"python": platform.python_version(), "contrastive-ops": contrastive_ops.__version__, **peers.versions()}


def commit() -> str:
    """The commit, with a + where files of the package or of this suite differ from it."""
    try:
        head = _git("rev-parse", "HEAD")
        return head + "+" * bool(_git("status", "--porcelain", "--", "contrastive_ops", "tests/benchmarks"))
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def _git(*words: str) -> str:
    return subprocess.run(["git", *words], cwd=ROOT, capture_output=True, text=True, check=True).stdout.strip()


def date() -> str:
    return datetime.now(timezone.utc).strftime("%Y-%m-%d")
