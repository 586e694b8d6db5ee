"""The losses as papers write them, with all logits in memory: what is compared with, and what the dense rivals are.

Any dtype: in float64 they are the truth, in float32 they take part.
"""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

NEVER = float("-inf")


def unit(x: Tensor) -> Tensor:
    return F.normalize(x, dim=-1)


def nt_xent(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """Chen et al. (2020), equation 1: cross-entropy over the rows of both views, without the own one."""
    z = unit(torch.cat([z1, z2]))
    logits = (z @ z.T / temperature).fill_diagonal_(NEVER)
    own = torch.arange(len(z))
    return F.cross_entropy(logits, own.roll(len(z1)))


def nt_xent_masked(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """The same by exponentials that are summed under a mask of positives and one of negatives."""
    z = unit(torch.cat([z1, z2]))
    similar = (z @ z.T / temperature).exp()
    instance = torch.arange(len(z1)).repeat(2)
    same, diagonal = instance.unsqueeze(1) == instance, torch.eye(len(z), dtype=torch.bool)
    positive = (similar * (same & ~diagonal)).sum(1)
    negative = (similar * ~same).sum(1)
    return -(positive / (positive + negative)).log().mean()


def info_nce(query: Tensor, key: Tensor, temperature: float) -> Tensor:
    """van den Oord et al. (2018), equation 4, with the keys of the batch as candidates."""
    return F.cross_entropy(unit(query) @ unit(key).T / temperature, torch.arange(len(query)))


def queue_info_nce(query: Tensor, key: Tensor, queue: Tensor, temperature: float) -> Tensor:
    """He et al. (2020), equation 1: the positive in the first column, the queue (K, D) behind it."""
    query, key = unit(query), unit(key)
    positive = (query * key).sum(1, keepdim=True)
    logits = torch.cat([positive, query @ queue.T], dim=1) / temperature
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.long))


def queue_info_nce_cloned(query: Tensor, key: Tensor, columns: Tensor, temperature: float) -> Tensor:
    """The same with a queue (D, K) that is cloned first, since it changes before the backward pass."""
    return queue_info_nce(query, key, columns.clone().T, temperature)


def clip(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """Radford et al. (2021), figure 3."""
    logits, own = scale * unit(images) @ unit(texts).T, torch.arange(len(images))
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def clip_twice(images: Tensor, texts: Tensor, scale: float) -> Tensor:
    """The same with a product for each direction."""
    images, texts, own = unit(images), unit(texts), torch.arange(len(images))
    ahead = F.cross_entropy(scale * images @ texts.T, own)
    return (ahead + F.cross_entropy(scale * texts @ images.T, own)) / 2


def cmc(views: list[Tensor], temperature: float) -> Tensor:
    """Tian et al. (2020), equations 3 and 6, in the batch: both directions of every pair, summed."""
    pairs = [(a, b) for i, a in enumerate(views) for b in views[i + 1 :]]
    return torch.stack([2 * clip(a, b, 1 / temperature) for a, b in pairs]).sum()


def spread(z1: Tensor, z2: Tensor, temperature: float) -> Tensor:
    """Ye et al. (2019), equations 4 to 8: the own other view close, all other instances apart."""
    z = unit(torch.cat([z1, z2]))
    logits = (z @ z.detach().T / temperature).fill_diagonal_(NEVER)
    share, own = logits.softmax(1), torch.arange(len(z))
    positive = own.roll(len(z1))
    apart = torch.log1p(-share)
    others = apart.sum(1) - apart[own, positive]
    return (-share[own, positive].log() - others).mean()


def cpc(predictions: Tensor, latents: Tensor) -> Tensor:
    """van den Oord et al. (2018), equation 4: each prediction among all latents of all sequences."""
    batch, length, steps, _ = predictions.shape
    terms = [(t, t + s) for t in range(length) for s in range(1, steps + 1) if t + s < length]
    query = torch.cat([predictions[:, t, target - t - 1] for t, target in terms])
    wanted = torch.cat([torch.arange(batch) * length + target for _, target in terms])
    return F.cross_entropy(query @ latents.flatten(0, 1).T, wanted)


def sinkhorn(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """Caron et al. (2020), appendix A: the matrix (P, B) is rewritten by each step of each iteration."""
    plan = (scores / epsilon).exp().T
    plan /= plan.sum()
    for _ in range(iterations):
        plan /= plan.sum(1, keepdim=True)
        plan /= len(plan)
        plan /= plan.sum(0, keepdim=True)
        plan /= plan.shape[1]
    plan *= plan.shape[1]
    return plan.T


def sinkhorn_log(scores: Tensor, epsilon: float, iterations: int) -> Tensor:
    """The same in logarithms, which never overflows."""
    plan = scores / epsilon
    for _ in range(iterations):
        plan = plan - plan.logsumexp(0, keepdim=True)
        plan = plan - plan.logsumexp(1, keepdim=True)
    return plan.exp()


def knn(features: Tensor, bank: Tensor, labels: Tensor, k: int, temperature: float, classes: int) -> Tensor:
    """Wu et al. (2018), section 3.4, with all similarities at once."""
    near, index = (unit(features) @ unit(bank).T).topk(k)
    votes = features.new_zeros(len(features), classes)
    return votes.scatter_add_(1, labels[index], (near / temperature).exp())
