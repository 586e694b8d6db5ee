"""What must be remembered between steps, as persistent buffers."""

from contrastive_ops.memory._bank import MemoryBank
from contrastive_ops.memory._center import DINOCenter
from contrastive_ops.memory._partition import NCEPartition
from contrastive_ops.memory._queue import NegativeQueue

__all__ = ["DINOCenter", "MemoryBank", "NCEPartition", "NegativeQueue"]
