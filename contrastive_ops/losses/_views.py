"""Every pair of different views: what predicts, and what is predicted."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from torch import Tensor

from contrastive_ops import _checks


def check_pairs(**lists: Sequence[Tensor]) -> None:
    """Two named lists: V >= 2 floating tensors (B, P), and distributions of the same shape for the first G of them."""
    (first, predicting), (second, predicted) = lists.items()
    for name, views in lists.items():
        if not isinstance(views, (list, tuple)):
            raise TypeError(f"{name}: expected a list of tensors, one per view, got {_checks.show(views)}")
    if len(predicting) < 2:
        raise ValueError(f"{first}: expected at least 2 views, one to predict from another, got {len(predicting)}")
    if not 1 <= len(predicted) <= len(predicting):
        raise ValueError(
            f"{second}: expected 1 to {len(predicting)} views, the first ones of {first}, got {len(predicted)}"
        )
    named: dict[str, Any] = {f"{name}[{i}]": view for name, views in lists.items() for i, view in enumerate(views)}
    _checks.same_rows(**named)
    for i in range(len(predicted)):
        _checks.is_distribution(f"{second}[{i}]", predicted[i], shape=predicting[0].shape)


def mean_over_pairs(logs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """(B,) mean over the G (V - 1) pairs of different views of -sum_k target_k log_k."""
    total = logs[0].new_zeros(len(logs[0]))
    for i, target in enumerate(targets):
        for v, log in enumerate(logs):
            if v != i:
                total = total - (target * log).sum(1)
    return total / (len(targets) * (len(logs) - 1))
