"""Distillation of a teacher's class probabilities."""

from __future__ import annotations

from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.losses._reduction import check_options, check_rows, reduce_rows


def distillation_loss(
    student_logits: Tensor,
    teacher_logits: Tensor,
    *,
    temperature: float = 1.0,
    reduction: str = "mean",
    group: Group = None,
) -> Tensor:
    r"""Cross-entropy of the student's class probabilities under the teacher's, both softened by a temperature.

    $$\ell = -\sum_y \mathrm{softmax}(t/\tau)_y \, \log \mathrm{softmax}(s/\tau)_y$$

    No factor tau squared: multiply by it where the paper does (knowledge distillation, not SimCLR v2). Minus the
    teacher's entropy this is the Kullback-Leibler divergence, with the same gradient.

    Args:
        student_logits: (B, C) unnormalised.
        teacher_logits: (B, C) unnormalised, constant to autograd.
        temperature: tau > 0.
        reduction: "mean" or "sum" over the rows of all ranks, the same on every rank; "none": this rank's (B,).
        group: ranks over which to take the mean; None: the default group, or this process alone; False: alone.

    Returns:
        float32 (float64 for float64 inputs) scalar, or (B,) for "none"; ln C where the student's logits are constant.

    Raises:
        ValueError: a shape, device, temperature or choice does not fit; a NaN on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> student, teacher = torch.tensor([[1.0, 0.0]]), torch.tensor([[2.0, 0.0]])
        >>> print(f"{distillation_loss(student, teacher, temperature=2.0):.4f}")
        0.6085

    References:
        "Big Self-Supervised Models are Strong Semi-Supervised Learners" (Chen et al., 2020), equation 2 (the authors'
        notebook multiplies by tau squared). "Distilling the Knowledge in a Neural Network" (Hinton et al., 2015)
        multiplies by tau squared, so that the gradient's size does not depend on it.
    """
    process_group = resolve(group)
    _checks.same_rows(student_logits=student_logits, teacher_logits=teacher_logits)
    _checks.is_positive("temperature", temperature, why="logits are divided by it")
    check_options(reduction=reduction)
    check_rows("student_logits", student_logits, process_group)
    with full_precision(student_logits.device):
        student, teacher = promote(student_logits, teacher_logits.detach())
        losses = -((teacher / temperature).softmax(1) * (student / temperature).log_softmax(1)).sum(1)
        return reduce_rows(losses, reduction, process_group, name="student_logits")
