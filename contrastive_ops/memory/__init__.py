"""What must be remembered between steps, as persistent buffers."""

from contrastive_ops.memory._queue import NegativeQueue

__all__ = ["NegativeQueue"]
