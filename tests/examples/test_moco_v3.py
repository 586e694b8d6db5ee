"""MoCo v3: its ViT against loops written from the paper, its loss, and what it says of spikes."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import moco_v3
import pytest
import timm
import torch
from _runtime.config import parse
from _runtime.launch import launch
from _runtime.log import read_metrics
from _runtime.models import create_encoder, first_and_last_layer, timm_arguments
from _runtime.vit import create_moco_encoder, sincos_positions
from torch import Tensor, nn

import contrastive_ops as co
from tests.examples.test_data import write_cifar

QUICK = ("--device", "cpu", "--workers", "0", "--batch-size", "12", "--epochs", "1", "--evaluate-on", "test")
VIT = "tiny-vit"


def positions_by_loops(rows: int, columns: int, dim: int) -> list[list[float]]:
    """A token after another, row by row: all sines of the row, its cosines, then those of the column."""
    tokens = []
    for row in range(rows):
        for column in range(columns):
            token = []
            for place in (row, column):
                for function in (math.sin, math.cos):
                    token += [function(place / 10000 ** (wave / (dim / 4))) for wave in range(dim // 4)]
            tokens.append(token)
    return tokens


@pytest.mark.parametrize(("rows", "columns", "dim"), [(3, 3, 8), (2, 5, 12), (14, 14, 384)])
def test_positions_are_those_of_the_formula(rows: int, columns: int, dim: int) -> None:
    expected = torch.tensor(positions_by_loops(rows, columns, dim), dtype=torch.float64)
    torch.testing.assert_close(sincos_positions(rows, columns, dim), expected, atol=1e-12, rtol=0)


def test_positions_that_waves_do_not_divide_are_refused() -> None:
    with pytest.raises(ValueError, match="--encoder: expected a ViT whose width is a multiple of 4.*got 6"):
        sincos_positions(2, 2, 6)


def vit(patch_embed: str = "learned", name: str = VIT, image_size: int = 24) -> Any:
    torch.manual_seed(0)
    return create_moco_encoder(name, patch_embed=patch_embed, image_size=image_size)


@pytest.mark.parametrize("patch_embed", ["learned", "frozen"])
def test_positions_are_fixed_and_the_class_token_has_none(patch_embed: str) -> None:
    encoder = vit(patch_embed)
    expected = torch.tensor([[0.0] * 96, *positions_by_loops(4, 4, 96)])
    torch.testing.assert_close(encoder.pos_embed[0].detach(), expected)
    assert not encoder.pos_embed.requires_grad


def bounds_by_formula(vit: nn.Module) -> dict[str, float]:
    """The largest entry that each matrix may have: sqrt(6 / (rows + columns)), with qkv as three matrices."""
    bounds = {}
    for name, weight in vit.named_parameters():
        if name.endswith("weight") and weight.ndim > 1:
            inputs = 1
            for size in weight.shape[1:]:
                inputs *= size
            bounds[name] = math.sqrt(6 / (weight.shape[0] / (3 if "qkv" in name else 1) + inputs))
    return bounds


@pytest.mark.parametrize("patch_embed", ["learned", "frozen"])
def test_weights_are_uniform_within_the_papers_bounds(patch_embed: str) -> None:
    """A uniform weight comes close to its bound and has a third of its square as variance."""
    encoder = vit(patch_embed)
    bounds, weights = bounds_by_formula(encoder), dict(encoder.named_parameters())
    assert len(bounds) == 1 + 4 * len(encoder.blocks)
    for name, bound in bounds.items():
        assert 0.99 * bound < weights[name].abs().max().item() <= bound, name
        assert weights[name].square().mean().item() == pytest.approx(bound**2 / 3, rel=0.05), name


@pytest.mark.parametrize("patch_embed", ["learned", "frozen"])
def test_biases_are_zero_and_the_class_token_nearly(patch_embed: str) -> None:
    encoder = vit(patch_embed)
    biases = [p for name, p in encoder.named_parameters() if name.endswith("bias")]
    assert biases
    assert not any(p.any() for p in biases)
    assert 5e-7 < encoder.cls_token.std().item() < 2e-6


def test_only_the_frozen_projection_gets_no_gradient() -> None:
    for patch_embed in ("learned", "frozen"):
        encoder = vit(patch_embed)
        encoder(torch.randn(2, 3, 24, 24)).sum().backward()
        without = {name for name, p in encoder.named_parameters() if p.grad is None}
        frozen = {"patch_embed.proj.weight", "patch_embed.proj.bias"} if patch_embed == "frozen" else set()
        assert without == {"pos_embed"} | frozen


def test_the_first_layer_is_the_first_that_is_trained() -> None:
    learned, frozen = vit("learned"), vit("frozen")
    assert first_and_last_layer(learned) == (learned.patch_embed.proj, learned.blocks[-1].mlp.fc2)
    assert first_and_last_layer(frozen) == (frozen.blocks[0].attn.qkv, frozen.blocks[-1].mlp.fc2)
    resnet = create_encoder("tiny")
    assert first_and_last_layer(resnet)[0] is resnet.conv1[0]


def test_the_papers_numbers_do_not_follow_the_digits() -> None:
    """Rates are given per 256 images there, warm-ups in epochs."""
    vit, resnet = moco_v3.PAPER_VIT, moco_v3.PAPER_RESNET50
    assert (vit.optimizer, vit.lr, vit.weight_decay) == ("adamw", pytest.approx(1.5e-4 * 4096 / 256), 0.1)
    assert (vit.temperature, vit.momentum, vit.warmup * vit.epochs) == (0.2, 0.99, pytest.approx(40))
    assert (resnet.optimizer, resnet.lr, resnet.weight_decay) == ("lars", pytest.approx(0.6 * 4096 / 256), 1e-6)
    assert (resnet.temperature, resnet.momentum, resnet.warmup * resnet.epochs) == (1.0, 0.99, pytest.approx(10))
    for config in (vit, resnet):
        assert (config.batch_size, config.hidden_dim, config.dim, config.image_size) == (4096, 4096, 256, 224)


def test_the_papers_small_vit_has_12_heads() -> None:
    with torch.device("meta"):
        encoder = timm.create_model(**timm_arguments(moco_v3.PAPER_VIT.encoder))
    assert [block.attn.num_heads for block in encoder.blocks] == [12] * 12
    assert encoder.norm.eps == 1e-6


def test_the_papers_resnet_starts_with_residual_branches_at_zero() -> None:
    encoder: Any = create_moco_encoder(moco_v3.PAPER_RESNET50.encoder, patch_embed="learned", image_size=224)
    assert not any(block.bn3.weight.any() for block in encoder.layer1)


def test_what_does_not_fit_is_said() -> None:
    for name in ("tiny", "tiny-hybrid-vit"):
        with pytest.raises(ValueError, match=f"needs a ViT that projects patches of pixels; got --encoder {name}"):
            vit("frozen", name=name)
    with pytest.raises(ValueError, match="--image-size: tiny-vit is made for 24 x 24 pixels, got 64"):
        vit(image_size=64)


def contrast_by_loops(queries: Tensor, keys: Tensor, temperature: float) -> float:
    """2 T times the mean cross-entropy of finding each query's own key among all keys."""
    total = 0.0
    for i, query in enumerate(queries):
        scores = [float(query @ key / query.norm() / key.norm()) / temperature for key in keys]
        total += math.log(sum(math.exp(score) for score in scores)) - scores[i]
    return 2 * temperature * total / len(queries)


