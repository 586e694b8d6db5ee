"""FrozenPatchEmbed: MoCo v3's initialisation, and that nothing in timm or torch changes it afterwards."""

from __future__ import annotations

import copy
import io
import pickle
from functools import partial
from math import sqrt
from typing import Any

import pytest
import timm
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import Format, PatchEmbed
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

import contrastive_ops as co

TINY = {"img_size": 16, "patch_size": 4, "embed_dim": 24, "depth": 1, "num_heads": 2, "num_classes": 3}
MODES = ["", "jax", "jax_nlhb", "moco", "skip"]


def _vit(**options: Any) -> nn.Module:
    return timm.create_model("vit_tiny_patch16_224", **{**TINY, "embed_layer": co.FrozenPatchEmbed, **options})


def _projection(vit: nn.Module) -> tuple[Tensor, Tensor]:
    return vit.patch_embed.proj.weight, vit.patch_embed.proj.bias


def _is_moco_v3(weight: Tensor, bias: Tensor | None, patch: int = 4, channels: int = 3, dim: int = 24) -> None:
    """Uniform on the interval of their code: within it, up to its ends, with its deviation."""
    bound = sqrt(6 / (channels * patch * patch + dim))
    assert 0.97 * bound < weight.abs().max() <= bound
    assert weight.std().item() == pytest.approx(bound / sqrt(3), rel=0.1)
    assert weight.mean().abs() < 0.1 * bound
    assert bias is None or not bias.any()
    assert not weight.requires_grad
    assert bias is None or not bias.requires_grad


@pytest.mark.parametrize("mode", MODES)
def test_the_initialisation_survives_timms(mode: str) -> None:
    vit = _vit(weight_init=mode)
    _is_moco_v3(*_projection(vit))
    for again in ("", "jax", "moco", "reset"):
        before = _projection(vit)[0].clone()
        try:
            vit.init_weights(again)
        except AssertionError:  # older timm has no mode "reset"
            assert again == "reset"
            continue
        _is_moco_v3(*_projection(vit))
        assert not torch.equal(before, _projection(vit)[0]), "drawn again"


@given(st.sampled_from([1, 3, 4]), st.sampled_from([2, 4, 8]), st.sampled_from([16, 48]), st.booleans())
def test_the_interval_follows_the_sizes(channels: int, patch: int, dim: int, bias: bool) -> None:
    embed = co.FrozenPatchEmbed(img_size=16, patch_size=patch, in_chans=channels, embed_dim=dim, bias=bias)
    bound = sqrt(6 / (channels * patch**2 + dim))
    weight = embed.proj.weight
    assert 0.9 * bound < weight.abs().max() <= bound
    assert (embed.proj.bias is not None) == bias


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"flatten": False},
        {"output_fmt": "NHWC"},
        {"output_fmt": Format.NLC},
        {"norm_layer": nn.LayerNorm},
        {"bias": False},
        {"patch_size": (4, 2)},
        {"img_size": (16, 8)},
        {"img_size": None},
        {"strict_img_size": False},
        {"dynamic_img_pad": True, "strict_img_size": False, "img_size": 15},
    ],
    ids=str,
)
def test_it_computes_what_timms_patch_embedding_computes(options: dict[str, Any]) -> None:
    options = {"img_size": 16, "patch_size": 4, "embed_dim": 24, **options}
    ours, theirs = co.FrozenPatchEmbed(**options), PatchEmbed(**options)
    theirs.load_state_dict(ours.state_dict(), strict=True)
    size = options["img_size"] or 16
    x = torch.randn(2, 3, *((size, size) if isinstance(size, int) else size))
    torch.testing.assert_close(ours(x), theirs(x), rtol=0, atol=0)
    assert ours.num_patches == theirs.num_patches


def test_states_load_both_ways() -> None:
    plain, frozen = _vit(embed_layer=PatchEmbed), _vit()
    frozen.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(_projection(frozen)[0], _projection(plain)[0])
    assert not _projection(frozen)[0].requires_grad
    file = io.BytesIO()
    torch.save(_vit().state_dict(), file)
    file.seek(0)
    plain.load_state_dict(torch.load(file, weights_only=True), strict=True)
    _is_moco_v3(_projection(plain)[0].detach(), _projection(plain)[1].detach())


def _train(vit: nn.Module, optimizer: torch.optim.Optimizer, steps: int = 4) -> None:
    for step in range(steps):
        x = torch.randn(4, 3, 16, 16, generator=torch.Generator().manual_seed(step))
        optimizer.zero_grad(set_to_none=step % 2 == 0)
        vit(x).square().sum().backward()
        optimizer.step()


