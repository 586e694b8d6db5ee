"""What the GPU benchmark times: the library, its floors (the products or copies nobody avoids), and dense PyTorch."""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

import contrastive_ops as co
from contrastive_ops.kernels._dispatch import using
from tests.benchmarks.gpu_checks import float32_products
from tests.benchmarks.gpu_timing import Run
from tests.kernels.cases import OPTIONS, unit_rows

ROWS_AT_ONCE = 4096  # of a floor's product: its matrix need not fit


class Item(NamedTuple):
    """Contestants of one size; times are given relative to `floor`, the other floors are for comparison."""

    name: str
    size: dict[str, int]
    floor: str
    make: Callable[[torch.device], dict[str, Run]]


def items(*, small: bool) -> list[Item]:
    """The items of performance.md; `small` sizes only show that everything runs."""
    pairs = [(40, 16)] if small else [(1024, 128), (4096, 128), (16_384, 128), (32_768, 128), (16_384, 512)]
    clips = [(20, 16)] if small else [(4096, 512), (16_384, 512), (32_768, 1024)]
    queues = [(8, 50, 16)] if small else [(256, 65_536, 128), (1024, 65_536, 256)]
    rows = [(8, 12)] if small else [(4096, 3000), (512, 65_536)]
    layers = [(3, 8)] if small else [(100, 512)]
    crops = [(2, 40)] if small else [(64, 256)]
    return [
        *(Item("nt_xent", {"pairs": n, "width": d}, "3 products bf16", partial(nt_xent, n, d)) for n, d in pairs),
        *(Item("clip", {"rows": n, "width": d}, "3 products bf16", partial(clip, n, d)) for n, d in clips),
        *(
            Item("queue", {"rows": n, "keys": k, "width": d}, "2 products bf16", partial(queue, n, k, d))
            for n, k, d in queues
        ),
        *(Item("sinkhorn", {"rows": n, "prototypes": k}, "copy", partial(sinkhorn, n, k)) for n, k in rows),
        *(Item("momentum_update", {"layers": n, "width": d}, "copy", partial(momentum, n, d)) for n, d in layers),
        *(Item("enqueue", {"rows": n, "keys": k}, "copy", partial(enqueue, n, k)) for n, k, _ in queues),
        *(Item("multi_crop", {"images": n, "side": s}, "copy", partial(multi_crop, n, s)) for n, s in crops),
    ]


def nt_xent(pairs: int, width: int, device: torch.device) -> dict[str, Run]:
    """Value and gradient of both views at temperature 0.1."""
    z1, z2 = (torch.randn(pairs, width, device=device, requires_grad=True) for _ in range(2))
    half = unit_rows(2 * pairs, width, seed=1, device=device, dtype=torch.bfloat16)
    ours = partial(_backward, partial(co.nt_xent, temperature=0.1), z1, z2)
    return {
        **_floors(3, 2 * pairs, 2 * pairs, width, device),
        **_ways(ours, device),
        "ours, bf16 rows, passes alone": partial(_itself, half),
        "dense": partial(_backward, _dense_nt_xent, z1, z2),
    }


def clip(rows: int, width: int, device: torch.device) -> dict[str, Run]:
    """Value and gradient of both sides and of the scale."""
    images, texts = (torch.randn(rows, width, device=device, requires_grad=True) for _ in range(2))
    scale = torch.tensor(14.0, device=device, requires_grad=True)
    return {
        **_floors(3, rows, rows, width, device),
        **_ways(partial(_backward, co.clip_loss, images, texts, scale), device),
        "dense": partial(_backward, _dense_clip, images, texts, scale),
    }


def queue(rows: int, keys: int, width: int, device: torch.device) -> dict[str, Run]:
    """MoCo's: the gradient goes to the queries only."""
    query = torch.randn(rows, width, device=device, requires_grad=True)
    positive, negatives = (F.normalize(torch.randn(n, width, device=device), dim=1) for n in (rows, keys))
    loss = partial(_of_query, partial(co.info_nce, temperature=0.07), positive, negatives)
    return {
        **_floors(2, rows, keys, width, device),
        **_ways(partial(_backward, loss, query), device),
        "dense": partial(_backward, partial(_of_query, _dense_queue, positive, negatives), query),
    }


def sinkhorn(rows: int, prototypes: int, device: torch.device) -> dict[str, Run]:
    """Three iterations, against a copy of the scores."""
    scores = F.normalize(torch.randn(rows, prototypes, device=device), dim=1)
    return {"copy": partial(torch.empty_like(scores).copy_, scores), "ours": partial(co.sinkhorn, scores)}


