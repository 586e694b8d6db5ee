"""Laws of computing: finite results, precision, and gradients that belong to the value."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops.testing._evaluate import Inputs, Loss, cast, gradients, law, norm, value
from contrastive_ops.testing._violation import Broken, as_text, named

_HALVES = (torch.bfloat16, torch.float16)
_BATCHES = 8  # of hard pairs, taken together: the gradient of a single one may happen to vanish


@law
def finite(loss: Loss, inputs: Inputs) -> None:
    """Value and gradient are finite in float32, bf16 and fp16, under bf16 autocast, and for long rows."""
    single = cast(inputs, torch.float32)
    _is_finite(loss, single, "float32")
    _is_finite(loss, single, "bf16 autocast", autocast=torch.bfloat16)
    # of rows around 1: the exact gradient of very short ones would leave fp16
    even = [_evened(x) for x in single]
    for dtype in _HALVES:
        for factor in (1, 256):
            name = str(dtype).removeprefix("torch.")
            given = [x * factor if x.is_floating_point() else x for x in cast(even, dtype)]
            _is_finite(loss, given, name if factor == 1 else f"{name}, rows of length about {factor}")
    _is_finite(loss, [x * 1e4 if x.is_floating_point() else x for x in even], "float32, rows of length about 10^4")


def _evened(x: Tensor) -> Tensor:
    """Rows divided by a power of two, so that the largest entry of each is between 1/2 and 1."""
    if not x.is_floating_point():
        return x
    return x / x.abs().amax(-1, keepdim=True).clamp(min=1e-30).log2().ceil().exp2()


def _is_finite(loss: Loss, inputs: Inputs, where: str, *, autocast: torch.dtype | None = None) -> None:
    result, found = gradients(loss, inputs, autocast=autocast)
    if not torch.isfinite(result):
        raise Broken({**named(inputs), "in": where}, result, "a finite value")
    if not all(bool(torch.isfinite(g).all()) for g in found):
        count = sum(int((~torch.isfinite(g)).sum()) for g in found)
        raise Broken({**named(inputs), "in": where}, f"{count} NaN or infinite entries", "a finite gradient")


@law
def zero_rows(loss: Loss, inputs: Inputs) -> None:
    """A zero row (a dead ReLU, padding) gives no NaN and no gradient a thousand times that of a unit row there."""
    single = [_evened(x) for x in cast(inputs, torch.float32)]
    for position, rows in enumerate(single):
        if not rows.is_floating_point() or not len(rows):
            continue
        dead, alive = ([y.clone() for y in single] for _ in range(2))
        dead[position][0], alive[position][0] = 0.0, rows.shape[-1] ** -0.5
        usual = norm(gradients(loss, alive)[1])
        if not torch.isfinite(usual):
            continue  # whatever is wrong there is not the zero row
        result, found = gradients(loss, dead)
        length = norm(found)
        if not (torch.isfinite(result) and length <= 1000 * usual.clamp(min=1)):
            observed = f"value {as_text(result)}, gradient of length {as_text(length)}"
            raise Broken(named(dead), observed, f"finite, of length {as_text(usual)} as with a unit row, or so")


@law
def precision(loss: Loss, inputs: Inputs) -> None:
    """Under autocast and for half inputs, value and gradient are those of float64 to 1e-3 (5e-3 in bf16).

    Compared at the same rounded inputs: hard pairs of the shapes given, made here, eight batches of them taken
    together, as the gradient of a single one may happen to vanish. As PyTorch advises, the backward pass runs outside
    the autocast region.
    """
    for dtype in (torch.float32, *_HALVES):
        # an input that is used twice gets two gradients, each rounded to 8 bits before they are added, and cancel
        limit = 5e-3 if dtype == torch.bfloat16 else 1e-3
        lowered = torch.bfloat16 if dtype == torch.float32 else dtype
        errors, totals, worst = torch.zeros(2).double(), torch.zeros(2).double(), (0.0, inputs)
        for seed in range(_BATCHES):
            given = _hard(inputs, seed, dtype)
            (low, narrow), (high, wide) = gradients(loss, given, autocast=lowered), gradients(loss, cast(given))
            gap = norm([a.double() - b.double() for a, b in zip(narrow, wide, strict=True)])
            errors += torch.stack([(low.double() - high.double()).square(), gap.square()])
            totals += torch.stack([high.double().square(), norm(wide).square()])
            if not float(gap) <= worst[0]:
                worst = (float(gap), given)
        of_value, of_gradient = (errors / totals.clamp(min=1e-10)).sqrt().tolist()
        where = {
            **named(worst[1]),
            "in": f"{str(dtype).removeprefix('torch.')} inputs, {str(lowered).removeprefix('torch.')} autocast",
        }
        if not of_gradient <= limit:
            raise Broken(where, f"gradient off by {of_gradient:.2%}", f"at most {limit:.1%}")
        if not of_value <= 1e-3:
            raise Broken(where, f"value off by {of_value:.2%}", "at most 0.1%")


def _hard(inputs: Inputs, seed: int, dtype: torch.dtype) -> list[Tensor]:
    """Random rows whose partners are mostly noise, and random negatives, in the shapes of the inputs."""
    generator = torch.Generator().manual_seed(seed)
    made: list[Tensor] = []
    for position, x in enumerate(inputs):
        noise = torch.randn(x.shape, generator=generator)
        noise = made[0].float() + 4 * noise if position == 1 and made and made[0].shape == x.shape else noise
        made.append(noise.to(dtype) if x.is_floating_point() else x)
    return made


@law
def gradient(loss: Loss, inputs: Inputs) -> None:
    """Autograd's gradient is the slope of the value, argument by argument, unless an argument is stopped as a whole.

    Slopes are differences in float64 along three directions, of rows moved by a hundredth first, so that a kink at
    round numbers is no fault.
    """
    generator = torch.Generator().manual_seed(0)
    rows = [_beside(x, 0.01, generator) for x in cast(inputs)]
    result, found = gradients(loss, rows)
    step, limit = (1e-4, 1e-4) if result.dtype == torch.float64 else (1e-2, 3e-2)
    positions = [i for i, x in enumerate(rows) if x.is_floating_point()]
    for position, own in zip(positions, found, strict=True):
        if not own.any():
            continue
        for _ in range(3):
            way = _beside(rows[position], 1.0, generator) - rows[position]
            expected, observed = _slope(loss, rows, position, way, step), (own * way).sum()
            noise = limit * 1e-3 * result.double().abs().clamp(min=1)
            if not (observed - expected).abs() <= limit * max(observed.abs(), expected.abs()) + noise:
                example = {**named(rows), "argument": list(named(rows))[position], "along": way}
                raise Broken(example, observed, f"{as_text(expected)}, the slope of the value")


def _beside(x: Tensor, distance: float, generator: torch.Generator) -> Tensor:
    """Each row moved at random, by a part of its largest entry."""
    if not x.is_floating_point():
        return x
    noise = torch.randn(x.shape, generator=generator, dtype=x.dtype)
    return x + distance * x.abs().amax(-1, keepdim=True) * noise


def _slope(loss: Loss, rows: Inputs, position: int, way: Tensor, step: float) -> Tensor:
    """Central differences, extrapolated once (error of order step^4)."""

    def central(h: float) -> Tensor:
        ahead, behind = list(rows), list(rows)
        ahead[position], behind[position] = rows[position] + h * way, rows[position] - h * way
        return (value(loss, ahead).double() - value(loss, behind).double()) / (2 * h)

    return (4 * central(step / 2) - central(step)) / 3
