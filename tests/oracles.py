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


def squared_distance(a: Vector, b: Vector) -> float:
    return math.fsum((x - y) ** 2 for x, y in zip(a, b, strict=True))


def alignment(x: Matrix, y: Matrix, *, alpha: float) -> float:
    """Wang and Isola (2020), section 4.1.1: mean distance of positives on the sphere, to the power alpha."""
    powers = [math.sqrt(squared_distance(unit(a), unit(b))) ** alpha for a, b in zip(x, y, strict=True)]
    return math.fsum(powers) / len(powers)


def uniformity(x: Matrix, *, t: float) -> float:
    """Wang and Isola (2020), section 4.1.2: log of the mean Gaussian potential over pairs i < j."""
    pairs = list(itertools.combinations([unit(row) for row in x], 2))
    return math.log(math.fsum(math.exp(-t * squared_distance(a, b)) for a, b in pairs) / len(pairs))


def singular_values(z: Matrix) -> Vector:
    """Jacobi (1846), one-sided: columns are turned in pairs until all are orthogonal; their lengths are left."""
    columns = [list(column) for column in zip(*z, strict=True)]
    for _ in range(60):
        for i, j in itertools.combinations(range(len(columns)), 2):
            a, b = columns[i], columns[j]
            angle = 0.5 * math.atan2(2 * dot(a, b), dot(a, a) - dot(b, b))
            c, s = math.cos(angle), math.sin(angle)
            columns[i] = [c * x + s * y for x, y in zip(a, b, strict=True)]
            columns[j] = [c * y - s * x for x, y in zip(a, b, strict=True)]
    return [math.sqrt(dot(column, column)) for column in columns]


def effective_rank(z: Matrix, *, center: bool = False) -> float:
    """Roy and Vetterli (2007), section 2: exp of the entropy of the normalised singular values."""
    means = [math.fsum(column) / len(z) if center else 0.0 for column in zip(*z, strict=True)]
    values = singular_values([[v - m for v, m in zip(row, means, strict=True)] for row in z])
    shares = [value / math.fsum(values) for value in values]
    return math.exp(-math.fsum(p * math.log(p) for p in shares if p > 1e-14))


def gelu(x: float) -> float:
    """Hendrycks and Gimpel (2016): x times the Gaussian's share below x."""
    return 0.5 * x * (1 + math.erf(x / math.sqrt(2)))


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


def log_share(scores: Vector, wanted: int) -> float:
    """-log of one candidate's share in a softmax."""
    top = max(scores)
    return top + math.log(math.fsum(math.exp(s - top) for s in scores)) - scores[wanted]


def nt_xent(z1: Matrix, z2: Matrix, *, temperature: float, normalize: bool = True) -> Vector:
    """Chen et al. (2020), algorithm 1, in the order of the concatenated views."""
    rows = [unit(z) if normalize else z for z in [*z1, *z2]]
    losses = []
    for a, anchor in enumerate(rows):
        partner = (a + len(z1)) % len(rows)
        others = [b for b in range(len(rows)) if b != a]
        losses.append(log_share([dot(anchor, rows[b]) / temperature for b in others], others.index(partner)))
    return losses


def clip(images: Matrix, texts: Matrix, scale: float) -> Vector:
    """Radford et al. (2021), figure 3: the mean of both cross-entropies, pair by pair."""
    u, v = [unit(x) for x in images], [unit(x) for x in texts]
    losses = []
    for i in range(len(u)):
        to_texts = log_share([scale * dot(u[i], other) for other in v], i)
        to_images = log_share([scale * dot(other, v[i]) for other in u], i)
        losses.append((to_texts + to_images) / 2)
    return losses


def nce(
    query: Matrix, positive: Matrix, noise: list[Matrix], *, temperature: float, partition: float, data: int
) -> Vector:
    """Wu et al. (2018), equations 4 to 7, in probabilities."""
    losses = []
    for q, k, others in zip(query, positive, noise, strict=True):
        share = len(others) / data  # K times the probability of one under uniform noise

        def p(x: Vector, q: Vector = q) -> float:
            return math.exp(dot(q, x) / temperature) / partition

        wrong = math.fsum(math.log(1 - p(n) / (p(n) + share)) for n in others)
        losses.append(-math.log(p(k) / (p(k) + share)) - wrong)
    return losses


