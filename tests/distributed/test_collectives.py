"""Gather, shuffle, queue and errors between real processes: even, uneven and empty ranks."""

from __future__ import annotations

from collections.abc import Callable

import pytest
import torch

from contrastive_ops.testing import run_distributed
from tests.distributed import cases, mistakes, traffic


@pytest.mark.parametrize("sizes", [[7, 1], [5, 3, 0]], ids=str)
def test_gather_shuffle_and_queue(sizes: list[int]) -> None:
    for keys in run_distributed(everything, len(sizes), sizes):
        assert keys.shape == (7, 6)


def everything(rank: int, sizes: list[int]) -> torch.Tensor:
    cases.gather(rank, sizes)
    cases.shuffle(rank, sizes)
    traffic.shuffle_traffic(rank, sizes, limit=max(sizes) * 3 * 4 * 4 * 4)
    traffic.gather_traffic(rank, sizes)
    traffic.collective_memory(rank, sizes)
    traffic.contrast_traffic(rank, sizes)
    return cases.queues_agree(rank, sizes)


@pytest.mark.parametrize("sizes", [[16, 16], [12, 12, 12]], ids=str)
def test_traffic_and_memory_of_even_batches(sizes: list[int]) -> None:
    run_distributed(counted, len(sizes), sizes)


def counted(rank: int, sizes: list[int]) -> None:
    traffic.shuffle_traffic(rank, sizes, limit=max(sizes) * 3 * 4 * 4 * 4)
    traffic.gather_traffic(rank, sizes)
    traffic.collective_memory(rank, sizes)


@pytest.mark.slow
@pytest.mark.parametrize("case", [cases.gather, cases.shuffle, cases.queues_agree])
@pytest.mark.parametrize("sizes", [[8], [7, 1], [0, 8], [1, 0, 7], [0, 0, 1], [2, 2, 2, 2]], ids=str)
def test_more_sizes(case: Callable[..., object], sizes: list[int]) -> None:
    run_distributed(case, len(sizes), sizes)


def test_errors_reach_every_rank_and_nobody_waits() -> None:
    first, second = run_distributed(errors, 2)
    assert first == second
    expected = ["x"] * 4 + ["y", "positive_key", "mask", "query", "keys", "z1", "text_features", "views", "latents"]
    expected += ["scores", "scores", "scores", "logits", "logits", "scores", "z"]
    assert [message.split(":")[0].split()[-1] for message in first] == expected
    assert all("expected" in message for message in first)
    assert "on rank 1" in first[0]


def errors(rank: int) -> list[str]:
    messages = mistakes.disagreements(rank)
    assert all("expected" in message for message in mistakes.bad_on_every_rank(rank))
    mistakes.raises_alone(rank)
    assert cases.mixed_dtypes(rank) == pytest.approx(-(3**-0.5))
    return messages


def test_gradients_join_and_groups_are_kept_apart() -> None:
    joined, groups = zip(*run_distributed(joins, 3), strict=True)
    assert joined == ([3.0, 3.0], [], [])  # every rank's loss counts the one row twice: two columns, three ranks
    pair, alone, whole = zip(*groups, strict=True)
    assert pair[0] == pytest.approx(pair[1])
    assert whole[0] == pytest.approx(whole[1]) == pytest.approx(whole[2])
    assert alone[0] != pytest.approx(pair[0])
    assert pair[2] == pytest.approx(alone[2])


def joins(rank: int) -> tuple[list[float], tuple[float, float, float]]:
    gradient = cases.gradient_joins(rank, [1, 2, 0])
    message = mistakes.outside_its_group(rank)
    assert ("expected a ProcessGroup" in message) == (rank != 0), message
    return gradient, cases.groups(rank)
