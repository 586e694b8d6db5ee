"""Small exact building blocks for contrastive and self-distilled representation learning.

Tensors in, tensors out; state only in small modules with persistent buffers; communication only where a `group` takes
part, and then the same loss and gradient on one rank or many. The laws that every name obeys are in the
documentation and in `tests/test_laws.py`.
"""

from contrastive_ops.collectives import all_gather, shuffle_bn, unshuffle_bn
from contrastive_ops.heads import projection_mlp
from contrastive_ops.losses import info_nce
from contrastive_ops.memory import NegativeQueue
from contrastive_ops.metrics import CollapseMonitor, feature_std, gradient_infinity_norm, knn_predict
from contrastive_ops.momentum import cosine_schedule, momentum_update
from contrastive_ops.norm import SplitBatchNorm2d
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

__version__ = "0.1.0"

__all__ = [
    # losses
    "info_nce",
    # memory
    "NegativeQueue",
    # momentum
    "momentum_update",
    "cosine_schedule",
    # collectives
    "all_gather",
    "shuffle_bn",
    "unshuffle_bn",
    # networks
    "SplitBatchNorm2d",
    "projection_mlp",
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
    "feature_std",
    "gradient_infinity_norm",
    "CollapseMonitor",
]
