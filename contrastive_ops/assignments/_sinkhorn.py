"""The Sinkhorn-Knopp algorithm over the batch of all ranks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.collectives import agree, max_over_ranks, sum_over_ranks

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup


@torch.no_grad()
def sinkhorn(
    scores: Tensor, *, epsilon: float = 0.05, iterations: int = 3, hard: bool = False, group: Group = None
) -> Tensor:
    r"""Soft assignments of rows to prototypes that use all prototypes evenly.

    $$Q = \mathrm{diag}(u)\, e^{S / \epsilon}\, \mathrm{diag}(v), \qquad
      v_k \leftarrow 1 \Big/ \sum_b u_b\, e^{S_{bk}/\epsilon}, \quad
      u_b \leftarrow 1 \Big/ \sum_k e^{S_{bk}/\epsilon}\, v_k$$

    Prototypes first, rows last, so that every row sums to 1 and the prototypes' masses come near N / P. The sums over
    rows are those of all ranks, in each iteration. Everything is in logarithms: no score is too large and no epsilon
    too small.

    Args:
        scores: (B, P) scores of this rank's rows; B may differ between ranks and be 0.
        epsilon: > 0, the entropy's weight: towards 0 assignments become hard.
        iterations: at least 1.
        hard: return one-hot rows, at the largest assignment.
        group: ranks whose rows take part; None: the default group, or this process alone; False: alone.

    Returns:
        (B, P) float32 (float64 for float64 scores), rows that sum to 1, without a gradient.

    Raises:
        ValueError: a shape or number does not fit; a NaN on CPU; an empty batch when alone or on every rank; on every
            rank where the ranks' scores do not fit together.
        TypeError: an argument is of the wrong type.

    Example:
        >>> scores = torch.tensor([[0.3, 0.0], [0.2, 0.0]])
        >>> sinkhorn(scores, epsilon=0.05)
        tensor([[0.7272, 0.2728],
                [0.2651, 0.7349]])

    References:
        "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (Caron et al., 2020), section
        3.1 and appendix A; "Sinkhorn Distances" (Cuturi, 2013), algorithm 1. The authors' code also divides by P, by
        N and by the first sum, none of which changes the result; it exponentiates scores / epsilon, which overflows
        fp16 at cosines and float32 at unnormalised scores.
    """
    process_group = resolve(group)
    _checks.is_floating("scores", scores, shape=("B", "P"))
    _checks.is_positive("epsilon", epsilon, why="scores are divided by it")
    _checks.is_count("iterations", iterations)
    _checks.is_flag("hard", hard)
    if scores.shape[1] == 0:
        raise ValueError(f"scores: expected at least one prototype, got {_checks.show(scores)}")
    count = len(scores)
    if process_group is not None:
        scores, sizes = agree(scores.detach(), process_group, name="scores")
        count = sum(sizes)
    if count == 0:
        raise ValueError(f"scores: expected at least one row, got {_checks.show(scores)}; skip an empty batch")
    with full_precision(scores.device):
        logits = promote(scores)[0] / epsilon
        columns = _log_sum_over_rows(logits, process_group)
        for _ in range(iterations - 1):
            rows = (logits - columns).logsumexp(1, keepdim=True)
            columns = _log_sum_over_rows(logits - rows, process_group)
        # the last step over rows: a softmax, whose sums are 1 to the last digit however large the logits are
        assignments = (logits - columns).softmax(1)
    if hard:
        return torch.zeros_like(assignments).scatter_(1, assignments.argmax(1, keepdim=True), 1.0)
    return assignments


def _log_sum_over_rows(x: Tensor, group: ProcessGroup | None) -> Tensor:
    """(P,) log sum exp over the rows of all ranks."""
    if group is None:
        return x.logsumexp(0)
    # one maximum for all ranks: one of its own for each would rescale the columns between iterations
    own = x.amax(0) if len(x) else x.new_full(x.shape[1:], float("-inf"))
    largest = max_over_ranks(own, group)
    return largest + sum_over_ranks((x - largest).exp().sum(0), group).log()
