"""Hypothesis profiles: a quick one every day, ten times the examples with `-m slow`."""

from __future__ import annotations

import os

import pytest
import torch
from hypothesis import HealthCheck, is_hypothesis_test, settings

_COMMON = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow], "derandomize": True}
settings.register_profile("quick", max_examples=40, **_COMMON)
settings.register_profile("thorough", max_examples=400, **_COMMON)


def _wants_slow(config: pytest.Config) -> bool:
    expression = config.option.markexpr
    return "slow" in expression and "not slow" not in expression


def pytest_configure(config: pytest.Config) -> None:
    settings.load_profile("thorough" if _wants_slow(config) else "quick")
    if hasattr(config, "workerinput"):  # one of several processes of pytest-xdist, which share the cores
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    if _wants_slow(config):
        for item in items:
            if isinstance(item, pytest.Function) and is_hypothesis_test(item.obj):
                item.add_marker(pytest.mark.slow)


@pytest.fixture(autouse=True)
def _same_random_state() -> None:
    """No test sees what another left in torch's random state."""
    torch.manual_seed(0)
