"""Small exact building blocks for contrastive and self-distilled representation learning.

Tensors in, tensors out; state only in small modules with persistent buffers; communication only where a `group` takes
part, and then the same loss and gradient on one rank or many. The laws that every name obeys are in the
documentation and in `tests/laws/`.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from contrastive_ops.assignments import Prototypes, sinkhorn
from contrastive_ops.collectives import all_gather
from contrastive_ops.dino_head import DINOHead
from contrastive_ops.heads import prediction_mlp, projection_mlp
from contrastive_ops.losses import (
    byol_loss,
    clip_loss,
    cmc_loss,
    cpc_loss,
    dino_loss,
    distillation_loss,
    info_nce,
    nce_loss,
    nt_xent,
    spread_loss,
    stop_grad_cosine,
    stop_grad_cross_entropy,
    swapped_prediction,
)
from contrastive_ops.memory import DINOCenter, MemoryBank, NCEPartition, NegativeQueue
from contrastive_ops.metrics import (
    CollapseMonitor,
    GradientSpikeMonitor,
    alignment,
    effective_rank,
    feature_std,
    gradient_infinity_norm,
    knn_predict,
    uniformity,
)
from contrastive_ops.momentum import cosine_schedule, momentum_update
from contrastive_ops.norm import SplitBatchNorm2d
from contrastive_ops.shuffle import shuffle_bn, unshuffle_bn
from contrastive_ops.views import (
    byol_views,
    cmc_views,
    color_jitter,
    cpc_patches,
    dino_views,
    gaussian_blur,
    instdisc_cifar_view,
    invaspread_view,
    moco_v1_view,
    moco_v2_view,
    moco_v3_views,
    multi_crop,
    multi_crop_forward,
    normalize,
    patch_grid,
    random_grayscale,
    random_horizontal_flip,
    random_invert,
    random_resized_crop,
    random_rotation,
    random_solarize,
    rgb_to_lab,
    simclr_view,
    swav_views,
)

if TYPE_CHECKING:
    from contrastive_ops.patch_embed import FrozenPatchEmbed

__version__ = "0.1.0"

__all__ = [
    # losses
    "info_nce",
    "nt_xent",
    "clip_loss",
    "nce_loss",
    "spread_loss",
    "cpc_loss",
    "cmc_loss",
    "stop_grad_cosine",
    "stop_grad_cross_entropy",
    "byol_loss",
    "swapped_prediction",
    "dino_loss",
    "distillation_loss",
    # assignments
    "sinkhorn",
    "Prototypes",
    # memory
    "NegativeQueue",
    "MemoryBank",
    "NCEPartition",
    "DINOCenter",
    # momentum
    "momentum_update",
    "cosine_schedule",
    # collectives
    "all_gather",
    "shuffle_bn",
    "unshuffle_bn",
    # networks
    "SplitBatchNorm2d",
    "FrozenPatchEmbed",
    "projection_mlp",
    "prediction_mlp",
    "DINOHead",
    # views
    "moco_v1_view",
    "moco_v2_view",
    "moco_v3_views",
    "instdisc_cifar_view",
    "invaspread_view",
    "simclr_view",
    "swav_views",
    "byol_views",
    "dino_views",
    "cmc_views",
    "cpc_patches",
    "multi_crop",
    "multi_crop_forward",
    "random_resized_crop",
    "random_rotation",
    "random_horizontal_flip",
    "color_jitter",
    "random_grayscale",
    "random_solarize",
    "random_invert",
    "gaussian_blur",
    "normalize",
    "rgb_to_lab",
    "patch_grid",
    # metrics
    "knn_predict",
    "alignment",
    "uniformity",
    "effective_rank",
    "feature_std",
    "gradient_infinity_norm",
    "CollapseMonitor",
    "GradientSpikeMonitor",
]

_LATER = {"FrozenPatchEmbed": "contrastive_ops.patch_embed"}  # names whose module imports timm, slow as torch itself


def __getattr__(name: str) -> Any:
    """Import a name's module when the name is first asked for (PEP 562)."""
    if name not in _LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = globals()[name] = getattr(import_module(_LATER[name]), name)
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATER})
