"""Batched augmentations: float images in [0, 1] on any device, parameters of their own for every image."""

from contrastive_ops.views._asymmetric_recipes import byol_views, dino_views, moco_v3_views
from contrastive_ops.views._blur import gaussian_blur
from contrastive_ops.views._color import color_jitter, random_grayscale
from contrastive_ops.views._crop import random_resized_crop
from contrastive_ops.views._geometry import random_horizontal_flip, random_rotation
from contrastive_ops.views._lab import cmc_views, rgb_to_lab
from contrastive_ops.views._multi_crop import multi_crop, multi_crop_forward
from contrastive_ops.views._patches import cpc_patches, patch_grid
from contrastive_ops.views._recipes import instdisc_cifar_view, invaspread_view, moco_v1_view, moco_v2_view
from contrastive_ops.views._strong_recipes import simclr_view, swav_views
from contrastive_ops.views._tone import normalize, random_invert, random_solarize

__all__ = [
    "byol_views",
    "cmc_views",
    "color_jitter",
    "cpc_patches",
    "dino_views",
    "gaussian_blur",
    "instdisc_cifar_view",
    "invaspread_view",
    "moco_v1_view",
    "moco_v2_view",
    "moco_v3_views",
    "multi_crop",
    "multi_crop_forward",
    "normalize",
    "patch_grid",
    "random_grayscale",
    "random_horizontal_flip",
    "random_invert",
    "random_resized_crop",
    "random_rotation",
    "random_solarize",
    "rgb_to_lab",
    "simclr_view",
    "swav_views",
]