OPTIMISERS = {
    "torch AdamW": lambda vit: torch.optim.AdamW(vit.parameters(), lr=0.1, weight_decay=0.1),
    "torch SGD": lambda vit: torch.optim.SGD(vit.parameters(), lr=0.1, momentum=0.9, weight_decay=0.1),
    "timm adamw": lambda vit: create_optimizer_v2(vit, "adamw", lr=0.1, weight_decay=0.1, filter_bias_and_bn=False),
    "timm lars": lambda vit: create_optimizer_v2(vit, "lars", lr=0.1, weight_decay=0.1),
    "timm lamb": lambda vit: create_optimizer_v2(vit, "lamb", lr=0.1, weight_decay=0.1),
}


@pytest.mark.parametrize("switched_on", [False, True], ids=["as built", "requires_grad_(True)"])
@pytest.mark.parametrize("optimizer", OPTIMISERS)
def test_no_optimiser_moves_the_projection(optimizer: str, switched_on: bool) -> None:
    vit = _vit()
    if switched_on:
        vit.requires_grad_(True)
        assert _projection(vit)[0].requires_grad, "the flag is on, and still:"
    weight, bias = (p.detach().clone() for p in _projection(vit))
    block = vit.blocks[0].attn.qkv.weight.detach().clone()
    _train(vit, OPTIMISERS[optimizer](vit))
    assert torch.equal(_projection(vit)[0], weight)
    assert torch.equal(_projection(vit)[1], bias)
    assert _projection(vit)[0].grad is None
    assert not torch.equal(vit.blocks[0].attn.qkv.weight, block), "the rest is trained"


def test_the_gradient_reaches_the_images_and_the_norm() -> None:
    options = {"img_size": 8, "patch_size": 4, "embed_dim": 6, "norm_layer": nn.LayerNorm}
    ours = co.FrozenPatchEmbed(**options).double().requires_grad_(True)
    theirs = PatchEmbed(**options).double()
    theirs.load_state_dict(ours.state_dict())
    x = torch.randn(2, 3, 8, 8, dtype=torch.float64)
    gradients = []
    for embed in (ours, theirs):
        images = x.clone().requires_grad_(True)
        embed(images).pow(3).sum().backward()
        gradients.append((images.grad, embed.norm.weight.grad, embed.norm.bias.grad))
    for a, b in zip(*gradients, strict=True):
        torch.testing.assert_close(a, b)
        assert a.any()
    assert ours.proj.weight.grad is None
    assert theirs.proj.weight.grad is not None


@pytest.mark.parametrize("momentum", [0.0, 0.9])
def test_momentum_update_both_ways(momentum: float) -> None:
    online = _vit()
    target = copy.deepcopy(online).requires_grad_(False)
    weight = _projection(online)[0].clone()
    _train(online, torch.optim.SGD(online.parameters(), lr=0.1))
    co.momentum_update(online, target, momentum)
    assert torch.equal(_projection(target)[0], weight), "a mean of equals"
    plain = _vit(embed_layer=PatchEmbed)
    for a, b in ((plain, _vit()), (_vit(), plain)):
        expected = momentum * _projection(b)[0].detach() + (1 - momentum) * _projection(a)[0].detach()
        co.momentum_update(a, b, momentum)
        torch.testing.assert_close(_projection(b)[0].detach(), expected)


@pytest.mark.parametrize(
    "copied", [copy.deepcopy, lambda x: pickle.loads(pickle.dumps(x))], ids=["deepcopy", "pickle"]
)
def test_copies_are_frozen_too(copied: Any) -> None:
    embed = co.FrozenPatchEmbed(img_size=16, patch_size=4, embed_dim=24)
    twin = copied(embed).requires_grad_(True)
    x = torch.randn(2, 3, 16, 16)
    torch.testing.assert_close(twin(x), embed(x), rtol=0, atol=0)
    assert twin.proj.weight.data_ptr() != embed.proj.weight.data_ptr()
    assert not twin(x).requires_grad


