"""What a ViT looks at: the attention of the class token to the patches in the last block, a picture per head."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import torch
from timm.models import VisionTransformer
from torch import Tensor, nn

from _runtime.evaluate import Evaluation
from _runtime.plots import save_images
from _runtime.views import displayable, plain_view, to_float

IMAGES_SHOWN = 8


@torch.no_grad()
def class_attention(encoder: VisionTransformer, views: Tensor) -> Tensor:
    """Attention (B, heads, rows, columns) of the class token to the patches in the last block.

    timm's fused attention keeps no weights: they are computed once more from what comes into the block's attention.
    """
    inputs: list[Tensor] = []
    layer = encoder.blocks[-1].attn
    hook = layer.register_forward_pre_hook(lambda _, arguments: inputs.append(arguments[0]))
    encoder.forward_features(views)
    hook.remove()
    batch, tokens, _ = inputs[0].shape
    q, k, _ = layer.qkv(inputs[0]).view(batch, tokens, 3, layer.num_heads, -1).permute(2, 0, 3, 1, 4)
    q, k = layer.q_norm(q[:, :, :1]), layer.k_norm(k)
    weights = (q @ k.transpose(-2, -1) * layer.scale).softmax(-1).squeeze(2)
    grid = encoder.patch_embed.dynamic_feat_size(views.shape[-2:])
    return weights[..., encoder.num_prefix_tokens :].unflatten(-1, grid)


@torch.no_grad()
def save_attention(path: Path, encoder: nn.Module, evaluation: Evaluation) -> None:
    """Draws the class token's attention for a few evaluation images; nothing for an encoder without a class token."""
    run, queries = evaluation.run, evaluation.queries
    if not isinstance(encoder, VisionTransformer) or encoder.cls_token is None:
        return
    count = min(IMAGES_SHOWN, len(queries))
    index = torch.arange(count) * len(queries) // count  # evenly spread: where images are sorted, of each class
    alone = replace(run, rank=0, world_size=1)
    batch = next(iter(queries.read([index], run=alone, workers=0)))
    views = plain_view(to_float(batch.images), size=evaluation.size)
    training = encoder.training
    encoder.eval()
    attention = class_attention(encoder, views)
    encoder.train(training)
    draw_attention(path, displayable(views).cpu(), attention.cpu())


def draw_attention(path: Path, images: Tensor, attention: Tensor) -> None:
    """A column for each image: the image above, below it what each head looks at, from none (dark) to most."""
    from matplotlib import colormaps

    bright = attention / attention.amax((2, 3), keepdim=True)
    colours = torch.from_numpy(colormaps["inferno"](bright.numpy())[..., :3]).movedim(-1, 2).float()
    heads = {f"head {head + 1}": colours[:, head] for head in range(attention.shape[1])}
    save_images(path, {"image": images, **heads}, title="attention of the class token in the last block")
