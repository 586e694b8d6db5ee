"""FrozenPatchEmbed.freeze: any model with timm's patch embedding, and the error for one without."""

from __future__ import annotations

import pytest
import timm
import torch
from timm.layers import PatchEmbed

import contrastive_ops as co
from tests.properties.vits import TINY, assert_is_moco_v3, tiny_vit

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
    assert_is_moco_v3(embed.proj.weight, embed.proj.bias)
    x = torch.randn(2, 3, size, size)
    before.load_state_dict(embed.state_dict())
    torch.testing.assert_close(embed(x), before(x), rtol=0, atol=0)
    model(x).sum().backward()
    assert embed.proj.weight.grad is None
    model.init_weights() if hasattr(model, "init_weights") else None
    assert_is_moco_v3(embed.proj.weight, embed.proj.bias)


def test_freeze_keeps_dtype_mode_and_the_global_state() -> None:
    vit = tiny_vit(embed_layer=PatchEmbed).to(torch.float64).eval()
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
