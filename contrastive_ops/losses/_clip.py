"""CLIP: images against texts, and texts against images."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import directions, full_precision, promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.kernels import contrast_pairs
from contrastive_ops.losses._across_ranks import pairs_across, share
from contrastive_ops.losses._reduction import check_options, check_rows, reduce_rows


def clip_loss(
    image_features: Tensor,
    text_features: Tensor,
    logit_scale: float | Tensor,
    *,
    normalize: bool = True,
    reduction: str = "mean",
    group: Group = None,
    block_size: int | None = None,
) -> Tensor:
    r"""Mean of the cross-entropies of finding each image's text and each text's image.

    $$L = \frac{1}{2N} \sum_i \Big[
      -\log \frac{e^{s \langle u_i, v_i\rangle}}{\sum_j e^{s \langle u_i, v_j\rangle}}
      -\log \frac{e^{s \langle u_i, v_i\rangle}}{\sum_j e^{s \langle u_j, v_i\rangle}} \Big]$$

    The sums run over the rows of all ranks; their N x N matrix is never stored.

    Args:
        image_features: (B, D) features u of this rank's images.
        text_features: (B, D) features v of their texts, in the same order.
        logit_scale: s > 0, it multiplies: 1 / temperature. A number, or a tensor of shape () that may require a
            gradient: pass `log_scale.exp()`.
        normalize: l2-normalise every row (a zero row stays zero and gets no gradient).
        reduction: "mean" or "sum" over the rows of all ranks, the same on every rank; "none": this rank's (B,), each
            the mean of its two directions.
        group: ranks over which to take candidates and the mean; None: the default group, or this process alone;
            False: alone.
        block_size: columns of logits that exist at a time; None: as many as stay in the cache.

    Returns:
        float32 (float64 for float64 inputs) scalar, or (B,) for "none". ln N where all rows are equal.

    Raises:
        ValueError: a shape, device, scale or choice does not fit; a NaN on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> u, v = torch.eye(2), torch.tensor([[1.0, 0.0], [1.0, 1.0]])
        >>> print(f"{clip_loss(u, v, 2.0):.4f}")
        0.3701

    References:
        "Learning Transferable Visual Models From Natural Language Supervision" (Radford et al., 2021), figure 3. The
        learned log scale starts at ln(1 / 0.07) and is clamped to [0, ln 100] after each optimiser step, which is the
        trainer's. The gradient is that of one process with all rows; of the four ways to gather that open
        implementations offer two are not.
    """
    process_group = resolve(group)
    later = process_group is None and normalize  # no row of infinite length has a direction, so the loss is NaN
    _checks.same_rows(image_features=image_features, text_features=text_features, values=not later)
    _checks.is_positive("logit_scale", logit_scale, why="it multiplies similarities: pass log_scale.exp()")
    check_options(reduction=reduction, normalize=normalize, block_size=block_size)
    check_rows("image_features", image_features, process_group)
    with full_precision(image_features.device):
        images, texts = promote(image_features, text_features)
        if process_group is None:
            options: dict[str, Any] = {"normalize": normalize, "reduction": reduction, "block_size": block_size}
            loss = contrast_pairs(images, texts, logit_scale, both=True, **options) / 2
            return _checks.finite_inputs(loss, image_features=images, text_features=texts)
        rows = torch.stack([images, texts], 1)  # (B, 2, D): one gather
        shared = share(directions(rows) if normalize else rows, process_group, name="text_features")
        both = pairs_across(shared, logit_scale, [(0, 1)], unit=normalize, block_size=block_size)
        return reduce_rows(both / 2, reduction, process_group, name="image_features")