def test_sizes_of_a_timm_model() -> None:
    dynamic = _vit(dynamic_img_size=True)
    assert dynamic(torch.randn(2, 3, 16, 16)).shape == dynamic(torch.randn(2, 3, 24, 8)).shape == (2, 3)
    padded = _vit(dynamic_img_size=True, dynamic_img_pad=True)
    assert padded(torch.randn(2, 3, 13, 18)).shape == (2, 3)
    wide = _vit(img_size=(8, 24))
    assert wide(torch.randn(2, 3, 8, 24)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"^x: expected images of 8 x 24, got 16 x 16"):
        wide(torch.randn(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"^x: expected images that 4 x 4 patches divide, got 16 x 15"):
        dynamic(torch.randn(2, 3, 16, 15))


def test_other_patches_are_frozen_as_well() -> None:
    vit = _vit()
    vit.set_input_size(img_size=32, patch_size=8)
    vit.requires_grad_(True)
    vit(torch.randn(2, 3, 32, 32)).sum().backward()
    assert _projection(vit)[0].shape == (24, 3, 8, 8)
    assert _projection(vit)[0].grad is None
    assert vit.blocks[0].attn.qkv.weight.grad is not None


SWIN = {"img_size": 32, "window_size": 2, "embed_dim": 24, "depths": (1, 1), "num_heads": (2, 2)}
FAMILIES = {
    "vit_tiny_patch16_224": TINY,
    "deit_tiny_distilled_patch16_224": TINY,
    "deit3_small_patch16_224": TINY,
    "vit_base_patch16_clip_224": TINY,  # no bias
    "beit_base_patch16_224": TINY,
    "eva02_tiny_patch14_224": TINY,
    "cait_xxs24_224": TINY,
    "vit_relpos_small_patch16_224": TINY,
    "swin_tiny_patch4_window7_224": SWIN,
}


@pytest.mark.parametrize("name", FAMILIES)
def test_freeze_takes_any_model_with_timms_patch_embedding(name: str) -> None:
    model = timm.create_model(name, **FAMILIES[name])
    before = model.patch_embed
    assert co.FrozenPatchEmbed.freeze(model, generator=torch.Generator().manual_seed(0)) is model
    embed, size = model.patch_embed, FAMILIES[name]["img_size"]
    assert isinstance(embed, co.FrozenPatchEmbed)
    assert embed.norm is before.norm
    assert embed.state_dict().keys() == before.state_dict().keys()
    _is_moco_v3(embed.proj.weight, embed.proj.bias)
    x = torch.randn(2, 3, size, size)
    before.load_state_dict(embed.state_dict())
    torch.testing.assert_close(embed(x), before(x), rtol=0, atol=0)
    model(x).sum().backward()
    assert embed.proj.weight.grad is None
    model.init_weights() if hasattr(model, "init_weights") else None
    _is_moco_v3(embed.proj.weight, embed.proj.bias)


def test_freeze_keeps_dtype_mode_and_the_global_state() -> None:
    vit = _vit(embed_layer=PatchEmbed).to(torch.float64).eval()
    before = torch.random.get_rng_state()
    first = co.FrozenPatchEmbed.freeze(vit, generator=torch.Generator().manual_seed(3)).patch_embed.proj.weight.clone()
    assert torch.equal(before, torch.random.get_rng_state())
    assert vit.patch_embed.proj.weight.dtype == torch.float64
    assert not any(module.training for module in vit.modules())
    again = co.FrozenPatchEmbed.freeze(vit, generator=torch.Generator().manual_seed(3)).patch_embed.proj.weight
    assert torch.equal(first, again)


@pytest.mark.parametrize("name", ["vit_tiny_r_s16_p8_224", "resnet18", "pit_ti_224", "xcit_nano_12_p16_224"])
def test_freeze_names_what_has_no_patch_projection(name: str) -> None:
    with torch.device("meta"):
        model = timm.create_model(name)
    before = getattr(model, "patch_embed", None)
    with pytest.raises(
        TypeError, match=r"^vit: expected a model whose patch_embed is timm's PatchEmbed, got \w+ with"
    ):
        co.FrozenPatchEmbed.freeze(model)
    assert getattr(model, "patch_embed", None) is before


def test_it_is_made_on_its_device_and_in_its_dtype() -> None:
    meta = co.FrozenPatchEmbed(device="meta", dtype=torch.bfloat16)
    assert (meta.proj.weight.device.type, meta.proj.weight.dtype) == ("meta", torch.bfloat16)
    real = meta.to_empty(device="cpu")
    real.init_weights(generator=torch.Generator().manual_seed(0))
    _is_moco_v3(real.proj.weight.float().detach(), real.proj.bias, 16, 3, 768)
    vit = _vit(embed_layer=partial(co.FrozenPatchEmbed, norm_layer=nn.LayerNorm))
    assert isinstance(vit.patch_embed.norm, nn.LayerNorm)
    assert vit.patch_embed.norm.weight.requires_grad
