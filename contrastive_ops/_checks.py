"""Input errors, in one place: which argument, what was expected, what came, what to do.

Everything here runs before any state changes and before any collective is entered. Values inside tensors are looked
at only where that costs no synchronisation, that is on CPU, and not while `torch.compile` traces.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import isfinite
from typing import Any

import torch
from torch import Tensor


def show(value: object) -> str:
    """A short account of what came: a tensor by dtype and shape, anything else by type and value."""
    if isinstance(value, Tensor):
        return f"{str(value.dtype).removeprefix('torch.')} tensor of shape {tuple(value.shape)}"
    return f"{type(value).__name__} {value!r}"


def is_tensor(name: str, value: object, *, shape: Sequence[str | int], at_least: bool = False) -> Tensor:
    """A tensor with as many dimensions as `shape` names; integers in `shape` must match, words only explain.

    `at_least` lets more dimensions follow.
    """
    if not isinstance(value, Tensor):
        raise TypeError(f"{name}: expected a tensor of shape {_wanted(shape, at_least)}, got {show(value)}")
    found = value.shape
    fits = len(found) >= len(shape) if at_least else len(found) == len(shape)
    for i in range(len(shape) if fits else 0):  # by index: torch 2.6 does not trace enumerate here
        fits = fits and (shape[i] == found[i] or isinstance(shape[i], str))
    if not fits:
        raise ValueError(f"{name}: expected a tensor of shape {_wanted(shape, at_least)}, got {show(value)}")
    return value


def _wanted(shape: Sequence[str | int], at_least: bool) -> str:
    return "(" + ", ".join(map(str, shape)) + (", ...)" if at_least else ",)" if len(shape) == 1 else ")")


def is_floating(
    name: str, value: object, *, shape: Sequence[str | int], at_least: bool = False, values: bool = True
) -> Tensor:
    """A floating-point tensor of `shape`; on CPU also free of NaN and infinity, unless `values` are for later."""
    tensor = is_tensor(name, value, shape=shape, at_least=at_least)
    if not tensor.dtype.is_floating_point:
        raise TypeError(f"{name}: expected floating-point values, got {show(tensor)}; convert it with .float()")
    if values and readable(tensor):
        _is_finite(name, tensor.detach())
    return tensor


def _is_finite(name: str, tensor: Tensor) -> None:
    # a NaN or an infinity shows in the sum, which makes no temporaries; a sum may overflow by itself, so look then
    if not isfinite(tensor.sum()) and not bool(torch.isfinite(tensor).all()):
        count = int((~torch.isfinite(tensor)).sum())
        raise ValueError(
            f"{name}: expected finite values, got {count} NaN or infinite of {tensor.numel()}; "
            "look for a diverged network, a division by zero or an overflow in what computed it"
        )


def finite_inputs(result: Tensor, **tensors: Tensor) -> Tensor:
    """The result, in which a NaN or an infinity of these tensors would show: one look instead of one at each."""
    if readable(result) and not isfinite(result.detach().sum() if result.ndim else result.detach()):
        for name, tensor in tensors.items():
            _is_finite(name, tensor.detach())
    return result


def same_rows(*, values: bool = True, **tensors: object) -> None:
    """Floating-point tensors (B, D), all of the shape and on the device of the first."""
    (name, value), *others = tensors.items()
    first = is_floating(name, value, shape=("B", "D"), values=values)
    for other, value in others:
        same_device(**{name: first, other: is_floating(other, value, shape=first.shape, values=values)})


def is_distribution(name: str, value: object, *, shape: Sequence[str | int]) -> Tensor:
    """A floating-point tensor of `shape`; on CPU also with rows of probabilities, to what half precision rounds."""
    tensor = is_floating(name, value, shape=shape)
    if readable(tensor) and tensor.numel():
        sums = tensor.detach().sum(-1, dtype=torch.float64)
        low, high, least = float(sums.min()), float(sums.max()), float(tensor.detach().min())
        if least < 0 or low < 0.98 or high > 1.02:
            raise ValueError(
                f"{name}: expected rows of probabilities that sum to 1, got sums from {low:.4g} to {high:.4g} and a "
                f"smallest entry of {least:.4g}; pass probabilities, not scores or logits"
            )
    return tensor


def is_index(name: str, value: object, *, shape: Sequence[str | int], below: int | None = None) -> Tensor:
    """An integer tensor of `shape`; on CPU also with values in [0, below)."""
    tensor = is_tensor(name, value, shape=shape)
    if tensor.dtype.is_floating_point or tensor.dtype.is_complex or tensor.dtype == torch.bool:
        raise TypeError(f"{name}: expected integers, got {show(tensor)}; convert it with .long()")
    if readable(tensor) and tensor.numel():
        low, high = int(tensor.min()), int(tensor.max())
        if low < 0 or (below is not None and high >= below):
            limit = "or more" if below is None else f"to {below - 1}"
            raise ValueError(f"{name}: expected values from 0 {limit}, got values from {low} to {high}")
    return tensor


def is_mask(name: str, value: object, *, shape: Sequence[str | int]) -> Tensor:
    """A boolean tensor of `shape`."""
    tensor = is_tensor(name, value, shape=shape)
    if tensor.dtype != torch.bool:
        raise TypeError(f"{name}: expected booleans, True where dropped, got {show(tensor)}; convert it with .bool()")
    return tensor


def readable(tensor: Tensor) -> bool:
    """Whether looking at the values costs nothing: on CPU and not while compiling."""
    return tensor.is_cpu and not torch.compiler.is_compiling()


def same_device(**tensors: Tensor | None) -> None:
    """All tensors that are given lie on the device of the first."""
    first = None
    for name, tensor in tensors.items():
        if tensor is None:
            continue
        if first is None:
            first, device = name, tensor.device
        elif tensor.device != device:
            raise ValueError(
                f"{name}: expected device {device} as {first}, got {tensor.device}; move it with .to({first}.device)"
            )


def is_real(name: str, value: Any, *, low: float = float("-inf"), high: float = float("inf"), why: str = "") -> None:
    """A finite Python number in [low, high]."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a number, got {show(value)}")
    if not (isfinite(value) and low <= value <= high):
        span = f"in [{low:g}, {high:g}]" if high < float("inf") else f"of at least {low:g}"
        raise ValueError(f"{name}: expected a finite number {span}, got {value!r}{why and '; ' + why}")


