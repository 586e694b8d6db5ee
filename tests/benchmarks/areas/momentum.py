"""The update of a momentum encoder, against the copy of as many bytes."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import lru_cache

import torch
from torch import Tensor, nn

import contrastive_ops as co
from tests.benchmarks import floors
from tests.benchmarks.contest import FLOOR, FORM, OURS, PEER, Area, Contest, Entry, Run, Size
from tests.benchmarks.targets import faster, memory_below, within

M, APART = 0.99, 0.9


@lru_cache(maxsize=1)
def _networks(name: str) -> tuple[nn.Module, nn.Module]:
    """The online network and its target, which all contestants share: what they do to it costs the same each time."""
    import timm

    online = timm.create_model(name)
    return online, copy.deepcopy(online).requires_grad_(False)


@torch.no_grad()
def _started(name: str) -> tuple[nn.Module, nn.Module]:
    online, target = _networks(name)
    for old, new in zip(target.parameters(), online.parameters(), strict=True):
        old.copy_(APART * new)
    return online, target


def _watched(parameters: list[Tensor]) -> list[Tensor]:
    return [parameters[0], parameters[len(parameters) // 2], parameters[-1]]


def _run(name: str, update: Callable[[nn.Module, nn.Module], Callable[[], object]]) -> Run:
    online, target = _started(name)
    step, watched = torch.no_grad()(update(online, target)), _watched(list(target.parameters()))

    def run() -> list[Tensor]:
        step()
        return watched

    return run


def _reassigned(online: nn.Module, target: nn.Module) -> None:
    """MoCo's released form: a new tensor takes the place of each parameter's."""
    for new, old in zip(online.parameters(), target.parameters(), strict=True):
        old.data = old.data * M + new.data * (1.0 - M)


def _multiplied(online: nn.Module, target: nn.Module) -> None:
    """DINO's released form."""
    for new, old in zip(online.parameters(), target.parameters(), strict=True):
        old.data.mul_(M).add_((1 - M) * new.detach().data)


def _lightly(online: nn.Module, target: nn.Module) -> Callable[[], object]:
    from lightly.models.utils import update_momentum

    return lambda: update_momentum(online, target, M)


def _timm(name: str) -> Run:
    from timm.utils import ModelEmaV3

    online, target = _started(name)
    average = ModelEmaV3(target, decay=M)
    watched = _watched(list(average.module.parameters()))

    def run() -> list[Tensor]:
        average.update(online)
        return watched

    return run


def _torch_ema(name: str) -> Run:
    from torch_ema import ExponentialMovingAverage

    online, target = _started(name)
    average = ExponentialMovingAverage(target.parameters(), decay=M, use_num_updates=False)
    watched, parameters = _watched(average.shadow_params), list(online.parameters())

    def run() -> list[Tensor]:
        average.update(parameters)
        return watched

    return run


def _swa(name: str) -> Run:
    from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

    online, target = _started(name)
    average = AveragedModel(target, multi_avg_fn=get_ema_multi_avg_fn(M))
    average.update_parameters(target)  # the first update copies
    watched = _watched(list(average.module.parameters()))

    def run() -> list[Tensor]:
        average.update_parameters(online)
        return watched

    return run


def contest(size: Size) -> Contest:
    name = str(size["network"])

    def count() -> int:
        return sum(p.numel() for p in _networks(name)[0].parameters())

    def expected() -> list[Tensor]:
        online, _ = _networks(name)
        return [(M * APART + 1 - M) * p.detach().double() for p in _watched(list(online.parameters()))]

    def stepwise(step: Callable[[nn.Module, nn.Module], object]) -> Run:
        return _run(name, lambda online, target: lambda: step(online, target))

    entries = {
        "copy": Entry(lambda: floors.copy(count()), FLOOR),
        "ours": Entry(lambda: stepwise(lambda o, t: co.momentum_update(o, t, M, buffers="keep")), OURS),
        "MoCo's released form": Entry(lambda: stepwise(_reassigned), FORM),
        "DINO's released form": Entry(lambda: stepwise(_multiplied), FORM),
        "lightly": Entry(lambda: _run(name, _lightly), PEER, "lightly"),
        "timm": Entry(lambda: _timm(name), PEER, "timm"),
        "torch-ema": Entry(lambda: _torch_ema(name), PEER, "torch-ema"),
        "torch swa_utils": Entry(lambda: _swa(name), PEER),
    }
    return Contest(entries, expected, tolerance=1e-5)


SIZES = [{"network": name} for name in ("resnet50", "vit_base_patch16_224")]

AREAS = (
    Area(
        "momentum", "Momentum update",
        "All parameters of ResNet-50 (25.6 million) and ViT-B/16 (86.6 million); the floor copies as many numbers "
        "from one flat tensor to another. timm and swa_utils may average buffers, too.",
        contest, sizes=SIZES, quick=[{"network": "resnet18"}], toy={"network": "test_resnet"}, remember=SIZES,
        targets=[
            target
            for size in SIZES
            for target in (
                within("ours", "copy", 1.1, size),
                faster("MoCo's released form", 4, size),
                faster("lightly", 1.5, size),
                memory_below(1, "no temporaries", size),
            )
        ],
    ),
)  # fmt: skip
