"""The weighted nearest-neighbour classifier."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote, unit_rows

_BANK_CHUNK = 16384
_GROUP = 8  # columns of which the largest is looked at first


@torch.no_grad()
def knn_predict(
    features: Tensor,
    bank: Tensor,
    labels: Tensor,
    *,
    k: int = 200,
    temperature: float = 0.07,
    num_classes: int | None = None,
    chunk_size: int = 1024,
) -> Tensor:
    r"""Scores of each class: the k nearest rows of the bank vote with a weight that falls with their distance.

    $$s_{ic} = \sum_{j \in \mathrm{kNN}(i)} [y_j = c]\; e^{\cos(f_i, b_j) / \tau}$$

    Args:
        features: (B, D) queries.
        bank: (N, D) gallery. Leave the query itself out where both come from the same images.
        labels: (N,) integer classes of the bank.
        k: neighbours; all of the bank where it has fewer.
        temperature: tau > 0.
        num_classes: C; None is the largest label + 1.
        chunk_size: queries at a time. The bank is visited in parts too: memory is chunk_size x (k + 16384).

    Returns:
        (B, C) scores; `.argmax(1)` predicts. Where e^(1/tau) leaves float32 (tau < 0.0125) a row's scores are scaled
        by a common factor, so that they stay finite and their order stays.

    Raises:
        ValueError: a shape or value out of range.
        TypeError: an argument is of the wrong type.

    Example:
        >>> bank = torch.tensor([[1.0, 0.0], [0.0, 1.0], [0.0, 2.0]])
        >>> knn_predict(torch.tensor([[0.0, 1.0]]), bank, torch.tensor([0, 1, 1]), k=2, temperature=1.0)
        tensor([[0.0000, 5.4366]])

    References:
        InstDisc (Wu et al., 2018), section 3.4, k = 200, tau = 0.07. DINO (Caron et al., 2021) uses k = 20.
    """
    _, width = _checks.is_floating("features", features, shape=("B", "D")).shape
    rows, _ = _checks.is_floating("bank", bank, shape=("N", width)).shape
    if rows == 0:
        raise ValueError(f"bank: expected at least one row, got {_checks.show(bank)}")
    for name, value in (("k", k), ("chunk_size", chunk_size)):
        _checks.is_count(name, value)
    if num_classes is not None:
        _checks.is_count("num_classes", num_classes)
    _checks.is_index("labels", labels, shape=(rows,), below=num_classes)
    _checks.is_positive("temperature", temperature, why="similarities are divided by it")
    _checks.same_device(features=features, bank=bank, labels=labels)
    classes = int(labels.max()) + 1 if num_classes is None else num_classes
    k, labels = min(k, rows), labels.long()
    with full_precision(features.device):
        features = unit_rows(promote(features, bank[:0])[0])
        chunks = [_votes(chunk, bank, labels, k, temperature, classes) for chunk in torch.split(features, chunk_size)]
    return torch.cat(chunks)


def _votes(queries: Tensor, bank: Tensor, labels: Tensor, k: int, temperature: float, classes: int) -> Tensor:
    near, index = _nearest(queries, bank, k)
    logits = near / temperature
    # the formula as it stands up to what float32 holds, a common factor below
    largest = logits[:, :1]
    limit = log(torch.finfo(logits.dtype).max) - log(k) - 1
    weights = (logits - largest).exp() * largest.clamp(max=limit).exp()
    return queries.new_zeros(len(queries), classes).scatter_add_(1, labels[index], weights)


def _nearest(queries: Tensor, bank: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest cosines and their rows, best first, over the bank in parts: no copy of the bank is made."""
    best = queries.new_empty(len(queries), 0)
    rows = torch.empty(len(queries), 0, dtype=torch.int64, device=queries.device)
    memory = queries.new_empty(
        len(queries) * min(len(bank), _BANK_CHUNK)
    )  # once: new memory costs as much as a product
    for start in range(0, len(bank), _BANK_CHUNK):
        part = unit_rows(bank[start : start + _BANK_CHUNK].to(queries.dtype))
        cosines = memory[: len(queries) * len(part)].view(len(queries), len(part))
        values, columns = _largest(torch.mm(queries, part.T, out=cosines), k)
        best, rows = torch.cat([best, values], dim=1), torch.cat([rows, columns + start], dim=1)
        best, order = best.topk(min(k, best.shape[1]))
        rows = rows.gather(1, order)
    return best, rows


def _largest(x: Tensor, k: int) -> tuple[Tensor, Tensor]:
    """The k largest of each row (or all) and their columns.

    Searched among the k groups with the largest maxima, which hold them: a maximum is found much faster than an order.
    """
    groups = x.shape[1] // _GROUP
    if groups < 2 * k or x.shape[1] % _GROUP:
        return x.topk(min(k, x.shape[1]))
    held = x.view(len(x), _GROUP, groups).amax(1).topk(k, sorted=False).indices
    columns = (held.unsqueeze(1) + groups * torch.arange(_GROUP, device=x.device).unsqueeze(1)).flatten(1)
    values, order = x.gather(1, columns).topk(k)
    return values, columns.gather(1, order)
