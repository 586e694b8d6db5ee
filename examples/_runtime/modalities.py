"""Modalities of one image, in CMC's sense: what it is in lightness, in colour, in edges; and an encoder for each.

All are parts of a Lab image (B, 3, H, W) whose L, a and b lie in [-1, 1].
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _runtime.evaluate import Evaluation, knn_accuracy
from _runtime.log import RunLog
from _runtime.models import create_encoder, save_encoder
from _runtime.results import finish
from _runtime.views import displayable, plain_view
from contrastive_ops import (
    CollapseMonitor,
    cmc_views,
    color_jitter,
    gaussian_blur,
    normalize,
    random_invert,
    random_resized_crop,
    random_rotation,
    rgb_to_lab,
)

MIDDLE, HALF_RANGE = (50.0, 6.025, -6.6895), (50.0, 92.208, 101.1675)  # of L, a and b over all sRGB colours


def lightness(lab: Tensor) -> Tensor:
    return lab[:, :1]


def colour(lab: Tensor) -> Tensor:
    return lab[:, 1:]


def gradient(lab: Tensor) -> Tensor:
    """The length of the gradient of lightness: edges, whichever side of them is the brighter one."""
    padded = F.pad(lab[:, :1], (1, 1, 1, 1), mode="replicate")
    down = padded[:, :, 2:, 1:-1] - padded[:, :, :-2, 1:-1]
    right = padded[:, :, 1:-1, 2:] - padded[:, :, 1:-1, :-2]
    return torch.hypot(down, right)


# name -> (how many channels it has, how it is made of a Lab image)
MODALITIES: dict[str, tuple[int, Callable[[Tensor], Tensor]]] = {
    "l": (1, lightness),
    "ab": (2, colour),
    "gradient": (1, gradient),
}


def to_lab(images: Tensor) -> Tensor:
    """RGB images in [0, 1] as Lab images in [-1, 1]."""
    return normalize(rgb_to_lab(images), mean=MIDDLE, std=HALF_RANGE)


def digits_lab_view(images: Tensor, *, size: int, generator: torch.Generator | None = None) -> Tensor:
    """The digits' recipe without grey, which has no colour to encode: crop, rotation, jitter, blur, inversion; Lab."""
    x = random_resized_crop(images, size=size, scale=(0.5, 1.0), generator=generator)
    x = random_rotation(x, degrees=15, generator=generator)
    x = color_jitter(x, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.5, p=0.8, generator=generator)
    x = gaussian_blur(x, sigma=(0.1, 1.0), p=0.3, generator=generator)
    return to_lab(random_invert(x, p=0.5, generator=generator))


def cmc_lab_view(images: Tensor, *, size: int, generator: torch.Generator | None = None) -> Tensor:
    """CMC's recipe with the crops of its ResNets: crop, flip, Lab."""
    return torch.cat(cmc_views(images, size=size, scale=(0.08, 1.0), generator=generator), dim=1)


def unchanged_lab_view(images: Tensor, *, size: int, generator: torch.Generator | None = None) -> Tensor:
    """No augmentation: a control."""
    return to_lab(displayable(plain_view(images, size=size)))


LAB_VIEWS: dict[str, Callable[..., Tensor]] = {
    "digits": digits_lab_view,
    "cmc": cmc_lab_view,
    "none": unchanged_lab_view,
}


class Modalities(nn.Module):
    """An encoder for each modality; a normalised RGB view, as others take it, becomes all their features in a row."""

    def __init__(self, encoders: Mapping[str, nn.Module]) -> None:
        super().__init__()
        self.encoders = nn.ModuleDict(dict(encoders))

    @property
    def widths(self) -> list[int]:
        """How many features each encoder makes."""
        return [encoder.num_features for encoder in self.encoders.values()]

    def views(
        self, images: Tensor, recipe: str, *, size: int, own: bool, generator: torch.Generator | None = None
    ) -> list[Tensor]:
        """Every modality of one view of the images, or each of a view of its own."""
        view = partial(LAB_VIEWS[recipe], images, size=size, generator=generator)
        labs = [view() for _ in self.encoders] if own else [view()] * len(self.encoders)
        return [MODALITIES[name][1](lab) for name, lab in zip(self.encoders, labs, strict=True)]

    def features(self, views: Sequence[Tensor]) -> list[Tensor]:
        """What each encoder makes of its modality."""
        return [encoder(view) for encoder, view in zip(self.encoders.values(), views, strict=True)]

    def forward(self, images: Tensor) -> Tensor:
        lab = to_lab(displayable(images))
        return torch.cat(self.features([MODALITIES[name][1](lab) for name in self.encoders]), dim=1)

    def knn(self, evaluation: Evaluation) -> dict[str, float]:
        """kNN accuracy of all features together and, as knn_NAME, of each modality's."""
        (x, y), (queries, truth) = evaluation.encode(self)
        values = {"knn": knn_accuracy((x, y), (queries, truth))}
        columns = zip(self.encoders, x.split(self.widths, 1), queries.split(self.widths, 1), strict=True)
        for name, own, asked in columns:
            values[f"knn_{name}"] = knn_accuracy((own, y), (asked, truth))
        return values

    def save(self, folder: Path) -> None:
        """A file for each encoder, encoder-NAME.safetensors, that timm loads."""
        for name, encoder in self.encoders.items():
            save_encoder(encoder, folder / f"encoder-{name}.safetensors")


def create_modalities(names: Sequence[str], encoder: str, *, compiled: bool = False) -> Modalities:
    """A new encoder for each modality, with as many channels as that has."""
    if len(names) < 2 or len(set(names)) < len(names) or not set(names) <= set(MODALITIES):
        raise ValueError(f"--modalities: expected two or more of {', '.join(MODALITIES)}, got {' '.join(names)}")
    channels = {name: MODALITIES[name][0] for name in names}
    if compiled:  # torch counts the compiled forms of a piece of code, and all encoders share theirs
        torch._dynamo.config.cache_size_limit = 8 * len(names)
    return Modalities({n: create_encoder(encoder, in_chans=c, compiled=compiled) for n, c in channels.items()})


def load_modalities(folder: Path, names: Sequence[str], timm_arguments: Mapping[str, Any]) -> Modalities:
    """The encoders of a finished run, each from its file."""
    import timm

    return Modalities(
        {
            name: timm.create_model(
                **timm_arguments,
                in_chans=MODALITIES[name][0],
                checkpoint_path=str(folder / f"encoder-{name}.safetensors"),
            )
            for name in names
        }
    )


def finish_modalities(
    method: str, encoder: Modalities, evaluation: Evaluation, log: RunLog, monitor: CollapseMonitor
) -> None:
    """`finish`, with a file and an accuracy for each encoder; summary.json names the modalities."""
    alone = {name: value for name, value in encoder.knn(evaluation).items() if name != "knn"}
    if log.run.is_main:
        encoder.save(log.folder)
    finish(method, encoder, evaluation, log, monitor, measured={**alone, "modalities": list(encoder.encoders)})
