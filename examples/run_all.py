"""Run the default command of every trainer, and its small presets, with several seeds; print the table of results.

    python examples/run_all.py                                   # all trainers, seeds 0 1 2, one process each: hours
    python examples/run_all.py --trainers simclr moco moco:v1 --seeds 0   # NAME:PRESET is another preset of NAME
    python examples/run_all.py --processes 1 2                   # each also under torchrun with two processes
    python examples/run_all.py --table-only                      # of the runs that are there

Runs go one after another into `--out`; one that is finished is not run again, one that was stopped is resumed, so the
same command continues after Ctrl-C. The table stands in `results.md` beside them, in the form of docs/results.md.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

HERE = Path(__file__).parent
TRAINERS = (
    *("moco", "simclr", "invaspread", "instdisc", "cpc", "cmc", "clip", "crd", "simclr_v2"),
    *("swav", "byol", "simsiam", "moco_v3", "dino", "moco:v1", "moco_v3:vit", "dino:vit"),
)
OTHERS = (  # accuracies that some trainers measure besides
    *("zero_shot", "teacher", "alone", "student", "knn_l", "knn_ab", "knn_gradient"),
    *(f"{stage} {part} %" for part in (1, 10) for stage in ("alone", "finetuned", "distilled")),
)
COLUMNS = ("command", "seed", "processes", "kNN before", "kNN", "linear", "others", "minutes", "commit")
MEANS = ("command", "processes", "seeds", "kNN, mean", "kNN, lowest", "linear, mean", "others, mean")


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
    summaries = [json.loads(path.read_text()) for path in sorted(flags.out.glob("*/summary.json"))]
    table = markdown(MEANS, means(summaries)) + "\n" + markdown(COLUMNS, [row(summary) for summary in summaries])
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
    return out / f"{trainer.replace(':', '-')}-seed{seed}-processes{processes}"


def run(trainer: str, seed: int, processes: int, folder: Path, extra: list[str]) -> None:
    """One training in processes of its own; a failure is told and the others go on."""
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)]
    name, _, preset = trainer.partition(":")
    start = [sys.executable, *(torchrun if processes > 1 else []), str(HERE / f"{name}.py")]
    start += ["--preset", preset] if preset else []
    command = [*start, "--seed", str(seed), "--out", str(folder), "--resume", *extra]
    print("$", " ".join(command), flush=True)
    code = subprocess.run(command, check=False).returncode
    if code:
        print(f"{trainer}, seed {seed}, {processes} processes: ended with exit code {code}", file=sys.stderr)


def row(summary: dict[str, Any]) -> list[Any]:
    """One line of the table from a run's summary."""
    return [
        command_of(summary),
        summary["seed"],
        summary["world_size"],
        *(percent(summary[name]) for name in ("knn_initial", "knn", "linear")),
        ", ".join(f"{name.replace('_', '-')} {percent(summary[name])}" for name in OTHERS if name in summary),
        f"{summary['seconds'] / 60:.1f}",
        summary["commit"][:7] + "+" * summary["commit"].endswith("+"),
    ]


def command_of(summary: dict[str, Any]) -> str:
    """The command of a run, without its seed and its number of processes."""
    preset = "" if summary["preset"] == "digits" else f" --preset {summary['preset']}"
    return f"`examples/{summary['method']}.py{preset}`"


def means(summaries: list[dict[str, Any]]) -> list[list[Any]]:
    """One line for each command and number of processes: what its seeds have in common."""
    lines = []
    for command, processes in sorted({(command_of(s), s["world_size"]) for s in summaries}):
        runs = [s for s in summaries if (command_of(s), s["world_size"]) == (command, processes)]
        mean = {name: percent(mean_of(runs, name)) for name in ("knn", "linear", *OTHERS)}
        others = ", ".join(f"{name.replace('_', '-')} {mean[name]}" for name in OTHERS if mean[name])
        lowest = percent(min(run["knn"] for run in runs))
        seeds = ", ".join(str(run["seed"]) for run in runs)
        lines.append([command, processes, seeds, mean["knn"], lowest, mean["linear"], others])
    return lines


def mean_of(runs: list[dict[str, Any]], name: str) -> float | None:
    """The mean of a result over the runs that have it."""
    values = [run[name] for run in runs if run.get(name) is not None]
    return sum(values) / len(values) if values else None


def percent(value: float | None) -> str:
    """A fraction in percent; nothing where there is none."""
    return "" if value is None else f"{100 * value:.1f}"


def markdown(head: tuple[str, ...], rows: list[list[Any]]) -> str:
    """A table."""
    return "".join(f"| {' | '.join(map(str, line))} |\n" for line in (head, ["---"] * len(head), *rows))


if __name__ == "__main__":
    main()
