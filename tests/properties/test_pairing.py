"""momentum_update remembers which tensors belong together: whatever changes in a network, it must see."""

from __future__ import annotations

import copy
import gc
import pickle
import weakref
from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn

import contrastive_ops as co
from contrastive_ops import _pairing
from tests.allocations import allocated, size


def _nets() -> tuple[nn.Sequential, nn.Sequential]:
    online = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 4)))
    target = copy.deepcopy(online)
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(torch.randn_like(parameter))
    return online, target


def _expected(online: nn.Module, target: nn.Module, m: float) -> dict[str, Tensor]:
    given = dict(online.named_parameters())
    return {name: m * t.detach() + (1 - m) * given[name].detach().to(t.dtype) for name, t in target.named_parameters()}


def _moves(online: nn.Module, target: nn.Module) -> None:
    """One step is right, whatever is remembered of the steps before."""
    expected = _expected(online, target, 0.75)
    co.momentum_update(online, target, 0.75)
    for name, value in target.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name])


def _new_weights(net: nn.Sequential) -> None:
    net[0].weight = nn.Parameter(torch.randn(4, 3))


def _new_module(net: nn.Sequential) -> None:
    net[2][1] = nn.Linear(4, 4)


def _exchanged(net: nn.Sequential) -> None:
    net[2][0], net[2][1] = net[2][1], net[2][0]


def _added(net: nn.Sequential) -> None:
    net.append(nn.Linear(4, 2))


def _tied(net: nn.Sequential) -> None:
    net[2][1].weight = net[2][0].weight


def _module_used_twice(net: nn.Sequential) -> None:
    net[2][1] = net[2][0]


def _dropped_bias(net: nn.Sequential) -> None:
    net[0].bias = None


def _renamed(net: nn.Sequential) -> None:
    parts = net[2]
    net[2] = nn.ModuleDict({"first": parts[1], "second": parts[0]})


def _wide(net: nn.Sequential) -> None:
    net.double()


def _other_values_in_place(net: nn.Sequential) -> None:
    for parameter in net.parameters():
        parameter.data = torch.randn_like(parameter)


CHANGES: tuple[Callable[[nn.Sequential], None], ...] = (
    _new_weights,
    _new_module,
    _exchanged,
    _added,
    _tied,
    _module_used_twice,
    _dropped_bias,
    _renamed,
    _wide,
    _other_values_in_place,
)


@pytest.mark.parametrize("change", CHANGES)
def test_changes_of_both_networks_are_seen(change: Callable[[nn.Sequential], None]) -> None:
    online, target = _nets()
    for _ in range(2):
        _moves(online, target)
    for net in (online, target):
        change(net)
    for _ in range(2):
        _moves(online, target)


@pytest.mark.parametrize("change", [_new_weights, _new_module, _exchanged, _other_values_in_place, _wide])
@pytest.mark.parametrize("side", [0, 1])
def test_changes_of_one_network_are_seen(change: Callable[[nn.Sequential], None], side: int) -> None:
    nets = _nets()
    _moves(*nets)
    change(nets[side])
    for _ in range(2):
        _moves(*nets)


def _longer(net: nn.Sequential) -> None:
    net[0].weight.data = torch.randn(4, 5)


def _elsewhere(net: nn.Sequential) -> None:
    net.to("meta")


@pytest.mark.parametrize("change", [_added, _tied, _dropped_bias, _renamed, _longer, _elsewhere])
@pytest.mark.parametrize("side", [0, 1])
def test_networks_that_no_longer_fit_raise_before_anything_changes(
    change: Callable[[nn.Sequential], None], side: int
) -> None:
    nets = _nets()
    _moves(*nets)
    change(nets[side])
    before = {name: value.clone() for name, value in nets[1].state_dict().items() if not value.is_meta}
    with pytest.raises(ValueError, match="target: expected"):
        co.momentum_update(*nets, 0.5)
    now = nets[1].state_dict()
    assert all(torch.equal(now[name], value) for name, value in before.items())


