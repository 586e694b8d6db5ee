"""Zero-shot classification, with classes named in words, and a picture of how alike images and captions are."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Protocol

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _runtime.captions import Captions
from _runtime.evaluate import Evaluation
from _runtime.plots import new_figure
from _runtime.text import WordTokenizer
from _runtime.views import plain_view, to_float

PAIRS_SHOWN = 10


class TwoTowers(Protocol):
    """What is evaluated: `images` is the image encoder with its projection, `text` the text encoder with its own."""

    @property
    def images(self) -> nn.Module: ...

    @property
    def text(self) -> nn.Module: ...


class Nearest(nn.Module):
    """The cosine of each row with each class: its outputs are scores."""

    def __init__(self, classes: Tensor) -> None:
        super().__init__()
        self.register_buffer("classes", classes)

    def forward(self, rows: Tensor) -> Tensor:
        return F.normalize(rows) @ self.classes.T


class ZeroShot:
    """The prompts of an evaluation. `accuracy` and `save_picture` are called on every rank."""

    def __init__(self, captions: Captions, tokenizer: WordTokenizer, evaluation: Evaluation) -> None:
        self.captions, self.tokenizer, self.evaluation = captions, tokenizer, evaluation
        unknown = tokenizer.unknown(captions.classes)
        if unknown and evaluation.run.is_main:
            said = f"no training caption has these words of the classes' names: {', '.join(unknown)}"
            print(said, file=sys.stderr)

    def accuracy(self, net: TwoTowers) -> dict[str, float]:
        """The part of the evaluation images that are nearest to their own class; nothing where there are no classes.

        A class is the normalised mean of the normalised embeddings of its prompts.
        """
        if not self.captions.classes:
            return {}
        each = self.embed(net, self.captions.ask()).unflatten(0, (len(self.captions.classes), -1))
        nearest = Nearest(F.normalize(each.mean(1)))
        return {"zero_shot": self.evaluation.top1(nn.Sequential(net.images, nearest))}

    @torch.no_grad()
    def embed(self, net: TwoTowers, texts: Sequence[str]) -> Tensor:
        """Unit embeddings (B, D) of texts."""
        return F.normalize(net.text(self.tokenizer(texts).to(self.evaluation.run.device)))

    @torch.no_grad()
    def save_picture(self, path: Path, net: TwoTowers) -> None:
        """Draws the cosines of a few evaluation images with their captions."""
        run, queries = self.evaluation.run, self.evaluation.queries
        if not run.is_main:
            return
        count = min(PAIRS_SHOWN, len(queries))
        index = torch.arange(count) * len(queries) // count  # evenly spread: where images are sorted, of each class
        alone = replace(run, rank=0, world_size=1)
        batch = next(iter(queries.read([index], run=alone, workers=0)))
        pixels, texts = to_float(batch.images), self.captions.describe(batch.indices, batch.labels)
        training = net.images.training
        net.images.eval()
        rows = F.normalize(net.images(plain_view(pixels, size=self.evaluation.size)))
        net.images.train(training)
        draw_similarities(path, pixels.cpu(), texts, (self.embed(net, texts) @ rows.T).cpu())


def draw_similarities(path: Path, images: Tensor, captions: Sequence[str], cosines: Tensor) -> None:
    """Images along the top, their captions down the side, the cosine of each pair; each pair's own is framed."""
    from matplotlib.offsetbox import AnnotationBbox, OffsetImage
    from matplotlib.patches import Rectangle

    count = len(captions)
    figure = new_figure(0.75 * count + 4.6, 0.6 * count + 1.6)
    axis = figure.subplots()
    shown = axis.imshow(cosines.numpy(), cmap="viridis", aspect="auto")
    middle = (shown.norm.vmin + shown.norm.vmax) / 2
    for i, row in enumerate(cosines.tolist()):
        for j, value in enumerate(row):
            colour = "black" if value > middle else "white"
            axis.text(j, i, f"{value:.2f}", ha="center", va="center", fontsize=9, color=colour)
        axis.add_patch(Rectangle((i - 0.48, i - 0.48), 0.96, 0.96, fill=False, edgecolor="#d9731a", linewidth=2.5))
    for j, image in enumerate(images):
        picture = OffsetImage(image.permute(1, 2, 0).numpy(), zoom=40 / image.shape[-1], interpolation="nearest")
        place = AnnotationBbox(
            picture, (j, 1), xybox=(0, 28), xycoords=("data", "axes fraction"), boxcoords="offset points",
            frameon=False, annotation_clip=False,
        )  # fmt: skip
        axis.add_artist(place)
    axis.set(xticks=[], yticks=range(count), yticklabels=captions)
    axis.set_title("cosine of images and captions; framed: an image and its own caption", pad=54, fontsize=10)
    figure.savefig(path, dpi=110)
