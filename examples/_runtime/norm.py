"""Batch norm over the batches of all ranks, of each view by itself: SimCLR's, BYOL's, SimSiam's and MoCo v3's.

Torch's own synchronised batch norm runs on GPUs only. On CPUs the same statistics are gathered here: one small
collective forward and one backward, after which two processes have computed what one does. Two views that a network
takes in one pass cost fewer collectives and fewer calls than two passes, and keep statistics of their own.
"""

from __future__ import annotations

import functools
from typing import Any

import torch
import torch.distributed as dist
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn
from torch.autograd.function import once_differentiable
from torch.nn.modules.batchnorm import _BatchNorm

from _runtime.launch import Run


def synchronise_norms(net: nn.Module, run: Run, *, views: int = 1) -> nn.Module:
    """Replaces every batch norm in `net` by one over all ranks; alone, and of one view, nothing is to be done.

    views is how many views lie one after the other in a batch, each with as many rows; each has its own statistics,
    and running statistics take them in turn, as if the views had gone through one by one.
    """
    if run.world_size > 1 and run.device.type == "cuda":
        net = convert_sync_batchnorm(net)  # timm's: torch's own loses the activations that timm puts into norms
    for module in net.modules():
        if run.world_size > 1 and run.device.type == "cpu":
            _gather(module, views)
        elif views > 1 and isinstance(module, _BatchNorm):
            module.__class__ = _of_each_view(type(module))
            module.views = views
    return net


def _gather(module: nn.Module, views: int) -> None:
    if type(module) in (nn.BatchNorm1d, nn.BatchNorm2d):
        module.__class__ = GatheredBatchNorm  # the same parameters and buffers under the same names
    elif type(module) is BatchNormAct2d:
        module.__class__ = GatheredBatchNormAct
    else:
        return
    module.views = views


@functools.cache
def _of_each_view(norm: type[_BatchNorm]) -> type[_BatchNorm]:
    """A kind of batch norm that takes each view of a batch by itself while it is trained."""
    return type(f"{norm.__name__}OfEachView", (_EachView, norm), {})


class _EachView:
    """Before a kind of batch norm among the bases of a class: each view of a batch goes through it by itself.

    Any kind, a synchronised one too, and with a step of the running statistics for each view, which
    `SplitBatchNorm2d`, the stand-in for several devices, makes one of all.
    """

    views: int
    training: bool

    def forward(self, input: Tensor) -> Tensor:
        parts = input.chunk(self.views) if self.training else (input,)
        return torch.cat([super(_EachView, self).forward(part) for part in parts])


def scale_only_norm(dim: int) -> nn.BatchNorm1d:
    """Batch norm with gamma and without beta, the last layer of SimCLR's head."""
    norm = nn.BatchNorm1d(dim)
    norm.register_parameter("bias", None)
    return norm


class GatheredBatchNorm(_BatchNorm):
    """Batch norm of (B, C) or (B, C, H, W) whose training statistics are those of the rows of all ranks, by view."""

    views: int

    def forward(self, input: Tensor) -> Tensor:
        if not self.training:
            return super().forward(input)
        x = input if input.dtype == torch.float64 else input.float()
        total, mean, variance = _statistics(x.detach().unflatten(0, (self.views, -1)))
        self._remember(mean, variance * total / (total - 1))
        output: Tensor = _Normalise.apply(x, self.weight, self.bias, total, mean, variance, self.eps)
        return output.to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions from two."""

    @torch.no_grad()
    def _remember(self, means: Tensor, variances: Tensor) -> None:
        if self.track_running_stats:
            self.num_batches_tracked.add_(self.views)
            for mean, variance in zip(means, variances, strict=True):
                self.running_mean.lerp_(mean, self.momentum)
                self.running_var.lerp_(variance, self.momentum)


def _statistics(x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """How many values a channel of a view has on all ranks, (V, 1), its mean and variance there, (V, C).

    From one gather of V (2 C + 1) numbers; x is (V, B, C, ...).
    """
    dims, count = _within(x), x[0].numel() // x.shape[2]
    mean = x.mean(dims) if count else x.new_zeros(len(x), x.shape[2])
    spread = (x - _wide(mean, x)).square_().sum(dims)
    parts = _of_each_rank(torch.cat([torch.full_like(mean[:, :1], count), mean, spread], 1))
    counts, means, spreads = parts.split([1, *mean.shape[1:], *mean.shape[1:]], dim=2)
    total = counts.sum(0)
    mean = (counts * means).sum(0) / total
    return total, mean, (spreads + counts * (means - mean).square()).sum(0) / total  # Chan, Golub and LeVeque (1979)


def _of_each_rank(own: Tensor) -> Tensor:
    """(W, ...): the numbers of each rank, sent straight to all others: for so few, gloo's rings take longer."""
    copies = own.expand(dist.get_world_size(), *own.shape).contiguous()
    parts = torch.empty_like(copies)
    dist.all_to_all_single(parts, copies)
    return parts


class _Normalise(torch.autograd.Function):
    r"""$y = w \hat x + b$, $\hat x = (x - \mu) / \sigma$ with the mean and deviation of all N values of all ranks.

    $$\frac{\partial L}{\partial x} = \frac{w}{\sigma} \Big(g - \frac1N \sum g - \frac{\hat x}{N} \sum g \hat x\Big),
      \qquad g = \frac{\partial L}{\partial y}$$

    x is (V B, C, ...), the moments (V, C): each view has its own.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, w: Tensor | None, b: Tensor | None, *moments: Tensor | float) -> Tensor:
        total, mean, variance, eps = moments
        inverse = (variance + eps).rsqrt()
        ctx.save_for_backward(x, w, total, mean, inverse)
        scale = inverse if w is None else inverse * w
        shift = -mean * scale if b is None else b - mean * scale
        output = torch.empty_like(x)  # and no view of another tensor, in which a ReLU could not be made in place
        parts = x.unflatten(0, (len(mean), -1))
        torch.addcmul(_wide(shift, parts), parts, _wide(scale, parts), out=output.unflatten(0, (len(mean), -1)))
        return output

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, g: Tensor) -> tuple[Tensor | None, ...]:
        x, w, total, mean, inverse = ctx.saved_tensors
        x, g = (values.unflatten(0, (len(mean), -1)) for values in (x, g))
        sum_g = g.sum(_within(g))
        sum_gx = (x - _wide(mean, x)).mul_(g).sum(_within(x)) * inverse  # of g x_hat
        sums_g, sums_gx = _of_each_rank(torch.stack([sum_g, sum_gx])).sum(0)
        scale = inverse if w is None else inverse * w
        slope = scale * inverse * sums_gx / total
        shift = slope * mean - scale * sums_g / total
        gradient = torch.addcmul(_wide(shift, x), g, _wide(scale, x)).addcmul_(x, _wide(slope, x), value=-1)
        return (
            gradient.flatten(0, 1),
            sum_gx.sum(0) if ctx.needs_input_grad[1] else None,
            sum_g.sum(0) if ctx.needs_input_grad[2] else None,
            *[None] * 4,
        )


def _within(x: Tensor) -> list[int]:
    """The dimensions of (V, B, C, ...) over which a channel of a view is spread."""
    return [1, *range(3, x.ndim)]


def _wide(channel: Tensor, x: Tensor) -> Tensor:
    """(V, C) as (V, 1, C, 1, ...), to go with x."""
    return channel.view(len(x), 1, -1, *[1] * (x.ndim - 3))


class GatheredBatchNormAct(GatheredBatchNorm):
    """timm's batch norm with its activation."""

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.act(self.drop(super().forward(input)))
        return output
