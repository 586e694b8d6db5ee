"""Batched augmentations: float images in [0, 1] on any device, parameters of their own for every image."""

from contrastive_ops.views._blur import gaussian_blur
from contrastive_ops.views._color import color_jitter, random_grayscale
from contrastive_ops.views._geometry import random_horizontal_flip, random_resized_crop, random_rotation
from contrastive_ops.views._recipes import moco_v1_view, moco_v2_view
from contrastive_ops.views._tone import normalize, random_invert, random_solarize

__all__ = [
    "color_jitter",
    "gaussian_blur",
    "moco_v1_view",
    "moco_v2_view",
    "normalize",
    "random_grayscale",
    "random_horizontal_flip",
    "random_invert",
    "random_resized_crop",
    "random_rotation",
    "random_solarize",
]
