"""How good frozen features are: weighted kNN beside trivial baselines, and a linear probe.

Features are those of the backbone, in evaluation mode, of images that nothing random was done to. The gallery are
training images, the queries the evaluation images. All ranks share the work of computing features.
"""

from __future__ import annotations

from collections.abc import Callable

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from _runtime.launch import Run
from _runtime.sources import Images
from _runtime.views import plain_view, to_float
from contrastive_ops import all_gather, knn_predict

NEIGHBOURS, TEMPERATURE = 20, 0.07
EVALUATION_BATCH = 256
BASELINE_IMAGES = 10_000  # of a large data set so many are enough for the baselines
PIXELS = 32  # to which images are reduced for the baselines

Features = tuple[Tensor, Tensor]  # (N, D) features and (N,) labels


def sample(images: Images, limit: int) -> Images:
    """At most `limit` images, always the same ones."""
    if len(images) <= limit:
        return images
    order = torch.randperm(len(images), generator=torch.Generator().manual_seed(0))
    return images.subset(order[:limit].sort().values)


@torch.no_grad()
def extract(function: Callable[[Tensor], Tensor], images: Images, *, run: Run, workers: int) -> Features:
    """`function` of all images, in their order, on every rank. Each rank computes its part."""
    batches = torch.arange(len(images)).split(EVALUATION_BATCH)
    parts = [(function(to_float(b.images)), b.labels, b.index) for b in images.read(batches, run=run, workers=workers)]
    features, labels, index = (all_gather(torch.cat(column)) for column in zip(*parts, strict=True))
    order = index.argsort()
    return features[order].float(), labels[order]


def encode(encoder: nn.Module, images: Images, *, size: int, run: Run, workers: int) -> Features:
    """Features of the encoder with rank 0's BN statistics, which are the ones that are kept and exported."""
    for buffer in encoder.buffers():
        if run.world_size > 1 and buffer.ndim > 0:
            buffer.copy_(all_gather(buffer)[: len(buffer)])
    training = encoder.training
    encoder.eval()
    function = lambda x: encoder(plain_view(x, size=size).contiguous(memory_format=torch.channels_last))  # noqa: E731
    features = extract(function, images, run=run, workers=workers)
    encoder.train(training)
    return features


def knn_accuracy(gallery: Features, queries: Features) -> float:
    """The part of the queries that their 20 nearest neighbours in the gallery classify rightly."""
    classes = int(max(gallery[1].max(), queries[1].max())) + 1
    neighbours = min(NEIGHBOURS, len(gallery[0]))
    scores = knn_predict(
        queries[0], *gallery, k=neighbours, temperature=TEMPERATURE, num_classes=classes, chunk_size=1024
    )
    return (scores.argmax(1) == queries[1]).double().mean().item()


def baselines(train: Images, test: Images, *, run: Run, workers: int) -> dict[str, float]:
    """kNN accuracy of features that need no learning: what a network must beat to have learned anything."""
    train, test = sample(train, BASELINE_IMAGES), sample(test, BASELINE_IMAGES)
    reduced, labels = extract(reduce_pixels, train, run=run, workers=workers)
    queries, query_labels = extract(reduce_pixels, test, run=run, workers=workers)
    return {
        name: knn_accuracy((function(reduced), labels), (function(queries), query_labels))
        for name, function in BASELINES.items()
    }


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
    """Multinomial logistic regression on standardised frozen features, by L-BFGS over all of them at once."""
    mean, std = train[0].mean(0), train[0].std(0).clamp_min(1e-6)
    x, y = (train[0] - mean) / std, train[1]
    classes = int(max(y.max(), test[1].max())) + 1
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
