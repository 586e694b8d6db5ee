"""FrozenPatchEmbed: MoCo v3's initialisation, and that nothing in timm or torch changes it afterwards."""

from __future__ import annotations

import copy
import io
import pickle
from functools import partial
from math import sqrt
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from timm.layers import Format, PatchEmbed
from timm.optim import create_optimizer_v2
from torch import nn

import contrastive_ops as co
from tests.properties.vits import assert_is_moco_v3, projection, tiny_vit

MODES = ["", "jax", "jax_nlhb", "moco", "skip"]


@pytest.mark.parametrize("mode", MODES)
def test_the_initialisation_survives_timms(mode: str) -> None:
    vit = tiny_vit(weight_init=mode)
    assert_is_moco_v3(*projection(vit))
    for again in ("", "jax", "moco", "reset"):
        before = projection(vit)[0].clone()
        try:
            vit.init_weights(again)
        except AssertionError:  # older timm has no mode "reset"
            assert again == "reset"
            continue
        assert_is_moco_v3(*projection(vit))
        assert not torch.equal(before, projection(vit)[0]), "drawn again"


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
    plain, frozen = tiny_vit(embed_layer=PatchEmbed), tiny_vit()
    frozen.load_state_dict(plain.state_dict(), strict=True)
    assert torch.equal(projection(frozen)[0], projection(plain)[0])
    assert not projection(frozen)[0].requires_grad
    file = io.BytesIO()
    torch.save(tiny_vit().state_dict(), file)
    file.seek(0)
    plain.load_state_dict(torch.load(file, weights_only=True), strict=True)
    assert_is_moco_v3(projection(plain)[0].detach(), projection(plain)[1].detach())


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
    vit = tiny_vit()
    if switched_on:
        vit.requires_grad_(True)
        assert projection(vit)[0].requires_grad, "the flag is on, and still:"
    weight, bias = (p.detach().clone() for p in projection(vit))
    block = vit.blocks[0].attn.qkv.weight.detach().clone()
    _train(vit, OPTIMISERS[optimizer](vit))
    assert torch.equal(projection(vit)[0], weight)
    assert torch.equal(projection(vit)[1], bias)
    assert projection(vit)[0].grad is None
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
    online = tiny_vit()
    target = copy.deepcopy(online).requires_grad_(False)
    weight = projection(online)[0].clone()
    _train(online, torch.optim.SGD(online.parameters(), lr=0.1))
    co.momentum_update(online, target, momentum)
    assert torch.equal(projection(target)[0], weight), "a mean of equals"
    plain = tiny_vit(embed_layer=PatchEmbed)
    for a, b in ((plain, tiny_vit()), (tiny_vit(), plain)):
        expected = momentum * projection(b)[0].detach() + (1 - momentum) * projection(a)[0].detach()
        co.momentum_update(a, b, momentum)
        torch.testing.assert_close(projection(b)[0].detach(), expected)


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
    dynamic = tiny_vit(dynamic_img_size=True)
    assert dynamic(torch.randn(2, 3, 16, 16)).shape == dynamic(torch.randn(2, 3, 24, 8)).shape == (2, 3)
    padded = tiny_vit(dynamic_img_size=True, dynamic_img_pad=True)
    assert padded(torch.randn(2, 3, 13, 18)).shape == (2, 3)
    wide = tiny_vit(img_size=(8, 24))
    assert wide(torch.randn(2, 3, 8, 24)).shape == (2, 3)
    with pytest.raises(ValueError, match=r"^x: expected images of 8 x 24, got 16 x 16"):
        wide(torch.randn(2, 3, 16, 16))
    with pytest.raises(ValueError, match=r"^x: expected images that 4 x 4 patches divide, got 16 x 15"):
        dynamic(torch.randn(2, 3, 16, 15))


def test_other_patches_are_frozen_as_well() -> None:
    vit = tiny_vit()
    vit.set_input_size(img_size=32, patch_size=8)
    vit.requires_grad_(True)
    vit(torch.randn(2, 3, 32, 32)).sum().backward()
    assert projection(vit)[0].shape == (24, 3, 8, 8)
    assert projection(vit)[0].grad is None
    assert vit.blocks[0].attn.qkv.weight.grad is not None


def test_it_is_made_on_its_device_and_in_its_dtype() -> None:
    meta = co.FrozenPatchEmbed(device="meta", dtype=torch.bfloat16)
    assert (meta.proj.weight.device.type, meta.proj.weight.dtype) == ("meta", torch.bfloat16)
    real = meta.to_empty(device="cpu")
    real.init_weights(generator=torch.Generator().manual_seed(0))
    assert_is_moco_v3(real.proj.weight.float().detach(), real.proj.bias, 16, 3, 768)
    vit = tiny_vit(embed_layer=partial(co.FrozenPatchEmbed, norm_layer=nn.LayerNorm))
    assert isinstance(vit.patch_embed.norm, nn.LayerNorm)
    assert vit.patch_embed.norm.weight.requires_grad
