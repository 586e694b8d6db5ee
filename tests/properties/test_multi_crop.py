"""Crops of several sizes: as many as asked for, inside the image, each with its own box; one pass per resolution."""

from __future__ import annotations

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn

import contrastive_ops as co

SCALES = ((0.14, 0.5), (0.05, 0.14))


def _coordinates(count: int, height: int, width: int) -> Tensor:
    """Images whose two channels hold the row and the column of the pixel's centre."""
    y = (torch.arange(height, dtype=torch.float64) + 0.5).view(-1, 1).expand(height, width)
    x = (torch.arange(width, dtype=torch.float64) + 0.5).expand(height, width)
    return torch.stack([y, x]).expand(count, 2, height, width)


def _box(crop: Tensor) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Top, left, height and width of each box, read off two inner pixels of crops of `_coordinates`.

    Exact where the crop enlarges: bilinear interpolation of a line is that line, away from the image's border.
    """
    size = crop.shape[-1]
    i, j = size // 2 - 1, size // 2
    rows, columns = crop[:, 0, :, i], crop[:, 1, i, :]
    step_y, step_x = rows[:, j] - rows[:, i], columns[:, j] - columns[:, i]
    return rows[:, i] - (i + 0.5) * step_y, columns[:, i] - (i + 0.5) * step_x, step_y * size, step_x * size


@given(
    seed=st.integers(0, 2**31),
    counts=st.tuples(st.integers(0, 3), st.integers(1, 4)),
    batch=st.integers(0, 6),
    height=st.integers(12, 16),
    width=st.integers(12, 16),
)
def test_boxes_lie_inside_with_the_area_of_their_resolution(
    seed: int, counts: tuple[int, int], batch: int, height: int, width: int
) -> None:
    crops = co.multi_crop(
        _coordinates(batch, height, width),
        sizes=(24, 16),
        counts=counts,
        scales=SCALES,
        generator=torch.Generator().manual_seed(seed),
    )
    assert [tuple(crop.shape) for crop in crops] == [(batch, 2, s, s) for s in [24] * counts[0] + [16] * counts[1]]
    for crop in crops:
        low, high = SCALES[0 if crop.shape[-1] == 24 else 1]
        top, left, tall, wide = _box(crop)
        tolerance = 1e-3
        assert (top >= -tolerance).all() and (top + tall <= height + tolerance).all()
        assert (left >= -tolerance).all() and (left + wide <= width + tolerance).all()
        area, aspect = tall * wide / (height * width), wide / tall
        assert (area >= low - tolerance).all() and (area <= high + tolerance).all()
        assert (aspect >= 3 / 4 - tolerance).all() and (aspect <= 4 / 3 + tolerance).all()


def test_every_crop_of_every_image_has_a_box_of_its_own() -> None:
    crops = co.multi_crop(_coordinates(16, 16, 16), sizes=(8, 8), counts=(3, 3), scales=SCALES)
    boxes = {tuple(box.tolist()) for crop in crops for box in torch.stack(_box(crop), dim=1)}
    assert len(boxes) == 16 * 6


def test_crops_are_random_resized_crops_in_the_order_of_the_list() -> None:
    images = torch.rand(3, 3, 20, 18)
    crops = co.multi_crop(
        images, sizes=(9, 5), counts=(2, 2), scales=SCALES, generator=torch.Generator().manual_seed(3)
    )
    generator = torch.Generator().manual_seed(3)
    for crop, size, scale in zip(crops, (9, 9, 5, 5), (SCALES[0],) * 2 + (SCALES[1],) * 2, strict=True):
        assert torch.equal(crop, co.random_resized_crop(images, size=size, scale=scale, generator=generator))


class _Counting(nn.Module):
    """A small network with batch norm that remembers what it was called on."""

    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 4, 3, padding=1)
        self.norm = nn.BatchNorm2d(4)
        self.calls: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.calls.append(tuple(x.shape))
        return self.norm(self.conv(x)).relu().mean((2, 3))


def _crops(batch: int, sides: list[int]) -> list[Tensor]:
    generator = torch.Generator().manual_seed(len(sides))
    return [torch.randn(batch, 3, s, s, generator=generator, dtype=torch.float64) + v for v, s in enumerate(sides)]


_SIDES = st.lists(st.sampled_from([3, 4, 6]), min_size=1, max_size=6)


@given(sides=_SIDES, batch=st.integers(0, 4))
def test_in_evaluation_it_is_a_loop_over_the_crops(sides: list[int], batch: int) -> None:
    encoder, crops = _Counting().double().eval(), _crops(batch, sides)
    expected = torch.cat([encoder(crop) for crop in crops])
    encoder.calls.clear()
    torch.testing.assert_close(co.multi_crop_forward(encoder, crops), expected)
    assert len(encoder.calls) == len(set(sides)), "one pass per resolution"
    assert sorted(encoder.calls) == sorted((sides.count(s) * batch, 3, s, s) for s in set(sides))


@given(sides=_SIDES)
def test_gradients_are_those_of_the_loop(sides: list[int]) -> None:
    encoder = _Counting().double().eval()
    weights = torch.randn(3 * len(sides), 4, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    results = []
    for forward in (co.multi_crop_forward, lambda f, xs: torch.cat([f(x) for x in xs])):
        crops = [crop.requires_grad_() for crop in _crops(3, sides)]
        encoder.zero_grad()
        (forward(encoder, crops) * weights).sum().backward()
        results.append([x.grad for x in (*crops, *encoder.parameters())])
    for observed, expected in zip(*results, strict=True):
        torch.testing.assert_close(observed, expected)


@pytest.mark.parametrize("sides", [[6, 6, 4, 4, 4], [6, 4, 6, 4, 4]], ids=["SwAV's order", "mixed"])
def test_batch_norm_sees_all_crops_of_one_resolution(sides: list[int]) -> None:
    """The statistics by hand: over both large crops together, and over the small ones together."""
    encoder, crops = _Counting().double(), _crops(5, sides)
    observed = co.multi_crop_forward(encoder, crops)
    expected = []
    for crop in crops:
        same = torch.cat([encoder.conv(other) for other in crops if other.shape == crop.shape])
        mean = same.mean((0, 2, 3), keepdim=True)
        variance = same.var((0, 2, 3), keepdim=True, unbiased=False)
        normal = (encoder.conv(crop) - mean) / (variance + encoder.norm.eps).sqrt()
        expected.append(normal.relu().mean((2, 3)))
    torch.testing.assert_close(observed, torch.cat(expected))
    alone = torch.cat([encoder(crop) for crop in crops])
    assert (observed - alone).abs().max() > 0.1, "crop by crop is another function"
    assert int(encoder.norm.num_batches_tracked) == 2 + len(crops)


@given(order=st.permutations(range(5)))
def test_the_order_of_the_crops_is_only_the_order_of_the_rows(order: list[int]) -> None:
    """In training mode too: which crops share their statistics depends on their sizes alone."""
    encoder, crops = _Counting().double(), _crops(4, [6, 6, 4, 4, 4])
    rows = co.multi_crop_forward(encoder, crops).view(5, 4, -1)
    permuted = co.multi_crop_forward(encoder, [crops[v] for v in order]).view(5, 4, -1)
    torch.testing.assert_close(permuted, rows[list(order)])


def test_height_and_width_both_make_the_resolution() -> None:
    encoder, shapes = _Counting(), [(4, 6), (6, 4), (4, 6)]
    co.multi_crop_forward(encoder, [torch.rand(2, 3, *shape) for shape in shapes])
    assert encoder.calls == [(4, 3, 4, 6), (2, 3, 6, 4)]


def test_a_wrong_crop_is_found_before_the_encoder_is_called() -> None:
    encoder = _Counting()
    with pytest.raises(ValueError, match=r"crops\[2\]: expected a tensor of shape \(2, 3, H, W\)"):
        co.multi_crop_forward(encoder, [torch.rand(2, 3, 4, 4), torch.rand(2, 3, 4, 4), torch.rand(1, 3, 4, 4)])
    assert encoder.calls == []


def test_an_encoder_that_does_not_pool_is_named() -> None:
    with pytest.raises(ValueError, match=r"encoder: expected it to return \(2, 48\).*pool"):
        co.multi_crop_forward(lambda x: x.flatten(1), [torch.rand(2, 3, 4, 4), torch.rand(2, 3, 2, 2)])


def test_rows_of_the_small_views_of_dino_come_last() -> None:
    views = co.dino_views(torch.rand(3, 3, 24, 24), sizes=(8, 4), counts=(2, 3))
    rows = co.multi_crop_forward(lambda x: x.new_full((len(x), 1), x.shape[-1]), views).flatten()
    assert rows.tolist() == [8.0] * 6 + [4.0] * 9
