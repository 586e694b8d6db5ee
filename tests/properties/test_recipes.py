"""Each recipe is the paper's: its steps in their order with their odds, and what must be seen in the views."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor

import contrastive_ops as co
from tests.properties.recipes import (
    EVERY,
    RECIPES,
    SOLARIZE,
    STEPS,
    WEAK,
    Step,
    constant_images,
    images_of,
    pixels_of,
    share,
    views_of,
)


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 5e-6), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize("side", [12, 80])
@pytest.mark.parametrize("name", RECIPES)
def test_steps_order_and_odds_are_the_papers(name: str, side: int, dtype: torch.dtype, rounding: float) -> None:
    """Each recipe is its line of the table of steps, step by step from the same seed.

    A mirrored view is made from a mirrored image, and a crop and a blur take their sums in the other order then.
    """
    images, generator = images_of(24, side, side - 2).to(dtype), torch.Generator().manual_seed(5)

    def run(x: Tensor, steps: list[Step]) -> Tensor:
        for step, options in steps:
            x = getattr(co, step)(x, **options, generator=generator)
        return x

    if name in ("swav_views", "dino_views"):  # where all crops are cut first
        crops = [run(images, steps[:1]) for steps in STEPS[name]]
        expected = [run(crop, steps[1:]) for crop, steps in zip(crops, STEPS[name], strict=True)]
    else:
        expected = [run(images, steps) for steps in STEPS[name]]
    mean, std = RECIPES[name][1]
    for observed, x in zip(views_of(name, images, 5), expected, strict=True):
        torch.testing.assert_close(observed, co.normalize(x, mean=mean, std=std), rtol=0, atol=rounding)


def test_defaults_are_the_papers_sizes() -> None:
    images = images_of(1, 60, 70)
    assert co.moco_v3_views(images)[1].shape == co.byol_views(images)[0].shape == (1, 3, 224, 224)
    assert co.simclr_view(images).shape == (1, 3, 224, 224)
    assert co.instdisc_cifar_view(images).shape == co.invaspread_view(images).shape == (1, 3, 32, 32)
    assert [view.shape[-1] for view in co.swav_views(images)] == [224] * 2 + [96] * 6
    assert [view.shape[-1] for view in co.dino_views(images)] == [224] * 2 + [96] * 8
    assert [tuple(view.shape) for view in co.cmc_views(images)] == [(1, 1, 224, 224), (1, 2, 224, 224)]


# what must be seen ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", RECIPES)
def test_black_stays_black_and_shows_the_normalisation(name: str) -> None:
    mean, std = (torch.tensor(values, dtype=torch.float64) for values in RECIPES[name][1])
    for view in views_of(name, constant_images((0, 0, 0), 16)):
        torch.testing.assert_close(view, (-mean / std).view(3, 1, 1).expand_as(view))


@pytest.mark.parametrize("name", RECIPES)
def test_one_image_in_five_is_grey(name: str) -> None:
    for view in pixels_of(name, constant_images((0.6, 0.4, 0.2), 2000)):
        spread = (view.amax(1) - view.amin(1)).flatten(1).amax(1)
        assert abs(share(spread < 1e-6) - 0.2) < 0.03


@pytest.mark.parametrize("name", RECIPES)
def test_colours_are_left_alone_as_often_as_the_paper_says(name: str) -> None:
    """One in five is not jittered (none where the jitter always comes), if it is neither grey nor solarised."""
    color = torch.tensor((0.6, 0.4, 0.2), dtype=torch.float64).view(3, 1, 1)
    for steps, view in zip(STEPS[name], pixels_of(name, constant_images((0.6, 0.4, 0.2), 2000)), strict=True):
        untouched = (view - color).abs().flatten(1).amax(1) < 1e-6
        expected = 0.0 if WEAK in steps else 0.2 * 0.8 * (0.8 if SOLARIZE in steps else 1.0)
        assert abs(share(untouched) - expected) < 0.025


@pytest.mark.parametrize("name", ["byol_views", "moco_v3_views", "dino_views"])
def test_only_the_second_view_is_solarised(name: str) -> None:
    """White stays above 0.6 under the jitter; solarised it falls below 0.4."""
    shares = [share((x < 0.5).flatten(1).all(1)) for x in pixels_of(name, constant_images((1, 1, 1), 2000))]
    assert abs(shares.pop(1) - 0.2) < 0.03
    assert set(shares) == {0.0}


@pytest.mark.parametrize("name", EVERY)
def test_half_are_mirrored_but_none_in_instdiscs_cifar_recipe(name: str) -> None:
    """Of images that brighten to the right, views that darken to the right are mirrored, or solarised."""
    ramp = torch.linspace(0.1, 0.4, 16, dtype=torch.float64).expand(1000, 3, 16, 16)
    for view in views_of(name, ramp):
        lines = (view[:, 0, 0, 0] if name == "cpc_patches" else view[:, 0]).mean(1)  # (B, columns)
        if name == "cmc_views" and view.shape[1] == 2:
            continue  # grey has no a and b to look at
        rises = lines[:, -2] > lines[:, 1]
        if name == "instdisc_cifar_view":
            assert rises.all()
        else:
            assert abs(share(rises) - 0.5) < 0.06


def test_greyscale_after_the_jitter_sees_other_lightnesses() -> None:
    """MoCo v1 makes red grey (0.299) and then changes its brightness by 0.4; InstDisc's CIFAR recipe turns the hue
    first, and the colours that leave the cube and are clamped have another lightness."""
    red = constant_images((1, 0, 0), 2000)
    low, high = 0.299 * 0.6 - 1e-6, 0.299 * 1.4 + 1e-6
    for name, inside in (("moco_v1_view", True), ("instdisc_cifar_view", False), ("invaspread_view", False)):
        (view,) = pixels_of(name, red)
        color = view[:, :, 4, 4]
        grey = color[(color.amax(1) - color.amin(1)) < 1e-6][:, 0]
        assert len(grey) > 300
        assert bool(((grey > low) & (grey < high)).all()) is inside


def test_the_first_view_of_a_pair_is_always_blurred() -> None:
    """Stripes one pixel wide, cropped at their own resolution: what the blur takes is contrast between neighbours."""
    stripes = (torch.arange(64) % 2).double().expand(300, 3, 64, 64) * 0.4 + 0.3
    blurred = []
    for view in co.moco_v3_views(stripes, size=64, scale=(0.9, 1.0), generator=torch.Generator().manual_seed(0)):
        lines = view[:, 0, 32]
        contrast = (lines[:, 1:] - lines[:, :-1]).abs().mean(1) / lines.mean(1).abs().clamp(min=0.1)
        blurred.append(contrast)
    first, second = (c.median().item() for c in blurred)
    assert first < 0.2 * second


def test_simclr_keeps_pixels_in_the_unit_interval() -> None:
    views = torch.cat([co.simclr_view(images_of(64), size=16) for _ in range(4)])
    assert views.min() >= 0
    assert views.max() <= 1
    assert views.max() > 0.9


def test_simclrs_quantities_scale_its_jitter_and_blur() -> None:
    """Strength 0 jitters nothing; blur 0 blurs nothing: grey and crop remain."""
    color = torch.tensor((0.6, 0.4, 0.2)).view(3, 1, 1)
    grey = (color * torch.tensor((0.299, 0.587, 0.114)).view(3, 1, 1)).sum().expand(3, 1, 1)
    views = co.simclr_view(color.expand(64, 3, 12, 12), size=8, strength=0.0)
    for view in views:
        assert min((view - color).abs().max(), (view - grey).abs().max()) < 1e-5
    spans = [
        (co.simclr_view(color.expand(500, 3, 4, 4), size=4, strength=s)[:, :, 0, 0] - color.flatten()).abs().mean()
        for s in (0.25, 0.5, 1.0)
    ]
    assert spans[0] < spans[1] < spans[2]
