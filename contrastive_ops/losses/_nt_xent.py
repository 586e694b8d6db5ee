"""NT-Xent: each view against all other rows of both views."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import directions, full_precision, promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.kernels import contrast_self
from contrastive_ops.losses._across_ranks import share, views_across
from contrastive_ops.losses._reduction import check_options, check_rows, reduce_rows


def nt_xent(
    z1: Tensor,
    z2: Tensor,
    *,
    temperature: float | Tensor = 0.5,
    reduction: str = "mean",
    normalize: bool = True,
    group: Group = None,
    block_size: int | None = None,
) -> Tensor:
    r"""SimCLR's loss: find the other view of an image among all other rows of both views.

    $$\ell_a = -\log \frac{e^{\langle z_a, z_{p(a)}\rangle/\tau}}{\sum_{c \ne a} e^{\langle z_a, z_c\rangle/\tau}},
      \qquad L = \frac{1}{2N} \sum_{a=1}^{2N} \ell_a$$

    where p(a) is the other view of a, and c runs over the rows of both views and of all ranks: one positive and
    2N - 2 negatives. The matrix of logits is never stored.

    Args:
        z1: (B, D) embeddings of the first view.
        z2: (B, D) embeddings of the second view, in the same order.
        temperature: tau > 0, a number or a tensor of shape () that may require a gradient.
        reduction: "mean" or "sum" over the 2N rows of all ranks, the same on every rank; "none": this rank's (2B,),
            first the rows of `z1`, then those of `z2`.
        normalize: l2-normalise every row (a zero row stays zero and gets no gradient).
        group: ranks over which to take negatives and the mean; None: the default group, or this process alone;
            False: alone.
        block_size: columns of logits that exist at a time; None: as many as stay in the cache.

    Returns:
        float32 (float64 for float64 inputs) scalar, or (2B,) for "none". ln(2N - 1) where all rows are equal.

    Raises:
        ValueError: a shape, device, temperature or choice does not fit; a NaN on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> z = torch.tensor([[1.0, 0.0], [0.0, 1.0]])
        >>> print(f"{nt_xent(z, z, temperature=0.5):.4f}")
        0.2395

    References:
        "A Simple Framework for Contrastive Learning of Visual Representations" (Chen et al., 2020), equation 1 and
        algorithm 1. The authors' code adds the means of the two views, which is twice the paper's value; that factor
        belongs to the trainer.
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
            loss = contrast_self(z1, z2, scale, normalize=normalize, reduction=reduction, block_size=block_size)
            return _checks.finite_inputs(loss, z1=z1, z2=z2)
        pairs = torch.stack([z1, z2], dim=1)  # (B, 2, D): what one gather brings stays in pairs
        shared = share(directions(pairs) if normalize else pairs, process_group, name="z1")
        losses = views_across(shared, scale, unit=normalize, block_size=block_size)
        return reduce_rows(losses, reduction, process_group, name="z1")