def is_positive(name: str, value: Any, *, why: str = "") -> None:
    """A finite Python number above zero, or a tensor of no dimensions that holds one."""
    if isinstance(value, Tensor):
        if value.ndim != 0 or not value.dtype.is_floating_point:
            raise ValueError(f"{name}: expected a number or a floating tensor of shape (), got {show(value)}")
        if not readable(value):
            return
        value = float(value.detach())
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        raise TypeError(f"{name}: expected a positive number, got {show(value)}")
    if not (isfinite(value) and value > 0):
        raise ValueError(f"{name}: expected a finite number above 0, got {value!r}{why and '; ' + why}")


def is_count(name: str, value: Any, *, low: int = 1) -> None:
    """A Python integer of at least `low`."""
    if isinstance(value, bool) or not isinstance(value, int):
        raise TypeError(f"{name}: expected an integer, got {show(value)}")
    if value < low:
        raise ValueError(f"{name}: expected an integer of at least {low}, got {value}")


def is_size(name: str, value: Any) -> None:
    """A count, or a pair of counts (height, width)."""
    pair = value if isinstance(value, (tuple, list)) else (value, value)
    if len(pair) != 2:
        raise ValueError(f"{name}: expected an integer or a pair (height, width), got {show(value)}")
    for count in pair:
        is_count(name, count)


def is_choice(name: str, value: object, choices: Sequence[object]) -> None:
    """One of the choices."""
    for choice in choices:
        if type(value) is type(choice) and value == choice:
            return
    raise ValueError(f"{name}: expected one of {', '.join(map(repr, choices))}, got {value!r}")


def is_maker(name: str, value: object) -> None:
    """None, or what makes a module from a width."""
    if value is not None and not callable(value):
        raise TypeError(f"{name}: expected a callable from a width to a module, or None, got {show(value)}")


def is_flag(name: str, value: object) -> None:
    """True or False."""
    if not isinstance(value, bool):
        raise TypeError(f"{name}: expected True or False, got {show(value)}")


def is_generator(generator: object) -> None:
    """A `torch.Generator` or None."""
    if generator is not None and not isinstance(generator, torch.Generator):
        raise TypeError(f"generator: expected a torch.Generator or None, got {show(generator)}")
