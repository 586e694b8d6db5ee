"""What the papers say, in float64 loops over Python numbers. Shares no code with the package."""

from __future__ import annotations

import itertools
import math
from collections import deque

Vector = list[float]
Matrix = list[Vector]


def dot(a: Vector, b: Vector) -> float:
    return math.fsum(x * y for x, y in zip(a, b, strict=True))


def unit(a: Vector) -> Vector:
    norm = math.sqrt(dot(a, a))
    return [x / norm for x in a] if norm else a


def info_nce(
    query: Matrix,
    positive: Matrix,
    negatives: Matrix | list[Matrix] | None,
    *,
    temperature: float,
    mask: list[list[bool]] | None = None,
    normalize: bool = True,
) -> Vector:
    """van den Oord et al. (2018), equation 4, row by row: -log of the positive's share."""
    prepare = unit if normalize else list
    query, positive = [prepare(q) for q in query], [prepare(k) for k in positive]
    losses = []
    for i, q in enumerate(query):
        if negatives is None:
            candidates = [k for j, k in enumerate(positive) if j != i and not (mask and mask[i][j])]
        else:
            paired = bool(negatives) and isinstance(negatives[0][0], list)
            own = negatives[i] if paired else negatives
            candidates = [prepare(n) for j, n in enumerate(own) if not (mask and mask[i][j])]
        wanted = dot(q, positive[i]) / temperature
        others = [dot(q, n) / temperature for n in candidates]
        top = max([wanted, *others])
        losses.append(top + math.log(math.fsum(math.exp(s - top) for s in [wanted, *others])) - wanted)
    return losses


def queue(size: int, dim: int, batches: list[Matrix]) -> Matrix:
    """He et al. (2020): first in, first out; oldest first."""
    held: deque[Vector] = deque([[0.0] * dim for _ in range(size)], maxlen=size)
    for batch in batches:
        held.extend(batch)
    return list(held)


def momentum(target: Vector, online: Vector, m: float, steps: int) -> Vector:
    """He et al. (2020), equation 2, `steps` times."""
    for _ in range(steps):
        target = [m * t + (1 - m) * o for t, o in zip(target, online, strict=True)]
    return target


def cosine(step: float, total: float, start: float, end: float, warmup: float, first: float) -> float:
    """Loshchilov and Hutter (2017), equation 5, after a linear rise."""
    if step < warmup:
        return first + (start - first) * step / warmup
    if step >= total:
        return end
    return end + (start - end) * 0.5 * (1 + math.cos(math.pi * (step - warmup) / (total - warmup)))


def knn(features: Matrix, bank: Matrix, labels: list[int], *, k: int, temperature: float, classes: int) -> Matrix:
    """Wu et al. (2018), section 3.4: sum of exp(s / tau) over the k nearest of each class."""
    scores = []
    for f in features:
        ranked = sorted(((dot(unit(f), unit(b)), y) for b, y in zip(bank, labels, strict=True)), reverse=True)
        row = [0.0] * classes
        for similarity, label in ranked[:k]:
            row[label] += math.exp(similarity / temperature)
        scores.append(row)
    return scores


def feature_std(z: Matrix) -> float:
    """Chen and He (2021), section 4.1: unbiased deviation of each channel of unit rows, averaged."""
    rows = [unit(row) for row in z]
    total = 0.0
    for channel in zip(*rows, strict=True):
        mean = math.fsum(channel) / len(rows)
        total += math.sqrt(math.fsum((v - mean) ** 2 for v in channel) / (len(rows) - 1))
    return total / len(rows[0])


def batch_norm(values: Vector, eps: float) -> Vector:
    """Ioffe and Szegedy (2015): biased variance in training."""
    mean = math.fsum(values) / len(values)
    variance = math.fsum((v - mean) ** 2 for v in values) / len(values)
    return [(v - mean) / math.sqrt(variance + eps) for v in values]


def chunks(count: int, parts: int) -> list[range]:
    """Contiguous parts as even as can be, the longer ones first."""
    base, longer = divmod(count, parts)
    ends = [0]
    for i in range(parts):
        ends.append(ends[-1] + base + (i < longer))
    return [range(a, b) for a, b in itertools.pairwise(ends)]


def gaussian(signal: Vector, sigma: float, radius: int) -> Vector:
    """Sum of neighbours weighted by a sampled Gaussian, the edge repeated."""
    weights = [math.exp(-0.5 * (d / sigma) ** 2) for d in range(-radius, radius + 1)]
    last, total = len(signal) - 1, math.fsum(weights)
    return [
        math.fsum(
            w * signal[min(max(i + d, 0), last)] for d, w in zip(range(-radius, radius + 1), weights, strict=True)
        )
        / total
        for i in range(len(signal))
    ]


def lab(rgb: Vector) -> Vector:
    """CIE Lab at D65 of one sRGB colour: the transfer curve of IEC 61966-2-1, XYZ, then CIE's cube roots."""
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in rgb]
    to_xyz = [
        [0.4124564, 0.3575761, 0.1804375],
        [0.2126729, 0.7151522, 0.0721750],
        [0.0193339, 0.1191920, 0.9503041],
    ]
    relative = [dot(row, linear) / dot(row, [1.0, 1.0, 1.0]) for row in to_xyz]
    x, y, z = (t ** (1 / 3) if t > (6 / 29) ** 3 else t / (3 * (6 / 29) ** 2) + 4 / 29 for t in relative)
    return [116 * y - 16, 500 * (x - y), 200 * (y - z)]


def patches(image: Matrix, size: int, stride: int) -> list[Matrix]:
    """All squares that lie wholly inside one channel, row by row."""
    return [
        [row[left : left + size] for row in image[top : top + size]]
        for top in range(0, len(image) - size + 1, stride)
        for left in range(0, len(image[0]) - size + 1, stride)
    ]
