"""The table of results: of the runs that are there, also where there is none yet."""

import json
import subprocess
import sys
from pathlib import Path

import pytest
import run_all

from tests.examples.conftest import EXAMPLES

SUMMARY = {
    "method": "simclr", "preset": "digits", "seed": 1, "world_size": 2, "knn_initial": 0.21, "knn": 0.805,
    "linear": None, "seconds": 147, "commit": "0123456789abcdef+",
}  # fmt: skip


def table(monkeypatch: pytest.MonkeyPatch, out: Path) -> list[str]:
    monkeypatch.setattr(sys, "argv", ["run_all.py", "--table-only", "--out", str(out)])
    run_all.main()
    return (out / "results.md").read_text().splitlines()


def test_the_table_of_results(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    assert len(table(monkeypatch, tmp_path / "none")) == 5  # two heads and what parts them
    for seed, knn in ((1, 0.805), (2, 0.9)):
        (tmp_path / f"run{seed}").mkdir()
        summary = SUMMARY | {"seed": seed, "knn": knn, "zero_shot": 0.5}
        (tmp_path / f"run{seed}" / "summary.json").write_text(json.dumps(summary))
    lines = table(monkeypatch, tmp_path)
    assert lines[2] == "| `examples/simclr.py` | 2 | 1, 2 | 85.2 | 80.5 |  | zero-shot 50.0 |"
    assert lines[-2] == "| `examples/simclr.py` | 1 | 2 | 21.0 | 80.5 |  | zero-shot 50.0 | 2.5 | 0123456+ |"


def test_every_trainer_is_run():
    trainers = {path.stem for path in EXAMPLES.glob("*.py")} - {"run_all", "linear_probe"}
    assert trainers == {name.partition(":")[0] for name in run_all.TRAINERS}


def test_another_preset_is_a_command_of_its_own(monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    commands: list[list[str]] = []

    def note(command: list[str], *, check: bool) -> subprocess.CompletedProcess[bytes]:
        commands.append(command)
        preset = command[command.index("--preset") + 1] if "--preset" in command else "digits"
        folder = Path(command[command.index("--out") + 1])
        folder.mkdir()
        (folder / "summary.json").write_text(json.dumps(SUMMARY | {"preset": preset, "world_size": 1}))
        return subprocess.CompletedProcess(command, 0)

    monkeypatch.setattr(subprocess, "run", note)
    flags = ["--trainers", "dino", "dino:vit", "--seeds", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["run_all.py", *flags])
    run_all.main()
    assert [command[1:-5] for command in commands] == [
        [str(EXAMPLES / "dino.py")],
        [str(EXAMPLES / "dino.py"), "--preset", "vit"],
    ]
    lines = (tmp_path / "results.md").read_text().splitlines()
    assert [line.split(" | ")[0] for line in lines[2:4]] == [
        "| `examples/simclr.py --preset vit`",
        "| `examples/simclr.py`",
    ]


@pytest.mark.parametrize("path", sorted(EXAMPLES.glob("*.py")), ids=lambda path: path.stem)
def test_a_trainer_is_read_at_one_sitting(path: Path):
    stages = 3 if path.stem == "simclr_v2" else 1
    assert 60 <= len(path.read_text().splitlines()) <= 140 * stages
