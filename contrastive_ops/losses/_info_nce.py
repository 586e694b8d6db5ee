"""InfoNCE: one positive against its negatives."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import directions, full_precision, promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.kernels import contrast, contrast_pairs, margin_loss
from contrastive_ops.losses._candidates import gather_candidates
from contrastive_ops.losses._reduction import check_options, check_rows, reduce_rows

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def info_nce(
    query: Tensor,
    positive_key: Tensor,
    negative_keys: Tensor | None = None,
    *,
    temperature: float | Tensor = 0.1,
    reduction: str = "mean",
    negative_mode: str = "unpaired",
    mask: Tensor | None = None,
    normalize: bool = True,
    symmetric: bool = False,
    group: Group = None,
    block_size: int | None = None,
) -> Tensor:
    r"""Cross-entropy of telling a query's positive key from its negatives.

    $$\ell_i = -\log \frac{e^{\langle q_i, k_i\rangle/\tau}}
      {e^{\langle q_i, k_i\rangle/\tau} + \sum_{j \in \text{negatives}(i)} e^{\langle q_i, n_j\rangle/\tau}}
      = \log\Big(1 + \sum_j e^{(\langle q_i, n_j\rangle - \langle q_i, k_i\rangle)/\tau}\Big)$$

    The matrix of logits is never stored: memory is O((N + M) D + N block). Formulas run in float32 (float64 for
    float64 inputs), also under autocast.

    Args:
        query: (B, D) queries of this rank. Gradients flow into every input that requires one: detach the keys, or
            make them under `torch.no_grad()`, where the method stops gradients there.
        positive_key: (B, D) the positive of each query.
        negative_keys: None: the rows of `positive_key` of all other queries, over all ranks. (K, D) with
            negative_mode="unpaired": shared by all queries, the same on every rank (a queue). (B, K, D) with "paired":
            each query its own.
        temperature: tau > 0, a number or a tensor of shape () that may require a gradient.
        reduction: "mean" or "sum" over the rows of all ranks, the same on every rank; "none": this rank's (B,).
        negative_mode: "unpaired" or "paired"; only asked where `negative_keys` is given.
        mask: bool, True drops that negative: (B, K), or (B, rows over all ranks) in-batch, where the own column is
            ignored. A query whose negatives are all dropped has loss 0 and no gradient.
        normalize: l2-normalise every input row (a zero row stays zero and gets no gradient).
        symmetric: mean of both directions: the same call once more with `query` and `positive_key` swapped (the same
            negatives and mask where these are given).
        group: ranks over which to take in-batch negatives and the mean; None: the default group, or this process
            alone; False: alone.
        block_size: columns of logits that exist at a time; None: as many as stay in the cache.

    Returns:
        float32 (float64 for float64 inputs) scalar, or (B,) for "none". Its gradient is the exact one of the global
        value once DDP has averaged over ranks.

    Raises:
        ValueError: a shape, device, temperature or choice does not fit; a NaN on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> query = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> print(f"{info_nce(query, query, temperature=0.5):.4f}")
        0.1269
        >>> queue = torch.tensor([[-1.0, 0.0], [0.0, -1.0]])
        >>> info_nce(query, query, queue, temperature=0.5, reduction="none")
        tensor([0.1429, 0.1429])

    References:
        "Representation Learning with Contrastive Predictive Coding" (van den Oord et al., 2018), equation 4. With a
        queue: "Momentum Contrast" (He et al., 2020), equation 1. MoCo v3 (Chen et al., 2021) multiplies by 2 tau in
        its trainer, not here. The argument names are those proposed for `torch.nn.functional.info_nce_loss`.
    """
    process_group = resolve(group)
    # no row of infinite length has a direction: a loss of one process in its batch is NaN then
    later = process_group is None and negative_keys is None and mask is None and normalize
    _check(query, positive_key, negative_keys, temperature, negative_mode, mask, values=not later)
    check_options(reduction=reduction, normalize=normalize, block_size=block_size)
    _checks.is_flag("symmetric", symmetric)
    check_rows("query", query, process_group)
    with full_precision(query.device):
        scale = 1 / temperature
        given = (query, positive_key) if negative_keys is None else (query, positive_key, negative_keys)
        rows = promote(*given)
        if process_group is None and negative_keys is None and mask is None:
            options: dict[str, Any] = {"normalize": normalize, "reduction": reduction, "block_size": block_size}
            loss = contrast_pairs(rows[0], rows[1], scale, both=symmetric, **options)
            return _checks.finite_inputs(loss / 2 if symmetric else loss, query=rows[0], positive_key=rows[1])
        query, positive_key = map(directions, rows[:2]) if normalize else rows[:2]
        shared = (None if negative_keys is None else rows[2], scale, mask, process_group, normalize, block_size)
        losses = _direction(query, positive_key, *shared)
        if symmetric:
            losses = losses + _direction(positive_key, query, *shared)
        return reduce_rows(losses / 2 if symmetric else losses, reduction, process_group, name="query")


def _check(
    query: Tensor,
    positive_key: Tensor,
    negative_keys: Tensor | None,
    temperature: float | Tensor,
    negative_mode: str,
    mask: Tensor | None,
    *,
    values: bool,
) -> None:
    _checks.is_choice("negative_mode", negative_mode, ("unpaired", "paired"))
    rows, width = _checks.is_floating("query", query, shape=("B", "D"), values=values).shape
    _checks.is_floating("positive_key", positive_key, shape=(rows, width), values=values)
    if negative_keys is not None:
        shape: tuple[str | int, ...] = ("K", width) if negative_mode == "unpaired" else (rows, "K", width)
        _checks.is_floating("negative_keys", negative_keys, shape=shape)
    if mask is not None:
        columns = "rows over all ranks" if negative_keys is None else negative_keys.shape[-2]
        _checks.is_mask("mask", mask, shape=(rows, columns))
    _checks.same_device(query=query, positive_key=positive_key, negative_keys=negative_keys, mask=mask)
    _checks.is_positive("temperature", temperature, why="similarities are divided by it")


def _direction(
    query: Tensor,
    positive_key: Tensor,
    negative_keys: Tensor | None,
    scale: float | Tensor,
    mask: Tensor | None,
    group: ProcessGroup | None,
    unit: bool,
    block_size: int | None,
) -> Tensor:
    """(B,) losses of the queries; `unit`: of unit length, as negatives are to be made."""
    options: dict[str, Any] = {"mask": mask, "unit": unit, "block_size": block_size}
    if negative_keys is None:
        columns = None if mask is None else _columns(mask, positive_key, group)
        candidates, own = gather_candidates(positive_key, group, name="positive_key", columns=columns)
        return contrast(query, candidates, scale, own=own, **options)
    if negative_keys.ndim == 2:
        return contrast(query, negative_keys, scale, positive=positive_key, long_keys=unit, **options)
    scaled, keys = query * scale, directions(negative_keys) if unit else negative_keys
    return margin_loss(_paired(scaled, keys, mask) - (scaled * positive_key).sum(1))


def _columns(mask: Tensor, keys: Tensor, group: ProcessGroup | None) -> int:
    """How many columns the mask has; alone they are the own rows, and with others all ranks check it together."""
    if group is None:
        _checks.is_mask("mask", mask, shape=(len(keys), len(keys)))
    return mask.shape[1]


def _paired(scaled: Tensor, keys: Tensor, mask: Tensor | None) -> Tensor:
    """log sum exp over each query's own keys; (B, K) logits are D times smaller than the keys themselves.

    By products and a sum, as fast as a matrix product here (each key is used once) and never in half precision: the
    backward pass of a matrix product is cast where somebody calls it under autocast.
    """
    logits = (scaled.unsqueeze(1) * keys).sum(2)
    if mask is None and keys.shape[1]:
        return logits.logsumexp(1)
    dropped = torch.zeros_like(logits, dtype=torch.bool) if mask is None else mask
    none_left = dropped.all(1)
    # logsumexp of nothing is -inf with a NaN gradient: such a row takes the value without taking part in the sum
    total = logits.masked_fill(dropped & ~none_left.unsqueeze(1), float("-inf"))
    total = total.logsumexp(1) if keys.shape[1] else logits.sum(1)
    return total.masked_fill(none_left, float("-inf"))
