"""The augmentations: each image by parameters of its own, what the formulas say, and what must not change."""

from __future__ import annotations

from collections.abc import Callable
from itertools import permutations
from math import ceil

import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import contrastive_ops as co
from tests import oracles

VIEWS: dict[str, Callable[..., Tensor]] = {
    "crop": lambda x, g: co.random_resized_crop(x, size=9, generator=g),
    "rotation": lambda x, g: co.random_rotation(x, degrees=40, generator=g),
    "flip": lambda x, g: co.random_horizontal_flip(x, generator=g),
    "jitter": lambda x, g: co.color_jitter(
        x, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.3, p=0.8, generator=g
    ),
    "grey": lambda x, g: co.random_grayscale(x, p=0.5, generator=g),
    "solarize": lambda x, g: co.random_solarize(x, p=0.5, generator=g),
    "invert": lambda x, g: co.random_invert(x, generator=g),
    "blur": lambda x, g: co.gaussian_blur(x, generator=g),
}


def _images(count: int, height: int = 12, width: int = 10, dtype: torch.dtype = torch.float32) -> Tensor:
    generator = torch.Generator().manual_seed(count)
    return torch.rand(count, 3, height, width, generator=generator, dtype=dtype)


@pytest.mark.parametrize("name", VIEWS)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 7), height=st.integers(2, 17), width=st.integers(2, 17))
def test_values_stay_in_range_and_the_input_stays_as_it_is(
    name: str, seed: int, count: int, height: int, width: int
) -> None:
    images = _images(count, height, width)
    before = images.clone()
    result = VIEWS[name](images, torch.Generator().manual_seed(seed))
    assert result.shape == ((count, 3, 9, 9) if name == "crop" else images.shape)
    assert result.numel() == 0 or (result.min() >= -1e-5 and result.max() <= 1 + 1e-5)
    assert torch.equal(images, before)


@pytest.mark.parametrize("name", VIEWS)
def test_images_do_not_touch_each_other(name: str) -> None:
    """An image's view is the same whatever its neighbours hold: no statistic of the batch, no mixed-up row."""
    images = _images(8)
    others = images.clone()
    others[1::2] = torch.rand_like(others[1::2])
    a, b = (VIEWS[name](x, torch.Generator().manual_seed(3)) for x in (images, others))
    torch.testing.assert_close(a[::2], b[::2])


