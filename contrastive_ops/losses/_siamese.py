"""Losses without negatives: a prediction against a target that gets no gradient."""

from __future__ import annotations

from collections.abc import Callable

from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote, unit_rows
from contrastive_ops._group import Group, resolve
from contrastive_ops.losses._reduction import check_options, check_rows, reduce_rows


def stop_grad_cosine(p: Tensor, z: Tensor, *, reduction: str = "mean", group: Group = None) -> Tensor:
    r"""SimSiam's distance: the negative cosine of a prediction and a target that gets no gradient.

    $$D(p, z) = -\frac{\langle p, \mathrm{sg}(z)\rangle}{\lVert p\rVert\,\lVert z\rVert}$$

    Args:
        p: (B, D) predictions of one view.
        z: (B, D) projections of the other view; detached here.
        reduction: "mean" or "sum" over the rows of all ranks, the same on every rank; "none": this rank's (B,).
        group: ranks over which to take the mean; None: the default group, or this process alone; False: alone.

    Returns:
        float32 (float64 for float64 inputs) scalar, or (B,) for "none", in [-1, 1]; a zero row has 0 and no gradient.

    Raises:
        ValueError: a shape, device or choice does not fit; a NaN on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> p, z = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])
        >>> print(f"{stop_grad_cosine(p, z):.4f}")
        -0.6000

    References:
        "Exploring Simple Siamese Representation Learning" (Chen and He, 2021), equation 1 and algorithm 1. The mean of
        both directions is taken in the trainer.
    """
    return _reduced(p, z, _negative_cosine, reduction, group)


def byol_loss(p: Tensor, z: Tensor, *, reduction: str = "mean", group: Group = None) -> Tensor:
    r"""BYOL's loss, one direction: the squared distance of the unit prediction to the unit target.

    $$L = \Big\lVert \frac{p}{\lVert p\rVert} - \mathrm{sg}\frac{z}{\lVert z\rVert} \Big\rVert^2
        = 2 - 2 \cos(p, \mathrm{sg}(z))$$

    Args:
        p: (B, D) the online network's predictions of one view.
        z: (B, D) the target network's projections of the other view; detached here.
        reduction: "mean" or "sum" over the rows of all ranks, the same on every rank; "none": this rank's (B,).
        group: ranks over which to take the mean; None: the default group, or this process alone; False: alone.

    Returns:
        float32 (float64 for float64 inputs) scalar, or (B,) for "none", in [0, 4]; a zero row has 2 and no gradient.

    Raises:
        ValueError: a shape, device or choice does not fit; a NaN on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> p, z = torch.tensor([[1.0, 0.0]]), torch.tensor([[3.0, 4.0]])
        >>> print(f"{byol_loss(p, z):.4f}")
        0.8000

    References:
        "Bootstrap Your Own Latent" (Grill et al., 2020), equation 2. The paper's symmetric loss is the sum of both
        directions, taken in the trainer.
    """
    return _reduced(p, z, _squared_distance, reduction, group)


def stop_grad_cross_entropy(p: Tensor, z: Tensor, *, reduction: str = "mean", group: Group = None) -> Tensor:
    r"""SimSiam's cross-entropy variant: both sides are distributions over channels.

    $$D(p, z) = -\sum_d \mathrm{softmax}(\mathrm{sg}(z))_d \, \log \mathrm{softmax}(p)_d$$

    Args:
        p: (B, D) predictions of one view, not normalised.
        z: (B, D) projections of the other view, not normalised; detached here.
        reduction: "mean" or "sum" over the rows of all ranks, the same on every rank; "none": this rank's (B,).
        group: ranks over which to take the mean; None: the default group, or this process alone; False: alone.

    Returns:
        float32 (float64 for float64 inputs) scalar, or (B,) for "none"; ln D where both are constant.

    Raises:
        ValueError: a shape, device or choice does not fit; a NaN on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> print(f"{stop_grad_cross_entropy(torch.zeros(1, 4), torch.zeros(1, 4)):.4f}")
        1.3863

    References:
        Chen and He (2021), section 4.3, similarity function.
    """
    return _reduced(p, z, _cross_entropy, reduction, group)


def _reduced(p: Tensor, z: Tensor, loss: Callable[[Tensor, Tensor], Tensor], reduction: str, group: Group) -> Tensor:
    process_group = resolve(group)
    _checks.same_rows(p=p, z=z)
    check_options(reduction=reduction)
    check_rows("p", p, process_group)
    with full_precision(p.device):
        return reduce_rows(loss(*promote(p, z.detach())), reduction, process_group, name="p")


def _negative_cosine(p: Tensor, z: Tensor) -> Tensor:
    return -(unit_rows(p) * unit_rows(z)).sum(1)


def _squared_distance(p: Tensor, z: Tensor) -> Tensor:
    return 2 + 2 * _negative_cosine(p, z)


def _cross_entropy(p: Tensor, z: Tensor) -> Tensor:
    return -(z.softmax(1) * p.log_softmax(1)).sum(1)
