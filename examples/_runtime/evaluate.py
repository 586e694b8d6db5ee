"""How good frozen features are: weighted kNN beside trivial baselines, and a linear probe.

Features are those of the backbone, in evaluation mode, of images that nothing random was done to. The gallery are
training images, the queries the evaluation images. All ranks share the work of computing features.
"""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _runtime.config import CommonConfig
from _runtime.launch import Run
from _runtime.sources import Images
from _runtime.views import plain_view, to_float
from contrastive_ops import all_gather, knn_predict

NEIGHBOURS, TEMPERATURE = 20, 0.07
EVALUATION_BATCH = 256
BASELINE_IMAGES = 10_000  # of a large data set so many are enough for the baselines
PIXELS = 32  # to which images are reduced for the baselines

Features = tuple[Tensor, Tensor]  # (N, D) features and (N,) labels


class Evaluation:
    """The images of an evaluation, and how this run reads them. Every method is called on every rank."""

    def __init__(self, train: Images, test: Images, config: CommonConfig, run: Run) -> None:
        self.gallery, self.queries = sample(train, config.knn_images), test
        self.size, self.workers, self.run = config.image_size, config.workers, run

    def knn(self, encoder: nn.Module) -> float:
        """kNN accuracy of the encoder's features."""
        return knn_accuracy(*self.encode(encoder))

    def baselines(self) -> dict[str, float]:
        """kNN accuracy of features that need no learning: what a network must beat to have learned anything."""
        (x, y), (queries, truth) = (
            self.extract(reduce_pixels, sample(images, BASELINE_IMAGES)) for images in (self.gallery, self.queries)
        )
        return {
            name: knn_accuracy((function(x), y), (function(queries), truth)) for name, function in BASELINES.items()
        }

    def top1(self, classifier: nn.Module) -> float:
        """The part of the queries to which a network gives its largest output for the right class."""
        outputs, labels = self.outputs(classifier, self.queries)
        return (outputs.argmax(1) == labels).double().mean().item()

    def encode(self, encoder: nn.Module) -> tuple[Features, Features]:
        """Features of gallery and queries."""
        return self.outputs(encoder, self.gallery), self.outputs(encoder, self.queries)

    def outputs(self, net: nn.Module, images: Images) -> Features:
        """What a network makes of all images, with rank 0's BN statistics: those that are kept and exported."""
        for buffer in net.buffers():
            if self.run.world_size > 1 and buffer.ndim > 0:
                buffer.copy_(all_gather(buffer)[: len(buffer)])

        def function(images: Tensor) -> Tensor:
            features: Tensor = net(plain_view(images, size=self.size).to(memory_format=torch.channels_last))
            return features

        training = net.training
        net.eval()
        features = self.extract(function, images)
        net.train(training)
        return features

    @torch.no_grad()
    def extract(self, function: Callable[[Tensor], Tensor], images: Images) -> Features:
        """`function` of all images, in their order, on every rank. Each rank computes its part."""
        batches = torch.arange(len(images)).split(EVALUATION_BATCH)
        parts = [
            (function(to_float(batch.images)), batch.labels, batch.indices)
            for batch in images.read(batches, run=self.run, workers=self.workers)
        ]
        features, labels, index = (all_gather(torch.cat(column)) for column in zip(*parts, strict=True))
        order = index.argsort()
        return features[order].float(), labels[order]


def sample(images: Images, limit: int) -> Images:
    """At most `limit` images, always the same ones."""
    if len(images) <= limit:
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images.subset(order[:limit].sort().values)


def knn_accuracy(gallery: Features, queries: Features) -> float:
    """The part of the queries that their 20 nearest neighbours in the gallery classify rightly; NaN without labels."""
    classes = int(max(gallery[1].max(), queries[1].max())) + 1
    if classes == 0:
        return math.nan
    scores = knn_predict(queries[0], *gallery, k=NEIGHBOURS, temperature=TEMPERATURE, num_classes=classes)
    return (scores.argmax(1) == queries[1]).double().mean().item()


def reduce_pixels(images: Tensor) -> Tensor:
    """Images of at most 32 x 32 pixels."""
    if images.shape[-1] <= PIXELS:
        return images
    return F.interpolate(images, size=(PIXELS, PIXELS), mode="bilinear", antialias=True)


def raw_pixels(x: Tensor) -> Tensor:
    return x.flatten(1)


def minus_mean_colour(x: Tensor) -> Tensor:
    return (x - x.mean((2, 3), keepdim=True)).flatten(1)


def grey_minus_mean(x: Tensor) -> Tensor:
    return minus_mean_colour(x.mean(1, keepdim=True))


def gradient_magnitude(x: Tensor) -> Tensor:
    grey = x.mean(1)
    down, right = grey.diff(dim=1)[:, :, 1:], grey.diff(dim=2)[:, 1:]
    return (down.square() + right.square()).sqrt().flatten(1)


BASELINES: dict[str, Callable[[Tensor], Tensor]] = {
    "raw pixels": raw_pixels,
    "minus mean colour": minus_mean_colour,
    "grey minus mean": grey_minus_mean,
    "gradient magnitude": gradient_magnitude,
}


def linear_accuracy(train: Features, test: Features, *, decay: float = 1e-4, iterations: int = 200) -> float:
    """Multinomial logistic regression on standardised frozen features, by L-BFGS over all of them at once.

    NaN without labels.
    """
    mean, std = train[0].mean(0), train[0].std(0).clamp_min(1e-6)
    x, y = (train[0] - mean) / std, train[1]
    classes = int(max(y.max(), test[1].max())) + 1
    if classes == 0:
        return math.nan
    weight = torch.zeros(classes, x.shape[1] + 1, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS([weight], max_iter=iterations, line_search_fn="strong_wolfe")

    def loss() -> Tensor:
        optimizer.zero_grad()
        value = F.cross_entropy(F.linear(x, weight[:, 1:], weight[:, 0]), y) + decay / 2 * weight[:, 1:].square().sum()
        value.backward()
        return value

    with torch.enable_grad():
        optimizer.step(loss)
    predicted = F.linear((test[0] - mean) / std, weight[:, 1:], weight[:, 0]).argmax(1)
    return (predicted == test[1]).double().mean().item()