@pytest.mark.parametrize("name", VIEWS)
def test_autocast_changes_nothing(name: str) -> None:
    images = _images(5)
    plain = VIEWS[name](images, torch.Generator().manual_seed(3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        cast = VIEWS[name](images, torch.Generator().manual_seed(3))
    assert torch.equal(plain, cast)


@pytest.mark.parametrize("name", VIEWS)
def test_parameters_differ_between_images(name: str) -> None:
    same = _images(1).expand(64, -1, -1, -1)
    views = VIEWS[name](same, torch.Generator().manual_seed(0))
    assert len({tuple(view.flatten().tolist()) for view in views}) >= 2


def test_whole_crops_of_the_same_size_change_nothing() -> None:
    images = _images(3, 16, 16)
    torch.testing.assert_close(co.random_resized_crop(images, size=16, scale=(1, 1), ratio=(1, 1)), images)


@pytest.mark.parametrize("size", [5, 8, 16, 23])
def test_resizing_is_torchs_antialiased_bilinear(size: int) -> None:
    images = _images(2, 16, 16, torch.float64)
    observed = co.random_resized_crop(images, size=size, scale=(1, 1), ratio=(1, 1))
    expected = F.interpolate(images, size=(size, size), mode="bilinear", antialias=True, align_corners=False)
    torch.testing.assert_close(observed, expected, rtol=1e-6, atol=1e-6)


def test_crops_have_the_area_and_aspect_that_are_asked_for() -> None:
    """Of an image that holds its own coordinates, the spread of the view's values is the box."""
    height, width, size, count = 40, 60, 20, 400
    y = torch.arange(height, dtype=torch.float64).view(-1, 1).expand(height, width)
    x = torch.arange(width, dtype=torch.float64).expand(height, width)
    images = torch.stack([y, x, x]).expand(count, 3, height, width)
    views = co.random_resized_crop(
        images, size=size, scale=(0.1, 0.4), ratio=(0.5, 2.0), generator=torch.Generator().manual_seed(0)
    )
    # two inner pixels of the view, away from the borders, where the filter is cut
    rows = (views[:, 0, 14, 10] - views[:, 0, 5, 10]) / 9 * size
    columns = (views[:, 1, 10, 14] - views[:, 1, 10, 5]) / 9 * size
    area, aspect = rows * columns / (height * width), columns / rows
    assert 0.095 < area.min() < 0.13
    assert 0.36 < area.max() < 0.405
    assert 0.49 < aspect.min() < 0.6
    assert 1.7 < aspect.max() < 2.02


def test_boxes_that_never_fit_give_the_largest_central_one() -> None:
    images = torch.arange(10.0).expand(2, 1, 40, 10)  # aspect 1/4, asked for 2 to 3
    views = co.random_resized_crop(images, size=10, scale=(1, 1), ratio=(2.0, 3.0))
    torch.testing.assert_close(views, torch.arange(10.0).expand(2, 1, 10, 10))


@pytest.mark.parametrize("turns", [1, 2, 3])
def test_right_angles_are_exact_turns(turns: int, monkeypatch: pytest.MonkeyPatch) -> None:
    """The angle that is drawn is fixed here; a turn by 90 degrees moves pixels and mixes none."""
    monkeypatch.setattr(
        "contrastive_ops.views._geometry.uniform", lambda count, *_: torch.full((count,), 90.0 * turns)
    )
    images = _images(2, 8, 8, torch.float64)
    turned = co.random_rotation(images, degrees=180)
    torch.testing.assert_close(turned, torch.rot90(images, turns, (2, 3)), rtol=1e-4, atol=1e-4)


@given(st.floats(0.2, 3.0), st.integers(0, 1000))
def test_blur_equals_the_oracle_on_both_axes(sigma: float, seed: int) -> None:
    signal = torch.rand(9, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    expected = torch.tensor(oracles.gaussian(signal.tolist(), sigma, ceil(3 * sigma)), dtype=torch.float64)
    for images in (signal.expand(1, 1, 6, 9), signal.view(9, 1).expand(1, 1, 9, 6)):
        blurred = co.gaussian_blur(images, sigma=(sigma, sigma), p=1.0)
        line = blurred[0, 0, 3] if images.shape[3] == 9 else blurred[0, 0, :, 3]
        torch.testing.assert_close(line, expected, rtol=1e-5, atol=1e-6)


def test_jitter_of_nothing_is_nothing() -> None:
    images = _images(4)
    torch.testing.assert_close(co.color_jitter(images), images, rtol=1e-5, atol=1e-6)
    assert torch.equal(co.color_jitter(images, brightness=0.9, p=0.0), images)


def _single(name: str, amount: float, images: Tensor) -> Tensor:
    return co.color_jitter(images, **{name: amount}, generator=torch.Generator().manual_seed(1))


def _factor(amount: float, position: int) -> float:
    """The factor that the single image of `_single` draws: brightness, contrast, saturation, then hue."""
    generator = torch.Generator().manual_seed(1)
    draws = [torch.rand(1, generator=generator) for _ in range(4)]
    return float(draws[position] * 2 * amount + 1 - amount)


def test_brightness_contrast_saturation_are_the_formulas() -> None:
    images = _images(1, dtype=torch.float64) * 0.4 + 0.3  # away from the clamp
    grey = (images * torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(3, 1, 1)).sum(1, keepdim=True)
    b, c, s = (_factor(0.2, i) for i in range(3))
    torch.testing.assert_close(_single("brightness", 0.2, images), (images * b), rtol=1e-5, atol=1e-6)
    torch.testing.assert_close(
        _single("contrast", 0.2, images), images * c + (1 - c) * grey.mean(), rtol=1e-5, atol=1e-6
    )
    torch.testing.assert_close(_single("saturation", 0.2, images), images * s + (1 - s) * grey, rtol=1e-5, atol=1e-6)


def test_hue_keeps_luma_and_grey_and_turns_colours() -> None:
    images = _images(1, dtype=torch.float64) * 0.2 + 0.4
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64).view(3, 1, 1)
    turned = _single("hue", 0.5, images)
    torch.testing.assert_close((turned * luma).sum(1), (images * luma).sum(1), rtol=1e-4, atol=1e-4)
    assert (turned - images).abs().max() > 0.02
    grey = torch.full((1, 3, 4, 4), 0.5)
    torch.testing.assert_close(_single("hue", 0.5, grey), grey, rtol=1e-3, atol=1e-3)


def test_all_four_at_once_are_the_four_formulas_in_any_order() -> None:
    """Multiplied into one map they must equal one after the other, whichever comes first."""
    images = _images(1, dtype=torch.float64) * 0.1 + 0.45  # away from the clamp
    luma = torch.tensor([0.299, 0.587, 0.114], dtype=torch.float64)
    amounts = {"brightness": 0.2, "contrast": 0.3, "saturation": 0.4, "hue": 0.1}
    observed = co.color_jitter(images, **amounts, generator=torch.Generator().manual_seed(1))
    b, c, s = (_factor(a, i) for i, a in enumerate((0.2, 0.3, 0.4)))

    def grey(x: Tensor) -> Tensor:
        return torch.einsum("nchw,c->nhw", x, luma).unsqueeze(1)

    steps: list[Callable[[Tensor], Tensor]] = [
        lambda x: x * b,
        lambda x: x * c + (1 - c) * grey(x).mean(),
        lambda x: x * s + (1 - s) * grey(x),
        lambda x: _single("hue", 0.1, x),
    ]
    for order in permutations(steps):
        expected = images
        for step in order:
            expected = step(expected)
        torch.testing.assert_close(observed, expected, rtol=1e-5, atol=1e-6)


@given(st.floats(0, 1))
def test_solarize_inverts_at_and_above_the_threshold(threshold: float) -> None:
    images = _images(2)
    expected = torch.where(images >= threshold, 1 - images, images)
    assert torch.equal(co.random_solarize(images, threshold=threshold, p=1.0), expected)
    assert torch.equal(co.random_invert(images, p=1.0), 1 - images)


@pytest.mark.parametrize("name", ["random_grayscale", "random_horizontal_flip", "random_invert", "random_solarize"])
def test_probabilities_are_met(name: str) -> None:
    images = torch.rand(4000, 3, 2, 2)
    generator = torch.Generator().manual_seed(0)
    changed = (getattr(co, name)(images, p=0.3, generator=generator) != images).flatten(1).any(1).float().mean()
    expected = 0.3 if name != "random_solarize" else 0.3 * (1 - 0.5**12)
    assert abs(changed.item() - expected) < 0.03


@pytest.mark.parametrize("recipe", [co.moco_v1_view, co.moco_v2_view])
def test_recipes_normalise(recipe: Callable[..., Tensor]) -> None:
    views = recipe(_images(64, 20, 20), size=16, generator=torch.Generator().manual_seed(0))
    assert views.shape == (64, 3, 16, 16)
    assert -2.2 < views.min() < -0.5
    assert 0.5 < views.max() < 2.7


def test_blur_on_a_device_that_would_wait_gives_the_same() -> None:
    """The path for devices, where no subset is chosen, forced here through the compiler's tracing."""
    images = _images(6)
    torch.manual_seed(0)
    expected = co.gaussian_blur(images)
    torch.manual_seed(0)
    observed = torch.compile(co.gaussian_blur, fullgraph=True, backend="eager")(images)
    torch.testing.assert_close(observed, expected)
