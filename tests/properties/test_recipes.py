"""The papers' recipes: their steps in their order with their odds, and what must be seen in the views."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import contrastive_ops as co
from tests.fake_gpu import fake_gpu

Step = tuple[str, dict[str, Any]]

IMAGENET = ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
SWAV = ((0.485, 0.456, 0.406), (0.228, 0.224, 0.225))
CIFAR = ((0.4914, 0.4822, 0.4465), (0.2023, 0.1994, 0.2010))
PIXELS = ((0.0, 0.0, 0.0), (1.0, 1.0, 1.0))

# how each recipe is called here, and how its pixels are normalised
RECIPES: dict[str, tuple[dict[str, Any], tuple[tuple[float, ...], tuple[float, ...]]]] = {
    "moco_v1_view": ({"size": 8}, IMAGENET),
    "moco_v2_view": ({"size": 8}, IMAGENET),
    "instdisc_cifar_view": ({"size": 8}, CIFAR),
    "invaspread_view": ({"size": 8}, CIFAR),
    "simclr_view": ({"size": 8}, PIXELS),
    "swav_views": ({"sizes": (8, 5), "counts": (2, 2)}, SWAV),
    "byol_views": ({"size": 8}, IMAGENET),
    "moco_v3_views": ({"size": 8}, IMAGENET),
    "dino_views": ({"sizes": (8, 5), "counts": (2, 2)}, IMAGENET),
}
OTHERS: dict[str, dict[str, Any]] = {
    "cmc_views": {"size": 8},
    "cpc_patches": {"size": 9, "patch": 4, "stride": 2, "crop": 3},
}
EVERY = [*RECIPES, *OTHERS]


def _views(name: str, images: Tensor, seed: int = 0) -> list[Tensor]:
    """All views that one call of a recipe makes."""
    options = RECIPES[name][0] if name in RECIPES else OTHERS[name]
    made = getattr(co, name)(images, **options, generator=torch.Generator().manual_seed(seed))
    return [made] if isinstance(made, Tensor) else list(made)


def _pixels(name: str, images: Tensor, seed: int = 0) -> list[Tensor]:
    """The views before they were normalised."""
    mean, std = (torch.tensor(values, dtype=images.dtype).view(3, 1, 1) for values in RECIPES[name][1])
    return [view * std + mean for view in _views(name, images, seed)]


def _images(count: int, height: int = 12, width: int = 10) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))


def _constant(color: tuple[float, float, float], count: int) -> Tensor:
    return torch.tensor(color, dtype=torch.float64).view(3, 1, 1).expand(count, 3, 12, 12)


def _share(which: Tensor) -> float:
    return which.double().mean().item()


# the papers' steps ---------------------------------------------------------------------------------------------------

FLIP: Step = ("random_horizontal_flip", {"p": 0.5})
GREY: Step = ("random_grayscale", {"p": 0.2})
SOLARIZE: Step = ("random_solarize", {"threshold": 0.5, "p": 0.2})


def _crop(low: float, high: float = 1.0, size: int = 8) -> Step:
    return "random_resized_crop", {"size": size, "scale": (low, high), "ratio": (3 / 4, 4 / 3)}


def _jitter(*amounts: float, p: float) -> Step:
    return "color_jitter", {**dict(zip(("brightness", "contrast", "saturation", "hue"), amounts, strict=True)), "p": p}


def _blur(p: float) -> Step:
    return "gaussian_blur", {"sigma": (0.1, 2.0), "p": p}


WEAK, STRONG = _jitter(0.4, 0.4, 0.4, 0.4, p=1.0), _jitter(0.8, 0.8, 0.8, 0.2, p=0.8)
V2, BYOL = _jitter(0.4, 0.4, 0.4, 0.1, p=0.8), _jitter(0.4, 0.4, 0.2, 0.1, p=0.8)

STEPS: dict[str, list[list[Step]]] = {
    "moco_v1_view": [[_crop(0.2), GREY, WEAK, FLIP]],
    "moco_v2_view": [[_crop(0.2), V2, GREY, _blur(0.5), FLIP]],
    "instdisc_cifar_view": [[_crop(0.2), WEAK, GREY]],
    "invaspread_view": [[_crop(0.2), WEAK, GREY, FLIP]],
    "simclr_view": [[_crop(0.08), FLIP, STRONG, GREY, _blur(0.5)]],
    "swav_views": [
        *[[_crop(0.14), FLIP, STRONG, GREY, _blur(0.5)]] * 2,
        *[[_crop(0.05, 0.14, 5), FLIP, STRONG, GREY, _blur(0.5)]] * 2,
    ],
    "byol_views": [
        [_crop(0.08), FLIP, BYOL, GREY, _blur(1.0)],
        [_crop(0.08), FLIP, BYOL, GREY, _blur(0.1), SOLARIZE],
    ],
    "moco_v3_views": [
        [_crop(0.08), BYOL, GREY, _blur(1.0), FLIP],
        [_crop(0.08), BYOL, GREY, _blur(0.1), SOLARIZE, FLIP],
    ],
    "dino_views": [
        [_crop(0.4), FLIP, BYOL, GREY, _blur(1.0)],
        [_crop(0.4), FLIP, BYOL, GREY, _blur(0.1), SOLARIZE],
        *[[_crop(0.05, 0.4, 5), FLIP, BYOL, GREY, _blur(0.5)]] * 2,
    ],
}


@pytest.mark.parametrize(("dtype", "rounding"), [(torch.float32, 5e-6), (torch.float64, 1e-12)], ids=str)
@pytest.mark.parametrize("side", [12, 80])
@pytest.mark.parametrize("name", RECIPES)
def test_steps_order_and_odds_are_the_papers(name: str, side: int, dtype: torch.dtype, rounding: float) -> None:
    """Each recipe is its line of the table above, step by step from the same seed.

    A mirrored view is made from a mirrored image, and a crop and a blur take their sums in the other order then.
    """
    images, generator = _images(24, side, side - 2).to(dtype), torch.Generator().manual_seed(5)

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
    for observed, x in zip(_views(name, images, 5), expected, strict=True):
        torch.testing.assert_close(observed, co.normalize(x, mean=mean, std=std), rtol=0, atol=rounding)


def test_defaults_are_the_papers_sizes() -> None:
    images = _images(1, 60, 70)
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
    for view in _views(name, _constant((0, 0, 0), 16)):
        torch.testing.assert_close(view, (-mean / std).view(3, 1, 1).expand_as(view))


@pytest.mark.parametrize("name", RECIPES)
def test_one_image_in_five_is_grey(name: str) -> None:
    for view in _pixels(name, _constant((0.6, 0.4, 0.2), 2000)):
        spread = (view.amax(1) - view.amin(1)).flatten(1).amax(1)
        assert abs(_share(spread < 1e-6) - 0.2) < 0.03


@pytest.mark.parametrize("name", RECIPES)
def test_colours_are_left_alone_as_often_as_the_paper_says(name: str) -> None:
    """One in five is not jittered (none where the jitter always comes), if it is neither grey nor solarised."""
    color = torch.tensor((0.6, 0.4, 0.2), dtype=torch.float64).view(3, 1, 1)
    for steps, view in zip(STEPS[name], _pixels(name, _constant((0.6, 0.4, 0.2), 2000)), strict=True):
        untouched = (view - color).abs().flatten(1).amax(1) < 1e-6
        expected = 0.0 if WEAK in steps else 0.2 * 0.8 * (0.8 if SOLARIZE in steps else 1.0)
        assert abs(_share(untouched) - expected) < 0.025


@pytest.mark.parametrize("name", ["byol_views", "moco_v3_views", "dino_views"])
def test_only_the_second_view_is_solarised(name: str) -> None:
    """White stays above 0.6 under the jitter; solarised it falls below 0.4."""
    shares = [_share((x < 0.5).flatten(1).all(1)) for x in _pixels(name, _constant((1, 1, 1), 2000))]
    assert abs(shares.pop(1) - 0.2) < 0.03
    assert set(shares) == {0.0}


@pytest.mark.parametrize("name", EVERY)
def test_half_are_mirrored_but_none_in_instdiscs_cifar_recipe(name: str) -> None:
    """Of images that brighten to the right, views that darken to the right are mirrored, or solarised."""
    ramp = torch.linspace(0.1, 0.4, 16, dtype=torch.float64).expand(1000, 3, 16, 16)
    for view in _views(name, ramp):
        lines = (view[:, 0, 0, 0] if name == "cpc_patches" else view[:, 0]).mean(1)  # (B, columns)
        if name == "cmc_views" and view.shape[1] == 2:
            continue  # grey has no a and b to look at
        rises = lines[:, -2] > lines[:, 1]
        if name == "instdisc_cifar_view":
            assert rises.all()
        else:
            assert abs(_share(rises) - 0.5) < 0.06


def test_greyscale_after_the_jitter_sees_other_lightnesses() -> None:
    """MoCo v1 makes red grey (0.299) and then changes its brightness by 0.4; InstDisc's CIFAR recipe turns the hue
    first, and the colours that leave the cube and are clamped have another lightness."""
    red = _constant((1, 0, 0), 2000)
    low, high = 0.299 * 0.6 - 1e-6, 0.299 * 1.4 + 1e-6
    for name, inside in (("moco_v1_view", True), ("instdisc_cifar_view", False), ("invaspread_view", False)):
        (view,) = _pixels(name, red)
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
    views = torch.cat([co.simclr_view(_images(64), size=16) for _ in range(4)])
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


# every recipe --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", EVERY)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 4), height=st.integers(9, 17), width=st.integers(9, 17))
def test_shapes_for_any_image_and_an_empty_batch(name: str, seed: int, count: int, height: int, width: int) -> None:
    images = _images(count, height, width)
    before = images.clone()
    views = _views(name, images, seed)
    assert torch.equal(images, before)
    for view in views:
        assert view.shape[0] == count
        assert torch.isfinite(view).all()
    if name in RECIPES:
        sizes = [steps[0][1]["size"] for steps in STEPS[name]]
        assert [tuple(view.shape[1:]) for view in views] == [(3, size, size) for size in sizes]


@pytest.mark.parametrize("name", EVERY)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64], ids=str)
def test_the_dtype_is_the_images(name: str, dtype: torch.dtype) -> None:
    exact = _views(name, _images(4).to(dtype).double())
    limit = {torch.float64: 1e-9, torch.float32: 1e-3}.get(dtype, 0.25)
    for view, expected in zip(_views(name, _images(4).to(dtype)), exact, strict=True):
        assert view.dtype == dtype
        # solarisation jumps at its threshold, so a rounding may move a pixel there: the mean is compared
        assert (view.double() - expected).abs().mean() < limit


@fake_gpu
@pytest.mark.parametrize("name", EVERY)
def test_nothing_waits_for_a_device(name: str) -> None:
    """Fake tensors of a GPU have no values: reading one, or choosing rows by one, raises."""
    on_cpu = _views(name, _images(3))
    with FakeTensorMode():
        views = _views(name, torch.empty(3, 3, 12, 10, device="cuda"))
    for view, expected in zip(views, on_cpu, strict=True):
        assert view.device.type == "cuda"
        assert view.shape == expected.shape


@pytest.mark.parametrize("name", EVERY)
def test_equal_images_get_views_of_their_own(name: str) -> None:
    images = _images(1).expand(16, -1, -1, -1)
    for view in _views(name, images):
        assert len({tuple(v.flatten().tolist()) for v in view}) == 16


@pytest.mark.parametrize("name", EVERY)
def test_neighbours_do_not_matter(name: str) -> None:
    images = _images(6)
    others = images.clone()
    others[1::2] = 1 - others[1::2]
    for a, b in zip(_views(name, images), _views(name, others), strict=True):
        torch.testing.assert_close(a[::2], b[::2])


BAD: list[tuple[str, Callable[[torch.Generator], object]]] = [
    *[(name, lambda g, name=name: getattr(co, name)(_images(2)[:, :1], generator=g)) for name in EVERY],
    *[
        (name, lambda g, name=name: getattr(co, name)(_images(2), size=0, generator=g))
        for name in EVERY
        if name not in ("swav_views", "dino_views")
    ],
    ("simclr_view strength", lambda g: co.simclr_view(_images(2), strength=9, generator=g)),
    ("simclr_view blur", lambda g: co.simclr_view(_images(2), blur=-1, generator=g)),
    ("moco_v3_views scale", lambda g: co.moco_v3_views(_images(2), scale=(0.5, 0.1), generator=g)),
    ("cmc_views scale", lambda g: co.cmc_views(_images(2), scale=(0.5, 2), generator=g)),
    ("multi_crop", lambda g: co.multi_crop(_images(2), scales=((0.1, 1), (0, 1)), generator=g)),
    ("swav_views", lambda g: co.swav_views(_images(2), sizes=(8, -1), generator=g)),
    ("dino_views", lambda g: co.dino_views(_images(2), counts=(1, 8), generator=g)),
    ("cpc_patches", lambda g: co.cpc_patches(_images(2), size=8, patch=4, crop=5, generator=g)),
]


@pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in BAD])
def test_errors_come_before_anything_is_drawn(call: Callable[[torch.Generator], object]) -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    with pytest.raises(ValueError, match="expected"):
        call(generator)
    assert torch.equal(generator.get_state(), before)
