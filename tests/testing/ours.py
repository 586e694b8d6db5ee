"""Our own losses of two tensors, and our modules that remember, in the form that the kit takes: one line for each.

Functions of their own where the interface differs; at the top level, since processes get them by name.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn

import contrastive_ops as co
from contrastive_ops.testing import laws
from contrastive_ops.testing.strategies import pairs, with_negatives


def cmc(z1: Tensor, z2: Tensor) -> Tensor:
    return co.cmc_loss([z1, z2, -z1], temperature=0.2)  # a third view that half precision does not round


def cpc(negatives: str, z1: Tensor, z2: Tensor) -> Tensor:
    """Sequences (z1, z2, -z1), each latent predicted by itself."""
    latents = torch.stack([z1, z2, -z1], dim=1)
    return co.cpc_loss(latents.roll(-1, 1).unsqueeze(2), latents, negatives=negatives, normalize=True, temperature=0.2)


def nce(query: Tensor, key: Tensor, negatives: Tensor) -> Tensor:
    return co.nce_loss(query, key, negatives, temperature=0.2, log_partition=3.0, num_data=50, normalize=True)


def swapped(z1: Tensor, z2: Tensor) -> Tensor:
    """Rows are scores here; the assignments are those of all ranks."""
    return co.swapped_prediction([z1, z2], [co.sinkhorn(z1, epsilon=0.5), co.sinkhorn(z2, epsilon=0.5)])


def dino(z1: Tensor, z2: Tensor) -> Tensor:
    teacher = [z.detach().float().softmax(1).to(torch.promote_types(z.dtype, torch.float32)) for z in (z1, z2)]
    return co.dino_loss(student=[z1, z2], teacher=teacher)


def distilled(z1: Tensor, z2: Tensor) -> Tensor:
    return co.distillation_loss(z1, z2, temperature=0.5)


def without(kept: tuple[Any, ...], *dropped: Any) -> tuple[Any, ...]:
    return tuple(law for law in kept if law not in dropped)


_UNSCALED = without(laws.SIMILARITY, laws.rescaling, laws.rotation, laws.zero_rows)  # of scores and logits
_TARGETS = without(_UNSCALED, laws.gradient)  # and where a target depends on the input that gets no gradient

# name: (loss, inputs, laws in one process)
LOSSES: dict[str, tuple[Callable[..., Tensor], Any, tuple[Any, ...]]] = {
    "info_nce": (co.info_nce, None, laws.LOCAL),
    "info_nce, temperature 0.01": (partial(co.info_nce, temperature=0.01), None, laws.LOCAL),
    "info_nce, temperature 1": (partial(co.info_nce, temperature=1.0), None, laws.LOCAL),
    "info_nce, symmetric": (partial(co.info_nce, symmetric=True), None, (laws.view_swap, *laws.LOCAL)),
    "info_nce, queue": (co.info_nce, with_negatives(), (laws.more_negatives, *laws.LOCAL)),
    "nt_xent": (co.nt_xent, None, (laws.view_swap, *laws.LOCAL)),
    "nt_xent, temperature 0.01": (partial(co.nt_xent, temperature=0.01), None, (laws.view_swap, *laws.LOCAL)),
    "clip_loss": (partial(co.clip_loss, logit_scale=100.0), None, (laws.view_swap, *laws.LOCAL)),
    "cmc_loss": (cmc, None, laws.SIMILARITY),
    "spread_loss": (co.spread_loss, None, (laws.view_swap, *without(laws.LOCAL, laws.gradient))),
    "cpc_loss, batch": (partial(cpc, "batch"), None, laws.SIMILARITY),
    "cpc_loss, time": (partial(cpc, "time"), None, laws.SIMILARITY),
    "cpc_loss, both": (partial(cpc, "batch_and_time"), None, laws.SIMILARITY),
    "nce_loss": (nce, with_negatives(), laws.SIMILARITY),  # more noise is another K / n, and may lower it
    "stop_grad_cosine": (co.stop_grad_cosine, None, laws.SIMILARITY),
    "byol_loss": (co.byol_loss, None, laws.SIMILARITY),
    "stop_grad_cross_entropy": (co.stop_grad_cross_entropy, None, _UNSCALED),
    "distillation_loss": (distilled, None, _UNSCALED),
    "swapped_prediction, sinkhorn": (swapped, pairs(), (laws.view_swap, *_TARGETS)),
    "dino_loss": (dino, pairs(), (laws.view_swap, *_TARGETS)),
}


def rows_held(queue: co.NegativeQueue) -> Tensor:
    return queue.keys


def into_bank(bank: co.MemoryBank, rows: Tensor) -> None:
    """An image's index is worked out from its row, so that it is the same wherever the row is."""
    bank.update((rows.abs().sum(1) * 100).long() % len(bank.entries), rows)


# name: (how to make one, how to change it, the rows held where it is a queue)
HOLDERS: dict[str, tuple[Callable[[], nn.Module], Callable[[Any, Tensor], object], Any]] = {
    "NegativeQueue": (partial(co.NegativeQueue, 5, 2), co.NegativeQueue.enqueue, rows_held),
    "MemoryBank": (partial(co.MemoryBank, 6, 2), into_bank, None),
    "NCEPartition": (partial(co.NCEPartition, 10, momentum=0.9), co.NCEPartition.update, None),
    "DINOCenter": (partial(co.DINOCenter, 2), co.DINOCenter.update, None),
}
