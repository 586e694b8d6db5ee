"""The arithmetic of rounds, ratios, growth and targets, on numbers that are known."""

from __future__ import annotations

import math

import pytest

from tests.benchmarks import record, targets, timing
from tests.benchmarks.areas import by_name
from tests.benchmarks.figures import Results, figure, per_doubling, ratio, slope


class Clock:
    """Time passes only while somebody runs."""

    def __init__(self) -> None:
        self.now = 0.0
        self.order: list[str] = []

    def __call__(self) -> float:
        return self.now

    def run(self, name: str, seconds: float) -> timing.Run:
        def call() -> list[object]:
            self.now += seconds
            self.order.append(name)
            return []

        return call


def test_contestants_take_turns_and_everybody_is_first_once() -> None:
    clock = Clock()
    runs = {name: clock.run(name, 1.0) for name in "abc"}
    taken = timing.interleave(runs, dict.fromkeys(runs, 1.0), seconds=100, rounds=3, clock=clock)
    assert taken == {name: [1.0] * 3 for name in "abc"}
    assert "".join(clock.order) == "abcbcacab"


def test_what_is_quick_is_called_often() -> None:
    clock = Clock()
    runs = {"quick": clock.run("quick", timing.SHORTEST / 10), "slow": clock.run("slow", 1.0)}
    taken = timing.interleave(runs, {"quick": 0.0, "slow": 1.0}, seconds=100, rounds=3, clock=clock)
    assert taken["quick"] == pytest.approx([timing.SHORTEST / 10] * 3)
    assert clock.order.count("quick") == 1 + 3 + 3 * 10
    assert clock.order.count("slow") == 3


def test_the_slow_leave_and_the_others_use_the_time() -> None:
    clock = Clock()
    runs = {"a": clock.run("a", 1.0), "b": clock.run("b", 1.0), "slow": clock.run("slow", 50.0)}
    taken = timing.interleave(runs, dict.fromkeys(runs, 50.0), seconds=20, rounds=100, clock=clock)
    assert len(taken["slow"]) == timing.FEWEST
    assert len(taken["a"]) == len(taken["b"]) == 11  # the round in which 20 s are exceeded is the last
    assert ratio(taken["slow"], taken["a"]) == (50, 50, 50)


def test_quartiles_and_ratios_within_rounds() -> None:
    assert figure([4.0, 1.0, 2.0, 3.0, 5.0]) == (2.0, 3.0, 4.0)
    assert figure([7.0]) == (7.0, 7.0, 7.0)
    slowed = [1.0, 10.0, 2.0]  # the machine was busy in the second round
    assert ratio([3 * x for x in slowed], slowed) == (3.0, 3.0, 3.0)


def test_growth_is_the_exponent() -> None:
    assert slope([(x, 5 * x**1.5) for x in (2.0, 4.0, 8.0)]) == pytest.approx(1.5)
    floor_and_growth = [(1.0, 1.0), (2.0, 1.0), (4.0, 1.0), (8.0, 2.0), (16.0, 4.0)]
    assert slope(floor_and_growth) == pytest.approx(per_doubling_exponent(floor_and_growth[1:]), abs=0.5)
    assert slope([(1.0, 1.0)]) is None
    assert per_doubling([(1.0, 1.0), (2.0, 3.0), (8.0, 12.0)]) == pytest.approx(3.0)
    assert per_doubling([(4.0, 9.0), (1.0, 1.0)]) == pytest.approx(3.0)  # x fourfold, y ninefold
    assert per_doubling([(1.0, 1.0)]) is None


def per_doubling_exponent(points: list[tuple[float, float]]) -> float:
    return math.log(per_doubling(points) or 0, 2)


RECORDS = [
    {
        "size": {"N": n, "d": 8}, "kinds": {"floor": "floor", "ours": "ours", "other": "peer"}, "missing": {},
        "seconds": {"floor": [0.5, 1.0, 2.0], "ours": [1.0, 2.0, 4.0], "other": [4.0, 8.0, 16.0]},
        "memory": {"ours": float(n), "other": None}, "received": {"ours": [100.0, 300.0]},
    }
    for n in (64, 128)
]  # fmt: skip
SIZE = {"N": 128, "d": 8}


@pytest.mark.parametrize(
    ("target", "value", "met"),
    [
        (targets.within("ours", "floor", 2.0, SIZE), 2.0, True),
        (targets.within("ours", "floor", 1.9, SIZE), 2.0, False),
        (targets.faster("other", 4.0, SIZE), 4.0, True),
        (targets.faster("other", 4.1, SIZE), 4.0, False),
        (targets.memory_below(127, "", SIZE), 128.0, False),
        (targets.memory_growth("N", 2.0, {"d": 8}, 64), 2.0, True),
        (targets.flat_time("N", 1.0, (64, 128), {"d": 8}), 1.0, True),
        (targets.bytes_below(0.5, 1000, "", SIZE), 0.4, True),
        (targets.bytes_below(0.2, 1000, "", SIZE, phase=1), 0.3, False),
    ],
)
def test_targets(target: targets.Target, value: float, met: bool) -> None:
    measured = target.figure(Results(RECORDS))
    assert measured is not None
    assert measured[1] == pytest.approx(value)
    assert target.met(measured) is met


def test_what_was_not_measured_is_not_judged() -> None:
    absent = {"N": 1, "d": 8}
    for target in (
        targets.within("ours", "floor", 2.0, absent),
        targets.faster("nobody", 2.0, SIZE),
        targets.memory_below(1, "", SIZE, name="other"),
        targets.bytes_below(1, 1, "", absent),
        targets.flat_time("N", 1.0, (1, 128), {"d": 8}),
    ):
        assert target.figure(Results(RECORDS)) is None
    assert record.judged(by_name("nt_xent"), []) == []


def test_derived_figures() -> None:
    quartiles = record.derived(dict(RECORDS[0]))["quartiles"]
    assert quartiles["milliseconds"]["ours"][1] == 2000.0
    assert quartiles["over_floor"]["other"] == (8.0, 8.0, 8.0)
    assert quartiles["over_ours"]["other"] == (4.0, 4.0, 4.0)
