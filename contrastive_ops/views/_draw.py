"""One number per image, the images that it chooses, and the checks that every augmentation makes.

Numbers are drawn where the generator lives (the CPU without one) and then moved: the same seed gives the same views
on every device, and choosing a subset by them waits for nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from contrastive_ops import _checks

_CHUNK = 1 << 20  # values that are worked on at once: what one step writes, the next finds in the cache


def check_images(images: object, generator: object, *, channels: int | str = "C") -> Tensor:
    """Float images (B, C, H, W)."""
    checked = _checks.is_floating("images", images, shape=("B", channels, "H", "W"))
    _checks.is_generator(generator)
    return checked


def check_view(images: object, size: object, generator: object) -> None:
    """What a recipe takes: colour images (B, 3, H, W) and the side of the view."""
    check_images(images, generator, channels=3)
    _checks.is_count("size", size)


def check_span(name: str, span: Sequence[float], *, low: float = 0.0, high: float = float("inf")) -> None:
    """A pair (smallest, largest) within [low, high]."""
    if not isinstance(span, Sequence) or len(span) != 2:
        raise TypeError(f"{name}: expected a pair (smallest, largest), got {_checks.show(span)}")
    for value in span:
        _checks.is_real(name, value, low=low, high=high)
    if span[0] > span[1]:
        raise ValueError(f"{name}: expected the smaller number first, got {span!r}")


def check_scale(scale: Sequence[float]) -> None:
    """Shares of an image's area, in (0, 1]."""
    check_span("scale", scale, high=1.0)
    if scale[0] <= 0:
        raise ValueError(f"scale: expected numbers above 0, got {scale!r}")


def uniform(count: int | tuple[int, ...], low: float, high: float, generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in [low, high)."""
    return _unit(count, generator).mul_(high - low).add_(low)


def uniforms(count: int, spans: Sequence[tuple[float, float]], generator: torch.Generator | None) -> Tensor:
    """(n, count) numbers, row i in [low_i, high_i): what n calls of `uniform` would draw one after the other."""
    on_cpu = generator is None or generator.device.type == "cpu"
    if on_cpu and not torch.compiler.is_compiling():
        drawn = _unit((len(spans), count), generator)  # the CPU's numbers come in sequence, a GPU's do not
    else:
        drawn = torch.stack([_unit(count, generator) for _ in spans])
    low, width = drawn.new_tensor([[low, high - low] for low, high in spans]).view(-1, 2, 1).unbind(1)
    return drawn.mul_(width).add_(low)


def chosen(count: int, p: float, generator: torch.Generator | None) -> Tensor:
    """(count,) bool, True with probability p, where the generator lives."""
    return _unit(count, generator) < p


def _unit(count: int | tuple[int, ...], generator: torch.Generator | None) -> Tensor:
    """Uniform numbers in [0, 1)."""
    shape = (count,) if isinstance(count, int) else count
    device = torch.device("cpu") if generator is None else generator.device
    return torch.rand(shape, generator=generator, device=device)


def direct(images: Tensor) -> bool:
    """Whether rows may be chosen by value and written in place: on CPU, neither traced nor differentiated."""
    if not _checks.readable(images) or (images.requires_grad and torch.is_grad_enabled()):
        return False
    return forward_ad.unpack_dual(images).tangent is None  # type: ignore[no-untyped-call]


def at_once(values: int) -> int:
    """How many images of so many values one step takes on CPU."""
    return max(1, _CHUNK // max(1, values))


def change_some(
    images: Tensor, some: Tensor, change: Callable[[Tensor, Tensor | slice], Tensor], *, own: bool
) -> Tensor:
    """The images, those where `some` (B,) is True changed.

    `change` gets images and which of the batch they are. With `own` the images' memory may be taken for the result.
    """
    some = some.to(images.device)
    if not direct(images):
        return torch.where(some.view(-1, 1, 1, 1), change(images, slice(None)), images)
    rows, step = some.nonzero().squeeze(1), at_once(images[:1].numel())
    if not own and 4 * len(rows) > 3 * len(images):  # quicker: change all, and put the others back
        result, rest = change(images, slice(None)).contiguous(), (~some).nonzero().squeeze(1)
        return result.index_copy_(0, rest, images.index_select(0, rest)) if len(rest) else result
    result = images if own else images.clone()
    for start in range(0, len(rows), step):
        part = rows[start : start + step]
        result.index_copy_(0, part, change(result.index_select(0, part), part))
    return result


def runs(some: Tensor) -> list[tuple[int, int]]:
    """Start and end of each run of True in (B,)."""
    edges = [False, *some.tolist(), False]
    turns = [i for i in range(len(edges) - 1) if edges[i] != edges[i + 1]]
    return list(zip(turns[::2], turns[1::2], strict=True))
