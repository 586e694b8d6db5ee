"""CIE Lab: published values, neutral greys, the oracle; and CMC's two views of one crop."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import contrastive_ops as co
from tests import oracles

# L, a, b of the corners of the sRGB cube at D65, as colour calculators give them
CORNERS = {
    (0.0, 0.0, 0.0): (0.0, 0.0, 0.0),
    (1.0, 1.0, 1.0): (100.0, 0.0, 0.0),
    (1.0, 0.0, 0.0): (53.2408, 80.0925, 67.2032),
    (0.0, 1.0, 0.0): (87.7347, -86.1827, 83.1793),
    (0.0, 0.0, 1.0): (32.2970, 79.1875, -107.8602),
    (1.0, 1.0, 0.0): (97.1393, -21.5537, 94.4780),
    (0.0, 1.0, 1.0): (91.1132, -48.0875, -14.1312),
    (1.0, 0.0, 1.0): (60.3242, 98.2343, -60.8249),
}


def _pixel(*rgb: float, dtype: torch.dtype = torch.float64) -> Tensor:
    return torch.tensor(rgb, dtype=dtype).view(1, 3, 1, 1)


@pytest.mark.parametrize(("rgb", "lab"), CORNERS.items())
def test_the_corners_of_the_cube(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    torch.testing.assert_close(co.rgb_to_lab(_pixel(*rgb)).flatten().tolist(), list(lab), rtol=0, atol=2e-4)


@given(st.tuples(*[st.floats(0, 1)] * 3))
def test_every_colour_equals_the_oracle(rgb: tuple[float, ...]) -> None:
    expected = oracles.lab(list(rgb))
    torch.testing.assert_close(co.rgb_to_lab(_pixel(*rgb)).flatten().tolist(), expected, rtol=1e-9, atol=1e-9)
    single = co.rgb_to_lab(_pixel(*rgb, dtype=torch.float32)).flatten().tolist()
    torch.testing.assert_close(single, expected, rtol=0, atol=2e-3)


@given(st.floats(0, 1), st.floats(0, 1))
def test_greys_are_neutral_and_lightness_grows(first: float, second: float) -> None:
    a, b = (co.rgb_to_lab(_pixel(x, x, x)).flatten() for x in sorted((first, second)))
    assert a[0] <= b[0] + 1e-12
    assert a[1:].abs().max() < 1e-10
    single = co.rgb_to_lab(_pixel(first, first, first, dtype=torch.float32)).flatten()
    assert single[1:].abs().max() < 1e-3


def test_half_precision_is_rounded_once() -> None:
    images = torch.rand(2, 3, 4, 4).bfloat16()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        observed = co.rgb_to_lab(images)
    assert observed.dtype == torch.bfloat16
    assert torch.equal(observed, co.rgb_to_lab(images.float()).bfloat16())


@pytest.mark.parametrize("value", [0.0, 0.04045, 1.0])
def test_gradients_are_finite_at_black_at_the_bend_and_at_white(value: float) -> None:
    pixel = _pixel(value, value, value).requires_grad_()
    (gradient,) = torch.autograd.grad(co.rgb_to_lab(pixel)[:, 0].sum(), pixel)
    assert torch.isfinite(gradient).all()
    assert (gradient > 0).all(), "lightness grows in every channel"


@pytest.mark.parametrize(("rgb", "lab"), CORNERS.items())
def test_views_are_normalised_by_middle_and_half_range(rgb: tuple[float, ...], lab: tuple[float, ...]) -> None:
    lightness, color = co.cmc_views(_pixel(*rgb).expand(2, 3, 9, 9), size=5)
    assert lightness.shape == (2, 1, 5, 5)
    assert color.shape == (2, 2, 5, 5)
    # the middles and half ranges by hand from the code's extremes: a in -86.183..98.233, b in -107.857..94.478
    wanted = [(lab[0] - 50) / 50, (lab[1] - 6.025) / 92.208, (lab[2] + 6.6895) / 101.1675]
    torch.testing.assert_close(lightness, torch.full_like(lightness, wanted[0]), rtol=0, atol=1e-5)
    for channel, value in ((0, wanted[1]), (1, wanted[2])):
        torch.testing.assert_close(color[:, channel], torch.full((2, 5, 5), value).double(), rtol=0, atol=1e-5)
    assert max(map(abs, wanted)) <= 1 + 1e-4


def test_both_views_are_of_the_same_crop() -> None:
    """Colours that change along the image in L and in b alike: where one view rises, so does the other."""
    amount = torch.linspace(0, 1, 24, dtype=torch.float64)
    image = torch.stack([0.2 + 0.6 * amount, 0.2 + 0.6 * amount, 0.5 - 0.3 * amount])  # from bluish to yellow
    images = image.unsqueeze(1).expand(64, 3, 24, 24)
    lightness, color = co.cmc_views(images, size=12, generator=torch.Generator().manual_seed(0))
    rises = [x[:, -1, 6, -1] > x[:, -1, 6, 0] for x in (lightness, color)]
    assert torch.equal(*rises)
    assert 0.3 < rises[0].double().mean() < 0.7
    # and the place: L of grey is a function of the pixel alone, and b of the same pixel follows from it
    order = lightness[:, 0, 6].flatten().argsort()
    b = color[:, 1, 6].flatten()[order]
    assert (b[1:] >= b[:-1] - 5e-3).all()
