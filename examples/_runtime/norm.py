"""Batch norm over the batches of all ranks: SimCLR's, BYOL's and SimSiam's.

Torch's own synchronised batch norm runs on GPUs only. On CPUs the same statistics are gathered here: one small
collective forward and one backward, after which two processes have computed what one does.
"""

from __future__ import annotations

from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn import functional

from _runtime.launch import Run


def synchronise_norms(net: nn.Module, run: Run) -> nn.Module:
    """Replaces every batch norm in `net` by one over all ranks; alone nothing is to be done."""
    if run.world_size == 1:
        return net
    if run.device.type == "cuda":
        return convert_sync_batchnorm(net)  # timm's: torch's own loses the activations that timm puts into norms
    for module in net.modules():
        if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
            module.__class__ = GatheredBatchNorm  # the same parameters and buffers under the same names
        elif type(module) is BatchNormAct2d:
            module.__class__ = GatheredBatchNormAct
    return net


def scale_only_norm(dim: int) -> nn.BatchNorm1d:
    """Batch norm with gamma and without beta, the last layer of SimCLR's head."""
    norm = nn.BatchNorm1d(dim)
    norm.register_parameter("bias", None)
    return norm


class GatheredBatchNorm(nn.modules.batchnorm._BatchNorm):
    """Batch norm of (B, C) or (B, C, H, W) whose training statistics are those of the rows of all ranks."""

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input if input.dtype == torch.float64 else input.float()
        total, mean, variance = _statistics(x.detach())
        self._remember(mean, variance * total / (total - 1))
        output: Tensor = _Normalise.apply(x, self.weight, self.bias, total, mean, variance, self.eps)
        return output.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions from two."""

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many values a channel has on all ranks, its mean and variance there, from one gather of 2 C + 1 numbers."""
    dims, count = [0, *range(2, x.ndim)], x.numel() // x.shape[1]
    mean = x.mean(dims) if count else x.new_zeros(x.shape[1])
    spread = (x - _wide(mean, x)).square_().sum(dims)
    parts = _of_each_rank(torch.cat([x.new_tensor([count]), mean, spread]))
    counts, means, spreads = parts.split([1, len(mean), len(mean)], dim=1)
    total = counts.sum()
    mean = (counts * means).sum(0) / total
    return total, mean, (spreads + counts * (means - mean).square()).sum(0) / total  # Chan, Golub and LeVeque (1979)


def _of_each_rank(own: Tensor) -> Tensor:
    """(W, n): the n numbers of each rank, sent straight to all others: for so few, gloo's rings take longer."""
    copies = own.expand(dist.get_world_size(), -1).contiguous()
    parts = torch.empty_like(copies)
    dist.all_to_all_single(parts, copies)
    return parts


class _Normalise(torch.autograd.Function):
    r"""$y = w \hat x + b$, $\hat x = (x - \mu) / \sigma$ with the mean and deviation of all N values of all ranks.

    $$\frac{\partial L}{\partial x} = \frac{w}{\sigma} \Big(g - \frac1N \sum g - \frac{\hat x}{N} \sum g \hat x\Big),
      \qquad g = \frac{\partial L}{\partial y}$$
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor | None, b: Tensor | None, *moments: Tensor | float) -> Tensor:
        total, mean, variance, ctx.eps = moments
        ctx.save_for_backward(x, w, total, mean, variance)
        return functional.batch_norm(x, mean, variance, w, b, training=False, eps=ctx.eps)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w, total, mean, variance = ctx.saved_tensors
        inverse = (variance + ctx.eps).rsqrt()
        dims = [0, *range(2, x.ndim)]
        sum_g = g.sum(dims)
        sum_gx = (g * (x - _wide(mean, x))).sum(dims) * inverse  # of g x_hat
        sums = _of_each_rank(torch.cat([sum_g, sum_gx])).sum(0).view(2, -1)
        scale = inverse if w is None else inverse * w
        slope = scale * inverse * sums[1] / total
        shift = scale * sums[0] / total - slope * mean
        gradient = g * _wide(scale, x) - x * _wide(slope, x) - _wide(shift, x)
        return (
            gradient,
            sum_gx if ctx.needs_input_grad[1] else None,
            sum_g if ctx.needs_input_grad[2] else None,
            *[None] * 4,
        )


def _wide(channel: Tensor, x: Tensor) -> Tensor:
    """(C,) as (1, C, 1, ...), to go with x."""
    return channel.view(1, -1, *[1] * (x.ndim - 2))


class GatheredBatchNormAct(GatheredBatchNorm):
    """timm's batch norm with its activation."""

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.act(self.drop(super().forward(input)))
        return output
