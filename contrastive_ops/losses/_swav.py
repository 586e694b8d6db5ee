"""SwAV's swapped prediction: each view predicts the assignment of another."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.losses._reduction import check_rows, reduce_rows
from contrastive_ops.losses._views import check_pairs, mean_over_pairs


def swapped_prediction(
    scores: Sequence[Tensor],
    assignments: Sequence[Tensor],
    *,
    temperature: float | Tensor = 0.1,
    group: Group = None,
) -> Tensor:
    r"""Predict the prototype assignment of one view from the scores of every other view.

    $$L = \frac{1}{G (V - 1)} \sum_{i \le G} \sum_{v \ne i} \frac1N \sum_b
      -\sum_k q^i_{bk} \log \mathrm{softmax}(s^v_b / \tau)_k$$

    Args:
        scores: V >= 2 tensors (B, P): the scores of all views against the prototypes, the assigned views first.
        assignments: G <= V tensors (B, P) of rows that sum to 1, those of the first G views, as `sinkhorn` returns
            them; constant to autograd.
        temperature: tau > 0, a number or a tensor of shape () that may require a gradient.
        group: ranks over which to take the mean; None: the default group, or this process alone; False: alone.

    Returns:
        float32 (float64 for float64 inputs) scalar, the mean over all rows of the group. ln P where scores are
        constant.

    Raises:
        ValueError: numbers of views, shapes, devices or the temperature do not fit; a NaN or a row that does not sum
            to 1 on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> scores = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.0]])]
        >>> assignments = [torch.tensor([[1.0, 0.0]]), torch.tensor([[1.0, 0.0]])]
        >>> print(f"{swapped_prediction(scores, assignments, temperature=0.5):.4f}")
        0.2201

    References:
        "Unsupervised Learning of Visual Features by Contrasting Cluster Assignments" (Caron et al., 2020), equation 2
        and section 3.2. Small crops are predicted from and never assigned: give assignments of the first G views only.
    """
    process_group = resolve(group)
    check_pairs(scores=scores, assignments=assignments)
    _checks.is_positive("temperature", temperature, why="scores are divided by it")
    check_rows("scores", scores[0], process_group)
    with full_precision(scores[0].device):
        wide = promote(*scores, *(q.detach() for q in assignments))
        logs = [(s / temperature).log_softmax(1) for s in wide[: len(scores)]]
        return reduce_rows(mean_over_pairs(logs, wide[len(scores) :]), "mean", process_group, name="scores")
