"""Which prototype a row belongs to, evenly over the batch."""

from contrastive_ops.assignments._prototypes import Prototypes
from contrastive_ops.assignments._sinkhorn import sinkhorn

__all__ = ["Prototypes", "sinkhorn"]
