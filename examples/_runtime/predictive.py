"""CPC's networks: latents of the cells of a grid, a context of the cells so far, and features made of both."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _runtime.evaluate import Evaluation, knn_accuracy, linear_accuracy
from _runtime.grids import Cut, grey_again
from _runtime.log import RunLog
from _runtime.models import OWN_ENCODERS, create_encoder, save_encoder
from _runtime.results import finish
from contrastive_ops import CollapseMonitor

CONTEXT_FILE = "context.safetensors"  # beside the encoder of cells

POOLS: dict[str, Callable[[Tensor, Tensor], Tensor]] = {  # of latents z and context c, both (B, rows, columns, width)
    "rows": lambda z, c: c.mean(2).flatten(1),  # side by side
    "mean": lambda z, c: c.mean((1, 2)),
    "last": lambda z, c: c[:, -1].mean(1),
    "latents": lambda z, c: z.mean((1, 2)),  # the paper's: they know nothing of their surroundings
}


class ContextFeatures(nn.Module):
    """Latents z of every cell of a grid, a context c of the cells so far, and features of an image made of them."""

    def __init__(self, cut: Cut, encoder: Any, context: nn.Module, *, pool: str) -> None:
        super().__init__()
        self.cut, self.encoder, self.context, self.pool = cut, encoder, context, pool
        self.dim = int(encoder.num_features)  # of z

    def encode(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        """(z, c), both (B, rows, columns, width). Each cell is an image of its own to the encoder."""
        cells = grid.flatten(0, 2).contiguous(memory_format=torch.channels_last)
        z = self.encoder(cells).unflatten(0, grid.shape[:3])
        return z, self.context(z)

    def forward(self, images: Tensor) -> Tensor:
        """Features of normalised images, which become grey here; nothing is drawn."""
        return POOLS[self.pool](*self.encode(self.cut(grey_again(images))))


class MaskedConvolutions(nn.Module):
    """PixelCNN's idea for rows: residual 3 x 3 convolutions without their lowest row, so c sees no row below its own.

    Within its own row c sees all columns: rows are predicted, not columns.
    """

    def __init__(self, dim: int, width: int, *, layers: int = 5) -> None:
        super().__init__()
        self.first = nn.Conv2d(dim, width, 1)
        self.layers = nn.ModuleList(nn.Conv2d(width, width, (2, 3)) for _ in range(layers))

    def forward(self, z: Tensor) -> Tensor:
        x = self.first(z.permute(0, 3, 1, 2))
        for layer in self.layers:
            x = x + layer(F.pad(x.relu(), (1, 1, 1, 0)))  # a row of zeros above stands in for the masked one below
        return x.permute(0, 2, 3, 1)


class ColumnGRU(nn.Module):
    """A GRU that reads each column from top to bottom; of a sequence, from its beginning."""

    def __init__(self, dim: int, width: int) -> None:
        super().__init__()
        self.gru = nn.GRU(dim, width, batch_first=True)

    def forward(self, z: Tensor) -> Tensor:
        columns = z.transpose(1, 2)
        c = self.gru(columns.flatten(0, 1))[0]
        return c.unflatten(0, columns.shape[:2]).transpose(1, 2)


class WindowEncoder(nn.Sequential):
    """1-D convolutions over the columns of a grey window, whose pixels of one column are the channels of a time."""

    def __init__(self, height: int, dim: int = 128) -> None:
        layers: list[nn.Module] = []
        for channels in (height, dim // 2):
            layers += [nn.Conv1d(channels, dim // 2, 3, padding=1, bias=False), nn.GroupNorm(1, dim // 2), nn.ReLU()]
        super().__init__(*layers, nn.Conv1d(dim // 2, dim, 3, padding=1), nn.ReLU())
        self.num_features = dim

    def forward(self, windows: Tensor) -> Tensor:
        features: Tensor = super().forward(windows[:, 0])  # the three channels of grey are one
        return features.mean(2)


CONTEXTS: dict[str, Callable[[int, int], nn.Module]] = {"pixelcnn": MaskedConvolutions, "gru": ColumnGRU}


def encoder_for(modality: str, name: str) -> str:
    """The encoder that `--encoder auto` stands for, or the one that was named."""
    if name == "auto":
        return "conv1d" if modality == "sequence" else "tiny-gn"
    if (name in OWN_ENCODERS) != (modality == "sequence"):
        expected = "auto or conv1d" if modality == "sequence" else "auto or a model name of timm"
        raise ValueError(f"--encoder: expected {expected} with --modality {modality}, got {name!r}")
    return name


class ContextConfig(Protocol):
    """What is read of a trainer's Config."""

    @property
    def encoder(self) -> str: ...

    @property
    def context(self) -> str: ...

    @property
    def width(self) -> int: ...

    @property
    def features(self) -> str: ...

    @property
    def image_size(self) -> int: ...

    @property
    def compile(self) -> bool: ...


def create_context_features(cut: Cut, config: ContextConfig) -> ContextFeatures:
    """The encoder of cells, a context of `width` numbers over it, and how features are made of both."""
    own = config.encoder in OWN_ENCODERS
    encoder: Any = WindowEncoder(config.image_size) if own else create_encoder(config.encoder)
    if any(isinstance(module, nn.modules.batchnorm._BatchNorm) for module in encoder.modules()):
        raise ValueError(f"--encoder: expected one without batch norm, which mixes patches, got {config.encoder!r}")
    if config.compile:
        encoder.compile()  # in place, as in `create_encoder`
    context = CONTEXTS[config.context](encoder.num_features, config.width)
    return ContextFeatures(cut, encoder, context, pool=config.features)


def finish_context(
    method: str, features: ContextFeatures, evaluation: Evaluation, log: RunLog, monitor: CollapseMonitor
) -> None:
    """As `finish`, with the accuracies of the other kinds of features; encoder and context are exported apart."""
    finish(method, features, evaluation, log, monitor, measured=measure_pools(features, evaluation))
    if log.run.is_main:
        save_encoder(features.encoder, log.folder / "encoder.safetensors")
        save_encoder(features.context, log.folder / CONTEXT_FILE)


def measure_pools(features: ContextFeatures, evaluation: Evaluation) -> dict[str, float]:
    """kNN and linear accuracy of every kind of features but that of the run, e.g. of the mean latent."""
    chosen, measured = features.pool, {}
    for name in sorted(POOLS.keys() - {chosen}):
        features.pool = name
        gallery, queries = evaluation.encode(features)
        measured[f"knn_{name}"] = knn_accuracy(gallery, queries)
        measured[f"linear_{name}"] = linear_accuracy(gallery, queries)
    features.pool = chosen
    return measured


def load_context_features(folder: Path) -> ContextFeatures:
    """The features of a finished run, with the weights of encoder and context."""
    from safetensors.torch import load_file

    config = SimpleNamespace(**json.loads((folder / "config.json").read_text()) | {"compile": False})
    features = create_context_features(Cut(config.modality, config.patch, config.stride), config)
    features.encoder.load_state_dict(load_file(folder / "encoder.safetensors"))
    features.context.load_state_dict(load_file(folder / CONTEXT_FILE))
    return features
