"""Run the default command of every trainer with several seeds, and print the table of results.

    python examples/run_all.py                                   # all trainers, seeds 0 1 2, one process each: hours
    python examples/run_all.py --trainers simclr moco --seeds 0
    python examples/run_all.py --processes 1 2                   # each also under torchrun with two processes
    python examples/run_all.py --table-only                      # of the runs that are there

Runs go one after another into `--out`; one that is finished is not run again, one that was stopped is resumed, so the
same command continues after Ctrl-C. The table stands in `results.md` beside them, in the form of examples/README.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TRAINERS = ("moco", "simclr", "invaspread", "instdisc", "cpc")
COLUMNS = ("command", "seed", "processes", "kNN before", "kNN", "linear", "minutes", "commit")


def main() -> None:
    """Runs what is missing, then writes the table."""
    flags = parse()
    flags.out.mkdir(parents=True, exist_ok=True)
    for trainer in flags.trainers:
        for processes in flags.processes:
            for seed in flags.seeds:
                folder = run_folder(flags.out, trainer, seed, processes)
                if not (flags.table_only or (folder / "summary.json").exists()):
                    run(trainer, seed, processes, folder, flags.extra)
    rows = [row(path) for path in sorted(flags.out.glob("*/summary.json"))]
    table = markdown(rows)
    (flags.out / "results.md").write_text(table)
    print(table)


def parse() -> argparse.Namespace:
    """What to run, and where."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trainers", nargs="+", default=TRAINERS, choices=TRAINERS)
    parser.add_argument("--seeds", nargs="+", type=int, default=(0, 1, 2))
    parser.add_argument("--processes", nargs="+", type=int, default=(1,))
    parser.add_argument("--out", type=Path, default=Path("runs/all"))
    parser.add_argument("--table-only", action="store_true")
    parser.add_argument("--extra", nargs=argparse.REMAINDER, default=[], help="flags for every trainer, last")
    return parser.parse_args()


def run_folder(out: Path, trainer: str, seed: int, processes: int) -> Path:
    """Where one run lies."""
    return out / f"{trainer}-seed{seed}-processes{processes}"


def run(trainer: str, seed: int, processes: int, folder: Path, extra: list[str]) -> None:
    """One training in processes of its own; a failure is told and the others go on."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    start = [sys.executable, *(torchrun if processes > 1 else []), str(HERE / f"{trainer}.py")]
    command = [*start, "--seed", str(seed), "--out", str(folder), "--resume", *extra]
    print("$", " ".join(command), flush=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        print(f"{trainer}, seed {seed}, {processes} processes: ended with exit code {code}", file=sys.stderr)


def row(path: Path) -> dict[str, Any]:
    """One line of the table from a run's summary."""
    summary = json.loads(path.read_text())
    return {
        "command": f"`examples/{summary['method']}.py`",
        "seed": summary["seed"],
        "processes": summary["world_size"],
        "kNN before": percent(summary["knn_initial"]),
        "kNN": percent(summary["knn"]),
        "linear": percent(summary["linear"]),
        "minutes": f"{summary['seconds'] / 60:.1f}",
        "commit": summary["commit"][:7] + "+" * summary["commit"].endswith("+"),
    }


def percent(value: float | None) -> str:
    """A fraction in percent; nothing where there is none."""
    return "" if value is None else f"{100 * value:.1f}"


def markdown(rows: list[dict[str, Any]]) -> str:
    """The table."""
    lines = [COLUMNS, ["---"] * len(COLUMNS), *([r[name] for name in COLUMNS] for r in rows)]
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in lines)


if __name__ == "__main__":
    main()
