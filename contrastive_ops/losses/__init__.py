"""The losses: from embeddings to the global value, with the gradient that DDP's averaging makes exact."""

from contrastive_ops.losses._clip import clip_loss
from contrastive_ops.losses._cmc import cmc_loss
from contrastive_ops.losses._cpc import cpc_loss
from contrastive_ops.losses._dino import dino_loss
from contrastive_ops.losses._distillation import distillation_loss
from contrastive_ops.losses._info_nce import info_nce
from contrastive_ops.losses._nce import nce_loss
from contrastive_ops.losses._nt_xent import nt_xent
from contrastive_ops.losses._siamese import byol_loss, stop_grad_cosine, stop_grad_cross_entropy
from contrastive_ops.losses._spread import spread_loss
from contrastive_ops.losses._swav import swapped_prediction

__all__ = [
    "byol_loss",
    "clip_loss",
    "cmc_loss",
    "cpc_loss",
    "dino_loss",
    "distillation_loss",
    "info_nce",
    "nce_loss",
    "nt_xent",
    "spread_loss",
    "stop_grad_cosine",
    "stop_grad_cross_entropy",
    "swapped_prediction",
]
