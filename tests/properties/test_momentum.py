"""momentum_update and cosine_schedule: closed forms, torch_ema, low precision, names."""

from __future__ import annotations

import copy
import io
from math import pi

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor, nn
from torch_ema import ExponentialMovingAverage

import contrastive_ops as co
from tests import oracles

MOMENTA = st.floats(0, 1)


def _pair(dtype: torch.dtype = torch.float64) -> tuple[nn.Module, nn.Module]:
    online = nn.Sequential(nn.Conv2d(2, 3, 1), nn.BatchNorm2d(3), nn.Flatten(), nn.Linear(3, 2)).to(dtype)
    target = copy.deepcopy(online)
    with torch.no_grad():
        for parameter in online.parameters():
            parameter.add_(torch.randn_like(parameter))
    return online, target


@given(MOMENTA, st.integers(1, 6))
def test_equals_the_oracle(m: float, steps: int) -> None:
    online, target = _pair()
    expected = [
        oracles.momentum(t.flatten().tolist(), o.flatten().tolist(), m, steps)
        for o, t in zip(online.parameters(), target.parameters(), strict=True)
    ]
    for _ in range(steps):
        co.momentum_update(online, target, m)
    for t, values in zip(target.parameters(), expected, strict=True):
        torch.testing.assert_close(t.flatten(), torch.tensor(values, dtype=torch.float64), rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("decay", [0.0, 0.5, 0.99, 0.9999])
def test_equals_torch_ema_at_the_same_constant_decay(decay: float) -> None:
    online, target = _pair()
    average = ExponentialMovingAverage(target.parameters(), decay=decay, use_num_updates=False)
    for step in range(20):
        with torch.no_grad():
            for parameter in online.parameters():
                parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(step)))
        average.update(online.parameters())
        co.momentum_update(online, target, decay)
    for ours, theirs in zip(target.parameters(), average.shadow_params, strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-12, atol=1e-14)


def test_zero_copies_and_one_keeps_bit_for_bit() -> None:
    online, target = _pair(torch.float32)
    before = [p.clone() for p in target.parameters()]
    co.momentum_update(online, target, 1.0)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), before, strict=True))
    co.momentum_update(online, target, 0.0)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), online.parameters(), strict=True))


def _with_buffers(online: nn.Module) -> dict[str, Tensor]:
    online(torch.randn(4, 2, 1, 1, dtype=torch.float64))
    return {name: value.clone() for name, value in online.named_buffers()}


def test_buffers_copy_ema_keep() -> None:
    online, target = _pair()
    moved = _with_buffers(online)
    start = {name: value.clone() for name, value in target.named_buffers()}
    co.momentum_update(online, target, 0.9, buffers="keep")
    assert all(torch.equal(value, start[name]) for name, value in target.named_buffers())
    co.momentum_update(online, target, 0.9, buffers="ema")
    for name, value in target.named_buffers():
        average = 0.9 * start[name] + 0.1 * moved[name]
        expected = average if value.dtype.is_floating_point else moved[name]
        torch.testing.assert_close(value, expected)
    co.momentum_update(online, target, 0.9)
    assert all(torch.equal(value, moved[name]) for name, value in target.named_buffers())


def test_the_target_keeps_its_storage() -> None:
    online, target = _pair()
    pointers = [p.data_ptr() for p in (*target.parameters(), *target.buffers())]
    co.momentum_update(online, target, 0.9)
    assert [p.data_ptr() for p in (*target.parameters(), *target.buffers())] == pointers


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16], ids=str)
def test_a_half_precision_target_moves_as_far_as_it_should(dtype: torch.dtype) -> None:
    """1000 steps at 0.999 go 1 - 0.999^1000 = 63 % of the way; rounded at each step they would stand still."""
    online, target = nn.Linear(8, 8).to(dtype), nn.Linear(8, 8).to(dtype)
    with torch.no_grad():
        for o, t in zip(online.parameters(), target.parameters(), strict=True):
            o.fill_(1.0)
            t.fill_(0.0)
    for _ in range(1000):
        co.momentum_update(online, target, 0.999)
    for parameter in target.parameters():
        assert parameter.dtype == dtype
        torch.testing.assert_close(parameter.float().mean().item(), 0.632, rtol=0, atol=0.01)


