"""The losses: from embeddings to the global value, with the gradient that DDP's averaging makes exact."""

from contrastive_ops.losses._info_nce import info_nce

__all__ = ["info_nce"]
