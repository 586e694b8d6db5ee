"""The blockwise softmax engine below the losses: logits are made one block of columns at a time and never kept."""

from contrastive_ops.kernels._blockwise import log_sum_exp

__all__ = ["log_sum_exp"]
