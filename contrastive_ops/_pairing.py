"""Which tensors of two networks belong together: by name, worked out once and remembered.

Finding all names of a network takes as long as a good part of the momentum update itself. What is remembered is no
tensor and no module, but weak references to the modules and an account of all that the pairs depend on: who is whose
child, all names, and each tensor's identity, shape, dtype and device. It is taken anew each time; where it differs in
anything, names are looked at again.
"""

from __future__ import annotations

import weakref
from collections.abc import Iterator, MutableMapping
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.utils.weak import WeakIdKeyDictionary

from contrastive_ops import _checks

Group = tuple[list[Tensor], list[Tensor]]  # online's tensors and target's, each of one dtype and device


class _Plan(NamedTuple):
    online: weakref.ref[nn.Module]
    modules: list[weakref.ref[nn.Module]]  # of both networks
    account: list[Any]
    places: list[tuple[list[int], list[int]]]  # of the groups' tensors among all tensors of the modules


_plans: dict[str, MutableMapping[nn.Module, _Plan]] = {
    "parameter": WeakIdKeyDictionary(),
    "buffer": WeakIdKeyDictionary(),
}


def paired(online: nn.Module, target: nn.Module, kind: str) -> list[Group]:
    """Both networks' tensors of a kind ("parameter", "buffer") in the same order, by dtypes and device.

    Raises:
        ValueError: a name has no partner or another shape or device, or both are the same tensor.
    """
    if torch.compiler.is_compiling():
        return _by_dtype(_by_name(online, target, kind))
    groups = _remembered(online, target, kind)
    return _found(online, target, kind) if groups is None else groups


def _remembered(online: nn.Module, target: nn.Module, kind: str) -> list[Group] | None:
    plan = _plans[kind].get(target)
    if plan is None or plan.online() is not online:
        return None
    modules = [module for ref in plan.modules if (module := ref()) is not None]
    if len(modules) < len(plan.modules):
        return None
    tensors, account = _look(modules, kind)
    if account != plan.account:
        return None
    return [([tensors[i] for i in ours], [tensors[i] for i in theirs]) for ours, theirs in plan.places]


def _found(online: nn.Module, target: nn.Module, kind: str) -> list[Group]:
    groups = _by_dtype(_by_name(online, target, kind))
    modules = [*online.modules(), *target.modules()]
    tensors, account = _look(modules, kind)
    place = {id(x): i for i, x in enumerate(tensors)}
    # a module may name tensors that are not in its tree: then nothing is remembered
    if all(id(x) in place for group in groups for side in group for x in side):
        places = [([place[id(x)] for x in ours], [place[id(x)] for x in theirs]) for ours, theirs in groups]
        _plans[kind][target] = _Plan(weakref.ref(online), [weakref.ref(m) for m in modules], account, places)
    return groups


def _look(modules: list[nn.Module], kind: str) -> tuple[list[Tensor], list[Any]]:
    """All tensors of a kind that the modules hold themselves, and the account."""
    stores: list[Any] = [m._parameters for m in modules] if kind == "parameter" else [m._buffers for m in modules]
    children: list[Any] = [m._modules for m in modules]
    counts = list(map(len, stores)), list(map(len, children))
    holding, parents = list(filter(None, stores)), list(filter(None, children))
    held = [x for store in holding for x in store.values()]
    family = [id(child) for of_one in parents for child in of_one.values()]
    names = [name for one in (*holding, *parents) for name in one.keys()]  # noqa: SIM118 (TorchScript's has only keys)
    tensors = [x for x in held if x is not None]
    facts = [x.shape for x in tensors], [x.dtype for x in tensors], [x.device for x in tensors]
    return tensors, [counts, names, family, list(map(id, held)), facts]


def _by_name(online: nn.Module, target: nn.Module, kind: str) -> list[tuple[Tensor, Tensor]]:
    """(online, target) tensors of the same name; every name needs its partner."""
    left, right = dict(_plainly_named(online, kind)), dict(_plainly_named(target, kind))
    if lonely := sorted(set(left) ^ set(right)):
        side = "online" if lonely[0] in left else "target"
        raise ValueError(
            f"target: expected the same {kind} names as online, but {lonely[0]!r} is only in {side} "
            f"({len(lonely)} without a partner); build it with copy.deepcopy(online)"
        )
    for name, value in left.items():
        other = right[name]
        if value.shape != other.shape or value.device != other.device:
            raise ValueError(
                f"target: expected {kind} {name!r} like online's {_checks.show(value)} on {value.device}, "
                f"got {_checks.show(other)} on {other.device}"
            )
        if value is other:
            raise ValueError(f"target: expected {kind} {name!r} apart from online's, got the same; use copy.deepcopy")
    return [(value, right[name]) for name, value in left.items()]


def _plainly_named(module: nn.Module, kind: str) -> Iterator[tuple[str, Tensor]]:
    """Names without the parts that torch.compile and (Distributed)DataParallel put in."""
    wrappers = (nn.DataParallel, nn.parallel.DistributedDataParallel)
    wrapped = {name for name, child in module.named_modules() if isinstance(child, wrappers)}

    def plain(name: str) -> str:
        parts, kept = name.split("."), []
        for i, part in enumerate(parts):
            inside = part == "_orig_mod" or (part == "module" and ".".join(parts[:i]) in wrapped)
            kept += [] if inside else [part]
        return ".".join(kept)

    named = module.named_parameters() if kind == "parameter" else module.named_buffers()
    return ((plain(name), value) for name, value in named)


def _by_dtype(pairs: list[tuple[Tensor, Tensor]]) -> list[Group]:
    groups: dict[tuple[torch.dtype, torch.dtype, torch.device], Group] = {}
    for online, target in pairs:
        onlines, targets = groups.setdefault((online.dtype, target.dtype, target.device), ([], []))
        onlines.append(online)
        targets.append(target)
    return list(groups.values())