def spread(anchors: tuple[Matrix, Matrix], keys: tuple[Matrix, Matrix], *, temperature: float) -> Vector:
    """Ye et al. (2019), equations 4 to 8, each row an anchor against the keys' rows."""
    left = [unit(z) for z in [*anchors[0], *anchors[1]]]
    right = [unit(z) for z in [*keys[0], *keys[1]]]
    count, losses = len(left), []
    for a in range(count):
        e = {b: math.exp(dot(left[a], right[b]) / temperature) for b in range(count) if b != a}
        total, partner = math.fsum(e.values()), (a + count // 2) % count
        apart = math.fsum(math.log(1 - e[b] / total) for b in e if b != partner)
        losses.append(-math.log(e[partner] / total) - apart)
    return losses


def cpc(predictions: list[list[Matrix]], latents: list[Matrix], *, temperature: float, negatives: str) -> list[Vector]:
    """van den Oord et al. (2018), equation 4, over candidates for a fixed context."""
    losses = []
    for b, sequence in enumerate(latents):
        terms = []
        for t in range(len(sequence)):
            for s in range(1, len(predictions[b][t]) + 1):
                if t + s >= len(sequence):
                    continue
                candidates = [
                    (c, u)
                    for c in range(len(latents))
                    for u in range(len(sequence))
                    if (c, u) == (b, t + s)
                    or (negatives == "batch" and u == t + s)
                    or (negatives == "time" and c == b)
                    or negatives == "batch_and_time"
                ]
                scores = [dot(predictions[b][t][s - 1], latents[c][u]) / temperature for c, u in candidates]
                terms.append(log_share(scores, candidates.index((b, t + s))))
        losses.append(terms)
    return losses


def cmc(views: list[Matrix], *, temperature: float, core: bool) -> Vector:
    """Tian et al. (2020), equations 3, 6 and 7: a sum over pairs, each in both directions."""
    total = [0.0] * len(views[0])
    for a, b in itertools.combinations(range(len(views)), 2):
        if core and a > 0:
            continue
        for source, target in ((views[a], views[b]), (views[b], views[a])):
            row = info_nce(source, target, None, temperature=temperature)
            total = [x + y for x, y in zip(total, row, strict=True)]
    return total


def cosine_similarity(p: Matrix, z: Matrix) -> Vector:
    return [dot(unit(a), unit(b)) for a, b in zip(p, z, strict=True)]


def softmax(scores: Vector, temperature: float = 1.0) -> Vector:
    top = max(scores)
    weights = [math.exp((s - top) / temperature) for s in scores]
    return [w / math.fsum(weights) for w in weights]


def cross_entropy(target: Vector, logits: Vector, temperature: float = 1.0) -> float:
    scaled = [x / temperature for x in logits]
    return math.fsum(p * log_share(scaled, k) for k, p in enumerate(target))


def pairs_of_views(predicting: list[Matrix], targets: list[Matrix], temperature: float) -> float:
    """Caron et al. (2020, 2021): mean over pairs of different views and over rows of their cross-entropies."""
    values = []
    for i, target in enumerate(targets):
        for v, logits in enumerate(predicting):
            if i != v:
                values += [cross_entropy(q, s, temperature) for q, s in zip(target, logits, strict=True)]
    return math.fsum(values) / len(values)


def sinkhorn(scores: Matrix, *, epsilon: float, iterations: int) -> Matrix:
    """Cuturi (2013), algorithm 1, on plain numbers: prototypes first, rows last."""
    q = [[math.exp(s / epsilon) for s in row] for row in scores]
    for _ in range(iterations):
        masses = [math.fsum(column) for column in zip(*q, strict=True)]
        q = [[x / m for x, m in zip(row, masses, strict=True)] for row in q]
        q = [[x / math.fsum(row) for x in row] for row in q]
    return q


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
