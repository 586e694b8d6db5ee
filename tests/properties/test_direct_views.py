"""How views are made on CPU: in place, few pixels at a time, few images at a time; and they are the same views."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode

import contrastive_ops as co
from contrastive_ops.views import _draw, _taps
from tests import oracles
from tests.allocations import Largest
from tests.fake_gpu import fake_gpu

SEEDS = st.integers(0, 2**31)
SIDES = st.one_of(st.integers(1, 12), st.integers(60, 130))

VIEWS: dict[str, Callable[..., Tensor]] = {
    "crop": lambda x, g: co.random_resized_crop(x, size=9, generator=g),
    "large crop": lambda x, g: co.random_resized_crop(x, size=96, generator=g),
    "rotation": lambda x, g: co.random_rotation(x, degrees=40, generator=g),
    "flip": lambda x, g: co.random_horizontal_flip(x, generator=g),
    "rare flip": lambda x, g: co.random_horizontal_flip(x, p=0.1, generator=g),
    "jitter": lambda x, g: co.color_jitter(
        x, brightness=0.4, contrast=0.4, saturation=0.4, hue=0.3, p=0.8, generator=g
    ),
    "rare jitter": lambda x, g: co.color_jitter(x, brightness=0.4, hue=0.3, p=0.1, generator=g),
    "grey": lambda x, g: co.random_grayscale(x, p=0.5, generator=g),
    "all grey": lambda x, g: co.random_grayscale(x, p=1.0, generator=g),
    "nearly all grey": lambda x, g: co.random_grayscale(x, p=0.9, generator=g),
    "solarize": lambda x, g: co.random_solarize(x, p=0.5, generator=g),
    "invert": lambda x, g: co.random_invert(x, generator=g),
    "blur": lambda x, g: co.gaussian_blur(x, generator=g),
    "small blur": lambda x, g: co.gaussian_blur(x, sigma=(0.1, 1.0), p=0.9, generator=g),
    "normalize": lambda x, g: co.normalize(x),
    "v1": lambda x, g: co.moco_v1_view(x, size=8, generator=g),
    "v2": lambda x, g: co.moco_v2_view(x, size=80, generator=g),
    "simclr": lambda x, g: co.simclr_view(x, size=80, generator=g),
    "invaspread": lambda x, g: co.invaspread_view(x, size=8, generator=g),
    "instdisc": lambda x, g: co.instdisc_cifar_view(x, size=8, generator=g),
    "byol": lambda x, g: torch.cat(co.byol_views(x, size=80, generator=g)),
    "v3": lambda x, g: torch.cat(co.moco_v3_views(x, size=8, generator=g)),
    "swav": lambda x, g: torch.cat([v.flatten() for v in co.swav_views(x, sizes=(80, 9), counts=(2, 3), generator=g)]),
    "dino": lambda x, g: torch.cat([v.flatten() for v in co.dino_views(x, sizes=(9, 80), counts=(2, 2), generator=g)]),
    "cmc": lambda x, g: torch.cat(co.cmc_views(x, size=8, generator=g), dim=1),
}


def _images(count: int, height: int = 20, width: int = 70) -> Tensor:
    return torch.rand(count, 3, height, width, generator=torch.Generator().manual_seed(count))


def _seeded(name: str, images: Tensor, seed: int = 3) -> Tensor:
    return VIEWS[name](images, torch.Generator().manual_seed(seed))


# the same views ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", VIEWS)
@pytest.mark.parametrize("width", [9, 70])
def test_with_a_gradient_they_are_the_same(name: str, width: int) -> None:
    """A gradient takes the way of other devices: whole batches, nothing in place, products with all pixels."""
    images = _images(24, 17, width)
    leaf = images.clone().requires_grad_()
    expected = _seeded(name, leaf)
    away = (expected.detach() - _seeded(name, images)).abs() > 5e-6
    assert away.double().mean() < 1e-4  # solarisation jumps, so a rounding may move a pixel there
    (gradient,) = torch.autograd.grad(expected.sum(), leaf)
    assert torch.isfinite(gradient).all()
    assert gradient.abs().max() > 0
    with torch.no_grad():
        torch.testing.assert_close(_seeded(name, leaf), _seeded(name, images), rtol=0, atol=0)


@pytest.mark.parametrize("name", ["crop", "large crop", "flip", "grey", "blur"])
def test_forward_derivatives_of_what_is_linear(name: str) -> None:
    images, tangent = _images(5), _images(5) - 0.5
    value, slope = torch.func.jvp(lambda x: _seeded(name, x), (images,), (tangent,))
    torch.testing.assert_close(value, _seeded(name, images), rtol=0, atol=2e-6)
    torch.testing.assert_close(slope, _seeded(name, tangent), rtol=0, atol=2e-6)


@pytest.mark.parametrize("name", VIEWS)
def test_any_layout_in_memory(name: str) -> None:
    images = _images(6)
    expected = _seeded(name, images)
    for other in (
        images.to(memory_format=torch.channels_last),
        images.repeat(2, 1, 2, 2)[6:, :, :20, 70:],
        torch.stack([images, -images], dim=4)[..., 0],
        images.mT.contiguous().mT,
    ):
        assert torch.equal(other, images) and not other.is_contiguous()
        torch.testing.assert_close(_seeded(name, other), expected, rtol=0, atol=3e-6)
    same = images[:1].expand(6, -1, -1, -1)
    torch.testing.assert_close(_seeded(name, same), _seeded(name, same.clone()), rtol=0, atol=3e-6)


@pytest.mark.parametrize("name", VIEWS)
def test_a_view_is_memory_of_its_own(name: str) -> None:
    """Also where nothing was chosen: what is written into a view reaches no image."""
    images = _images(3)
    before = images.clone()
    for seed in range(4):
        _seeded(name, images, seed).fill_(7.0)
        assert torch.equal(images, before)


@pytest.mark.parametrize("name", VIEWS)
def test_large_batches_in_parts_are_the_same(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    images = _images(7)
    expected = _seeded(name, images)
    monkeypatch.setattr(_draw, "_CHUNK", 2 * images[0].numel())
    monkeypatch.setattr(_taps, "_VALUES", 1)
    monkeypatch.setattr("contrastive_ops.views._look._TOGETHER", 1)
    torch.testing.assert_close(_seeded(name, images), expected, rtol=0, atol=3e-6)


@fake_gpu
@pytest.mark.parametrize("name", VIEWS)
def test_nothing_waits_for_a_device(name: str) -> None:
    """Fake tensors of a GPU have no values: reading one, or choosing rows by one, raises."""
    expected = _seeded(name, _images(3))
    with FakeTensorMode():
        view = VIEWS[name](torch.empty(3, 3, 20, 70, device="cuda"), None)
    assert view.device.type == "cuda"
    assert view.shape == expected.shape


# few pixels at a time ------------------------------------------------------------------------------------------------


@given(SEEDS, SIDES, SIDES, SIDES, st.floats(0.05, 1.0), st.integers(1, 3))
def test_crops_equal_products_with_all_pixels(
    seed: int, height: int, width: int, size: int, area: float, count: int
) -> None:
    images, generator = torch.rand(count, 2, height, width), torch.Generator()
    narrow, wide = (
        co.random_resized_crop(x, size=size, scale=(area / 2, area), generator=generator.manual_seed(seed))
        for x in (images, images.double())
    )
    torch.testing.assert_close(narrow.double(), wide, rtol=0, atol=2e-6)


@given(SEEDS, st.integers(1, 9), SIDES, st.integers(1, 90), st.integers(1, 5), st.booleans())
def test_weighted_sums_are_those_of_a_loop(
    seed: int, height: int, width: int, size: int, each: int, mirrored: bool
) -> None:
    """Any ascending pixels, also twice the same, and any weights."""
    generator = torch.Generator().manual_seed(seed)
    images = torch.randn(2, 2, height, width, generator=generator)

    def taps(source: int, pixels: int) -> _taps.Taps:
        pixel = torch.randint(0, source, (2, pixels, each), generator=generator).flatten(1).sort().values
        return _taps.Taps(pixel.view(2, pixels, each), torch.randn(2, pixels, each, generator=generator))

    down, across = taps(height, 3), taps(width, size)
    result, order = torch.zeros(2, 2, 3, size), torch.tensor([1, 0])
    _taps.weigh(images, order, down, across, result, order, torch.tensor([mirrored, False]))
    for i, image in enumerate((1, 0)):
        matrices = []
        for one, source in ((down, height), (across, width)):
            matrix = torch.zeros(one.pixel.shape[1], source, dtype=torch.float64)
            for o, (pixels, weights) in enumerate(zip(one.pixel[i].tolist(), one.weights[i].tolist(), strict=True)):
                for pixel, weight in zip(pixels, weights, strict=True):
                    matrix[o, pixel] += weight
            matrices.append(matrix)
        expected = matrices[0] @ images[image].double() @ matrices[1].T
        expected = expected.flip(2) if mirrored and i == 0 else expected
        torch.testing.assert_close(result[image].double(), expected, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 80), (80, 1), (5, 80), (80, 96)])
@pytest.mark.parametrize("sigma", [0.3, 2.0])
def test_wide_images_are_blurred_as_by_the_oracle(shape: tuple[int, int], sigma: float) -> None:
    images = _images(3, *shape)
    observed = co.gaussian_blur(images, sigma=(sigma, sigma), p=1.0).double()
    radius = 1 if sigma == 0.3 else 6
    rows = [[oracles.gaussian(line, sigma, radius) for line in c] for c in images.double()[0].tolist()]
    columns = torch.tensor(rows, dtype=torch.float64).transpose(1, 2).tolist()
    both = torch.tensor([[oracles.gaussian(line, sigma, radius) for line in c] for c in columns]).double()
    torch.testing.assert_close(observed[0], both.transpose(1, 2), rtol=0, atol=1e-6)


def test_neighbours_in_memory_do_not_reach_a_wide_blur() -> None:
    """Windows look over the ends of lines: what stands there counts nothing, however large it is."""
    images = torch.zeros(3, 3, 4, 96)
    images[1] = 1e30
    observed = co.gaussian_blur(images, sigma=(2.0, 2.0), p=1.0)
    assert torch.equal(observed[::2], images[::2])


# memory --------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["v1", "simclr", "byol", "swav", "dino", "blur", "jitter", "grey", "rotation"])
def test_nothing_larger_than_the_images_or_views_exists(name: str) -> None:
    """No matrix of all pixels, no copy of the images for each crop; the views of one size may be one tensor."""
    images = _images(16, 96, 96)
    with Largest() as largest:
        views = _seeded(name, images)
    assert largest.numel <= max(images.numel(), views.numel())
