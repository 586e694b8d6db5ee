"""SwAV: its queues, each rank's own; its prototypes, at rest at first and of length 1; and how it says it fails."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest
import swav
import torch
import torch.nn.functional as F
from _runtime.checkpoint import load_newest
from _runtime.launch import Run, launch
from _runtime.log import read_metrics
from _runtime.prototypes import RankQueues
from torch import Tensor

from contrastive_ops.testing import run_distributed
from tests.examples.test_data import write_cifar

QUICK = swav.Config(
    device="cpu", workers=0, epochs=3, batch_size=12, hidden_dim=16, dim=8, prototypes=16, knn_images=20,
    crops=(2, 1), encoder="micro", freeze_epochs=1, warmup=0.0,
)  # fmt: skip
EPOCH_STEPS = 5  # 55 images


@pytest.fixture
def config(tmp_path: Path) -> swav.Config:
    return dataclasses.replace(QUICK, data=f"cifar10:{write_cifar(tmp_path, 11)[0]}", out=tmp_path / "run")


def train(config: swav.Config, **changes: Any) -> None:
    torch.set_num_threads(1)
    launch(swav.main, dataclasses.replace(config, **changes))


def prototypes(config: swav.Config) -> Tensor:
    state = load_newest(Path(str(config.out)) / "checkpoints")
    assert state is not None
    weight: Tensor = state["parts"]["net"]["prototypes.weight"]
    return weight


def run_of(rank: int, world_size: int) -> Run:
    return Run(rank, rank, world_size, torch.device("cpu"))


def test_a_queue_gives_the_rows_of_earlier_batches_once_it_is_full():
    queues = RankQueues(2, 5, 3, run_of(0, 1))
    batches = [torch.full((2, 3), float(i)) for i in range(5)]
    assert len(queues.exchange(0, batches[0], begun=False)) == 0
    assert [len(queues.exchange(0, z, begun=True)) for z in batches[1:4]] == [0, 0, 0]
    assert sorted(queues.exchange(0, batches[4], begun=True)[:, 0].tolist()) == [1, 2, 2, 3, 3]
    assert len(queues.exchange(1, batches[4], begun=True)) == 0


def test_without_queues_nothing_is_kept():
    queues = RankQueues(2, 0, 3, run_of(0, 1))
    assert [len(queues.exchange(1, torch.ones(4, 3), begun=True)) for _ in range(3)] == [0, 0, 0]
    with pytest.raises(ValueError, match="--queue-size: expected 0, or a row for each of 4 ranks, got 3"):
        RankQueues(2, 3, 3, run_of(0, 4))


def fill_save_and_load(rank: int) -> list[float]:
    run = run_of(rank, 2)
    queues, loaded = RankQueues(1, 4, 3, run), RankQueues(1, 4, 3, run)
    queues.exchange(0, torch.full((2, 3), float(rank)), begun=True)
    loaded.load_state_dict(queues.state_dict())
    return loaded.exchange(0, torch.zeros(1, 3), begun=True)[:, 0].tolist()


def test_a_checkpoint_holds_the_queues_of_all_ranks():
    assert run_distributed(fill_save_and_load, 2) == [[0, 0], [1, 1]]
    saved = RankQueues(1, 4, 3, run_of(0, 1))
    saved.exchange(0, torch.ones(4, 3), begun=True)
    other = RankQueues(1, 4, 3, run_of(1, 2))
    other.load_state_dict(saved.state_dict())
    assert len(other.exchange(0, torch.ones(2, 3), begun=True)) == 0


def test_prototypes_rest_for_the_first_epochs_and_then_move(config: swav.Config):
    train(config, max_steps=1)
    first = prototypes(config)
    train(config, resume=True, max_steps=EPOCH_STEPS)
    torch.testing.assert_close(prototypes(config), first, atol=1e-6, rtol=0)
    train(config, resume=True, max_steps=EPOCH_STEPS + 1)
    assert (prototypes(config) - first).abs().max() > 1e-4


def test_the_queue_changes_assignments_once_it_is_full(config: swav.Config):
    """24 rows are two batches of 12, begun in the second epoch: the first step with other assignments is its third."""
    losses = []
    for size in (0, 24):
        out = config.out.with_name(f"run-{size}")
        train(config, out=out, queue_size=size, queue_epoch=1, epochs=2)
        losses.append([record["loss"] for record in read_metrics(out) if "loss" in record])
    same = EPOCH_STEPS + 2
    assert losses[0][:same] == losses[1][:same]
    assert losses[0][same] != losses[1][same]


def test_the_first_loss_is_that_of_the_formula(config: swav.Config, monkeypatch: pytest.MonkeyPatch):
    """Of three crops, two of which are assigned: four cross-entropies."""
    seen: list[tuple[Tensor, ...]] = []
    original = swav.rt.PrototypeNetwork.forward

    def remember(self: Any, crops: list[Tensor]) -> Any:
        z, scores = original(self, crops)
        seen.append((*scores, self.prototypes.weight.detach().clone(), torch.cat(z)))
        return z, scores

    monkeypatch.setattr(swav.rt.PrototypeNetwork, "forward", remember)
    train(config, max_steps=1)
    *scores, weight, z = (value.detach().double() for value in seen[0])
    torch.testing.assert_close(torch.cat(scores), F.normalize(z) @ F.normalize(weight).T, atol=1e-6, rtol=0)
    terms = [
        -(assigned_plainly(scores[i], config.epsilon) * (scores[v] / config.temperature).log_softmax(1)).sum(1).mean()
        for i in (0, 1) for v in (0, 1, 2) if v != i
    ]  # fmt: skip
    loss = next(record["loss"] for record in read_metrics(Path(str(config.out))) if "loss" in record)
    assert loss == pytest.approx(torch.stack(terms).mean().item(), abs=1e-5)


def assigned_plainly(scores: Tensor, epsilon: float) -> Tensor:
    q = (scores / epsilon).exp()
    for _ in range(3):
        q = q / q.sum(0)
        q = q / q.sum(1, keepdim=True)
    return q


def test_the_control_without_sinkhorn_runs_and_the_log_says_what_is_wrong(config: swav.Config):
    train(config, sinkhorn=False, epochs=12, lr=1.0, freeze_epochs=0)
    said = " ".join(read_metrics(Path(str(config.out)))[-1]["warnings"])
    assert "all embeddings point one way" in said


def test_presets():
    paper, small = swav.PRESETS["paper"], swav.PRESETS["paper-256"]
    assert (paper.lr, paper.crops, paper.prototypes, paper.queue_size) == (4.8, (2, 6), 3000, 0)
    assert (paper.dim, paper.temperature, paper.epsilon, paper.freeze_epochs) == (128, 0.1, 0.05, 1)
    assert paper.epochs * paper.warmup == pytest.approx(10)
    assert (small.lr, small.batch_size, small.queue_size, small.warmup) == (0.6, 256, 3840, 0)
    assert math.isclose(paper.lr / 16, 0.3)


def test_crops_that_do_not_suffice_are_named(config: swav.Config):
    with pytest.raises(ValueError, match="--crops: expected at least one large crop, and two in all, got 1 0"):
        train(config, crops=(1, 0))
