"""Rows of the losses that need no negatives in the batch: noise, targets without a gradient, and distributions."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from math import exp
from typing import Any

import torch
from torch import Tensor

import contrastive_ops as co
from tests import oracles
from tests.table.row import Bad, Inputs, Row, lists, normal, pair_bad

_K = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def _mean(rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).mean()


# --- noise-contrastive estimation ------------------------------------------------------------------------------------


def _with_noise(*shape: int) -> Inputs:
    rows = {"query": normal(8, 5), "positive": normal(8, 5, seed=1), "noise": normal(*shape, 5, seed=2)}
    return {name: 0.4 * x for name, x in rows.items()}


def _nce(query: Tensor, positive: Tensor, noise: Tensor, **options: Any) -> Tensor:
    constants = {"temperature": 0.5, "log_partition": 2.0, "num_data": 10}
    return co.nce_loss(query, positive, noise, **constants, **options)


def _nce_oracle(inputs: Inputs) -> Tensor:
    noise = lists(inputs["noise"].expand(8, *inputs["noise"].shape[-2:]))
    pair = lists(inputs["query"]), lists(inputs["positive"])
    return _mean(oracles.nce(*pair, noise, temperature=0.5, partition=exp(2.0), data=10))


def _nce_at(temperature: float) -> Callable[..., Tensor]:
    return partial(
        co.nce_loss, temperature=temperature, log_partition=0.3 / temperature + 4, num_data=1000, normalize=True
    )


def _hard_noise(*shape: int) -> Inputs:
    query = normal(128, 64, seed=1)
    return {"query": query, "positive": query + 4 * normal(128, 64, seed=2), "noise": normal(*shape, 64, seed=3)}


def _wide_noise(columns: int, block: int) -> None:
    query, positive = (torch.randn(256, 16, requires_grad=True) for _ in range(2))
    noise = torch.randn(columns, 16, requires_grad=True)
    co.nce_loss(query, positive, noise, log_partition=5.0, num_data=50, block_size=block).backward()


def _bad_nce(*tensors: Tensor, **changed: Any) -> Callable[[], Tensor]:
    return lambda: co.nce_loss(*tensors, **{"log_partition": 1.0, "num_data": 9, **changed})


_BAD_NCE: Bad = (
    (_bad_nce(_K[0], _K, _K), "query"),
    (_bad_nce(_K[:0], _K[:0], _K), "query"),
    (_bad_nce(_K, _K[:2], _K), "positive"),
    (_bad_nce(_K, _K, _K[:, :2]), "noise"),
    (_bad_nce(_K, _K, _K[:0]), "noise"),
    (_bad_nce(_K, _K, _K.expand(3, 4, 3)), "noise"),
    (_bad_nce(_K, _K, _K.to("meta")), "noise"),
    (_bad_nce(_K, _K, _K, temperature=0), "temperature"),
    (_bad_nce(_K, _K, _K, log_partition=float("inf")), "log_partition"),
    (_bad_nce(_K, _K, _K, log_partition=torch.tensor(float("inf"))), "log_partition"),
    (_bad_nce(_K, _K, _K, log_partition=torch.ones(2)), "log_partition"),
    (_bad_nce(_K, _K, _K, log_partition="1"), "log_partition"),
    (_bad_nce(_K, _K, _K, num_data=0), "num_data"),
    (_bad_nce(_K, _K, _K, reduction="avg"), "reduction"),
    (_bad_nce(_K, _K, _K, normalize=0), "normalize"),
    (_bad_nce(_K, _K, _K, block_size=0), "block_size"),
    (_bad_nce(_K, _K, _K, group=3), "group"),
)

# --- a prediction against a target -----------------------------------------------------------------------------------


def _prediction() -> Inputs:
    return {"p": normal(8, 5), "z": normal(8, 5, seed=1)}


def _hard_prediction() -> Inputs:
    return {"p": normal(128, 64), "z": normal(128, 64, seed=1)}


def _siamese_row(name: str, oracle: Callable[[Any, Any], Any]) -> Row:
    loss = getattr(co, name)
    return Row(
        name,
        call=loss,
        inputs=_prediction,
        rows=("p", "z"),
        constant=("z",),
        oracle=lambda i: _mean(oracle(lists(i["p"]), lists(i["z"]))),
        at=lambda _: loss,
        hard=_hard_prediction,
        bad=pair_bad(loss, "p", "z", ("reduction", "group")),
        compiles=lambda: loss(_K, _K.roll(1, 0)),
    )


def _cross_entropies(p: Any, z: Any, temperature: float = 1.0) -> list[float]:
    pairs = zip(p, z, strict=True)
    return [oracles.cross_entropy(oracles.softmax(t, temperature), s, temperature) for s, t in pairs]


def _logits() -> Inputs:
    return {"student_logits": normal(8, 5), "teacher_logits": normal(8, 5, seed=1)}


# --- views against distributions -------------------------------------------------------------------------------------


def _views(rows: int = 8, width: int = 5, size: float = 1.0) -> Inputs:
    predicting = {f"s{i}": size * normal(rows, width, seed=i) for i in range(3)}
    return {**predicting, **{f"q{i}": normal(rows, width, seed=i + 3).softmax(1) for i in range(2)}}


def _swapped(s0: Tensor, s1: Tensor, s2: Tensor, q0: Tensor, q1: Tensor, **options: Any) -> Tensor:
    return co.swapped_prediction([s0, s1, s2], [q0, q1], **{"temperature": 0.5, **options})


def _dino(s0: Tensor, s1: Tensor, s2: Tensor, q0: Tensor, q1: Tensor, **options: Any) -> Tensor:
    return co.dino_loss(student=[s0, s1, s2], teacher=[q0, q1], **{"student_temperature": 0.5, **options})


def _views_oracle(inputs: Inputs) -> Tensor:
    s0, s1, s2, q0, q1 = map(lists, inputs.values())
    return torch.tensor(oracles.pairs_of_views([s0, s1, s2], [q0, q1], 0.5), dtype=torch.float64)


def _views_row(name: str, first: str, second: str, temperature: str, call: Callable[..., Tensor]) -> Row:
    def loss(predicting: Any, targets: Any, **options: Any) -> Tensor:
        if name == "dino_loss":
            return co.dino_loss(student=predicting, teacher=targets, **options)
        return co.swapped_prediction(predicting, targets, **options)

    q = _K.softmax(1)
    bad: Bad = (
        (lambda: loss(_K, [q]), first),
        (lambda: loss([_K], [q]), first),
        (lambda: loss([_K, _K[:2]], [q]), first),
        (lambda: loss([_K, _K.long()], [q]), first),
        (lambda: loss([_K[:0], _K[:0]], [q[:0]]), first),
        (lambda: loss([_K, _K], []), second),
        (lambda: loss([_K, _K], [q, q, q]), second),
        (lambda: loss([_K, _K], q), second),
        (lambda: loss([_K, _K], [q[:2]]), second),
        (lambda: loss([_K, _K], [_K]), second),
        (lambda: loss([_K, _K], [2 * q]), second),
        (lambda: loss([_K, _K], [q.to("meta")]), second),
        (lambda: loss([_K, _K], [q], **{temperature: 0.0}), temperature),
        (lambda: loss([_K, _K], [q], group=1), "group"),
    )
    return Row(
        name,
        call=call,
        inputs=_views,
        rows=("s0", "s1", "s2", "q0", "q1"),
        constant=("q0", "q1"),
        oracle=_views_oracle,
        at=lambda t: partial(call, **{temperature: t}),
        hard=lambda: _views(64, 32, 0.3),
        bad=bad,
        compiles=lambda: loss([_K, _K.roll(1, 0)], [q]),
    )


ROWS: tuple[Row, ...] = (
    Row(
        "nce_loss",
        "paired",
        call=_nce,
        inputs=lambda: _with_noise(8, 3),
        rows=("query", "positive", "noise"),
        oracle=_nce_oracle,
        at=_nce_at,
        hard=lambda: _hard_noise(128, 20),
        bad=_BAD_NCE,
        compiles=lambda: co.nce_loss(_K, _K, _K.expand(4, 4, 3), log_partition=torch.tensor(1.0), num_data=9),
    ),
    Row(
        "nce_loss",
        "shared",
        call=_nce,
        inputs=lambda: _with_noise(7),
        rows=("query", "positive"),
        oracle=_nce_oracle,
        at=_nce_at,
        hard=lambda: _hard_noise(300),
        wide=_wide_noise,
        compiles=lambda: co.nce_loss(_K, _K, _K, log_partition=1.0, num_data=9),
    ),
    _siamese_row("stop_grad_cosine", lambda p, z: [-c for c in oracles.cosine_similarity(p, z)]),
    _siamese_row("byol_loss", lambda p, z: [2 - 2 * c for c in oracles.cosine_similarity(p, z)]),
    _siamese_row("stop_grad_cross_entropy", _cross_entropies),
    Row(
        "distillation_loss",
        call=partial(co.distillation_loss, temperature=2.0),
        inputs=_logits,
        rows=("student_logits", "teacher_logits"),
        constant=("teacher_logits",),
        oracle=lambda i: _mean(_cross_entropies(lists(i["student_logits"]), lists(i["teacher_logits"]), 2.0)),
        at=lambda temperature: partial(co.distillation_loss, temperature=temperature),
        hard=_logits,
        bad=pair_bad(co.distillation_loss, "student_logits", "teacher_logits", ("temperature", "reduction", "group")),
        compiles=lambda: co.distillation_loss(_K, _K.roll(1, 0)),
    ),
    _views_row("swapped_prediction", "scores", "assignments", "temperature", _swapped),
    _views_row("dino_loss", "student", "teacher", "student_temperature", _dino),
)
