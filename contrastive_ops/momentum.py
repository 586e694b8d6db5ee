"""The momentum encoder's update and the schedules that drive it."""

from __future__ import annotations

from collections.abc import MutableMapping
from math import cos, pi

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakTensorKeyDictionary

from contrastive_ops import _checks
from contrastive_ops._pairing import Group, paired

_BUFFERS = ("copy", "ema", "keep")
_HALF = (torch.bfloat16, torch.float16)
# A step of 0.001 is below half a unit in the last place of bf16, so targets in half precision would stand still.
# Their float32 values live here, as long as the parameter does; see momentum_update.
_masters: MutableMapping[Tensor, tuple[Tensor, int]] = WeakTensorKeyDictionary()
_CONVERTED = 2**20  # online values of another dtype that are converted at a time


@torch.no_grad()
def momentum_update(online: nn.Module, target: nn.Module, momentum: float, *, buffers: str = "copy") -> None:
    r"""Move the target's parameters a small step towards the online network's, in place.

    $$\theta_\text{target} \leftarrow m\,\theta_\text{target} + (1 - m)\,\theta_\text{online}$$

    `momentum` multiplies the old value. Parameters and buffers are paired by name; the prefixes that DDP and
    `torch.compile` add are ignored. The dtypes of the two networks may differ; arithmetic is in float32 (float64
    stays). For a target in bf16 or fp16 the sum is carried in float32 beside it, since steps of (1 - m) would vanish
    in rounding; that remainder, smaller than one unit in the last place, is not part of `target.state_dict()`, so
    keep the target in float32 (`copy.deepcopy(online).float()`) where resuming must be exact.

    Args:
        online: the network that is trained.
        target: a network with the same parameters and buffers, changed in place.
        momentum: m in [0, 1]; 0 copies, 1 leaves everything as it is.
        buffers: "copy": the online network's buffers as they are; "ema": floating buffers like parameters, integer
            ones copied; "keep": the target's own (MoCo, BYOL, DINO: the target normalises with its own statistics).

    Raises:
        ValueError: a name has no partner or another shape or device, both share memory, or m is outside [0, 1].
        TypeError: an argument is of the wrong type.

    Example:
        >>> online, target = nn.Linear(1, 1, bias=False), nn.Linear(1, 1, bias=False)
        >>> _ = nn.init.constant_(online.weight, 1.0), nn.init.constant_(target.weight, 0.0)
        >>> momentum_update(online, target, 0.99)
        >>> print(f"{target.weight.item():.4f}")
        0.0100

    References:
        "Momentum Contrast" (He et al., 2020), equation 2. Buffers are not averaged there.
    """
    for name, module in (("online", online), ("target", target)):
        if not isinstance(module, nn.Module):
            raise TypeError(f"{name}: expected an nn.Module, got {_checks.show(module)}")
    _checks.is_choice("buffers", buffers, _BUFFERS)
    _checks.is_real("momentum", momentum, low=0, high=1, why="it multiplies the old value: 0.999, not 0.001")
    averaged = paired(online, target, "parameter")
    copied: list[Group] = []
    if buffers != "keep":
        for group in paired(online, target, "buffer"):
            moves = buffers == "ema" and group[0][0].dtype.is_floating_point
            (averaged if moves else copied).append(group)
    for onlines, targets in copied:
        torch._foreach_copy_(targets, onlines)
    for onlines, targets in averaged:
        if targets[0].dtype in _HALF:
            _move_half(targets, onlines, 1 - momentum)
        else:
            _move(targets, onlines, 1 - momentum)


def _move(targets: list[Tensor], onlines: list[Tensor], weight: float) -> None:
    """target <- target + weight (online - target): one pass over both and no temporaries where dtypes are equal."""
    dtype = targets[0].dtype
    if onlines[0].dtype == dtype:
        torch._foreach_lerp_(targets, onlines, weight)
        return
    start, size = 0, 0
    for end, online in enumerate(onlines, start=1):
        size += online.numel()
        if size >= _CONVERTED or end == len(onlines):
            torch._foreach_lerp_(targets[start:end], [x.to(dtype) for x in onlines[start:end]], weight)
            start, size = end, 0


def _move_half(targets: list[Tensor], onlines: list[Tensor], weight: float) -> None:
    """The same on the float32 values of half-precision targets, which are rounded from them."""
    masters = [_master(target) for target in targets]
    _move(masters, onlines, weight)
    torch._foreach_copy_(targets, masters)
    for target, master in zip(targets, masters, strict=True):
        _masters[target] = master, target._version


def _master(target: Tensor) -> Tensor:
    """The float32 value of a half-precision target; made anew when somebody else has written the target.

    Autograd's count of writes tells: comparing the values would wait for the device.
    """
    master, version = _masters.get(target, (target, -1))
    if version != target._version or master.device != target.device:
        master = target.detach().float()
    return master


def cosine_schedule(
    step: float,
    total_steps: float,
    start: float,
    end: float,
    *,
    warmup_steps: float = 0,
    warmup_start: float = 0.0,
) -> float:
    r"""A value that rises linearly, then follows half a cosine: learning rates, momenta, weight decays.

    $$v(t) = \begin{cases} v_w + (v_0 - v_w)\,t / t_w & t < t_w \\
      v_1 + (v_0 - v_1)\,\tfrac12\big(1 + \cos \pi\tfrac{t - t_w}{T - t_w}\big) & t_w \le t \le T \end{cases}$$

    A pure function: nothing to save, nothing to step, `start` exactly at `warmup_steps` and `end` exactly at
    `total_steps` and after it.

    Args:
        step: t >= 0, in steps or in (fractional) epochs.
        total_steps: T > warmup_steps, in the same unit.
        start: v_0, reached at `warmup_steps`.
        end: v_1, reached at `total_steps`.
        warmup_steps: t_w >= 0.
        warmup_start: v_w, the value at step 0 when there is a warm-up.

    Returns:
        The value, a float.

    Raises:
        ValueError: a number is negative or not finite, or `total_steps` is not above `warmup_steps`.
        TypeError: an argument is no number.

    Example:
        >>> [round(cosine_schedule(step, 10, 1.0, 0.0, warmup_steps=2), 3) for step in (0, 1, 2, 6, 10, 99)]
        [0.0, 0.5, 1.0, 0.5, 0.0, 0.0]

    References:
        "SGDR" (Loshchilov and Hutter, 2017), equation 5, without restarts; BYOL (Grill et al., 2020), section 3.2,
        for momenta that rise to 1.
    """
    _checks.is_real("step", step, low=0)
    _checks.is_real("warmup_steps", warmup_steps, low=0)
    _checks.is_real("total_steps", total_steps, low=0)
    for name, value in (("start", start), ("end", end), ("warmup_start", warmup_start)):
        _checks.is_real(name, value)
    if total_steps <= warmup_steps:
        raise ValueError(f"total_steps: expected more than warmup_steps={warmup_steps}, got {total_steps}")
    if step < warmup_steps:
        return float(warmup_start + (start - warmup_start) * (step / warmup_steps))
    progress = min(1.0, (step - warmup_steps) / (total_steps - warmup_steps))
    share = (1 + cos(pi * progress)) / 2
    return float(share * start + (1 - share) * end)
