"""DINO: crops of several sizes, a teacher without drop-path, gradients clipped one by one, what ViTs look at."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import dino
import numpy as np
import pytest
import timm
import torch
import torch.nn.functional as F
from _runtime.attention import class_attention
from _runtime.crop_encoders import CropNetwork, create_crop_encoder, teacher_of
from _runtime.launch import launch
from _runtime.models import create_encoder, teacher_health, timm_arguments
from _runtime.optimise import clip_each, linear_rise
from _runtime.view_crops import crops_of
from _runtime.views import displayable
from torch import Tensor, nn

import contrastive_ops as co
from tests.examples.test_data import write_cifar

QUICK = dino.Config(device="cpu", workers=0, epochs=2, batch_size=20, hidden_dim=64, dim=16, knn_images=20)


@pytest.fixture
def config(tmp_path: Path) -> dino.Config:
    return dataclasses.replace(QUICK, data=f"cifar10:{write_cifar(tmp_path, 11)[0]}", out=tmp_path / "run")


def saved(config: dino.Config) -> dict[str, Any]:
    """What the last checkpoint holds."""
    path = max((config.out / "checkpoints").iterdir())
    return torch.load(path, weights_only=True)["parts"]


def images(count: int, size: int) -> Tensor:
    return torch.rand(count, 3, size, size, generator=torch.Generator().manual_seed(size))


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid-vit"])
def test_a_vit_sees_images_of_its_own_size_as_timms_does(name: str):
    torch.manual_seed(0)
    own = create_crop_encoder(name)
    plain = create_encoder(name)
    plain.load_state_dict(own.state_dict())
    torch.testing.assert_close(own(images(2, 24)), plain(images(2, 24)), rtol=0, atol=0)


@pytest.mark.parametrize(("name", "side", "size"), [("tiny-vit", 4, 12), ("tiny-hybrid-vit", 3, 16)])
def test_position_embeddings_are_resized_bicubically_and_learn_from_small_crops(name: str, side: int, size: int):
    torch.manual_seed(0)
    own = create_crop_encoder(name)
    small = timm.create_model(**{**timm_arguments(name), "img_size": size})
    token, grid = own.pos_embed.split([1, side**2], dim=1)
    grid = grid.unflatten(1, (side, side)).permute(0, 3, 1, 2)
    grid = F.interpolate(grid, size=2, mode="bicubic", antialias=True)
    resized = torch.cat([token, grid.permute(0, 2, 3, 1).flatten(1, 2)], dim=1)
    small.load_state_dict(own.state_dict() | {"pos_embed": resized})
    torch.testing.assert_close(own(images(2, size)), small(images(2, size)))
    own(images(2, size)).square().sum().backward()
    assert own.pos_embed.grad.abs().amax(2).min() > 0


def test_the_teacher_has_no_drop_path_and_takes_no_gradients():
    torch.manual_seed(0)
    student = CropNetwork(create_crop_encoder("tiny-vit", drop_path=0.5), co.DINOHead(96, 8, hidden_dim=16))
    teacher, crops = teacher_of(student), [images(5, 24), images(5, 12)]
    assert all(torch.equal(a, b) for a, b in zip(teacher(crops), teacher(crops), strict=True))
    assert not torch.equal(student(crops)[0], student(crops)[0])
    assert not any(p.requires_grad for p in teacher.parameters())
    assert teacher.training


def test_each_gradient_is_clipped_by_itself_and_a_frozen_layer_has_none():
    net = nn.Sequential(nn.Linear(3, 3), nn.Linear(3, 3), nn.Linear(3, 3))
    for parameter, norm in zip(net.parameters(), (0.5, 4.0, 3.0, 100.0, 1.0, 1.0), strict=True):
        parameter.grad = torch.full_like(parameter, norm / parameter.numel() ** 0.5)
    clip_each(net, 3.0, frozen=net[2])
    norms = [p.grad.norm().item() for p in list(net.parameters())[:4]]
    assert norms == pytest.approx([0.5, 3.0, 3.0, 3.0], rel=1e-5)
    assert net[2].weight.grad is None
    assert net[2].bias.grad is None


@pytest.mark.parametrize("epochs", [0, 1, 2, 30])
def test_the_teachers_temperature_rises_by_the_same_amount_each_epoch(epochs: int):
    expected = np.concatenate([np.linspace(0.04, 0.07, epochs), np.full(5, 0.07)])
    assert [linear_rise(e, epochs, 0.04, 0.07) for e in range(epochs + 5)] == pytest.approx(expected)


def test_entropy_and_divergence_add_up_to_the_loss():
    teacher = [torch.rand(4, 8).softmax(1) for _ in range(2)]
    student = [torch.rand(4, 8) for _ in range(3)]
    loss = co.dino_loss(student=student, teacher=teacher, student_temperature=1.0)
    expected = [
        F.kl_div(student[s].log_softmax(1), teacher[t], reduction="batchmean")
        for t in range(2)
        for s in range(3)
        if s != t
    ]
    health = teacher_health(teacher, loss)
    assert health["kl"].item() == pytest.approx(torch.stack(expected).mean().item(), abs=1e-6)
    assert health["kl"].item() + health["teacher_entropy"].item() == pytest.approx(loss.item(), abs=1e-6)


def test_the_last_layer_stands_still_in_the_first_epoch_only(config: dino.Config):
    config = dataclasses.replace(config, freeze_epochs=1)
    launch(dino.main, dataclasses.replace(config, max_steps=3))  # an epoch
    torch.manual_seed(config.seed)
    encoder = create_crop_encoder(config.encoder)
    widths = {"hidden_dim": 64, "bottleneck_dim": config.bottleneck_dim, "num_layers": config.head_layers}
    first = co.DINOHead(encoder.num_features, 16, **widths, norm=nn.BatchNorm1d).state_dict()
    names = {name: torch.equal(saved(config)["student"][f"head.{name}"], value) for name, value in first.items()}
    assert names["last_layer.parametrizations.weight.original1"]
    assert not names["mlp.0.weight"]
    launch(dino.main, dataclasses.replace(config, resume=True))
    name = "last_layer.parametrizations.weight.original1"
    assert not torch.equal(saved(config)["student"][f"head.{name}"], first[name])


def test_weight_decay_follows_its_schedule_where_there_is_any(config: dino.Config):
    launch(dino.main, dataclasses.replace(config, weight_decay=(0.1, 0.3), max_steps=3))
    found = [group["weight_decay"] for group in saved(config)["optimizer"]["param_groups"]]
    assert found == pytest.approx([0.0, co.cosine_schedule(2, 6, 0.1, 0.3)])  # the third of six steps


@pytest.mark.parametrize(("momentum", "moved"), [(0.6, True), (1.0, False)])
def test_the_centre_moves_unless_its_momentum_is_1(config: dino.Config, momentum: float, moved: bool):
    launch(dino.main, dataclasses.replace(config, center_momentum=momentum, max_steps=1))
    assert saved(config)["center"]["center"].any().item() is moved


def test_the_monitor_watches_the_teachers_entropy(config: dino.Config):
    launch(dino.main, dataclasses.replace(config, max_steps=1))
    logged = [json.loads(line) for line in (config.out / "metrics.jsonl").read_text().splitlines()]
    (entropy,) = [line["teacher_entropy"] for line in logged if "teacher_entropy" in line]
    assert saved(config)["monitor"]["loss"].item() == pytest.approx(entropy, rel=1e-6)


@pytest.mark.parametrize(("name", "side"), [("tiny-vit", 4), ("tiny-hybrid-vit", 3)])
def test_attention_is_that_of_timms_own_computation(name: str, side: int):
    torch.manual_seed(0)
    encoder = create_crop_encoder(name).eval()
    found = class_attention(encoder, images(2, 24))
    seen: list[Tensor] = []
    layer = encoder.blocks[-1].attn
    layer.fused_attn = False
    layer.attn_drop.register_forward_hook(lambda module, inputs, output: seen.append(output))
    encoder(images(2, 24))
    assert found.shape == (2, 6, side, side)
    torch.testing.assert_close(found.flatten(2), seen[0][:, :, 0, 1:])
    assert len(layer._forward_pre_hooks) == 0


@pytest.mark.parametrize("name", ["tiny-vit", "tiny-hybrid-vit"])
def test_timm_loads_the_teachers_vit(config: dino.Config, name: str):
    vit = {"encoder": name, "image_size": 24, "views": "none", "epochs": 1}
    launch(dino.main, dataclasses.replace(config, **vit))
    summary = json.loads((config.out / "summary.json").read_text())
    encoder = timm.create_model(**summary["timm"], checkpoint_path=str(config.out / "encoder.safetensors"))
    teacher = create_encoder(name)
    state = {k.removeprefix("encoder."): v for k, v in saved(config)["teacher"].items() if k.startswith("encoder.")}
    teacher.load_state_dict(state)
    torch.testing.assert_close(encoder(images(2, 24)), teacher(images(2, 24)), rtol=0, atol=0)
    assert (config.out / "attention.png").exists()


@pytest.mark.parametrize("recipe", ["digits-dino", "digits-dino-vit"])
def test_most_crops_of_the_digits_are_grey(recipe):
    """One value for three channels, before the normalisation: nine crops of ten, large or small."""
    generator = torch.Generator().manual_seed(0)
    for view in crops_of(recipe, sizes=(32, 16), counts=(2, 1))(images(300, 32), generator=generator):
        pixels = displayable(view)
        grey = ((pixels - pixels.mean(1, keepdim=True)).abs().amax((1, 2, 3)) < 1e-3).double().mean()
        assert 0.85 < grey < 0.95
