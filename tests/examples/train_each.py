"""Trains with each command of a JSON file in the processes of one torchrun, whose start costs more than the steps.

The file holds [name of the trainer, its arguments] of every run; the last argument of the script is its path.
"""

import importlib
import json
import sys
from pathlib import Path

from conftest import EXAMPLES  # puts the examples on the path

assert EXAMPLES.is_dir()

from _runtime.config import CommonConfig, parse  # noqa: E402 (found only now)
from _runtime.launch import Run, launch, seed_all  # noqa: E402


def train_each(run: Run, config: CommonConfig) -> None:
    """One after the other; the first that fails ends all."""
    for name, arguments in json.loads(Path(sys.argv[-1]).read_text()):
        trainer = importlib.import_module(name)
        own = parse(name, trainer.PRESETS, arguments)
        seed_all(own.seed + run.rank)
        trainer.main(run, own)


if __name__ == "__main__":
    launch(train_each, CommonConfig(device="cpu"))
