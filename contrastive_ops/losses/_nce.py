"""Noise-contrastive estimation: is this row data or noise?"""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote, unit_rows
from contrastive_ops._group import Group, resolve
from contrastive_ops.kernels import row_sum
from contrastive_ops.losses._reduction import check_options, check_rows, reduce_rows


def nce_loss(
    query: Tensor,
    positive: Tensor,
    noise: Tensor,
    *,
    temperature: float | Tensor = 0.07,
    log_partition: float | Tensor,
    num_data: int,
    normalize: bool = False,
    reduction: str = "mean",
    group: Group = None,
    block_size: int | None = None,
) -> Tensor:
    r"""InstDisc's binary loss: tell the positive from K rows drawn as noise, with a constant partition function Z.

    $$\ell_i = -\log h(q_i, k_i) - \sum_{j=1}^{K} \log\big(1 - h(q_i, n_{ij})\big), \qquad
      h = \frac{P}{P + K/n}, \quad P(q, k) = \frac{e^{\langle q, k\rangle/\tau}}{Z}$$

    n is the number of data, and noise is uniform over them. In logits, $h = \sigma(\langle q, k\rangle/\tau - \ln Z -
    \ln(K/n))$, so nothing is exponentiated and no constant is needed to keep a denominator above zero. The sum over
    the noise is a sum; only rows are averaged.

    Args:
        query: (B, D) features of this rank.
        positive: (B, D) the memory's entry of each query. Gradients flow into every input that requires one, and
            what `MemoryBank.lookup` returns does not.
        noise: (B, K, D) each query its own noise rows, or (K, D) shared by all queries.
        temperature: tau > 0, a number or a tensor of shape () that may require a gradient.
        log_partition: ln Z, a number or a tensor of shape (), constant to autograd: `NCEPartition.log_partition`.
        num_data: n, the number of instances that noise is drawn from.
        normalize: l2-normalise every row (a zero row stays zero and gets no gradient).
        reduction: "mean" or "sum" over the rows of all ranks, the same on every rank; "none": this rank's (B,).
        group: ranks over which to take the mean; None: the default group, or this process alone; False: alone.
        block_size: columns of logits that exist at a time, where all queries share their noise; None: as many
            as stay in the cache.

    Returns:
        float32 (float64 for float64 inputs) scalar, or (B,) for "none". ln(1 + K) + K ln(1 + 1/K) where every P is
        1/n, as it is on average when Z has just been estimated.

    Raises:
        ValueError: a shape, device, number or choice does not fit; a NaN on CPU; a partition that was never
            estimated; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> q, noise = torch.tensor([[1.0, 0.0]]), torch.tensor([[0.0, 1.0], [-1.0, 0.0]])
        >>> print(f"{nce_loss(q, q, noise, temperature=0.5, log_partition=0.0, num_data=2):.4f}")
        0.9470

    References:
        "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (Wu et al., 2018), equations 4 to
        7. The authors' code adds 1e-7 to both denominators, which logits make needless. The proximal term of
        equation 9 is `(query - positive).square().sum(1).mean()` in the trainer.
    """
    process_group = resolve(group)
    _check(query, positive, noise, log_partition)
    _checks.is_positive("temperature", temperature, why="similarities are divided by it")
    _checks.is_count("num_data", num_data)
    check_options(reduction=reduction, normalize=normalize, block_size=block_size)
    check_rows("query", query, process_group)
    with full_precision(query.device):
        query, positive, noise = promote(query, positive, noise)
        if normalize:
            query, positive, noise = unit_rows(query), unit_rows(positive), unit_rows(noise)
        scaled = query / temperature
        constant = torch.as_tensor(log_partition, device=query.device).detach().to(query.dtype)
        shift = (constant + log(noise.shape[-2] / num_data)).expand(len(query))
        losses = _softplus(shift - (scaled * positive).sum(1)) + _noise_terms(scaled, noise, shift, block_size)
        return reduce_rows(losses, reduction, process_group, name="query")


def _check(query: Tensor, positive: Tensor, noise: Tensor, log_partition: float | Tensor) -> None:
    rows, width = _checks.is_floating("query", query, shape=("B", "D")).shape
    _checks.is_floating("positive", positive, shape=(rows, width))
    paired = isinstance(noise, Tensor) and noise.ndim == 3
    _checks.is_floating("noise", noise, shape=(rows, "K", width) if paired else ("K", width))
    if noise.shape[-2] == 0:
        raise ValueError(f"noise: expected at least one row of noise, got {_checks.show(noise)}")
    _checks.same_device(query=query, positive=positive, noise=noise)
    if isinstance(log_partition, Tensor):
        _checks.is_tensor("log_partition", log_partition, shape=())
        if not _checks.readable(log_partition):
            return
        log_partition = float(log_partition.detach())
    _checks.is_real("log_partition", log_partition, why="call NCEPartition.update(scores) before the first loss")


def _noise_terms(scaled: Tensor, noise: Tensor, shift: Tensor, block_size: int | None) -> Tensor:
    """(B,) sum over the noise of -log(1 - h)."""
    if noise.ndim == 2:
        return row_sum(scaled, noise, shift, term=_softplus, slope=torch.sigmoid, block_size=block_size)
    # by products and a sum: a matrix product's backward pass would be cast where it is called under autocast
    logits = (scaled.unsqueeze(1) * noise).sum(2) - shift.unsqueeze(1)
    return _softplus(logits).sum(1)


def _softplus(x: Tensor) -> Tensor:
    """log(1 + e^x); torch's own replaces it by x above 20, which float64 sees."""
    return torch.logaddexp(torch.zeros_like(x), x)
