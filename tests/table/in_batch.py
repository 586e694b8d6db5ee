"""Rows of the losses whose negatives are the batch: NT-Xent, CLIP, CMC, InvaSpread, CPC."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor

import contrastive_ops as co
from tests import oracles
from tests.table.row import Bad, Inputs, Row, lists, normal, pair_bad

_K = torch.randn(4, 3, generator=torch.Generator().manual_seed(0))


def _views(count: int = 2, rows: int = 8, width: int = 5, spread: float = 1.0) -> Inputs:
    first = normal(rows, width)
    return {"z1": first, **{f"z{i}": spread * normal(rows, width, seed=i) + first for i in range(2, count + 1)}}


def _hard() -> Inputs:
    return _views(rows=128, width=64, spread=4.0)


def _wide(loss: Callable[..., Tensor], columns: int, block: int) -> None:
    z1, z2 = (torch.randn(columns, 16, requires_grad=True) for _ in range(2))
    loss(z1, z2, block_size=block).backward()


def _mean(rows: Any) -> Tensor:
    return torch.tensor(rows, dtype=torch.float64).mean()


# --- CLIP: the scale is an input too, shared by all ranks ------------------------------------------------------------


def _clip(z1: Tensor, z2: Tensor, scale: Tensor, **options: Any) -> Tensor:
    return co.clip_loss(z1, z2, scale, **options)


def _clip_at(temperature: float) -> Callable[..., Tensor]:
    return lambda z1, z2: co.clip_loss(z1, z2, 1 / temperature)


_BAD_SCALE: Bad = (
    (lambda: co.clip_loss(_K, _K, 0.0), "logit_scale"),
    (lambda: co.clip_loss(_K, _K, torch.tensor(-1.0)), "logit_scale"),
    (lambda: co.clip_loss(_K, _K, torch.ones(2)), "logit_scale"),
    (lambda: co.clip_loss(_K, _K, "14"), "logit_scale"),
)

# --- CMC -------------------------------------------------------------------------------------------------------------


def _cmc(z1: Tensor, z2: Tensor, z3: Tensor, **options: Any) -> Tensor:
    return co.cmc_loss([z1, z2, z3], temperature=0.3, **options)


def _cmc_oracle(inputs: Inputs, *, core: bool) -> Tensor:
    return _mean(oracles.cmc([lists(x) for x in inputs.values()], temperature=0.3, core=core))


_BAD_CMC: Bad = (
    (lambda: co.cmc_loss(_K), "views"),
    (lambda: co.cmc_loss([_K]), "views"),
    (lambda: co.cmc_loss([_K, _K[:2]]), "views"),
    (lambda: co.cmc_loss([_K, _K, _K[:, :2]]), "views"),
    (lambda: co.cmc_loss([_K[:0], _K[:0]]), "views"),
    (lambda: co.cmc_loss([_K, _K.to("meta")]), "views"),
    (lambda: co.cmc_loss([_K, _K], graph="star"), "graph"),
    (lambda: co.cmc_loss([_K, _K], temperature=0), "temperature"),
    (lambda: co.cmc_loss([_K, _K], reduction="max"), "reduction"),
    (lambda: co.cmc_loss([_K, _K], normalize=None), "normalize"),
    (lambda: co.cmc_loss([_K, _K], block_size=1.5), "block_size"),
)

# --- InvaSpread ------------------------------------------------------------------------------------------------------


def _spread_held(inputs: Inputs, held: Inputs) -> Tensor:
    anchors, keys = ((lists(x["z1"]), lists(x["z2"])) for x in (inputs, held))
    return _mean(oracles.spread(anchors, keys, temperature=0.3))


# --- CPC -------------------------------------------------------------------------------------------------------------


def _sequences(rows: int = 8, times: int = 4, steps: int = 2, width: int = 5) -> Inputs:
    latents = normal(rows, times, width)
    return {"latents": latents, "predictions": normal(rows, times, steps, width, seed=1)}


def _cpc(negatives: str, latents: Tensor, predictions: Tensor, **options: Any) -> Tensor:
    return co.cpc_loss(predictions, latents, negatives=negatives, temperature=1.5, **options)


def _cpc_oracle(negatives: str, inputs: Inputs) -> Tensor:
    sequences = lists(inputs["predictions"]), lists(inputs["latents"])
    return _mean(oracles.cpc(*sequences, temperature=1.5, negatives=negatives))


def _cpc_at(negatives: str, temperature: float) -> Callable[..., Tensor]:
    return lambda latents, predictions: co.cpc_loss(
        predictions, latents, negatives=negatives, temperature=temperature, normalize=True
    )


def _hard_sequences() -> Inputs:
    latents = normal(24, 5, 64)
    ahead = torch.stack([latents.roll(-1, 1), latents.roll(-2, 1)], 2)
    return {"latents": latents, "predictions": ahead + 4 * normal(24, 5, 2, 64, seed=1)}


def _wide_sequences(negatives: str, columns: int, block: int) -> None:
    """As many candidates as columns: along time, along the batch, or along both."""
    rows, times = {"time": (2, columns // 2), "batch": (columns // 2, 2), "batch_and_time": (columns // 8, 8)}[
        negatives
    ]
    latents = torch.randn(rows, times, 16, requires_grad=True)
    predictions = torch.randn(rows, times, 1, 16, requires_grad=True)
    co.cpc_loss(predictions, latents, negatives=negatives, block_size=block).backward()


def _cpc_row(negatives: str, bad: Bad = ()) -> Row:
    return Row(
        "cpc_loss",
        negatives,
        call=partial(_cpc, negatives),
        inputs=_sequences,
        rows=("latents", "predictions"),
        oracle=partial(_cpc_oracle, negatives),
        at=partial(_cpc_at, negatives),
        hard=_hard_sequences,
        wide=partial(_wide_sequences, negatives),
        bad=bad,
        compiles=lambda: co.cpc_loss(torch.ones(2, 3, 2, 4), torch.ones(2, 3, 4), negatives=negatives),
    )


_S = torch.randn(2, 3, 4, generator=torch.Generator().manual_seed(0))
_P = _S.unsqueeze(2)
_BAD_CPC: Bad = (
    (lambda: co.cpc_loss(_P, _S[0]), "latents"),
    (lambda: co.cpc_loss(_P[:, :1], _S[:, :1]), "latents"),
    (lambda: co.cpc_loss(_P, _S.long()), "latents"),
    (lambda: co.cpc_loss(_S, _S), "predictions"),
    (lambda: co.cpc_loss(_P[:1], _S), "predictions"),
    (lambda: co.cpc_loss(_P[:, :, :0], _S), "predictions"),
    (lambda: co.cpc_loss(_P[..., :2], _S), "predictions"),
    (lambda: co.cpc_loss(_P[:0], _S[:0]), "predictions"),
    (lambda: co.cpc_loss(_P.to("meta"), _S), "predictions"),
    (lambda: co.cpc_loss(_P, _S, negatives="all"), "negatives"),
    (lambda: co.cpc_loss(_P, _S, temperature=-1.0), "temperature"),
    (lambda: co.cpc_loss(_P, _S, reduction="avg"), "reduction"),
    (lambda: co.cpc_loss(_P, _S, normalize="l2"), "normalize"),
    (lambda: co.cpc_loss(_P, _S, block_size=0), "block_size"),
)

ROWS: tuple[Row, ...] = (
    Row(
        "nt_xent",
        call=partial(co.nt_xent, temperature=0.3),
        inputs=_views,
        rows=("z1", "z2"),
        oracle=lambda i: _mean(oracles.nt_xent(lists(i["z1"]), lists(i["z2"]), temperature=0.3)),
        at=lambda temperature: partial(co.nt_xent, temperature=temperature),
        hard=_hard,
        wide=partial(_wide, co.nt_xent),
        bad=pair_bad(co.nt_xent, "z1", "z2", ("temperature", "reduction", "normalize", "block_size", "group")),
        compiles=lambda: co.nt_xent(_K, _K.roll(1, 0)),
    ),
    Row(
        "nt_xent",
        "sum, not normalised",
        call=partial(co.nt_xent, temperature=2.0, normalize=False, reduction="sum"),
        inputs=_views,
        rows=("z1", "z2"),
        oracle=lambda i: 16 * _mean(oracles.nt_xent(lists(i["z1"]), lists(i["z2"]), temperature=2.0, normalize=False)),
        compiles=lambda: co.nt_xent(_K, _K.roll(1, 0), reduction="sum", normalize=False),
    ),
    Row(
        "clip_loss",
        call=_clip,
        inputs=lambda: {**_views(), "scale": torch.tensor(3.0, dtype=torch.float64)},
        rows=("z1", "z2"),
        oracle=lambda i: _mean(oracles.clip(lists(i["z1"]), lists(i["z2"]), float(i["scale"]))),
        at=_clip_at,
        hard=_hard,
        wide=partial(_wide, partial(co.clip_loss, logit_scale=10.0)),
        bad=(
            *pair_bad(
                lambda a, b, **options: co.clip_loss(a, b, 10.0, **options),
                "image_features",
                "text_features",
                ("reduction", "normalize", "block_size", "group"),
            ),
            *_BAD_SCALE,
        ),
        compiles=lambda: co.clip_loss(_K, _K.roll(1, 0), torch.tensor(14.0)),
    ),
    Row(
        "cmc_loss",
        "full",
        call=_cmc,
        inputs=lambda: _views(3),
        rows=("z1", "z2", "z3"),
        oracle=partial(_cmc_oracle, core=False),
        at=lambda temperature: lambda z1, z2: co.cmc_loss([z1, z2], temperature=temperature),
        hard=_hard,
        wide=partial(_wide, lambda z1, z2, block_size: co.cmc_loss([z1, z2], block_size=block_size)),
        bad=_BAD_CMC,
        compiles=lambda: co.cmc_loss([_K, _K.roll(1, 0), -_K]),
    ),
    Row(
        "cmc_loss",
        "core",
        call=partial(_cmc, graph="core"),
        inputs=lambda: _views(3),
        rows=("z1", "z2", "z3"),
        oracle=partial(_cmc_oracle, core=True),
        compiles=lambda: co.cmc_loss([_K, _K.roll(1, 0), -_K], graph="core"),
    ),
    Row(
        "spread_loss",
        call=partial(co.spread_loss, temperature=0.3),
        inputs=_views,
        rows=("z1", "z2"),
        oracle=lambda i: _spread_held(i, i),
        held=_spread_held,
        at=lambda temperature: partial(co.spread_loss, temperature=temperature),
        hard=_hard,
        wide=partial(_wide, co.spread_loss),
        bad=pair_bad(co.spread_loss, "z1", "z2", ("temperature", "reduction", "normalize", "block_size", "group")),
        compiles=lambda: co.spread_loss(_K, _K.roll(1, 0)),
        why_not={"gradcheck": "the gradient is the anchor's side only: compared with differences instead"},
    ),
    _cpc_row("batch"),
    _cpc_row("time"),
    _cpc_row("batch_and_time", _BAD_CPC),
)
