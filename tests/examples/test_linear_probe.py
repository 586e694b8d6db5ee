"""The linear probe takes the run of any trainer, also one whose features are made by several networks."""

import importlib
import json
from pathlib import Path

import pytest
import torch
from _runtime.config import parse
from _runtime.launch import launch

from tests.examples.test_data import write_cifar

QUICK = ("--device", "cpu", "--workers", "0", "--batch-size", "12", "--epochs", "1")


@pytest.fixture(autouse=True)
def _one_thread() -> None:
    torch.set_num_threads(1)


@pytest.mark.parametrize("method", ["cmc", "cpc", "simclr"])
def test_the_run_of_any_trainer(method: str, tmp_path: Path):
    data = f"cifar10:{write_cifar(tmp_path, 5)[0]}"
    for name, flags in ((method, ()), ("linear_probe", ("--trained", str(tmp_path / method)))):
        module = importlib.import_module(name)
        arguments = [*QUICK, "--data", data, "--out", str(tmp_path / name), *flags]
        launch(module.main, parse(name, module.PRESETS, arguments))
    trained, probe = (json.loads((tmp_path / n / "summary.json").read_text()) for n in (method, "linear_probe"))
    assert probe["knn"] == trained["knn"], "the features are those of the run"
    assert 0 <= probe["top1"] <= 1 and probe["trained"] == str(tmp_path / method)
