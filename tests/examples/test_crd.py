"""CRD's stages: what is drawn as negatives, what a run leaves for the next, and what is not run again."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import crd
import pytest
import torch
from _runtime import Run, labels_of, load_classifier
from _runtime.classifier import Classifier, save_classifier
from _runtime.config import parse
from _runtime.launch import launch
from _runtime.pairs import Pairs
from torch import Tensor, nn

import contrastive_ops as co
from tests.examples.test_data import load, write_cifar, write_folder

ALONE = Run(0, 0, 1, torch.device("cpu"))
LABELS = torch.tensor([2, 0, 1, 0, 2, 0, 0])
QUICK = ("--device", "cpu", "--workers", "0", "--batch-size", "12", "--epochs", "1", "--noise", "8")


def train(out: Path, *flags: str) -> None:
    torch.set_num_threads(1)
    launch(crd.main, parse("crd", crd.PRESETS, [*QUICK, "--out", str(out), *flags]))


def summary(folder: Path) -> dict[str, float]:
    return json.loads((folder / "summary.json").read_text())


def newest(folder: Path) -> dict[str, Tensor]:
    path = max((folder / "checkpoints").iterdir())
    return torch.load(path, weights_only=True)["parts"]["net"]


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"cifar10:{write_cifar(tmp_path_factory.mktemp('cifar'), 4)[0]}"


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory, cifar: str) -> Path:
    out = tmp_path_factory.mktemp("crd") / "run"
    train(out, "--data", cifar)
    return out


@pytest.mark.parametrize("by_label", [True, False])
def test_negatives_are_uniform_over_the_images_they_may_be(by_label: bool) -> None:
    count = 20_000
    rows = Pairs(LABELS, ALONE, seed=0, by_label=by_label).draw(torch.tensor([1, 2]), count, step=0)
    assert rows[:, 0].tolist() == [1, 2]
    for index, drawn in zip((1, 2), rows[:, 1:], strict=True):
        allowed = (LABELS[index] != LABELS) if by_label else torch.ones(7, dtype=torch.bool)
        expected = allowed / allowed.sum()
        assert torch.allclose(drawn.bincount(minlength=7) / count, expected, atol=0.02)
        assert not drawn[~allowed[drawn]].numel()


def test_any_number_of_ranks_draws_the_same_negatives_and_each_step_others() -> None:
    batch = torch.tensor([6, 0, 3, 2, 5])
    ranks = [SimpleNamespace(rank=rank, world_size=2, device=torch.device("cpu")) for rank in (0, 1)]
    whole, later = (Pairs(LABELS, ALONE, seed=1, by_label=True).draw(batch, 9, step=step) for step in (4, 5))
    parts = [Pairs(LABELS, run, seed=1, by_label=True).draw(batch, 9, step=4) for run in ranks]
    assert torch.equal(torch.cat(parts), whole)
    assert not torch.equal(later, whole)
    assert not torch.equal(Pairs(LABELS, ALONE, seed=2, by_label=True).draw(batch, 9, step=4), whole)


def test_one_class_has_no_negatives_by_label() -> None:
    with pytest.raises(ValueError, match="--negatives: label needs images of two classes"):
        Pairs(torch.zeros(4, dtype=torch.long), ALONE, seed=0, by_label=True)


def test_contrast_is_instdiscs_loss() -> None:
    z = nn.functional.normalize(torch.randn(2, 3, generator=torch.Generator().manual_seed(0))).requires_grad_()
    bank, partition = co.MemoryBank(5, 3), co.NCEPartition(5)
    rows = torch.tensor([[0, 1, 2, 1], [4, 3, 3, 2]])
    loss = crd.contrast(z, bank, partition, rows, 0.5)
    scores = (bank.entries[rows] @ z.unsqueeze(2)).squeeze(2) / 0.5
    z_sum = 5 * scores.exp().mean().detach()
    p = scores.exp() / z_sum
    h = p / (p + 3 / 5)
    assert loss.item() == pytest.approx((-h[:, 0].log() - (1 - h[:, 1:]).log().sum(1)).mean().item(), rel=1e-5)
    loss.backward()
    assert z.grad.abs().sum() > 0


def test_the_summary_compares_the_student_with_teacher_and_itself_alone(distilled: Path) -> None:
    found = summary(distilled)
    assert found["teacher"] == summary(distilled / "teacher")["top1"]
    assert found["alone"] == summary(distilled / "alone")["top1"]
    assert found["gain"] == pytest.approx(found["student"] - found["alone"])
    assert found["timm"] == summary(distilled / "alone")["timm"] != summary(distilled / "teacher")["timm"]
    assert found["seconds"] > summary(distilled / "teacher")["seconds"] + summary(distilled / "alone")["seconds"]


def test_both_heads_learn(distilled: Path, tmp_path: Path, cifar: str) -> None:
    given = ("--data", cifar, "--teacher", str(distilled / "teacher"), "--alone", str(distilled / "alone"))
    train(tmp_path / "run", *given, "--max-steps", "1")
    before, after = newest(tmp_path / "run"), newest(distilled)
    for name in ("head.0.weight", "teacher_head.0.weight", "classifier.linear.weight"):
        assert not torch.equal(before[name], after[name])
    assert not (tmp_path / "run" / "teacher").exists()


def test_each_side_is_scored_against_the_other_sides_bank(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, distilled: Path, cifar: str
) -> None:
    calls, original = [], crd.contrast

    def noted(z: Tensor, *rest: Any) -> Tensor:
        calls.append((z.detach(), *rest))
        return original(z, *rest)

    monkeypatch.setattr(crd, "contrast", noted)
    given = ("--data", cifar, "--teacher", str(distilled / "teacher"), "--alone", str(distilled / "alone"))
    train(tmp_path / "run", *given, "--max-steps", "1", "--bank-momentum", "0")
    (z_s, bank_t, sum_s, rows, _), (z_t, bank_s, sum_t, same, _) = calls
    assert torch.equal(rows, same)
    assert sum_s.log_partition != sum_t.log_partition
    assert torch.allclose(bank_t.entries[rows[:, 0]], z_t)
    assert torch.allclose(bank_s.entries[rows[:, 0]], z_s)


def test_a_finished_stage_is_not_run_again(tmp_path: Path, distilled: Path, cifar: str) -> None:
    with pytest.raises(FileExistsError, match="--resume"):
        train(distilled, "--data", cifar)
    flags = ("--out", str(tmp_path / "run"), "--data", cifar, "--alone", str(distilled / "alone"), "--max-steps")
    train(tmp_path, *flags, "1")
    assert {path.name for path in (tmp_path / "run").iterdir()} == {"teacher"}
    train(tmp_path, *flags, "0", "--resume")
    result = tmp_path / "run" / "teacher" / "summary.json"
    finished = result.stat().st_mtime_ns
    train(tmp_path, *flags, "0", "--resume")
    assert result.stat().st_mtime_ns == finished
    with pytest.raises(ValueError, match="--batch-size: the run to resume has 12"):
        train(tmp_path, *flags, "0", "--resume", "--batch-size", "11")


def test_classifiers_come_back(tmp_path: Path, distilled: Path, cifar: str) -> None:
    classes = 1 + int(labels_of(load(cifar, size=32)[0]).max())
    teacher = load_classifier(distilled / "teacher", torch.tensor([classes - 1]), ALONE)
    assert not teacher.training
    assert not any(p.requires_grad for p in teacher.parameters())
    features, logits = teacher.features_and_logits(torch.ones(2, 3, 32, 32))
    assert (features.shape, logits.shape) == ((2, 128), (2, classes))
    with pytest.raises(FileNotFoundError, match=r"--teacher, --alone: .* leaves classifier.safetensors"):
        load_classifier(tmp_path, torch.tensor([9]), ALONE)
    with pytest.raises(ValueError, match="expected a classifier of 2 classes"):
        load_classifier(distilled / "teacher", torch.tensor([1]), ALONE)
    linear, copy = nn.Linear(128, classes), Path(shutil.copytree(distilled / "teacher", tmp_path / "copy"))
    save_classifier(Classifier(teacher.encoder, linear), copy)
    loaded = load_classifier(copy, torch.tensor([classes - 1]), ALONE)
    assert torch.equal(loaded.linear.weight, linear.weight)


def test_the_papers_numbers_distil_once(tmp_path: Path) -> None:
    data = f"folder:{write_folder(tmp_path / 'images', 6)}"
    small = ("--data", data, "--image-size", "32", "--batch-size", "4")
    train(
        tmp_path / "run", "--preset", "paper", *small, "--encoder", "test_resnet", "--teacher-encoder", "test_resnet"
    )
    assert summary(tmp_path / "run")["loss"] > 0
