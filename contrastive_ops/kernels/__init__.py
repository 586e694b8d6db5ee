"""The blockwise engine below the losses: logits are made one block of columns at a time and never kept."""

from contrastive_ops.kernels._log_sum_exp import log_sum_exp
from contrastive_ops.kernels._row_sum import nearest_column, row_sum

__all__ = ["log_sum_exp", "nearest_column", "row_sum"]
