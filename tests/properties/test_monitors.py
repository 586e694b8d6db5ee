"""The alarms: each fires on the collapse or spike it is for, and is silent otherwise."""

from __future__ import annotations

from math import log

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn

import contrastive_ops as co

# the collapse of each method -----------------------------------------------------------------------------------------


def _collapsed(rows: int, dim: int) -> Tensor:
    return torch.ones(rows, dim)


def test_moco_at_chance() -> None:
    """All embeddings one: every key of the queue is as near as the positive, and the loss is ln(1 + K)."""
    size = 4096
    monitor = co.CollapseMonitor(16, chance_loss=log(1 + size), chance_name="ln(1+K)", patience=5)
    z = _collapsed(8, 16)
    for _ in range(5):
        monitor.update(z, co.info_nce(z, z, _collapsed(size, 16), temperature=0.2))
    low, chance = monitor.report()
    assert "all embeddings point one way" in low and "1/sqrt(16) = 0.2500" in low
    assert chance == "loss 8.3180 has stood at ln(1+K) = 8.3180 for 5 updates: the network tells nothing apart"


@pytest.mark.parametrize("prototypes", [300, 65536])
def test_swav_at_chance(prototypes: int) -> None:
    """Uniform assignments: cross-entropy ln P, though embeddings need not point one way."""
    monitor = co.CollapseMonitor(16, chance_loss=log(prototypes), chance_name="ln P", patience=5)
    scores = torch.zeros(4, prototypes)
    loss = -(scores.softmax(1) * (scores / 0.1).log_softmax(1)).sum(1).mean()
    for _ in range(5):
        monitor.update(torch.randn(64, 16), loss)
    (chance,) = monitor.report()
    assert f"ln P = {log(prototypes):.4f} for 5 updates: the network tells nothing apart" in chance


@pytest.mark.parametrize(("sharp", "stands"), [(0.0, "ln K = 6.9315"), (100.0, "0 = 0.0000")])
def test_dinos_teacher_without_sharpening_or_without_centring(sharp: float, stands: str) -> None:
    """Even, or one output wins: seen in the teacher's entropy while the student still differs from it."""
    monitor = co.CollapseMonitor(
        16, chance_loss=log(1024), chance_name="ln K", floor_loss=0.0, floor_name="0", loss_name="teacher entropy"
    )
    p = (sharp * torch.eye(1024)[:1]).softmax(1)
    for _ in range(50):
        monitor.update(torch.randn(64, 16), torch.special.entr(p).sum(1).mean())
    (said,) = monitor.report()
    assert said.startswith("teacher entropy ")
    assert f"has stood at {stands} for 50 updates" in said


def test_simsiam_at_its_floor() -> None:
    monitor = co.CollapseMonitor(16, floor_loss=-1.0, floor_name="-1", patience=5)
    p, z = _collapsed(8, 16), 3 * _collapsed(8, 16)
    for _ in range(5):
        monitor.update(z, -nn.functional.cosine_similarity(p, z).mean())
    low, floor = monitor.report()
    assert "1/sqrt(16) = 0.2500" in low
    assert floor == "loss -1.0000 has stood at -1 = -1.0000 for 5 updates: the task has become trivial"


def test_byol_at_its_floor() -> None:
    monitor = co.CollapseMonitor(16, floor_loss=0.0, floor_name="0", patience=5)
    z = _collapsed(8, 16)
    for _ in range(5):
        monitor.update(z, co.alignment(z, 2 * z))  # 2 - 2 cos
    assert len(monitor.report()) == 2


def test_a_loss_between_its_constants_is_healthy() -> None:
    monitor = co.CollapseMonitor(16, chance_loss=log(4097), floor_loss=0.0, patience=1)
    for loss in (8.2, 4.0, 0.1):
        monitor.update(torch.randn(64, 16), loss)
        assert monitor.report() == []


# spikes --------------------------------------------------------------------------------------------------------------


def _parameter(value: float) -> nn.Parameter:
    parameter = nn.Parameter(torch.zeros(3))
    parameter.grad = torch.tensor([0.0, -value, value / 2])
    return parameter


def _watched(first: list[float], last: list[float], **options: float) -> co.GradientSpikeMonitor:
    monitor = co.GradientSpikeMonitor(**options)
    for a, b in zip(first, last, strict=True):
        monitor.update(_parameter(a), [_parameter(b)])
    return monitor


def _noise(steps: int, seed: int, width: float, level: float = 1.0) -> list[float]:
    return (level * (width * torch.randn(steps, generator=torch.Generator().manual_seed(seed))).exp()).tolist()


def test_the_papers_figure() -> None:
    """A spike in the first layer, the last layer's 14 updates later, noise around both."""
    first, last = _noise(300, 0, 0.3, 0.15), _noise(300, 1, 0.3, 0.02)
    for i, height in enumerate((3.2, 2.9, 2.0)):
        first[119 + i], last[133 + i] = height, height / 4
    one, two = _watched(first, last).report()
    mean = torch.tensor(first[:119]).log().mean().exp().item()
    assert one.startswith(f"gradient of the first layer spiked to 3.2 ({3.2 / mean:.0f} times its running mean 0.1")
    assert one.endswith("at update 120, 14 updates before the last layer's")
    assert two.startswith("gradient of the last layer spiked to 0.8 (")
    assert two.endswith("at update 134, 14 updates after the first layer's")


@given(st.integers(0, 2**31), st.floats(0.0, 1.2), st.floats(1e-6, 1e6))
@settings(max_examples=20)
def test_steady_noise_is_no_spike(seed: int, width: float, level: float) -> None:
    """Log-normal noise of any level, up to entries that differ by a factor of ten and more from step to step."""
    monitor = _watched(_noise(600, seed, width, level), _noise(600, seed + 1, width))
    assert monitor.report() == []
    assert monitor.num_updates == 600


