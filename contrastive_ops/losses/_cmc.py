"""Contrastive multiview coding: every pair of views, in both directions."""

from __future__ import annotations

from collections.abc import Sequence
from functools import reduce
from itertools import combinations
from typing import Any

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import directions, full_precision, promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.kernels import contrast_pairs
from contrastive_ops.losses._across_ranks import pairs_across, share
from contrastive_ops.losses._reduction import check_options, check_rows, reduce_rows


def cmc_loss(
    views: Sequence[Tensor],
    *,
    temperature: float | Tensor = 0.07,
    graph: str = "full",
    normalize: bool = True,
    reduction: str = "mean",
    group: Group = None,
    block_size: int | None = None,
) -> Tensor:
    r"""Sum over pairs of views of the two directions' contrastive losses.

    $$L = \sum_{(a, b)} \mathrm{InfoNCE}(v_a, v_b) + \mathrm{InfoNCE}(v_b, v_a), \qquad
      \text{full: } a < b, \quad \text{core: } a = 1 < b$$

    A view is contrasted with the other view's rows only, never with its own. With memory banks instead of the batch,
    compose `nce_loss` and one `MemoryBank` per view.

    Args:
        views: V >= 2 tensors (B, D): the embeddings of V views of the same images, in the same order.
        temperature: tau > 0, a number or a tensor of shape () that may require a gradient.
        graph: "full": all V (V - 1) / 2 pairs; "core": the pairs of views[0].
        normalize: l2-normalise every row (a zero row stays zero and gets no gradient).
        reduction: "mean" or "sum" over the rows of all ranks, the same on every rank; "none": this rank's (B,).
        group: ranks over which to take negatives and the mean; None: the default group, or this process alone;
            False: alone.
        block_size: columns of logits that exist at a time; None: as many as stay in the cache.

    Returns:
        float32 (float64 for float64 inputs) scalar, or (B,) for "none". A sum over pairs and directions, not a mean:
        2 ln N for two views that tell nothing apart.

    Raises:
        ValueError: a shape, device, temperature or choice does not fit; a NaN on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> z = torch.eye(3)
        >>> full, core = (cmc_loss([z, z, z], temperature=1.0, graph=graph) for graph in ("full", "core"))
        >>> print(f"{full:.4f} {core:.4f}")
        3.3087 2.2058

    References:
        "Contrastive Multiview Coding" (Tian, Krishnan and Isola, 2020), equations 3, 6 and 7. The authors' code takes
        negatives from memory banks, by noise-contrastive estimation or a softmax; this is the softmax within the
        batch.
    """
    process_group = resolve(group)
    _check(views)
    _checks.is_positive("temperature", temperature, why="similarities are divided by it")
    _checks.is_choice("graph", graph, ("full", "core"))
    check_options(reduction=reduction, normalize=normalize, block_size=block_size)
    check_rows("views", views[0], process_group)
    with full_precision(views[0].device):
        rows, scale = promote(*views), 1 / temperature
        pairs = list(combinations(range(len(views)), 2))
        pairs = pairs if graph == "full" else pairs[: len(views) - 1]
        if process_group is None:
            options: dict[str, Any] = {"normalize": normalize, "reduction": reduction, "block_size": block_size}
            return reduce(torch.add, [contrast_pairs(rows[a], rows[b], scale, both=True, **options) for a, b in pairs])
        every = torch.stack(rows, dim=1)  # (B, V, D): one gather for all views
        shared = share(directions(every) if normalize else every, process_group, name="views")
        losses = pairs_across(shared, scale, pairs, unit=normalize, block_size=block_size)
        return reduce_rows(losses, reduction, process_group, name="views")


def _check(views: Sequence[Tensor]) -> None:
    if not isinstance(views, (list, tuple)):
        raise TypeError(f"views: expected a list of tensors (B, D), got {_checks.show(views)}")
    if len(views) < 2:
        raise ValueError(f"views: expected at least 2 views to contrast, got {len(views)}")
    _checks.same_rows(**{f"views[{i}]": views[i] for i in range(len(views))})