def test_a_weight_that_both_come_to_share_is_refused() -> None:
    online, target = _nets()
    _moves(online, target)
    target[0].weight = online[0].weight
    with pytest.raises(ValueError, match="the same"):
        co.momentum_update(online, target, 0.5)


def test_buffers_follow_too() -> None:
    online, target = _nets()
    co.momentum_update(online, target, 0.5)
    for net in (online, target):
        net[1].running_mean = torch.randn(4)
        net.register_buffer("scale", torch.randn(2))
    for buffers, m in (("copy", 0.0), ("ema", 0.5), ("copy", 0.0)):
        expected = m * target[1].running_mean + (1 - m) * online[1].running_mean
        co.momentum_update(online, target, 0.5, buffers=buffers)
        torch.testing.assert_close(target[1].running_mean, expected)
    assert torch.equal(target.scale, online.scale)


def test_copies_and_wrappers_move_their_own_tensors() -> None:
    online, target = _nets()
    _moves(online, target)
    for other in (copy.deepcopy(target), pickle.loads(pickle.dumps(target))):
        kept = copy.deepcopy(target.state_dict())
        _moves(online, other)
        assert all(torch.equal(value, kept[name]) for name, value in target.state_dict().items())
    expected = _expected(online, target, 0.5)
    co.momentum_update(nn.DataParallel(online), torch.compile(target, backend="eager"), 0.5)
    for name, value in target.named_parameters():
        torch.testing.assert_close(value.detach(), expected[name])


def test_two_networks_take_turns_with_one_target() -> None:
    first, target = _nets()
    second, _ = _nets()
    for online in (first, second, first, first, second):
        _moves(online, target)


def test_names_are_looked_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    online, target = _nets()
    calls: list[str] = []
    original = _pairing._by_name
    monkeypatch.setattr(_pairing, "_by_name", lambda *args: (calls.append(args[2]), original(*args))[1])
    for _ in range(3):
        co.momentum_update(online, target, 0.5)
    assert calls == ["parameter", "buffer"]
    _tied(online)
    _tied(target)
    for _ in range(2):
        co.momentum_update(online, target, 0.5)
    assert calls == ["parameter", "buffer", "parameter"]


def test_what_is_remembered_keeps_nothing_alive() -> None:
    online, target = _nets()
    co.momentum_update(online, target, 0.5)
    alive = [weakref.ref(x) for net in (online, target) for x in (net, net[0], net[0].weight)]
    del online
    gc.collect()
    assert [ref() is None for ref in alive] == [True] * 3 + [False] * 3
    del target
    gc.collect()
    assert all(ref() is None for ref in alive)


def test_no_temporaries() -> None:
    """Nothing but numbers is made; a network of another dtype is converted a part at a time."""
    online = nn.Sequential(*[nn.Linear(64, 64) for _ in range(20)], nn.BatchNorm1d(64))
    target = copy.deepcopy(online)
    for buffers in ("copy", "ema", "keep"):
        assert allocated(co.momentum_update, online, target, 0.9, buffers=buffers).made == []


def test_another_dtype_is_converted_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("contrastive_ops.momentum._CONVERTED", 64 * 64)
    online = nn.Sequential(*[nn.Linear(64, 64) for _ in range(20)]).bfloat16()
    for target in (copy.deepcopy(online).float(), copy.deepcopy(online), copy.deepcopy(online).double()):
        expected = {name: value.detach().double().clone() for name, value in target.named_parameters()}
        with torch.no_grad():
            for parameter in online.parameters():
                parameter.add_(1)
        _moves_to(expected, online, target)
        seen = allocated(co.momentum_update, online, target, 0.5)
        assert seen.largest <= size(torch.empty(64, 64, dtype=torch.float64))


def _moves_to(expected: dict[str, Tensor], online: nn.Module, target: nn.Module) -> None:
    co.momentum_update(online, target, 0.5)
    for (name, value), source in zip(target.named_parameters(), online.parameters(), strict=True):
        middle = (expected[name] + source.detach().double()) / 2
        torch.testing.assert_close(value.detach(), middle.to(value.dtype), rtol=1e-2, atol=1e-2)
