"""Every contest is one of equals: at toy size all contestants that are installed compute what the formula says."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch

from contrastive_ops.testing import run_distributed
from tests.benchmarks import agree, forms, memory, toys, traffic
from tests.benchmarks.areas import AREAS, by_name
from tests.benchmarks.contest import FLOOR, OURS, Entry
from tests.benchmarks.losses import form
from tests.benchmarks.measure import present

ALONE = [area.name for area in AREAS if not area.in_processes]
pytestmark = pytest.mark.filterwarnings("ignore")  # those of other libraries about themselves


@pytest.mark.parametrize("name", ALONE)
def test_contestants_agree(name: str) -> None:
    area = by_name(name)
    contest = area.contest(area.toy)
    kinds, missing = present(contest)
    started = agree.start(contest, list(kinds))
    assert {*started.differences} == {entry for entry, kind in kinds.items() if kind != FLOOR}
    assert OURS in kinds.values()
    assert all(reason.startswith("not ") for reason in missing.values())


def test_contestants_agree_in_two_processes() -> None:
    for differences in run_distributed(toys.all_on_rank, 2):
        received = differences.pop("received")["known"]
        assert {*differences} == {area.name for area in AREAS if area.in_processes}
        assert all("ours" in found and max(found.values()) <= 1e-4 for found in differences.values())
        if not traffic.why_not():
            assert 1 <= received < 1.05


def test_one_who_computes_something_else_is_named() -> None:
    contest = by_name("nt_xent").contest({"N": 4, "d": 8})
    inputs = [torch.randn(4, 8), torch.randn(4, 8)]
    wrong = form(lambda a, b: forms.nt_xent(a, b, 0.2), lambda: inputs)
    entries = {"ours": contest.entries["ours"], "wrong": wrong}
    with pytest.raises(agree.DisagreementError, match="'wrong'"):
        agree.start(replace(contest, entries=entries), ["ours", "wrong"])
    nan = Entry(lambda: lambda: [torch.tensor(float("nan"))] * 3, OURS)
    with pytest.raises(agree.DisagreementError, match="inf"):
        agree.start(replace(contest, entries={"nan": nan}), ["nan"])


def test_a_peer_that_is_not_there_is_told() -> None:
    contest = by_name("nt_xent").contest({"N": 4, "d": 8})
    absent = Entry(lambda: lambda: [], "peer", "no-such-package")
    kinds, missing = present(replace(contest, entries={**contest.entries, "absent": absent}))
    assert "absent" not in kinds
    assert missing["absent"].startswith("not installed")


@pytest.mark.skipif(bool(memory.why_not()), reason=memory.why_not())
def test_peak_memory_is_what_was_touched() -> None:
    def touch() -> list[torch.Tensor]:
        torch.zeros(2**24).add_(1)  # 64 MiB, gone before the call returns
        return []

    assert 60 < memory.peak_mib(touch) < 80


def test_names_sizes_and_targets_fit_together() -> None:
    """Targets and plots ask for contestants and sizes that are there."""
    assert len({area.name for area in AREAS}) == len(AREAS)
    for area in AREAS:
        sizes = [dict(size) for size in area.sizes]
        assert all(dict(size) in sizes for size in area.remember), area.name
        for target in area.targets:
            assert any(all(size.get(k) == v for k, v in target.size.items()) for size in sizes), target.text
        for growth in area.growth:
            along = {s[growth.axis] for s in sizes if all(s.get(k) == v for k, v in growth.fixed.items())}
            assert len(along) > 1, f"{area.name}: {growth.axis}"
