"""Networks for crops of several sizes, as a student with drop-path and a teacher without."""

from __future__ import annotations

import copy
from typing import Any

from timm.layers import DropPath
from torch import Tensor, nn

from _runtime.models import create_encoder
from _runtime.vit import is_vit
from contrastive_ops import multi_crop_forward


class CropNetwork(nn.Module):
    """The head's logits of each crop; the encoder has a pass for each size, the head sees all crops together."""

    def __init__(self, encoder: nn.Module, head: nn.Module) -> None:
        super().__init__()
        self.encoder, self.head = encoder, head

    def forward(self, crops: list[Tensor]) -> tuple[Tensor, ...]:
        logits: Tensor = self.head(multi_crop_forward(self.encoder, crops)).float()
        return logits.tensor_split(len(crops))


def create_crop_encoder(name: str, *, drop_path: float = 0.0, compiled: bool = False) -> nn.Module:
    """An encoder that takes images of several sizes; for a ViT, multiples of its patches.

    A ViT's position embeddings are resized to the patches of an image, bicubically, and learn through that; an image
    of the ViT's own size gets them as they are. `drop_path` is the largest rate of skipped residual branches.
    """
    options: dict[str, Any] = {"drop_path_rate": drop_path} if drop_path > 0 else {}
    if is_vit(name):
        options["dynamic_img_size"] = True
    return create_encoder(name, compiled=compiled, options=options)


def teacher_of(student: CropNetwork, *, compiled: bool = False) -> CropNetwork:
    """A copy of the student that takes no gradients, and has no drop-path though it stays in training mode."""
    teacher = copy.deepcopy(student).requires_grad_(False)
    for module in teacher.modules():
        if isinstance(module, DropPath):
            module.drop_prob = 0.0
    if compiled:
        teacher.encoder.compile()
    return teacher
