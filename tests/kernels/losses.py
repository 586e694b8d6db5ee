"""Every loss that runs through the passes, on three sets of rows: 9, 9 and 30 rows of 6 dimensions."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from contrastive_ops import clip_loss, cmc_loss, cpc_loss, info_nce, nt_xent
from contrastive_ops.kernels._dispatch import using
from tests.kernels.dense import relative

SMALL = 2  # columns of a block: so few that no matrix here is small enough to be kept whole, without the passes
Loss = Callable[[Tensor, Tensor, Tensor], Tensor]


def losses(device: torch.device) -> dict[str, Loss]:
    """Losses by name; temperatures that require a gradient are functions of the third set."""
    mask = (torch.rand(9, 30, generator=torch.Generator().manual_seed(0)) < 0.3).to(device)
    return {
        "in batch": lambda a, b, c: info_nce(a, b, temperature=0.1, block_size=SMALL),
        "in batch, symmetric": lambda a, b, c: info_nce(a, b, symmetric=True, block_size=SMALL),
        "in batch, masked": lambda a, b, c: info_nce(a, b, mask=mask[:, :9], block_size=SMALL),
        "queue": lambda a, b, c: info_nce(a, b, c, temperature=0.01, block_size=SMALL),
        "queue, masked": lambda a, b, c: info_nce(
            a, b, c, mask=mask, normalize=False, temperature=1.0, block_size=SMALL
        ),
        "paired": lambda a, b, c: info_nce(a, b, c.expand(9, -1, -1), negative_mode="paired", block_size=SMALL),
        "nt_xent": lambda a, b, c: nt_xent(a, b, temperature=c.mean().exp(), block_size=SMALL),
        "clip": lambda a, b, c: clip_loss(a, b, c.mean().exp() * 10, block_size=SMALL),
        "cmc": lambda a, b, c: cmc_loss([a, b, a * b], block_size=SMALL),
        **{f"cpc, {kind}": _cpc(kind) for kind in ("batch", "time", "batch_and_time")},
    }


def _cpc(negatives: str) -> Loss:
    def loss(a: Tensor, b: Tensor, c: Tensor) -> Tensor:
        predictions, latents = c.view(3, 5, 2, 6), a[:, :5].reshape(3, 5, 3).repeat(1, 1, 2)
        return cpc_loss(predictions, latents, negatives=negatives, block_size=SMALL)

    return loss


def value_and_gradients(loss: Loss, dtype: torch.dtype, device: torch.device) -> list[Tensor]:
    """The loss and what it sends back, of the same rows in any dtype and on any device."""
    generator = torch.Generator().manual_seed(1)
    rows = [torch.randn(n, 6, generator=generator).to(device, dtype).requires_grad_() for n in (9, 9, 30)]
    value = loss(*rows)
    gradients: list[Any] = list(torch.autograd.grad(value, rows, allow_unused=True, materialize_grads=True))
    return [value.detach(), *gradients]


def loss_errors(device: torch.device, name: str, *, backend: str = "") -> dict[str, float]:
    """Value and gradients by Triton's kernels against torch's passes in float64; compiled where a backend is named."""
    loss = losses(device)[name]
    run: Any = torch.compile(loss, fullgraph=True, backend=backend) if backend else loss
    with using("triton"):
        ours = value_and_gradients(run, torch.float32, device)
    with using("torch"):
        exact = value_and_gradients(loss, torch.float64, device)
    return {f"output {place}": relative(a, b) for place, (a, b) in enumerate(zip(ours, exact, strict=True))}
