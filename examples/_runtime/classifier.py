"""Networks with logits: an encoder and a linear classifier, kept side by side so that timm still loads the encoder."""

from __future__ import annotations

from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _runtime.launch import Run
from _runtime.models import create_encoder
from _runtime.trained import load_encoder
from contrastive_ops import projection_mlp

FILE = "classifier.safetensors"  # the linear layer's weights, beside encoder.safetensors


class Classifier(nn.Module):
    """Logits of the pooled features."""

    def __init__(self, encoder: nn.Module, linear: nn.Linear) -> None:
        super().__init__()
        self.encoder, self.linear = encoder, linear

    def forward(self, images: Tensor) -> Tensor:
        logits: Tensor = self.linear(self.encoder(images))
        return logits

    @torch.no_grad()
    def features_and_logits(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """What a teacher tells of images; constant to autograd."""
        features = self.encoder(images)
        return features, self.linear(features).float()


class Student(nn.Module):
    """Logits and unit embeddings of the student, and unit embeddings of the teacher's features.

    With dim, linear heads make the embeddings of the features of both; without, the features themselves are meant.
    """

    def __init__(self, classifier: Classifier, teacher: Classifier | None, *, dim: int | None) -> None:
        super().__init__()
        self.classifier = classifier
        self.dim: int = dim or classifier.encoder.num_features
        self.head, self.teacher_head = (
            projection_mlp(net.encoder.num_features, dim, dim, num_layers=1) if dim and net else nn.Identity()
            for net in (classifier, teacher)
        )

    def forward(self, images: Tensor, known: Tensor | None) -> tuple[Tensor, Tensor, Tensor | None]:
        features = self.classifier.encoder(images)
        z_t = None if known is None else F.normalize(self.teacher_head(known).float())
        return self.classifier.linear(features).float(), F.normalize(self.head(features).float()), z_t


def create_classifier(name: str, labels: Tensor, *, compiled: bool = False) -> Classifier:
    """An encoder of that name with as many outputs as the labels have classes."""
    encoder = create_encoder(name, compiled=compiled)
    return Classifier(encoder, nn.Linear(encoder.num_features, int(labels.max()) + 1))


def save_classifier(classifier: Classifier, folder: Path) -> None:
    """Writes the linear layer; `finish` writes the encoder."""
    from safetensors.torch import save_file

    state = {name: value.detach().cpu().contiguous() for name, value in classifier.linear.state_dict().items()}
    unfinished = folder / f"unfinished-{FILE}"
    save_file(state, unfinished)
    unfinished.replace(folder / FILE)


def load_classifier(folder: Path, labels: Tensor, run: Run) -> Classifier:
    """The classifier that a finished run left, in evaluation mode and without gradients."""
    from safetensors.torch import load_file

    if not (folder / FILE).exists():
        raise FileNotFoundError(
            f"--teacher, --alone: expected the folder of a finished run that leaves {FILE}, got {folder}"
        )
    state, classes = load_file(folder / FILE), int(labels.max()) + 1
    if len(state["weight"]) != classes:
        raise ValueError(
            f"--teacher, --alone: expected a classifier of {classes} classes, as --data has; "
            f"that of {folder} has {len(state['weight'])}"
        )
    encoder = load_encoder(folder)
    linear = nn.Linear(encoder.num_features, classes)
    linear.load_state_dict(state)
    classifier = Classifier(encoder, linear).eval().requires_grad_(False)
    return classifier.to(run.device, memory_format=torch.channels_last)
