"""CPC's patches: which pixels each holds, that its own crop lies inside it, and what surrounds the crop."""

from __future__ import annotations

import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

import contrastive_ops as co

SIZE, PATCH, STRIDE, CROP = 24, 8, 4, 5


def _numbered(count: int, height: int, width: int) -> Tensor:
    """Grey images in which every pixel has a value of its own: 1 + row * width + column."""
    return (1 + torch.arange(height * width, dtype=torch.float64)).view(height, width).expand(count, 3, height, width)


@given(
    height=st.integers(1, 12),
    width=st.integers(1, 12),
    patch=st.integers(1, 5),
    stride=st.integers(1, 6),
    count=st.integers(0, 3),
)
def test_grids_hold_every_whole_patch(height: int, width: int, patch: int, stride: int, count: int) -> None:
    images = torch.rand(count, 2, height, width)
    if patch > min(height, width):
        return
    grid = co.patch_grid(images, patch=patch, stride=stride)
    rows, columns = (height - patch) // stride + 1, (width - patch) // stride + 1
    assert grid.shape == (count, rows, columns, 2, patch, patch)
    for r in range(rows):
        for c in range(columns):
            top, left = r * stride, c * stride
            assert torch.equal(grid[:, r, c], images[:, :, top : top + patch, left : left + patch])


def test_a_grid_is_no_copy() -> None:
    images = torch.zeros(1, 1, 6, 6)
    grid = co.patch_grid(images, patch=4, stride=2)
    assert grid.untyped_storage().data_ptr() == images.untyped_storage().data_ptr()
    images[0, 0, 2, 2] = 1.0
    assert grid.sum() == 4, "the pixel that all four patches share"


def _cpc(images: Tensor, seed: int = 0, crop: int = CROP) -> Tensor:
    return co.cpc_patches(
        images, size=SIZE, patch=PATCH, stride=STRIDE, crop=crop, generator=torch.Generator().manual_seed(seed)
    )


@given(seed=st.integers(0, 2**31), height=st.integers(SIZE, 30), width=st.integers(SIZE, 30))
def test_each_patch_keeps_a_window_of_its_own_place(seed: int, height: int, width: int) -> None:
    """Every kept window is found again in the image, mirrored or not, inside the patch that it belongs to."""
    patches = _cpc(_numbered(3, height, width), seed)
    before = (PATCH - CROP) // 2
    inner = patches[..., before : before + CROP, before : before + CROP]
    assert patches.sum() == inner.sum(), "zeros around"
    assert torch.equal(patches[:, :, :, :1].expand_as(patches), patches), "grey"
    number = (inner[:, :, :, 0] - 1).round().long()  # (B, rows, columns, crop, crop)
    y, x = number // width, number % width
    index = torch.arange(CROP)
    assert torch.equal(y, y[..., :1, :1] + index.view(-1, 1).expand(CROP, CROP))
    for image_y, image_x in zip(y, x, strict=True):
        step = int(image_x[0, 0, 0, 1] - image_x[0, 0, 0, 0])
        assert step in (1, -1)
        assert torch.equal(image_x, image_x[..., :1, :1] + step * index.expand(CROP, CROP))
        # the offset of each window within its patch, up to the unknown corner of the square that was cut out
        place = torch.arange(image_y.shape[0]) * STRIDE
        down = image_y[..., 0, 0] - place.view(-1, 1)
        along = step * image_x[..., 0, 0] - place.view(1, -1)
        for offset in (down, along):
            assert offset.max() - offset.min() <= PATCH - CROP


def test_every_offset_is_reached_equally_often() -> None:
    """Windows inside the patch, and the square inside the image, start at each whole pixel with the same odds."""
    patches = _cpc(_numbered(400, SIZE, SIZE))
    number = (patches[:, :, :, 0, 1, 1] - 1).round().long()
    down = number // SIZE - torch.arange(number.shape[1]).view(-1, 1) * STRIDE
    assert down.min() == 0
    assert down.max() == PATCH - CROP
    shares = torch.bincount(down.flatten()).double() / down.numel()
    assert (shares - 1 / (PATCH - CROP + 1)).abs().max() < 0.02
    squares = co.cpc_patches(_numbered(2000, 7, 8), size=4, patch=4, stride=4, crop=4)
    corner = (squares[:, 0, 0, 0, 0].amin(1) - 1).round().long()  # the leftmost pixel of the first row
    places = torch.bincount(corner, minlength=40).view(5, 8)[:4, :5].double() / 2000
    assert torch.bincount(corner).sum() == 2000 and abs(places.sum() - 1) < 1e-9
    assert (places - 1 / 20).abs().max() < 0.02


def test_patches_of_one_image_are_cropped_each_on_their_own() -> None:
    patches = _cpc(_numbered(1, SIZE, SIZE))
    number = (patches[0, :, :, 0, 1, 1] - 1).round().long()
    down = number // SIZE - torch.arange(number.shape[0]).view(-1, 1) * STRIDE
    assert len(set(down.flatten().tolist())) > 1


def test_without_inner_crop_it_is_the_grid_of_the_grey_image() -> None:
    images = torch.rand(20, 3, SIZE, SIZE, dtype=torch.float64)
    grey = co.random_grayscale(images, p=1.0)
    plain, mirrored = (co.patch_grid(x, patch=PATCH, stride=STRIDE) for x in (grey, grey.flip(3)))
    patches = _cpc(images, crop=PATCH)
    flipped = [torch.allclose(p, m) for p, m in zip(patches, mirrored, strict=True)]
    assert {torch.allclose(p, q) for p, q in zip(patches, plain, strict=True)} == {True, False}
    assert all(torch.allclose(p, q) != f for p, q, f in zip(patches, plain, flipped, strict=True))


def test_the_papers_numbers() -> None:
    patches = co.cpc_patches(torch.rand(1, 3, 300, 300) * 0.9 + 0.1)
    assert patches.shape == (1, 7, 7, 3, 64, 64)
    assert (patches > 0).sum() == 7 * 7 * 3 * 60 * 60
    assert patches.max() <= 1
