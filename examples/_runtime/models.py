"""Encoders: timm's models without a classifier, so that timm loads what a trainer leaves.

`tiny` is a ResNet of three stages and 0.3 million weights for images of 32 pixels. It is made by arguments of timm's
own resnet18, hence `timm.create_model(name, **arguments, checkpoint_path="encoder.safetensors")` loads it too.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from contrastive_ops import SplitBatchNorm2d, all_gather, feature_std, gradient_infinity_norm


def selective_kernel_resnet(layers: list[int], width: int) -> tuple[str, dict[str, Any]]:
    """SimCLR v2's encoders, `width` times as wide: every block weighs two 3x3 convolutions of its whole input.

    timm's own dilates the second one and gives each half of the channels.
    """
    branches = {"kernel_size": [3, 3], "split_input": False, "rd_ratio": 1 / 16, "rd_divisor": 32}
    channels = [64 * width, 128 * width, 256 * width, 512 * width]
    sizes = {"layers": layers, "channels": channels, "stem_width": 32 * width}
    return "skresnet50d", {**sizes, "block_args": {"sk_kwargs": branches}, "zero_init_last": True}


TINY: dict[str, Any] = {
    "layers": [1, 1, 1, 0],
    "channels": [32, 64, 128, 128],
    "stem_type": "deep_tiered",
    "stem_width": 8,
    "replace_stem_pool": True,
    "zero_init_last": False,
}
# our name -> (timm's name, its arguments where they are not timm's defaults)
SPECS: dict[str, tuple[str, dict[str, Any]]] = {
    "tiny": ("resnet18", TINY),
    "micro": ("resnet18", {**TINY, "channels": [8, 16, 48, 48], "stem_width": 4}),  # a student: 35 thousand weights
    # a ViT of 0.2 M weights for 24 pixels; patches of 4 and of 8 pixels learned more slowly
    "tiny-vit": (
        "vit_tiny_patch16_224",
        {"img_size": 24, "patch_size": 6, "embed_dim": 96, "depth": 2, "num_heads": 6},
    ),
    # a convolution before the patches: DINO, at chance with tiny-vit, learned with it
    "tiny-hybrid-vit": (
        "vit_tiny_r_s16_p8_224",
        {"img_size": 24, "patch_size": 2, "embed_dim": 96, "depth": 2, "num_heads": 6},  # 2 x 2 of the 6 x 6 features
    ),
    "tiny-gn": ("resnet18", {**TINY, "norm_layer": "groupnorm1"}),  # no image sees another, for CPC's patches
    # of pre-activation ResNet-101 the stem and three stages, with group norm: the arguments differ only in the depth
    "resnetv2-101-stage3": (
        "resnetv2_50d_gn",
        {"layers": [3, 4, 23], "channels": [256, 512, 1024], "stem_type": "", "avg_down": False},
    ),
    # the papers used torchvision's, whose residual branches do not start at zero
    "resnet50": ("resnet50", {"zero_init_last": False}),
    "resnet50-zero-init": ("resnet50", {"zero_init_last": True}),  # SimSiam's and MoCo v3's
    "vit-small-12-heads": ("vit_small_patch16_224", {"num_heads": 12}),  # MoCo v3's; DeiT's has 6
    "sk-resnet50": selective_kernel_resnet([3, 4, 6, 3], width=1),
    "sk-resnet50x2": selective_kernel_resnet([3, 4, 6, 3], width=2),
    "sk-resnet152x3": selective_kernel_resnet([3, 8, 36, 3], width=3),
}
OWN_ENCODERS = ("conv1d",)  # CPC's for sequences, which timm does not have


def timm_arguments(name: str) -> dict[str, Any]:
    """All that `timm.create_model` needs to make the encoder `name`; kept in the run folder's JSON files."""
    if name in OWN_ENCODERS:
        return {}
    timm_name, arguments = SPECS.get(name, (name, {}))
    return {"model_name": timm_name, "num_classes": 0, **arguments}


def create_encoder(
    name: str,
    *,
    norm_splits: int = 1,
    in_chans: int = 3,
    compiled: bool = False,
    options: Mapping[str, Any] | None = None,
) -> nn.Module:
    """A timm model that returns pooled features, of width `encoder.num_features`.

    norm_splits above 1 gives each of so many parts of the batch its own BN statistics, as on so many devices;
    in_chans is the number of channels of its images; options are further arguments of timm's that leave the names
    and shapes of its weights as they are.
    """
    import timm

    arguments = timm_arguments(name) | ({"in_chans": in_chans} if in_chans != 3 else {}) | dict(options or {})
    if not timm.is_model(arguments["model_name"]):
        close = ", ".join(timm.list_models(f"*{name[:6]}*")[:5]) or "none"
        own = "tiny, tiny-vit, tiny-hybrid-vit, micro"
        raise ValueError(f"--encoder: expected {own} or a timm model, got {name!r}; similar: {close}")
    if norm_splits > 1:
        arguments["norm_layer"] = partial(SplitBatchNorm2d, num_splits=norm_splits)
    encoder = timm.create_model(**arguments)
    if compiled:
        encoder.compile()  # in place, at its first call: the names of its weights stay
    return encoder


def save_encoder(encoder: nn.Module, path: Path) -> None:
    """Writes the weights where `timm.create_model(..., checkpoint_path=path)` reads them."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous() for name, value in encoder.state_dict().items()}
    unfinished = path.with_name("unfinished-" + path.name)
    save_file(state, unfinished)
    unfinished.replace(path)


def first_and_last_layer(net: nn.Module) -> tuple[nn.Module, nn.Module]:
    """The first and the last layer that is trained; a norm is none. A frozen one has no gradient to look at."""
    weights = ((layer, getattr(layer, "weight", None)) for layer in net.modules())
    layers = [m for m, w in weights if isinstance(w, Tensor) and w.ndim > 1 and w.requires_grad]
    return layers[0], layers[-1]


def health(net: nn.Module, embedding: Tensor) -> dict[str, Tensor]:
    """Signs of life of a step: spread of the embedding, largest gradients of the first and of the last layer."""
    first, last = first_and_last_layer(net)
    return {
        "feature_std": feature_std(embedding),
        "gradient_first": gradient_infinity_norm(first),
        "gradient_last": gradient_infinity_norm(last),
    }


def teacher_health(probabilities: Sequence[Tensor], loss: Tensor) -> dict[str, Tensor]:
    """Signs of life of a teacher whose probabilities, (B, K) for each view, its student learns by cross-entropy.

    Its entropy over all ranks, between 0 (one output wins) and ln K (all are even), and what the student lacks.
    """
    entropy = all_gather(torch.special.entr(torch.cat(list(probabilities))).sum(1)).mean()
    return {"teacher_entropy": entropy, "kl": loss.detach() - entropy}