@pytest.mark.parametrize("trend", [0.99, 1.01, 1.02])
def test_a_slow_trend_is_no_spike(trend: float) -> None:
    values = [value * trend**i for i, value in enumerate(_noise(500, 0, 0.2))]
    assert _watched(values, values).report() == []


@given(st.integers(0, 2**31), st.floats(0.0, 0.3), st.floats(25.0, 1e4), st.integers(60, 250))
@settings(max_examples=20)
def test_a_spike_is_found_where_it_is(seed: int, width: float, height: float, step: int) -> None:
    values = _noise(300, seed, width)
    values[step - 1] = height
    (said,) = _watched(_noise(300, seed + 1, width), values).report()
    assert f"at update {step}" in said
    assert said.startswith("gradient of the last layer") and "first" not in said


def test_spikes_close_together_are_one_and_the_next_is_another() -> None:
    values = _noise(700, 0, 0.2)
    for step, height in ((200, 30.0), (202, 60.0), (260, 40.0), (500, 25.0)):
        values[step - 1] = height
    monitor = _watched(values[:400], _noise(400, 1, 0.2))
    assert monitor.num_spikes.tolist() == [1, 0]
    (said,) = monitor.report()
    assert "spiked to 60" in said and "at update 200" in said
    for a, b in zip(values[400:], _noise(300, 2, 0.2), strict=True):
        monitor.update(_parameter(a), _parameter(b))
    assert monitor.num_spikes.tolist() == [2, 0]
    assert "at update 500" in monitor.report()[0]


def test_spikes_of_both_layers_far_apart_are_not_related() -> None:
    first, last = _noise(400, 0, 0.2), _noise(400, 1, 0.2)
    first[99], last[299] = 50.0, 50.0
    one, two = _watched(first, last).report()
    assert one.endswith("at update 100") and two.endswith("at update 300")
    together = _watched(first, first).report()
    assert together[0].endswith("at update 100, together with the last layer's")


def test_a_spike_does_not_hide_the_next() -> None:
    values = _noise(500, 0, 0.2)
    values[99] = 1e6
    monitor = _watched(values, values, window=10)
    mean = monitor.log_mean[0].exp().item()
    assert 0.8 < mean < 1.3
    monitor.update(_parameter(30.0), _parameter(1.0))
    assert monitor.num_spikes.tolist() == [2, 1]


def test_a_spike_moves_the_mean_no_further_than_the_limit() -> None:
    """With momentum 0.9 and a limit of ln 10 that is by a factor of 10^0.1; unlimited it would be 10^0.6."""
    monitor = _watched([1.0] * 60 + [1e6], [1.0] * 60 + [1e-6], momentum=0.9)
    assert monitor.log_mean.exp().tolist() == pytest.approx([10**0.1, 10**-0.1], rel=1e-5)


def test_a_lasting_level_becomes_normal() -> None:
    monitor = _watched(_noise(200, 0, 0.2) + _noise(1000, 1, 0.2, 100.0), _noise(1200, 2, 0.2))
    assert monitor.num_spikes.tolist() == [1, 0]
    assert monitor.log_mean[0].exp().item() == pytest.approx(100, rel=0.2)
    assert monitor.latest[0] < 800


def test_what_counts_neither_as_a_spike_nor_for_the_mean() -> None:
    """A frozen layer, no gradient at all, the NaN and infinity of a scaler's skipped step."""
    monitor = co.GradientSpikeMonitor(warmup=5)
    silent = nn.Linear(2, 2)
    for value in [1.0] * 20 + [float("nan"), float("inf"), 0.0] + [1.0] * 5:
        monitor.update(silent, _parameter(value))
    assert monitor.report() == []
    assert monitor.count.tolist() == [0, 25]
    assert monitor.log_mean.tolist() == [0, 0]
    monitor.update(silent, _parameter(20.0))
    assert len(monitor.report()) == 1


def test_the_first_updates_are_averaged_evenly_and_watched_only_after_the_warmup() -> None:
    values = [1.0, 4.0, 2.0, 8.0]
    monitor = _watched(values, values, warmup=5)
    assert monitor.log_mean.exp().tolist() == pytest.approx([64**0.25] * 2, rel=1e-5)
    assert _watched([*values[:3], 1e5], values, warmup=5).report() == []
    assert len(_watched([*values, 1e5], [*values, 1.0], warmup=4).report()) == 1


def test_a_bad_layer_changes_nothing() -> None:
    monitor = _watched([1.0, 2.0], [1.0, 2.0])
    before = {name: value.clone() for name, value in monitor.state_dict().items()}
    with pytest.raises(TypeError, match=r"^last: expected a module or tensors"):
        monitor.update(_parameter(3.0), "head")
    assert all(torch.equal(value, before[name]) for name, value in monitor.state_dict().items())


def test_it_watches_a_network_in_training() -> None:
    """A batch a thousand times too bright, through a network trained by SGD."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Linear(4, 8), nn.Tanh(), nn.Linear(8, 1))
    monitor = co.GradientSpikeMonitor(warmup=20)
    optimizer = torch.optim.SGD(net.parameters(), lr=1e-3)
    for step in range(1, 61):
        x = torch.randn(32, 4)
        loss = (net(x) - x.sum(1, keepdim=True) * (1000 if step == 41 else 1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        monitor.update(net[0], net[2])
        if step != 41:
            optimizer.step()
    said = monitor.report()
    assert len(said) == 2
    assert all("at update 41, together with" in sentence for sentence in said)
