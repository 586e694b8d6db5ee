"""The blockwise engine below the losses: logits are made one block at a time and never kept."""

from contrastive_ops.kernels._blocks import known_bound, wants_gradient
from contrastive_ops.kernels._contrast import contrast
from contrastive_ops.kernels._dense import reduced
from contrastive_ops.kernels._dispatch import passes
from contrastive_ops.kernels._log_sum_exp import log_sum_exp
from contrastive_ops.kernels._pairs_loss import contrast_pairs
from contrastive_ops.kernels._pull import margin_loss
from contrastive_ops.kernels._row_sum import row_sum
from contrastive_ops.kernels._self_loss import contrast_self
from contrastive_ops.kernels._spread import spread, spread_self

__all__ = [
    "contrast",
    "contrast_pairs",
    "contrast_self",
    "known_bound",
    "log_sum_exp",
    "margin_loss",
    "passes",
    "reduced",
    "row_sum",
    "spread",
    "spread_self",
    "wants_gradient",
]
