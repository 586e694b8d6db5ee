"""Trains with each command of a JSON file in the processes of one torchrun, whose start costs more than the steps.

The file holds [name of the trainer, its arguments, whether in float64] of every run; the last argument is its path.
"""

import importlib
import json
import sys
from pathlib import Path
from typing import Any

from tests.examples.conftest import EXAMPLES  # noqa: F401 (puts the examples on the path)
from tests.examples.float64 import in_float64


def train_each(run: Any, config: Any) -> None:
    """One after the other; the first that fails ends all."""
    from _runtime.config import parse
    from _runtime.launch import seed_all

    for name, arguments, exact in json.loads(Path(sys.argv[-1]).read_text()):
        trainer = importlib.import_module(name)
        own = parse(name, trainer.PRESETS, arguments)
        seed_all(own.seed + run.rank)
        with in_float64(exact):
            trainer.main(run, own)


if __name__ == "__main__":
    from _runtime.config import CommonConfig
    from _runtime.launch import launch

    launch(train_each, CommonConfig(device="cpu"))
