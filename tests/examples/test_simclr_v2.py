"""SimCLR v2: its loss with a memory, and that every stage stops, resumes, and says what it lacks."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import simclr_v2
import torch
import torch.nn.functional as F
from _runtime.launch import launch
from _runtime.log import read_metrics
from _runtime.models import timm_arguments
from torch import Tensor

import contrastive_ops as co
from tests.examples.test_data import write_cifar

QUICK = simclr_v2.Config(
    device="cpu", workers=0, epochs=1, batch_size=20, labels=(0.5,), finetune_epochs=(2,), finetune_batch_size=12,
    distil_epochs=2, hidden_dim=16, dim=8, knn_images=20, student="test_resnet",
)  # fmt: skip


def rows(count: int) -> Tensor:
    return F.normalize(torch.randn(count, 5, generator=torch.Generator().manual_seed(count), dtype=torch.float64))


def test_an_empty_memory_is_nt_xent():
    z1, z2 = rows(6), rows(6).flip(0)
    expected = co.nt_xent(z1, z2, temperature=0.3)
    found = simclr_v2.nt_xent_with_memory(z1, z2, torch.arange(6), rows(0), temperature=0.3)
    assert found.item() == pytest.approx(expected.item(), abs=1e-12)


def test_the_memory_adds_its_keys_to_the_negatives_of_every_row():
    z1, z2, keys = rows(4), rows(5)[1:], rows(7)
    views, total = torch.cat([z1, z2]), 0.0
    for a in range(8):
        others = torch.cat([views[torch.arange(8) != a], keys]) @ views[a] / 0.3
        total += others.logsumexp(0).item() - (views[a] @ views[(a + 4) % 8]).item() / 0.3
    found = simclr_v2.nt_xent_with_memory(z1, z2, torch.tensor([5, 2, 9, 0]), keys, temperature=0.3)
    assert found.item() == pytest.approx(total / 8, abs=1e-12)


@pytest.fixture
def config(tmp_path: Path) -> simclr_v2.Config:
    return dataclasses.replace(QUICK, data=f"cifar10:{write_cifar(tmp_path, 11)[0]}", out=tmp_path / "run")


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """All stages in one go."""
    out = tmp_path_factory.mktemp("whole") / "run"
    train(dataclasses.replace(QUICK, data=f"cifar10:{write_cifar(out.parent, 11)[0]}", out=out))
    return out


def train(config: simclr_v2.Config, **changes: Any) -> None:
    torch.set_num_threads(1)
    launch(simclr_v2.main, dataclasses.replace(config, **changes))


def everything(out: Path) -> dict[str, list[dict[str, Any]]]:
    """What each stage measured, but for its speed."""
    return {
        path.parent.name: [{k: v for k, v in r.items() if k != "images_per_second"} for r in read_metrics(path.parent)]
        for path in [out / "metrics.jsonl", *out.glob("*-0.5/metrics.jsonl")]
    }


def test_every_stage_resumes_with_the_same_numbers(config: simclr_v2.Config, whole: Path):
    stopped = []
    for steps in (2, 1, 5, 4, 2, 0):  # within the pre-training, twice in the first stage after it, in the others
        train(config, resume=True, max_steps=steps)
        stopped.append(len(list(config.out.glob("*-0.5"))))
    assert stopped == [0, 1, 1, 2, 3, 3]
    assert everything(config.out) == everything(whole)
    tables = [json.loads((out / "summary.json").read_text())["table"] for out in (config.out, whole)]
    assert tables[0] == tables[1]
    assert set(tables[0]["0.5"]) == {"alone", "finetuned", "distilled"}


@pytest.mark.slow
def test_three_commands_are_one(config: simclr_v2.Config, whole: Path):
    train(config, stage="pretrain")
    assert json.loads((config.out / "summary.json").read_text())["table"] == {}
    train(config, stage="finetune", resume=True)
    train(config, stage="distil", resume=True)
    assert everything(config.out) == everything(whole)


def test_fine_tuning_starts_from_the_pre_training_and_training_alone_does_not(whole: Path):
    first = {name: records[0]["knn"] for name, records in everything(whole).items()}
    last = read_metrics(whole)[-1]["knn"]
    assert first["alone-0.5"] == first["run"]
    assert first["finetuned-0.5"] == last != first["run"]


def test_what_a_stage_lacks_is_said(config: simclr_v2.Config):
    with pytest.raises(ValueError, match="--stage: distil goes on with an earlier run; add --resume"):
        train(config, stage="distil")
    with pytest.raises(ValueError, match=r"--finetune-epochs: expected 1 or 1 numbers, as --labels has, got 3"):
        train(config, finetune_epochs=(1, 2, 3))
    with pytest.raises(ValueError, match=r"--labels: expected parts in \(0, 1\], got \(0.1, 2\)"):
        train(config, labels=(0.1, 2))
    with pytest.raises(ValueError, match=r"finetune needs a finished pre-training, got one of 0 of 3 steps"):
        train(config, stage="finetune", resume=True)
    train(config, stage="pretrain", resume=True)
    with pytest.raises(FileNotFoundError, match=r"finished stage, got .*finetuned-0.5/network.safetensors"):
        train(config, stage="distil", resume=True)


def test_selective_kernel_resnets_have_the_papers_sizes():
    import timm

    for name, millions in (("sk-resnet50", 35), ("sk-resnet50x2", 140), ("sk-resnet152x3", 796)):
        with torch.device("meta"):
            encoder = timm.create_model(**json.loads(json.dumps(timm_arguments(name))))
        assert round(sum(p.numel() for p in encoder.parameters()) / 1e6) == millions
