"""DINO: the student's views against the teacher's distributions."""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.losses._reduction import check_rows, reduce_rows
from contrastive_ops.losses._views import check_pairs, mean_over_pairs


def dino_loss(
    *,
    student: Sequence[Tensor],
    teacher: Sequence[Tensor],
    student_temperature: float | Tensor = 0.1,
    group: Group = None,
) -> Tensor:
    r"""Cross-entropy of the student's views under the teacher's, over all pairs of different views.

    $$L = \frac{1}{G (V - 1)} \sum_{t \le G} \sum_{v \ne t} \frac1N \sum_b
      -\sum_k P^t_{bk} \log \mathrm{softmax}(g^v_b / \tau_s)_k$$

    Args:
        student: V >= 2 tensors (B, K): the student's logits of all views, the teacher's views first.
        teacher: G <= V tensors (B, K) of rows that sum to 1, the teacher's probabilities of the first G views, as
            `DINOCenter` returns them; constant to autograd.
        student_temperature: tau_s > 0, a number or a tensor of shape () that may require a gradient.
        group: ranks over which to take the mean; None: the default group, or this process alone; False: alone.

    Returns:
        float32 (float64 for float64 inputs) scalar, the mean over all rows of the group. ln K where the student's
        logits are constant.

    Raises:
        ValueError: numbers of views, shapes, devices or the temperature do not fit; a NaN or a row that does not sum
            to 1 on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> student = [torch.tensor([[0.1, 0.0]]), torch.tensor([[0.0, 0.0]]), torch.tensor([[0.2, 0.0]])]
        >>> teacher = [torch.tensor([[1.0, 0.0]]), torch.tensor([[0.5, 0.5]])]
        >>> print(f"{dino_loss(student=student, teacher=teacher):.4f}")
        0.6901

    References:
        "Emerging Properties in Self-Supervised Vision Transformers" (Caron et al., 2021), equation 3 and algorithm 1.
        Centre and teacher temperature belong to `DINOCenter`; the same view is skipped by its index, so the order of
        views is that of the crops in both lists.
    """
    process_group = resolve(group)
    check_pairs(student=student, teacher=teacher)
    _checks.is_positive("student_temperature", student_temperature, why="logits are divided by it")
    check_rows("student", student[0], process_group)
    with full_precision(student[0].device):
        wide = promote(*student, *(p.detach() for p in teacher))
        logs = [(s / student_temperature).log_softmax(1) for s in wide[: len(student)]]
        return reduce_rows(mean_over_pairs(logs, wide[len(student) :]), "mean", process_group, name="student")
