"""How images are augmented: recipes of batched tensor operations, which run on the device.

Every recipe takes float images (B, 3, H, W) in [0, 1] and returns normalised views (B, 3, size, size). The recipes of
the papers come from the package. Those of the embedded digits are here: a digit must stay inside its crop (area from
0.5), colours are arbitrary (all hues, inversion), and a mirrored digit is another sign (no flip).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

import torch
import torch.nn.functional as F
from torch import Tensor

from contrastive_ops import (
    color_jitter,
    gaussian_blur,
    instdisc_cifar_view,
    invaspread_view,
    moco_v1_view,
    moco_v2_view,
    normalize,
    random_grayscale,
    random_horizontal_flip,
    random_invert,
    random_resized_crop,
    random_rotation,
    random_solarize,
    simclr_view,
)

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # ImageNet's, for all data: BN follows at once
CIFAR_MEAN, CIFAR_STD = (0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010)  # of the papers that train on CIFAR-10


Triple = tuple[float, float, float]


def digits_v2_view(
    images: Tensor,
    *,
    size: int,
    scale: tuple[float, float] = (0.5, 1.0),
    grey: float = 0.5,
    generator: torch.Generator | None = None,
) -> Tensor:
    """MoCo v2's recipe for the digits: crop, rotation, jitter sometimes, grey, blur, inversion."""
    return distort_digits(images, size=size, scale=scale, blur=0.3, solarize=0.0, grey=grey, generator=generator)


def distort_digits(
    images: Tensor,
    *,
    size: int,
    blur: float,
    solarize: float,
    scale: tuple[float, float] = (0.5, 1.0),
    grey: float = 0.5,
    generator: torch.Generator | None,
) -> Tensor:
    """One view of digits, with these probabilities of blur, solarisation and grey, and this share of the area."""
    x = random_resized_crop(images, size=size, scale=scale, generator=generator)
    x = random_rotation(x, degrees=15, generator=generator)
    x = color_jitter(x, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.5, p=0.8, generator=generator)
    x = random_grayscale(x, p=grey, generator=generator)
    x = gaussian_blur(x, sigma=(0.1, 1.0), p=blur, generator=generator)
    if solarize:  # nothing is drawn for what never comes
        x = random_solarize(x, threshold=0.5, p=solarize, generator=generator)
    x = random_invert(x, p=0.5, generator=generator)
    return normalize(x, mean=MEAN, std=STD)


def digits_v1_view(images: Tensor, *, size: int, generator: torch.Generator | None = None) -> Tensor:
    """MoCo v1's recipe for the digits: as v2's, but grey before a jitter that always comes, and no blur."""
    x = random_resized_crop(images, size=size, scale=(0.5, 1.0), generator=generator)
    x = random_rotation(x, degrees=15, generator=generator)
    x = random_grayscale(x, p=0.5, generator=generator)
    x = color_jitter(x, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.5, generator=generator)
    x = random_invert(x, p=0.5, generator=generator)
    return normalize(x, mean=MEAN, std=STD)


def digits_crop_view(images: Tensor, *, size: int, generator: torch.Generator | None = None) -> Tensor:
    """What digits get when labels teach: crop and rotation; colours stay, and so does the left side."""
    x = random_resized_crop(images, size=size, scale=(0.5, 1.0), generator=generator)
    return normalize(random_rotation(x, degrees=15, generator=generator), mean=MEAN, std=STD)


def crop_flip_view(images: Tensor, *, size: int, generator: torch.Generator | None = None) -> Tensor:
    """What photographs get when labels teach: a crop of area 0.08 to 1, mirrored half the time."""
    x = random_resized_crop(images, size=size, scale=(0.08, 1.0), generator=generator)
    return normalize(random_horizontal_flip(x, generator=generator), mean=MEAN, std=STD)


def unchanged_view(images: Tensor, *, size: int, generator: torch.Generator | None = None) -> Tensor:
    """No augmentation: a control. Nothing is drawn, so any number of processes see the same views."""
    return plain_view(images, size=size)


