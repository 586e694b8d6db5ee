"""The passes over the matrix of logits, by torch's own operations: they run on every device and in float64."""

from contrastive_ops.kernels._attend import attend, keys_gradient
from contrastive_ops.kernels._pairs import attend_pairs, pairs_gradient, rows_gradient
from contrastive_ops.kernels._self import attend_self, self_gradient

__all__ = [
    "attend",
    "attend_pairs",
    "attend_self",
    "keys_gradient",
    "pairs_gradient",
    "rows_gradient",
    "self_gradient",
]