def momentum(layers: int, width: int, device: torch.device) -> dict[str, Run]:
    """The moving average of a network, against a copy of as many bytes."""
    online = nn.Sequential(*(nn.Linear(width, width) for _ in range(layers))).to(device)
    target = copy.deepcopy(online).requires_grad_(False)
    flat = torch.cat([p.detach().flatten() for p in online.parameters()])
    return {
        "copy": partial(torch.empty_like(flat).copy_, flat),
        "ours": partial(co.momentum_update, online, target, 0.99),
        "one parameter after another": partial(_each_parameter, online, target),
    }


def enqueue(rows: int, keys: int, device: torch.device) -> dict[str, Run]:
    """New keys into a queue, against a copy of them."""
    memory = co.NegativeQueue(keys, 128).to(device)
    new = torch.randn(rows, 128, device=device)
    return {"copy": partial(torch.empty_like(new).copy_, new), "ours": partial(memory.enqueue, new)}


def multi_crop(images: int, side: int, device: torch.device) -> dict[str, Run]:
    """Two large and six small crops, against a copy of as many values as they have."""
    given = torch.rand(images, 3, side, side, device=device)
    sizes = (224, 96) if side > 200 else (16, 8)
    values = torch.randn(images * 3 * (2 * sizes[0] ** 2 + 6 * sizes[1] ** 2), device=device)
    return {
        "copy": partial(torch.empty_like(values).copy_, values),
        "ours": partial(co.multi_crop, given, sizes=sizes, counts=(2, 6)),
    }


def _ways(ours: Run, device: torch.device) -> dict[str, Run]:
    """The library as it chooses by itself, with tf32x3 products, and with torch's own passes."""
    return {
        "ours": partial(_with_passes, "triton", "ieee", ours),
        "ours, tf32x3": partial(_with_passes, "triton", "tf32x3", ours),
        "ours, torch's passes": partial(_with_passes, "torch", "ieee", ours),
    }


def _with_passes(name: str, precision: str, run: Run) -> Any:
    with using(name), float32_products(precision):
        return run()


def _floors(count: int, rows: int, columns: int, width: int, device: torch.device) -> dict[str, Run]:
    """`count` products of rows x columns x width by cuBLAS, the logits' and then the gradients', in blocks of rows."""
    return {
        f"{count} products {str(dtype)[6:].replace('bfloat16', 'bf16').replace('float32', 'fp32')}": partial(
            _products,
            count,
            torch.randn(rows, width, device=device, dtype=dtype),
            torch.randn(columns, width, device=device, dtype=dtype),
        )
        for dtype in (torch.bfloat16, torch.float32)
    }


def _products(count: int, left: Tensor, right: Tensor) -> None:
    for start in range(0, len(left), ROWS_AT_ONCE):
        block = left[start : start + ROWS_AT_ONCE]
        weights = block @ right.T
        for place in range(1, count):
            _ = weights @ right if place == 1 else weights.T @ block


def _backward(loss: Callable[..., Tensor], *inputs: Tensor) -> list[Tensor]:
    value = loss(*inputs)
    return [value.detach(), *torch.autograd.grad(value, inputs)]


def _itself(rows: Tensor) -> tuple[Tensor, Tensor]:
    from contrastive_ops.kernels import _triton_passes as triton

    lse = triton.attend_self(rows, 10.0, **OPTIONS)
    return lse, triton.self_gradient(rows, 10.0, lse, torch.ones_like(lse), **OPTIONS)


def _of_query(loss: Callable[..., Tensor], positive: Tensor, negatives: Tensor, query: Tensor) -> Tensor:
    return loss(query, positive, negatives)


def _dense_nt_xent(z1: Tensor, z2: Tensor) -> Tensor:
    z = F.normalize(torch.cat([z1, z2]), dim=1)
    logits = (z @ z.T / 0.1).fill_diagonal_(float("-inf"))
    return F.cross_entropy(logits, torch.arange(len(z), device=z.device).roll(len(z1)))


def _dense_clip(images: Tensor, texts: Tensor, scale: Tensor) -> Tensor:
    logits = scale * F.normalize(images, dim=1) @ F.normalize(texts, dim=1).T
    own = torch.arange(len(images), device=images.device)
    return (F.cross_entropy(logits, own) + F.cross_entropy(logits.T, own)) / 2


def _dense_queue(query: Tensor, positive: Tensor, negatives: Tensor) -> Tensor:
    query = F.normalize(query, dim=1)
    logits = torch.cat([(query * positive).sum(1, keepdim=True), query @ negatives.T], dim=1) / 0.07
    return F.cross_entropy(logits, torch.zeros(len(query), dtype=torch.int64, device=query.device))


def _each_parameter(online: nn.Module, target: nn.Module) -> None:
    with torch.no_grad():
        for new, old in zip(online.parameters(), target.parameters(), strict=True):
            old.copy_(old * 0.99 + new * 0.01)
