"""What holds for every recipe: shapes, dtypes, devices, views of their own, and errors that come first."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch._subclasses.fake_tensor import FakeTensorMode

import contrastive_ops as co
from tests.fake_gpu import fake_gpu
from tests.properties.recipes import EVERY, RECIPES, STEPS, images_of, views_of


@pytest.mark.parametrize("name", EVERY)
@given(seed=st.integers(0, 2**31), count=st.integers(0, 4), height=st.integers(9, 17), width=st.integers(9, 17))
def test_shapes_for_any_image_and_an_empty_batch(name: str, seed: int, count: int, height: int, width: int) -> None:
    images = images_of(count, height, width)
    before = images.clone()
    views = views_of(name, images, seed)
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
    exact = views_of(name, images_of(4).to(dtype).double())
    limit = {torch.float64: 1e-9, torch.float32: 1e-3}.get(dtype, 0.25)
    for view, expected in zip(views_of(name, images_of(4).to(dtype)), exact, strict=True):
        assert view.dtype == dtype
        # solarisation jumps at its threshold, so a rounding may move a pixel there: the mean is compared
        assert (view.double() - expected).abs().mean() < limit


@fake_gpu
@pytest.mark.parametrize("name", EVERY)
def test_nothing_waits_for_a_device(name: str) -> None:
    """Fake tensors of a GPU have no values: reading one, or choosing rows by one, raises."""
    on_cpu = views_of(name, images_of(3))
    with FakeTensorMode():
        views = views_of(name, torch.empty(3, 3, 12, 10, device="cuda"))
    for view, expected in zip(views, on_cpu, strict=True):
        assert view.device.type == "cuda"
        assert view.shape == expected.shape


@pytest.mark.parametrize("name", EVERY)
def test_equal_images_get_views_of_their_own(name: str) -> None:
    images = images_of(1).expand(16, -1, -1, -1)
    for view in views_of(name, images):
        assert len({tuple(v.flatten().tolist()) for v in view}) == 16


@pytest.mark.parametrize("name", EVERY)
def test_neighbours_do_not_matter(name: str) -> None:
    images = images_of(6)
    others = images.clone()
    others[1::2] = 1 - others[1::2]
    for a, b in zip(views_of(name, images), views_of(name, others), strict=True):
        torch.testing.assert_close(a[::2], b[::2])


BAD: list[tuple[str, Callable[[torch.Generator], object]]] = [
    *[(name, lambda g, name=name: getattr(co, name)(images_of(2)[:, :1], generator=g)) for name in EVERY],
    *[
        (name, lambda g, name=name: getattr(co, name)(images_of(2), size=0, generator=g))
        for name in EVERY
        if name not in ("swav_views", "dino_views")
    ],
    ("simclr_view strength", lambda g: co.simclr_view(images_of(2), strength=9, generator=g)),
    ("simclr_view blur", lambda g: co.simclr_view(images_of(2), blur=-1, generator=g)),
    ("moco_v3_views scale", lambda g: co.moco_v3_views(images_of(2), scale=(0.5, 0.1), generator=g)),
    ("cmc_views scale", lambda g: co.cmc_views(images_of(2), scale=(0.5, 2), generator=g)),
    ("multi_crop", lambda g: co.multi_crop(images_of(2), scales=((0.1, 1), (0, 1)), generator=g)),
    ("swav_views", lambda g: co.swav_views(images_of(2), sizes=(8, -1), generator=g)),
    ("dino_views", lambda g: co.dino_views(images_of(2), counts=(1, 8), generator=g)),
    ("cpc_patches", lambda g: co.cpc_patches(images_of(2), size=8, patch=4, crop=5, generator=g)),
]


@pytest.mark.parametrize("call", [pytest.param(call, id=name) for name, call in BAD])
def test_errors_come_before_anything_is_drawn(call: Callable[[torch.Generator], object]) -> None:
    generator = torch.Generator().manual_seed(1)
    before = generator.get_state()
    with pytest.raises(ValueError, match="expected"):
        call(generator)
    assert torch.equal(generator.get_state(), before)