def test_the_first_loss_is_that_of_the_formula(cifar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What the trainer gives to `info_nce` and writes down, by loops over the same embeddings."""
    seen: list[tuple[Tensor, Tensor]] = []
    original = co.info_nce

    def spy(q: Tensor, k: Tensor, **options: Any) -> Tensor:
        seen.append((q.detach().double(), k.double()))
        assert not k.requires_grad
        return original(q, k, **options)

    monkeypatch.setattr(co, "info_nce", spy)
    train(tmp_path / "run", "--data", cifar, "--max-steps", "1", "--temperature", "0.3")
    expected = sum(contrast_by_loops(q, k, 0.3) for q, k in seen)
    assert len(seen) == 2
    assert losses(tmp_path / "run") == [pytest.approx(expected, abs=1e-5)]


@pytest.fixture(scope="module")
def cifar(tmp_path_factory: pytest.TempPathFactory) -> str:
    return f"cifar10:{write_cifar(tmp_path_factory.mktemp('cifar'), 11)[0]}"


def train(out: Path, *flags: str) -> None:
    torch.set_num_threads(1)
    launch(moco_v3.main, parse("moco_v3", moco_v3.PRESETS, [*QUICK, "--out", str(out), *flags]))


def losses(out: Path) -> list[float]:
    return [record["loss"] for record in read_metrics(out) if "loss" in record]


def parts(out: Path) -> dict[str, Any]:
    """What the newest checkpoint holds."""
    newest = max((out / "checkpoints").glob("step-*.pt"))
    found: dict[str, Any] = torch.load(newest, weights_only=True)["parts"]
    return found


def test_keys_come_from_the_weights_before_the_step(cifar: str, tmp_path: Path) -> None:
    """The first step leaves the keys' network where it began; the second moves it towards the first's result."""
    for steps in (1, 2):
        train(tmp_path / "run", "--data", cifar, "--momentum", "0.9", "--max-steps", str(steps), "--resume")
        if steps == 1:
            begun = parts(tmp_path / "run")
    now, m = parts(tmp_path / "run")["target"], 1 - (1 + math.cos(math.pi / 5)) / 2 * (1 - 0.9)
    assert not any(name.startswith("predictor") for name in now)
    for name, before in begun["target"].items():
        if name.endswith(("weight", "bias")):
            followed = m * before.double() + (1 - m) * begun["net"][f"online.{name}"].double()
            torch.testing.assert_close(now[name].double(), followed, atol=1e-6, rtol=1e-6)


def test_spikes_stand_among_the_warnings(cifar: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(co.GradientSpikeMonitor, "report", lambda self: [f"looked at {int(self.num_updates)} steps"])
    train(tmp_path / "run", "--data", cifar)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    assert summary["warnings"] == ["looked at 5 steps"]
    assert read_metrics(tmp_path / "run")[-1]["warnings"] == ["looked at 5 steps"]


@pytest.mark.parametrize("optimizer", ["lamb", "lars"])
def test_both_encoders_train_with_the_large_batch_optimisers(optimizer: str, cifar: str, tmp_path: Path) -> None:
    for preset in ("digits", "vit"):
        out = tmp_path / preset
        train(out, "--data", cifar, "--preset", preset, "--optimizer", optimizer, "--max-steps", "2")
        assert len(losses(out)) == 2


def test_a_frozen_projection_stays_and_timm_loads_the_encoder(cifar: str, tmp_path: Path) -> None:
    frozen = ("--preset", "vit", "--patch-embed", "frozen", "--warmup", "0", "--ema-decay", "0.5")
    train(tmp_path / "run", "--data", cifar, *frozen)
    summary = json.loads((tmp_path / "run" / "summary.json").read_text())
    loaded = timm.create_model(
        **summary["timm"], checkpoint_path=str(tmp_path / "run" / "encoder.safetensors")
    ).state_dict()
    torch.manual_seed(0)
    start = create_moco_encoder(moco_v3.VIT.encoder, patch_embed="frozen", image_size=24).state_dict()
    stood = {name for name, value in loaded.items() if torch.equal(value, start[name])}
    assert stood == {"pos_embed", "patch_embed.proj.weight", "patch_embed.proj.bias"}


def test_the_first_step_of_the_papers_resnet(cifar: str, tmp_path: Path) -> None:
    small = ("--data", cifar, "--image-size", "32", "--hidden-dim", "64", "--views", "none", "--max-steps", "1")
    train(tmp_path / "run", "--preset", "paper-resnet50", *small, "--batch-size", "12", "--workers", "0")
    assert losses(tmp_path / "run")[0] < 4 * 1.0 * math.log(12) + 1
