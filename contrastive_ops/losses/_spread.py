"""InvaSpread: an instance's views close, all other instances apart."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import directions, full_precision, promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.kernels import spread, spread_self
from contrastive_ops.losses._candidates import gather_candidates
from contrastive_ops.losses._reduction import check_options, check_rows, reduce_rows

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


def spread_loss(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float | Tensor = 0.1,
    reduction: str = "mean",
    normalize: bool = True,
    group: Group = None,
    block_size: int | None = None,
) -> Tensor:
    r"""Be recognised as the other view of oneself, and not as any other instance.

    $$\ell_a = -\log p_{a, p(a)} - \sum_{b \notin \{a, p(a)\}} \log (1 - p_{ab}), \qquad
      p_{ab} = \frac{e^{\langle z_a, \bar z_b\rangle/\tau}}{\sum_{c \ne a} e^{\langle z_a, \bar z_c\rangle/\tau}}$$

    over the 2N rows of both views and all ranks, with p(a) the other view of a. The bar stops the gradient: each row
    moves as an anchor only. Where 1 - p would round to zero, which a nearest negative can make happen, its logarithm
    is taken from the sum without that column.

    Args:
        z1: (B, D) embeddings of the first view.
        z2: (B, D) embeddings of the second view, in the same order.
        temperature: tau > 0, a number or a tensor of shape () that may require a gradient.
        reduction: "mean" or "sum" over the 2N rows of all ranks, the same on every rank; "none": this rank's (2B,),
            first the rows of `z1`, then those of `z2`.
        normalize: l2-normalise every row (a zero row stays zero and gets no gradient).
        group: ranks over which to take the instances and the mean; None: the default group, or this process alone;
            False: alone.
        block_size: columns of logits that exist at a time; None: as many as stay in the cache.

    Returns:
        float32 (float64 for float64 inputs) scalar, or (2B,) for "none". The second term is a sum: where all rows are
        equal the value is ln(2N - 1) + (2N - 2) ln((2N - 1) / (2N - 2)).

    Raises:
        ValueError: a shape, device, temperature or choice does not fit; a NaN on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> print(f"{spread_loss(z, z, temperature=0.5):.4f}")
        0.4648

    References:
        "Unsupervised Embedding Learning via Invariant and Spreading Instance Feature" (Ye et al., 2019), equations 4
        to 8, in the form of the authors' code: both views are anchors, each sum leaves out the anchor itself, and the
        gradient flows through the anchor only. (In the paper's sums over m originals the instance itself takes part.)
    """
    process_group = resolve(group)
    later = process_group is None and normalize  # no row of infinite length has a direction, so the loss is NaN
    _checks.same_rows(z1=z1, z2=z2, values=not later)
    _checks.is_positive("temperature", temperature, why="similarities are divided by it")
    check_options(reduction=reduction, normalize=normalize, block_size=block_size)
    check_rows("z1", z1, process_group)
    with full_precision(z1.device):
        z1, z2 = promote(z1, z2)
        scale = 1 / temperature
        if process_group is None:
            loss = spread_self(z1, z2, scale, normalize=normalize, reduction=reduction, block_size=block_size)
            return _checks.finite_inputs(loss, z1=z1, z2=z2)
        losses = _against_all(torch.stack([z1, z2], dim=1), scale, normalize, process_group, block_size)
        return reduce_rows(losses, reduction, process_group, name="z1")


def _against_all(
    pairs: Tensor, scale: float | Tensor, normalize: bool, group: ProcessGroup, block_size: int | None
) -> Tensor:
    """(2B,) losses of pairs (B, 2, D) among those of all ranks."""
    pairs = directions(pairs) if normalize else pairs
    everyone, own = gather_candidates(pairs.detach(), group, name="z1")
    first, second = 2 * own, 2 * own + 1
    places = torch.cat([torch.cat([first, second], 1), torch.cat([second, first], 1)])
    rows, keys = pairs.transpose(0, 1).flatten(0, 1), everyone.flatten(0, 1)
    return spread(rows, keys, scale, places=places, block_size=block_size)