def square_crop_view(
    images: Tensor, *, size: int, area: tuple[float, float], generator: torch.Generator | None = None
) -> Tensor:
    """CLIP's only augmentation: a square with a part of the image's area, in a random place; colours stay."""
    x = random_resized_crop(images, size=size, scale=area, ratio=(1, 1), generator=generator)
    return normalize(x, mean=MEAN, std=STD)


def digits_grey_view(images: Tensor, *, size: int, generator: torch.Generator | None = None) -> Tensor:
    """CLIP's for the digits: crop, rotation, sometimes grey. Colours that captions name are lost, never changed."""
    x = random_resized_crop(images, size=size, scale=(0.6, 1.0), ratio=(1, 1), generator=generator)
    x = random_rotation(x, degrees=15, generator=generator)
    x = random_grayscale(x, p=0.5, generator=generator)
    return normalize(x, mean=MEAN, std=STD)


def normalised_alike(view: Callable[..., Tensor], *, mean: Triple, std: Triple) -> Callable[..., Tensor]:
    """A recipe whose own normalisation, by mean and std, gives way to that of the images that are evaluated."""
    factors = tuple(1 / value for value in std)
    undo = {"mean": tuple(-m * f for m, f in zip(mean, factors, strict=True)), "std": factors}

    def alike(images: Tensor, *, size: int, generator: torch.Generator | None = None) -> Tensor:
        return normalize(normalize(view(images, size=size, generator=generator), **undo), mean=MEAN, std=STD)

    return alike


VIEWS: dict[str, Callable[..., Tensor]] = {  # by the names that `--views` takes
    "digits-grey": digits_grey_view,
    "square-crop": partial(square_crop_view, area=(49 / 64, 49 / 64)),  # 224 of the 256 pixels that are stored
    "digits-v1": digits_v1_view,
    "digits-v2": digits_v2_view,
    "digits-crop": digits_crop_view,
    "none": unchanged_view,
    "crop-flip": crop_flip_view,
    "instdisc-cifar": normalised_alike(instdisc_cifar_view, mean=CIFAR_MEAN, std=CIFAR_STD),
    "invaspread": normalised_alike(invaspread_view, mean=CIFAR_MEAN, std=CIFAR_STD),
    "moco-v1": moco_v1_view,
    "moco-v2": moco_v2_view,
    "simclr": normalised_alike(simclr_view, mean=(0.0, 0.0, 0.0), std=(1.0, 1.0, 1.0)),
}


def to_float(images: Tensor) -> Tensor:
    """uint8 images as floats in [0, 1]."""
    return images.float().div_(255)


def plain_view(images: Tensor, *, size: int) -> Tensor:
    """What is evaluated: nothing random; the shorter side to size * 8/7 (256 for 224) and the centre of that."""
    height, width = images.shape[-2:]
    if (height, width) != (size, size):
        scale = size * 8 / 7 / min(height, width)
        shape = (max(size, round(height * scale)), max(size, round(width * scale)))
        if shape != (height, width):
            images = F.interpolate(images, size=shape, mode="bilinear", antialias=True).clamp(0, 1)
        top, left = (shape[0] - size) // 2, (shape[1] - size) // 2
        images = images[..., top : top + size, left : left + size]
    return normalize(images, mean=MEAN, std=STD)


def displayable(views: Tensor) -> Tensor:
    """Undoes the normalisation, for a picture of what the network saw.

    One channel becomes grey, two become red and blue, each from its smallest value to its largest.
    """
    if views.shape[1] < 3:
        low, high = (views.float().amin((0, 2, 3), True), views.float().amax((0, 2, 3), True))
        shown = (views.float() - low) / (high - low).clamp_min(1e-6)
        return torch.stack([shown[:, 0], shown.mean(1), shown[:, -1]], dim=1)
    mean, std = (torch.tensor(v, device=views.device).view(3, 1, 1) for v in (MEAN, STD))
    return (views.float() * std + mean).clamp(0, 1)
