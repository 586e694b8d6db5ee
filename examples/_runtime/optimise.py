"""Precision, data parallelism, schedules and averaged weights: what stands around `loss.backward()`."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from functools import partial

import torch
from torch import Tensor, nn
from torch.optim import Optimizer
from torch_ema import ExponentialMovingAverage

from _runtime.launch import Run
from contrastive_ops import cosine_schedule

FUSED = {"sgd", "momentum", "adamw"}  # one pass over all parameters, also on CPUs: a fifth of the time there
OPTIMIZERS: dict[str, Callable[..., Optimizer]] = {  # torch's own, with weight decay of all parameters
    "adamw": partial(torch.optim.AdamW, fused=True),
    "sgd": partial(torch.optim.SGD, momentum=0.9, fused=True),
}
DTYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def distribute(net: nn.Module, run: Run) -> nn.Module:
    """Wraps `net` so that gradients are averaged over the ranks; alone, or without gradients, it stays as it is.

    Buffers are not broadcast: BN statistics are each rank's own, as in the papers, and nothing is sent for them.
    """
    if run.world_size == 1 or not any(p.requires_grad for p in net.parameters()):
        return net
    devices = [run.device] if run.device.type == "cuda" else None
    with warnings.catch_warnings():  # torch 2.15 renames the argument; the new name is unknown to torch 2.6
        warnings.filterwarnings("ignore", ".*broadcast_buffers.*", FutureWarning)
        return nn.parallel.DistributedDataParallel(net, device_ids=devices, broadcast_buffers=False)


def mixed_precision(precision: str, device: torch.device) -> tuple[torch.autocast, torch.amp.GradScaler]:
    """The context of the forward pass, which may be entered again and again, and what scales the loss in fp16."""
    if precision == "fp16" and device.type == "cpu":
        raise ValueError("--precision: fp16 needs a GPU, got device cpu; use bf16 or fp32")
    context = torch.autocast(device.type, dtype=DTYPES[precision], enabled=precision != "fp32")
    return context, torch.amp.GradScaler(device.type, enabled=precision == "fp16")


def create_optimizer(
    name: str, net: nn.Module, *, lr: float, weight_decay: float, decay_all: bool = False
) -> Optimizer:
    """timm's optimiser of that name (sgd, adamw, lars, lamb), with momentum 0.9 where it has one.

    Unless decay_all is set, biases and the parameters of norms get no weight decay, and no adapted rate from LARS.
    """
    from timm.optim import create_optimizer_v2

    options = {"momentum": 0.9, "filter_bias_and_bn": not decay_all, **({"fused": True} if name in FUSED else {})}
    optimizer = create_optimizer_v2(net, opt=name, lr=lr, weight_decay=weight_decay, **options)
    if isinstance(optimizer, torch.optim.SGD):  # fused, it fails where a first gradient comes later than others
        for parameter in (p for group in optimizer.param_groups for p in group["params"]):
            optimizer.state[parameter]["momentum_buffer"] = torch.zeros_like(parameter)
    return optimizer


def backward(loss: Tensor, optimizer: Optimizer, scaler: torch.amp.GradScaler) -> None:
    """Gradients of `loss`, unscaled: there to be looked at, clipped, or set to None."""
    optimizer.zero_grad(set_to_none=True)
    scaler.scale(loss).backward()
    scaler.unscale_(optimizer)


def clip_each(net: nn.Module, largest: float, *, frozen: nn.Module | None = None) -> None:
    """Shortens the gradient of each parameter by itself to the norm `largest`, where it is longer.

    The frozen part loses its gradients: the optimiser passes it over, weight decay and momentum included.
    """
    gradients = [p.grad for p in net.parameters() if p.grad is not None]
    norms = torch.stack(torch._foreach_norm(gradients))  # a few operations in all, not some for each parameter
    torch._foreach_mul_(gradients, (largest / (norms + 1e-6)).clamp_max_(1.0).unbind())
    if frozen is not None:
        frozen.zero_grad(set_to_none=True)


def apply(
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    *,
    lr: float,
    averaged: ExponentialMovingAverage | None = None,
) -> None:
    """One step of the optimiser along the gradients, and of the averaged weights, if there are any.

    A group of parameters with `constant_lr=True` keeps the rate it was made with.
    """
    for group in optimizer.param_groups:
        if not group.get("constant_lr"):
            group["lr"] = lr
    scaler.step(optimizer)
    scaler.update()
    if averaged:
        averaged.update()


def update(
    loss: Tensor,
    optimizer: Optimizer,
    scaler: torch.amp.GradScaler,
    *,
    lr: float,
    averaged: ExponentialMovingAverage | None = None,
) -> None:
    """Gradients of `loss` and one step along them. The gradients stay, unscaled, to be looked at."""
    backward(loss, optimizer, scaler)
    apply(optimizer, scaler, lr=lr, averaged=averaged)


def step_schedule(
    step: int,
    total_steps: int,
    start: float,
    *,
    warmup_steps: float = 0,
    milestones: tuple[float, ...] = (0.6, 0.8),
) -> float:
    """`start`, divided by ten at each milestone, given as a fraction of the run (120 and 160 of 200 epochs)."""
    rising = min(1.0, step / warmup_steps) if warmup_steps else 1.0
    return start * rising * 0.1 ** sum(step >= milestone * total_steps for milestone in milestones)


def linear_rise(epoch: int, epochs: int, start: float, end: float) -> float:
    """From `start` in the first epoch to `end` in the last of `epochs`, and `end` after them."""
    return end if epoch >= epochs else start + (end - start) * epoch / max(1, epochs - 1)


SCHEDULES: dict[str, Callable[..., float]] = {
    "cosine": partial(cosine_schedule, end=0.0),
    "step": step_schedule,
    "step-30-60-90": partial(step_schedule, milestones=(0.3, 0.6, 0.9)),  # of supervised training on ImageNet
    "sixths": partial(step_schedule, milestones=(3 / 6, 4 / 6, 5 / 6)),  # 120, 160 and 200 of 240 epochs
}


def average(net: nn.Module, decay: float) -> ExponentialMovingAverage | None:
    """A running average of the weights, for evaluation only; None when decay is 0."""
    return ExponentialMovingAverage(net.parameters(), decay=decay) if decay > 0 else None


def averaged_weights(averaged: ExponentialMovingAverage | None) -> AbstractContextManager[None]:
    """Inside this context the network has the averaged weights, if there are any."""
    return averaged.average_parameters() if averaged else nullcontext()
