"""Rows of info_nce, one for each kind of negatives."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import contrastive_ops as co
from tests import oracles
from tests.table.row import Inputs, Row, lists, normal

_MASK = torch.rand(8, 8, generator=torch.Generator().manual_seed(5)) < 0.3


def _pair() -> Inputs:
    return {"query": normal(8, 5), "positive_key": normal(8, 5, seed=1)}


def _with_queue() -> Inputs:
    return {**_pair(), "negative_keys": normal(7, 5, seed=2)}


def _with_paired() -> Inputs:
    return {**_pair(), "negative_keys": normal(8, 3, 5, seed=3)}


def _hard(*negatives: int) -> Inputs:
    """Hard pairs: gradients of easy ones at temperature 0.01 are below 1e-20, where fp16 holds nothing."""
    query = normal(128, 64, seed=1)
    pair = {"query": query, "positive_key": query + 4 * normal(128, 64, seed=2)}
    return {**pair, "negative_keys": normal(*negatives, 64, seed=3)} if negatives else pair


def _info_nce_at(temperature: float, **options: Any) -> Callable[..., Tensor]:
    return partial(co.info_nce, temperature=temperature, **options)


def _wide_pair(columns: int, block: int, *, queue: bool = False, trainable: bool = False, **options: Any) -> None:
    rows = 256 if queue else columns
    query, key = (torch.randn(rows, 16, requires_grad=True) for _ in range(2))
    keys = torch.randn(columns, 16, requires_grad=trainable) if queue else None
    co.info_nce(query, key, keys, block_size=block, **options).backward()


def _info_nce_oracle(inputs: Inputs) -> Tensor:
    pair = [lists(inputs[name]) for name in ("query", "positive_key")]
    negatives = lists(inputs["negative_keys"]) if "negative_keys" in inputs else None
    mask = lists(inputs["mask"]) if "mask" in inputs else None
    rows = oracles.info_nce(*pair, negatives, temperature=0.1, mask=mask)
    return torch.tensor(rows, dtype=torch.float64).mean()


def _symmetric_oracle(inputs: Inputs) -> Tensor:
    swapped = {"query": inputs["positive_key"], "positive_key": inputs["query"]}
    return (_info_nce_oracle(inputs) + _info_nce_oracle(swapped)) / 2


_Q, _K = torch.randn(4, 3), torch.randn(4, 3)
_BAD_INFO_NCE: tuple[tuple[Callable[[], object], str], ...] = (
    (lambda: co.info_nce([1.0], _K), "query"),
    (lambda: co.info_nce(_Q.long(), _K), "query"),
    (lambda: co.info_nce(_Q[0], _K), "query"),
    (lambda: co.info_nce(_Q[:0], _K[:0]), "query"),
    (lambda: co.info_nce(_Q.fill_diagonal_(float("nan")), _K), "query"),
    (lambda: co.info_nce(_K, _K[:2]), "positive_key"),
    (lambda: co.info_nce(_K, _K[:, :2]), "positive_key"),
    (lambda: co.info_nce(_K, _K, torch.randn(5, 4)), "negative_keys"),
    (lambda: co.info_nce(_K, _K, torch.randn(5, 3), negative_mode="paired"), "negative_keys"),
    (lambda: co.info_nce(_K, _K, torch.randn(4, 5, 3)), "negative_keys"),
    (lambda: co.info_nce(_K, _K, negative_mode="all"), "negative_mode"),
    (lambda: co.info_nce(_K, _K, temperature=0.0), "temperature"),
    (lambda: co.info_nce(_K, _K, temperature=float("inf")), "temperature"),
    (lambda: co.info_nce(_K, _K, temperature=torch.tensor(-1.0)), "temperature"),
    (lambda: co.info_nce(_K, _K, temperature=torch.ones(4)), "temperature"),
    (lambda: co.info_nce(_K, _K, temperature="0.1"), "temperature"),
    (lambda: co.info_nce(_K, _K, reduction="avg"), "reduction"),
    (lambda: co.info_nce(_K, _K, mask=torch.zeros(4, 3, dtype=torch.bool)), "mask"),
    (lambda: co.info_nce(_K, _K, mask=torch.zeros(4, 4)), "mask"),
    (lambda: co.info_nce(_K, _K, normalize=1), "normalize"),
    (lambda: co.info_nce(_K, _K, symmetric="yes"), "symmetric"),
    (lambda: co.info_nce(_K, _K, block_size=0), "block_size"),
    (lambda: co.info_nce(_K, _K, group=True), "group"),
    (lambda: co.info_nce(_K, _K.to("meta")), "positive_key"),
)

ROWS: tuple[Row, ...] = (
    Row(
        "info_nce",
        "in-batch",
        call=co.info_nce,
        inputs=_pair,
        rows=("query", "positive_key"),
        oracle=_info_nce_oracle,
        bad=_BAD_INFO_NCE,
        at=_info_nce_at,
        hard=_hard,
        wide=_wide_pair,
        compiles=lambda: co.info_nce(_K, _K.roll(1, 0)),
    ),
    Row(
        "info_nce",
        "in-batch, masked",
        call=co.info_nce,
        inputs=lambda: {**_pair(), "mask": _MASK},
        rows=("query", "positive_key", "mask"),
        oracle=_info_nce_oracle,
        compiles=lambda: co.info_nce(_K, _K.roll(1, 0), mask=_MASK[:4, :4]),
    ),
    Row(
        "info_nce",
        "symmetric",
        call=lambda query, positive_key, **options: co.info_nce(query, positive_key, symmetric=True, **options),
        inputs=_pair,
        rows=("query", "positive_key"),
        oracle=_symmetric_oracle,
        at=partial(_info_nce_at, symmetric=True),
        hard=_hard,
        wide=partial(_wide_pair, symmetric=True),
        compiles=lambda: co.info_nce(_K, _K.roll(1, 0), symmetric=True),
    ),
    Row(
        "info_nce",
        "queue",
        call=co.info_nce,
        inputs=_with_queue,
        rows=("query", "positive_key"),
        oracle=_info_nce_oracle,
        at=_info_nce_at,
        hard=lambda: _hard(300),
        wide=partial(_wide_pair, queue=True),
        compiles=lambda: co.info_nce(_K, _K.roll(1, 0), torch.ones(6, 3), block_size=4),
    ),
    Row(
        "info_nce",
        "trainable negatives",
        call=co.info_nce,
        inputs=_with_queue,
        rows=("query", "positive_key"),
        oracle=_info_nce_oracle,
        wide=partial(_wide_pair, queue=True, trainable=True),
        why_not={"compile": "the row before"},
    ),
    Row(
        "info_nce",
        "paired",
        call=lambda query, positive_key, negative_keys, group=None: co.info_nce(
            query, positive_key, negative_keys, negative_mode="paired", group=group
        ),
        inputs=_with_paired,
        rows=("query", "positive_key", "negative_keys"),
        oracle=_info_nce_oracle,
        at=partial(_info_nce_at, negative_mode="paired"),
        hard=lambda: _hard(128, 20),
        compiles=lambda: co.info_nce(_K, _K.roll(1, 0), torch.ones(4, 6, 3), negative_mode="paired"),
    ),
    Row(
        "info_nce",
        "sum, not normalised",
        call=lambda query, positive_key, group=None: co.info_nce(
            query, positive_key, reduction="sum", normalize=False, temperature=2.0, group=group
        ),
        inputs=_pair,
        rows=("query", "positive_key"),
        oracle=lambda i: (
            8
            * torch.tensor(
                oracles.info_nce(lists(i["query"]), lists(i["positive_key"]), None, temperature=2.0, normalize=False),
                dtype=torch.float64,
            ).mean()
        ),
        compiles=lambda: co.info_nce(_K, _K.roll(1, 0), reduction="sum", normalize=False),
    ),
)