def test_a_float32_target_of_a_bf16_network_resumes_bit_for_bit() -> None:
    online = nn.Linear(3, 3).bfloat16()
    target = copy.deepcopy(online).float()
    with torch.no_grad():
        online.weight.add_(1)
    for _ in range(5):
        co.momentum_update(online, target, 0.999)
    file = io.BytesIO()
    torch.save(target.state_dict(), file)
    file.seek(0)
    resumed = nn.Linear(3, 3)
    resumed.load_state_dict(torch.load(file, weights_only=True))
    for net in (target, resumed):
        co.momentum_update(online, net, 0.999)
    assert torch.equal(target.weight, resumed.weight)


def test_a_half_precision_target_that_was_overwritten_starts_from_the_new_values() -> None:
    online, target = nn.Linear(2, 2, bias=False).bfloat16(), nn.Linear(2, 2, bias=False).bfloat16()
    co.momentum_update(online, target, 0.9)
    with torch.no_grad():
        target.weight.fill_(4.0)
        online.weight.fill_(4.0)
    co.momentum_update(online, target, 0.9)
    assert (target.weight == 4).all()


class _Wrapped(nn.Module):
    def __init__(self, net: nn.Module) -> None:
        super().__init__()
        self._orig_mod = net


def test_names_of_wrappers_are_ignored() -> None:
    online, target = _pair()
    other = copy.deepcopy(target)
    co.momentum_update(online, target, 0.5)
    co.momentum_update(nn.DataParallel(_Wrapped(online)), torch.compile(other, backend="eager"), 0.5)
    assert all(torch.equal(a, b) for a, b in zip(target.parameters(), other.parameters(), strict=True))


def test_a_module_that_calls_a_part_module_keeps_that_name() -> None:
    """Only the wrappers' own prefix goes: two nets that differ by a part named "module" do not fit."""
    net = nn.ModuleDict({"module": nn.Linear(2, 2)})
    with pytest.raises(ValueError, match=r"target.*partner"):
        co.momentum_update(net, nn.Linear(2, 2), 0.5)


def test_a_name_without_partner_changes_nothing() -> None:
    online, target = _pair()
    target.append(nn.Linear(2, 2).double())
    before = {name: value.clone() for name, value in target.state_dict().items()}
    with pytest.raises(ValueError, match=r"4\.bias"):
        co.momentum_update(online, target, 0.5)
    assert all(torch.equal(value, before[name]) for name, value in target.state_dict().items())


@given(st.floats(0, 200), st.floats(1, 100), st.floats(-3, 3), st.floats(-3, 3), st.floats(0, 0.9), st.floats(-3, 3))
def test_cosine_schedule_equals_the_oracle(
    step: float, total: float, start: float, end: float, share: float, first: float
) -> None:
    warmup = share * total
    observed = co.cosine_schedule(step, total, start, end, warmup_steps=warmup, warmup_start=first)
    assert observed == pytest.approx(oracles.cosine(step, total, start, end, warmup, first), abs=1e-12)
    low, high = min(start, end, first), max(start, end, first)
    assert low - 1e-12 <= observed <= high + 1e-12


def test_cosine_schedule_hits_its_ends_exactly() -> None:
    assert co.cosine_schedule(0, 7, 0.3, 0.1) == 0.3
    assert co.cosine_schedule(3, 7, 0.3, 0.1, warmup_steps=3) == 0.3
    assert co.cosine_schedule(7, 7, 0.3, 0.1, warmup_steps=3) == 0.1
    assert co.cosine_schedule(8, 7, 0.996, 1.0) == 1.0
    assert co.cosine_schedule(0, 7, 0.3, 0.1, warmup_steps=3, warmup_start=0.02) == 0.02
    assert co.cosine_schedule(5, 10, 1.0, 0.0) == pytest.approx(0.5, abs=abs(pi) * 1e-16)
