"""What every doctest of the package may use without importing it."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import nn

import contrastive_ops
from contrastive_ops.testing import run_distributed


@pytest.fixture(autouse=True)
def _names(doctest_namespace: dict[str, Any]) -> None:
    doctest_namespace.update(torch=torch, nn=nn, run_distributed=run_distributed)
    doctest_namespace.update({name: getattr(contrastive_ops, name) for name in contrastive_ops.__all__})
