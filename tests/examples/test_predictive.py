"""CPC's networks: contexts look back only, patches are apart, and a run's features come back from its folder."""

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import _runtime as rt
import cpc
import pytest
import timm
import torch
from _runtime.config import parse
from _runtime.grids import Cut, grey_again, tile
from _runtime.launch import launch
from _runtime.predictive import CONTEXTS, POOLS, encoder_for
from _runtime.trained import load_encoder
from torch import Tensor

import contrastive_ops as co
from tests.examples.test_data import write_cifar

IMAGE, SEQUENCE = Cut("image", 12, 5), Cut("sequence", 8, 4)


def build(cut: Cut, *, context: str = "gru", features: str = "rows", encoder: str = "auto") -> rt.ContextFeatures:
    torch.manual_seed(0)
    encoder = encoder_for(cut.modality, encoder)
    config = SimpleNamespace(
        encoder=encoder, context=context, width=16, features=features, image_size=32, compile=False
    )
    return rt.create_context_features(cut, config).eval()


def images(count: int = 3) -> Tensor:
    return torch.rand(count, 3, 32, 32, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("context", CONTEXTS)
@pytest.mark.parametrize("cut", [IMAGE, SEQUENCE], ids=lambda cut: cut.modality)
def test_a_context_sees_its_row_and_those_above(cut: Cut, context: str):
    net = build(cut, context=context)
    grid = cut(images())
    changed = grid.clone()
    changed[:, 3] = 1 - changed[:, 3]
    with torch.no_grad():
        before, after = net.encode(grid)[1], net.encode(changed)[1]
    assert torch.equal(before[:, :3], after[:, :3])
    assert (before[:, 3:] - after[:, 3:]).abs().amax((2, 3)).min() > 1e-6


def test_the_masked_context_sees_all_columns_of_its_row_and_the_gru_its_own():
    z = torch.randn(1, 4, 4, 8, generator=torch.Generator().manual_seed(0))
    changed = z.clone()
    changed[0, 1, 0] += 1
    for name, sees in (("pixelcnn", [True, True, True, True]), ("gru", [True, False, False, False])):
        torch.manual_seed(0)
        net = CONTEXTS[name](8, 8)
        assert ((net(z) - net(changed))[0, 1].abs().amax(1) > 0).tolist() == sees


@pytest.mark.parametrize("cut", [IMAGE, SEQUENCE], ids=lambda cut: cut.modality)
def test_cells_do_not_leak_into_each_other(cut: Cut):
    """Also while training, when batch norm would."""
    net = build(cut).train()
    grid = cut(images())
    changed = grid.clone()
    changed[1, 2, 0] = 1 - changed[1, 2, 0]
    with torch.no_grad():
        difference = (net.encode(grid)[0] - net.encode(changed)[0]).abs().amax(3)
    assert difference[1, 2, 0] > 1e-3
    difference[1, 2, 0] = 0
    assert difference.max() < 1e-6


def test_windows_are_columns_in_their_order():
    x = torch.arange(32.0).expand(1, 3, 32, 32)
    grid = SEQUENCE(x)
    assert grid.shape == (1, 7, 1, 3, 32, 8)
    assert torch.equal(grid[0, 2, 0, 0, 5], torch.arange(8.0, 16.0))


@pytest.mark.parametrize(
    ("cut", "first", "steps", "flag"),
    [(Cut("image", 40, 4), 1, 2, "--patch"), (Cut("image", 8, 0), 1, 2, "--stride"), (IMAGE, 1, 5, "--steps"),
     (IMAGE, 3, 2, "--first")],
)  # fmt: skip
def test_numbers_that_leave_nothing_to_predict_are_refused(cut: Cut, first: int, steps: int, flag: str):
    with pytest.raises(ValueError, match=flag):
        cut.grid(32, first=first, steps=steps)


def test_the_encoder_fits_the_modality():
    assert [encoder_for(m, "auto") for m in ("image", "sequence")] == ["tiny-gn", "conv1d"]
    for modality, name in (("image", "conv1d"), ("sequence", "tiny-gn")):
        with pytest.raises(ValueError, match="--encoder"):
            encoder_for(modality, name)
    with pytest.raises(ValueError, match="batch norm"):
        build(IMAGE, encoder="tiny")
    with pytest.raises(ValueError, match="--modality"):
        rt.grey_patches_view(images(), cut=SEQUENCE, size=32)


def test_training_and_evaluation_see_the_same_grey():
    grey = co.random_grayscale(images(), p=1.0)
    expected = co.normalize(grey, mean=(0.485, 0.456, 0.406), std=(0.229, 0.224, 0.225))
    torch.manual_seed(3)
    state = torch.get_rng_state()
    found = grey_again(rt.plain_view(images(), size=32))
    assert torch.equal(state, torch.get_rng_state())
    torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("view", [rt.grey_digits_view, rt.grey_patches_view], ids=["digits", "cpc"])
def test_views_are_drawn_from_their_generator_alone(view: Callable[..., Tensor]):
    a, b, c = (view(images(), cut=IMAGE, size=32, generator=torch.Generator().manual_seed(s)) for s in (0, 0, 1))
    assert a.shape == (3, 5, 5, 3, 12, 12)
    assert torch.equal(a, b) and not torch.equal(a, c)


def test_tiles_stand_apart_by_a_pixel():
    x = images()
    tiled = tile(IMAGE(x))
    assert tiled.shape == (3, 3, 65, 65)
    assert torch.equal(tiled[..., 13:25, 26:38], x[..., 5:17, 10:22])
    assert tile(SEQUENCE(x)).shape == (3, 3, 33, 63)


def test_features_of_every_kind():
    shapes = {name: build(IMAGE, features=name)(images()).shape[1] for name in POOLS}
    assert shapes == {"rows": 5 * 16, "mean": 16, "last": 16, "latents": 128}


def test_a_later_first_row_predicts_what_the_formula_says():
    """cpc_loss of shifted arguments, as in the trainer, against the sum over k = 2, 3 written out."""
    torch.manual_seed(0)
    net = cpc.CPC(build(IMAGE), 16, 2)
    with torch.no_grad():
        predictions, z = net(IMAGE(images()))
        loss = co.cpc_loss(predictions[:, :4], z[:, 1:])
        candidates, terms = z[:, 1:].flatten(0, 1), []
        for r in range(5):
            for k in (2, 3):
                if r + k < 5:
                    logits = predictions[:, r, k - 2] @ candidates.T
                    terms.append((logits.logsumexp(1) - (predictions[:, r, k - 2] * z[:, r + k]).sum(1)).mean())
    assert loss.item() == pytest.approx(torch.stack(terms).mean().item(), abs=1e-5)


@pytest.mark.parametrize("modality", ["image", "sequence"])
def test_the_features_of_a_run_come_back_from_its_folder(modality: str, tmp_path: Path):
    data, out = f"cifar10:{write_cifar(tmp_path, 11)[0]}", tmp_path / "run"
    flags = ["--data", data, "--device", "cpu", "--modality", modality, "--epochs", "1", "--batch-size", "30"]
    launch(cpc.main, parse("cpc", cpc.PRESETS, [*flags, "--width", "16", "--out", str(out)]))
    found, weights = load_encoder(out), torch.load(next((out / "checkpoints").glob("*.pt")))["parts"]["net"]
    assert isinstance(found, rt.ContextFeatures)
    for name, value in found.state_dict().items():
        assert torch.equal(value, weights[f"features.{name}"])
    if modality == "image":
        arguments = json.loads((out / "summary.json").read_text())["timm"]
        alone = timm.create_model(**arguments, checkpoint_path=str(out / "encoder.safetensors"))
        x = images()
        torch.testing.assert_close(alone.eval()(x), found.encoder.eval()(x))
