"""The table of public names: one row each, with what the laws need to know of it.

A new public name is one new row. Each law of the design that can apply to a name runs over every row that fills the
law's column; a column left out means that the law has nothing to bite on, and `why_not` says so in words.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn

import contrastive_ops as co
from tests import oracles

Inputs = dict[str, Tensor]


@dataclass(frozen=True)
class Row:
    """One public name (or one mode of it) and the columns of the laws."""

    name: str
    mode: str = ""
    # laws 1-4, 8, 9: the name called on float tensors by keyword; `rows` names those split over ranks
    call: Callable[..., Tensor] | None = None
    inputs: Callable[[], Inputs] | None = None
    rows: tuple[str, ...] = ()
    oracle: Callable[[Inputs], Tensor] | None = None  # law 2: plain float64, differentiable only by differences
    # law 5: a holder with state, a verb that changes it, a read that must not
    holder: Callable[[], nn.Module] | None = None
    verb: Callable[[nn.Module, int], object] | None = None
    read: Callable[[nn.Module], object] | None = None
    # law 6: called with a generator
    random: Callable[[torch.Generator], object] | None = None
    # law 7: bad calls, with the argument that the message must name
    bad: tuple[tuple[Callable[[], object], str], ...] = ()
    # law 8: called under torch.compile(fullgraph=True), on what `prepare` makes outside the graph
    compiles: Callable[..., object] | None = None
    prepare: Callable[[], tuple[object, ...]] = tuple
    why_not: dict[str, str] = field(default_factory=dict)

    @property
    def title(self) -> str:
        return f"{self.name} {self.mode}".strip()


def _normal(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(*shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)


def _lists(x: Tensor) -> Any:
    return x.tolist()


# --- info_nce ------------------------------------------------------------------------------------------------------

_MASK = torch.rand(8, 8, generator=torch.Generator().manual_seed(5)) < 0.3


def _pair() -> Inputs:
    return {"query": _normal(8, 5), "positive_key": _normal(8, 5, seed=1)}


def _with_queue() -> Inputs:
    return {**_pair(), "negative_keys": _normal(7, 5, seed=2)}


def _with_paired() -> Inputs:
    return {**_pair(), "negative_keys": _normal(8, 3, 5, seed=3)}


def _info_nce_oracle(inputs: Inputs) -> Tensor:
    lists = [_lists(inputs[name]) for name in ("query", "positive_key")]
    negatives = _lists(inputs["negative_keys"]) if "negative_keys" in inputs else None
    mask = _lists(inputs["mask"]) if "mask" in inputs else None
    rows = oracles.info_nce(*lists, negatives, temperature=0.1, mask=mask)
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

# --- views ---------------------------------------------------------------------------------------------------------

_IMAGES = torch.rand(6, 3, 12, 10, generator=torch.Generator().manual_seed(0))


def _view_row(name: str, *, bad: tuple[tuple[dict[str, Any], str], ...], **options: Any) -> Row:
    function = getattr(co, name)
    wrong = [
        (lambda: function(_IMAGES.mul(255).byte(), **options), "images"),
        (lambda: function(_IMAGES[0], **options), "images"),
        (lambda: function("cat.png", **options), "images"),
        (lambda: function(_IMAGES, **{**options, "generator": 0}), "generator"),
    ]
    wrong += [(lambda extra=extra: function(_IMAGES, **{**options, **extra}), argument) for extra, argument in bad]
    return Row(
        name,
        random=lambda generator: function(_IMAGES, **options, generator=generator),
        bad=tuple(wrong),
        compiles=lambda: function(_IMAGES, **options),
        why_not={"world": "views never communicate", "reference": "random: see properties/test_views.py"},
    )


_P = (({"p": 1.5}, "p"), ({"p": "always"}, "p"))

# --- modules -------------------------------------------------------------------------------------------------------


def _net(seed: int = 0, dtype: torch.dtype = torch.float32) -> nn.Module:
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4), nn.Linear(4, 2)).to(dtype)


def _step(optimised: nn.Module, seed: int) -> None:
    with torch.no_grad():
        for parameter in optimised.parameters():
            parameter.add_(torch.randn(parameter.shape, generator=torch.Generator().manual_seed(seed)))


def _momentum_compiled(online: nn.Module, target: nn.Module) -> Tensor:
    co.momentum_update(online, target, 0.9)
    return torch.cat([p.flatten() for p in target.parameters()])


def _monitor_compiled(monitor: co.CollapseMonitor) -> Tensor:
    monitor.update(_K, torch.tensor(1.0))
    return torch.stack([monitor.std, monitor.at_chance])


def _queue_compiled(queue: co.NegativeQueue) -> Tensor:
    for _ in range(3):
        queue.enqueue(_K)
    return queue.keys.clone()


def _knn_oracle(inputs: Inputs) -> Tensor:
    scores = oracles.knn(
        _lists(inputs["features"]), _lists(inputs["bank"]), _LABELS.tolist(), k=3, temperature=0.1, classes=3
    )
    return torch.tensor(scores, dtype=torch.float64).sum()


_LABELS = torch.tensor([0, 1, 2, 0, 1, 2, 0])


def _gradients(x: Tensor) -> Tensor:
    leaf = x.detach().clone().requires_grad_()
    leaf.square().sum().backward()
    return co.gradient_infinity_norm(leaf)


def _unshuffled(x: Tensor, group: Any = None) -> Tensor:
    """Cubes made of shuffled rows and weighted by the place that the row came from: exact only if each came back."""
    shuffled, handle = co.shuffle_bn(x, group=group, generator=torch.Generator().manual_seed(3))
    rows = co.all_gather(co.unshuffle_bn(shuffled**3, handle), group=group)
    return (rows * torch.arange(len(rows)).unsqueeze(1)).mean()


TABLE: tuple[Row, ...] = (
    Row(
        "info_nce",
        "in-batch",
        call=co.info_nce,
        inputs=_pair,
        rows=("query", "positive_key"),
        oracle=_info_nce_oracle,
        bad=_BAD_INFO_NCE,
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
        compiles=lambda: co.info_nce(_K, _K.roll(1, 0), symmetric=True),
    ),
    Row(
        "info_nce",
        "queue",
        call=co.info_nce,
        inputs=_with_queue,
        rows=("query", "positive_key"),
        oracle=_info_nce_oracle,
        compiles=lambda: co.info_nce(_K, _K.roll(1, 0), torch.ones(6, 3), block_size=4),
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
                oracles.info_nce(
                    _lists(i["query"]), _lists(i["positive_key"]), None, temperature=2.0, normalize=False
                ),
                dtype=torch.float64,
            ).mean()
        ),
        compiles=lambda: co.info_nce(_K, _K.roll(1, 0), reduction="sum", normalize=False),
    ),
    Row(
        "NegativeQueue",
        holder=lambda: co.NegativeQueue(5, 3),
        verb=lambda queue, step: queue.enqueue(_normal(2 + step, 3, seed=step).float()),
        read=lambda queue: (queue.keys.sum(), queue.num_filled),
        random=lambda generator: co.NegativeQueue(4, 3, generator=generator).keys,
        bad=(
            (lambda: co.NegativeQueue(0, 3), "num_keys"),
            (lambda: co.NegativeQueue(4.0, 3), "num_keys"),
            (lambda: co.NegativeQueue(4, -1), "dim"),
            (lambda: co.NegativeQueue(4, 3, init="ones"), "init"),
            (lambda: co.NegativeQueue(4, 3, dtype=torch.int64), "dtype"),
            (lambda: co.NegativeQueue(4, 3, generator=1), "generator"),
            (lambda: co.NegativeQueue(4, 3).enqueue(torch.randn(2, 4)), "keys"),
            (lambda: co.NegativeQueue(4, 3).enqueue(torch.full((2, 3), float("nan"))), "keys"),
            (lambda: co.NegativeQueue(4, 3).enqueue(torch.ones(2, 3, dtype=torch.long)), "keys"),
            (lambda: co.NegativeQueue(4, 3).enqueue(torch.randn(2, 3), group="all"), "group"),
        ),
        compiles=_queue_compiled,
        prepare=lambda: (co.NegativeQueue(5, 3),),
    ),
    Row(
        "momentum_update",
        bad=(
            (lambda: co.momentum_update("net", _net(), 0.9), "online"),
            (lambda: co.momentum_update(_net(), None, 0.9), "target"),
            (lambda: co.momentum_update(_net(), nn.Linear(3, 4), 0.9), "target"),
            (lambda: co.momentum_update(nn.Linear(3, 4), nn.Linear(3, 5), 0.9), "target"),
            (lambda: (net := _net(), co.momentum_update(net, net, 0.9)), "target"),
            (lambda: co.momentum_update(_net(), _net(1), 1.1), "momentum"),
            (lambda: co.momentum_update(_net(), _net(1), -0.1), "momentum"),
            (lambda: co.momentum_update(_net(), _net(1), "0.9"), "momentum"),
            (lambda: co.momentum_update(_net(), _net(1), 0.9, buffers="none"), "buffers"),
        ),
        compiles=_momentum_compiled,
        prepare=lambda: (_net(0), _net(1)),
        why_not={"world": "each rank moves its own copy", "reference": "properties/test_momentum.py"},
    ),
    Row(
        "cosine_schedule",
        bad=(
            (lambda: co.cosine_schedule(-1, 10, 1.0, 0.0), "step"),
            (lambda: co.cosine_schedule(0, 10, float("nan"), 0.0), "start"),
            (lambda: co.cosine_schedule(0, 10, 1.0, "0"), "end"),
            (lambda: co.cosine_schedule(0, 0, 1.0, 0.0), "total_steps"),
            (lambda: co.cosine_schedule(0, 5, 1.0, 0.0, warmup_steps=5), "total_steps"),
            (lambda: co.cosine_schedule(0, 5, 1.0, 0.0, warmup_steps=-1), "warmup_steps"),
            (lambda: co.cosine_schedule(0, 5, 1.0, 0.0, warmup_start=float("inf")), "warmup_start"),
        ),
        compiles=lambda: torch.ones(()) * co.cosine_schedule(3, 10, 1.0, 0.0),
        why_not={"world": "a function of numbers", "reference": "properties/test_momentum.py"},
    ),
    Row(
        "all_gather",
        call=lambda x, group=None: (co.all_gather(x, group=group) ** 3).mean(),
        inputs=lambda: {"x": _normal(8, 5)},
        rows=("x",),
        bad=((lambda: co.all_gather([1.0]), "x"), (lambda: co.all_gather(_K, group=1), "group")),
        compiles=lambda: co.all_gather(_K),
        why_not={"reference": "alone it is the identity; distributed/test_collectives.py"},
    ),
    Row(
        "shuffle_bn",
        call=lambda x, group=None: co.all_gather(co.shuffle_bn(x, group=group)[0], group=group).pow(3).mean(),
        inputs=lambda: {"x": _normal(8, 5)},
        rows=("x",),
        random=lambda generator: co.shuffle_bn(torch.arange(50), generator=generator)[0],
        bad=(
            (lambda: co.shuffle_bn([1.0]), "x"),
            (lambda: co.shuffle_bn(torch.tensor(1.0)), "x"),
            (lambda: co.shuffle_bn(_K, generator=3), "generator"),
            (lambda: co.shuffle_bn(_K, group="world"), "group"),
        ),
        why_not={
            "reference": "the multiset of rows is the law: distributed/test_collectives.py",
            "compile": "a collective: its routes are worked out on the host",
        },
    ),
    Row(
        "unshuffle_bn",
        call=_unshuffled,
        inputs=lambda: {"x": _normal(8, 5)},
        rows=("x",),
        bad=(
            (lambda: co.unshuffle_bn(_K, "handle"), "handle"),
            (lambda: co.unshuffle_bn(_K[:2], co.shuffle_bn(_K)[1]), "y"),
            (lambda: co.unshuffle_bn("rows", co.shuffle_bn(_K)[1]), "y"),
        ),
        why_not={
            "reference": "the exact inverse is the law: distributed/test_collectives.py",
            "compile": "a collective: its routes are worked out on the host",
        },
    ),
    Row(
        "SplitBatchNorm2d",
        holder=lambda: co.SplitBatchNorm2d(3, 2),
        verb=lambda norm, step: norm(_normal(4 + step, 3, 2, 2, seed=step).float()),
        read=lambda norm: norm(torch.ones(4, 3, 2, 2)) if not norm.training else norm.running_mean,
        bad=(
            (lambda: co.SplitBatchNorm2d(0, 2), "num_features"),
            (lambda: co.SplitBatchNorm2d(3, 0), "num_splits"),
            (lambda: co.SplitBatchNorm2d(3, 2)(torch.randn(1, 3, 2, 2)), "input"),
            (lambda: co.SplitBatchNorm2d(3, 2)(torch.randn(4, 2, 2, 2)), "input"),
            (lambda: co.SplitBatchNorm2d(3, 2)(torch.randn(4, 3)), "input"),
        ),
        compiles=lambda norm: norm(_IMAGES),
        prepare=lambda: (co.SplitBatchNorm2d(3, 2),),
        why_not={"world": "local by design", "reference": "properties/test_norm.py"},
    ),
    Row(
        "projection_mlp",
        bad=(
            (lambda: co.projection_mlp(0, 4, 2), "in_dim"),
            (lambda: co.projection_mlp(3, 4.5, 2), "hidden_dim"),
            (lambda: co.projection_mlp(3, 4, -2), "out_dim"),
            (lambda: co.projection_mlp(3, 4, 2, num_layers=0), "num_layers"),
            (lambda: co.projection_mlp(3, 4, 2, norm="bn"), "norm"),
            (lambda: co.projection_mlp(3, 4, 2, last_norm=3), "last_norm"),
            (lambda: co.projection_mlp(3, 4, 2, bias=1), "bias"),
            (lambda: co.projection_mlp(3, 4, 2, last_bias=None), "last_bias"),
        ),
        compiles=lambda mlp: mlp(torch.arange(12.0).view(4, 3)),
        prepare=lambda: (co.projection_mlp(3, 4, 2),),
        why_not={"world": "a network", "reference": "properties/test_heads.py"},
    ),
    _view_row("moco_v1_view", size=8, bad=(({"size": 0}, "size"),)),
    _view_row("moco_v2_view", size=8, bad=(({"size": 7.5}, "size"),)),
    _view_row(
        "random_resized_crop",
        size=8,
        bad=(
            ({"size": 0}, "size"),
            ({"scale": (0.5, 1.5)}, "scale"),
            ({"scale": (0.5, 0.2)}, "scale"),
            ({"scale": 0.5}, "scale"),
            ({"ratio": (0, 1)}, "ratio"),
        ),
    ),
    _view_row("random_rotation", degrees=30.0, bad=(({"degrees": -1}, "degrees"), ({"degrees": 200}, "degrees"))),
    _view_row("random_horizontal_flip", bad=_P),
    _view_row(
        "color_jitter",
        brightness=0.4,
        contrast=0.4,
        saturation=0.4,
        hue=0.2,
        p=0.5,
        bad=(
            ({"brightness": -1}, "brightness"),
            ({"contrast": -1}, "contrast"),
            ({"saturation": "0"}, "saturation"),
            ({"hue": 0.6}, "hue"),
            *_P,
        ),
    ),
    _view_row("random_grayscale", bad=_P),
    _view_row("random_solarize", bad=(({"threshold": 2}, "threshold"), *_P)),
    _view_row("random_invert", bad=_P),
    _view_row("gaussian_blur", bad=(({"sigma": (0, 1)}, "sigma"), ({"sigma": (2, 1)}, "sigma"), *_P)),
    Row(
        "normalize",
        call=lambda images: co.normalize(images).square().mean(),
        inputs=lambda: {"images": _normal(2, 3, 4, 4)},
        oracle=lambda i: (
            sum(
                ((i["images"][:, c] - m) / s).square().sum()
                for c, (m, s) in enumerate([(0.485, 0.229), (0.456, 0.224), (0.406, 0.225)])
            )
            / i["images"].numel()
        ),
        bad=(
            (lambda: co.normalize(_IMAGES.long()), "images"),
            (lambda: co.normalize(_IMAGES, mean=(0.5,)), "mean"),
            (lambda: co.normalize(_IMAGES, std=(0.5, 0.5, 0.0)), "std"),
        ),
        compiles=lambda: co.normalize(_IMAGES),
        why_not={"world": "views never communicate"},
    ),
    Row(
        "knn_predict",
        call=lambda features, bank: co.knn_predict(features, bank, _LABELS, k=3, temperature=0.1).sum(),
        inputs=lambda: {"features": _normal(4, 5), "bank": _normal(7, 5, seed=1)},
        oracle=_knn_oracle,
        bad=(
            (lambda: co.knn_predict(_K[0], _K, torch.zeros(4).long()), "features"),
            (lambda: co.knn_predict(_K, _K[:, :2], torch.zeros(4).long()), "bank"),
            (lambda: co.knn_predict(_K, _K[:0], torch.zeros(0).long()), "bank"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(3).long()), "labels"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(4)), "labels"),
            (lambda: co.knn_predict(_K, _K, torch.full((4,), -1)), "labels"),
            (lambda: co.knn_predict(_K, _K, torch.full((4,), 3), num_classes=3), "labels"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(4).long(), k=0), "k"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(4).long(), temperature=0), "temperature"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(4).long(), num_classes=0), "num_classes"),
            (lambda: co.knn_predict(_K, _K, torch.zeros(4).long(), chunk_size=0), "chunk_size"),
        ),
        compiles=lambda: co.knn_predict(_K, _K, torch.zeros(4).long(), k=2, num_classes=2),
        why_not={"world": "evaluates where it is called"},
    ),
    Row(
        "feature_std",
        call=co.feature_std,
        inputs=lambda: {"z": _normal(6, 4)},
        oracle=lambda i: torch.tensor(oracles.feature_std(_lists(i["z"])), dtype=torch.float64),
        bad=(
            (lambda: co.feature_std(_K[0]), "z"),
            (lambda: co.feature_std(_K[:1]), "z"),
            (lambda: co.feature_std(_K.long()), "z"),
        ),
        compiles=lambda: co.feature_std(_K),
        why_not={"world": "describes this rank's rows"},
    ),
    Row(
        "gradient_infinity_norm",
        bad=(
            (lambda: co.gradient_infinity_norm(3), "parameters"),
            (lambda: co.gradient_infinity_norm(["weight"]), "parameters"),
        ),
        compiles=lambda: co.gradient_infinity_norm(_K),
        why_not={"world": "DDP's gradients are equal on all ranks", "reference": "properties/test_metrics.py"},
    ),
    Row(
        "CollapseMonitor",
        holder=lambda: co.CollapseMonitor(3, chance_loss=1.0, floor_loss=0.0, patience=2),
        verb=lambda monitor, step: monitor.update(torch.ones(4, 3), torch.tensor(1.0)),
        read=lambda monitor: monitor.report(),
        bad=(
            (lambda: co.CollapseMonitor(0), "dim"),
            (lambda: co.CollapseMonitor(3, patience=0), "patience"),
            (lambda: co.CollapseMonitor(3, chance_loss=float("nan")), "chance_loss"),
            (lambda: co.CollapseMonitor(3, floor_loss="-1"), "floor_loss"),
            (lambda: co.CollapseMonitor(3).update(torch.ones(4, 2)), "z"),
            (lambda: co.CollapseMonitor(3).update(torch.ones(1, 3)), "z"),
        ),
        compiles=_monitor_compiled,
        prepare=lambda: (co.CollapseMonitor(3, chance_loss=1.0),),
        why_not={"world": "watches this rank's rows"},
    ),
)


def equal(a: object, b: object) -> bool:
    """Whether two results are the same, bit for bit."""
    if isinstance(a, Tensor) and isinstance(b, Tensor):
        return a.dtype == b.dtype and torch.equal(a, b)
    return a == b


__all__ = ["TABLE", "Inputs", "Row", "equal"]
