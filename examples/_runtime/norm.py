"""Batch norm over the batches of all ranks: SimCLR's, BYOL's and SimSiam's.

Torch's own synchronised batch norm runs on GPUs only. On CPUs the same statistics are gathered with the package's
differentiable `all_gather`, so that two processes compute what one does.
"""

from __future__ import annotations

import torch
from timm.layers import BatchNormAct2d, convert_sync_batchnorm
from torch import Tensor, nn

from _runtime.launch import Run
from contrastive_ops import all_gather


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
        wide = input if input.dtype == torch.float64 else input.float()
        x = wide.transpose(0, 1).flatten(1)  # (C, values)
        count = x.new_tensor([float(x.shape[1])])
        mean = x.mean(1) if x.shape[1] else x.sum(1)
        spread = (x - mean.unsqueeze(1)).square().sum(1)
        counts, means, spreads = all_gather(torch.cat([count, mean, spread]).unsqueeze(0)).split(
            [1, len(mean), len(mean)], dim=1
        )
        total = counts.sum()
        mean = (counts * means).sum(0) / total
        variance = (spreads + counts * (means - mean).square()).sum(0) / total  # Chan, Golub and LeVeque (1979)
        self._remember(mean.detach(), variance.detach() * total / (total - 1))
        shape = [1, -1, *[1] * (input.ndim - 2)]
        scale = (variance + self.eps).rsqrt()
        shift = -mean * scale
        if self.weight is not None:
            scale, shift = scale * self.weight, shift * self.weight
        if self.bias is not None:
            shift = shift + self.bias
        return (wide * scale.view(shape) + shift.view(shape)).to(input.dtype)

    def _check_input_dim(self, input: Tensor) -> None:
        """Any number of dimensions from two."""

    @torch.no_grad()
    def _remember(self, mean: Tensor, variance: Tensor) -> None:
        if self.track_running_stats:
            self.num_batches_tracked.add_(1)
            self.running_mean.lerp_(mean, self.momentum)
            self.running_var.lerp_(variance, self.momentum)


class GatheredBatchNormAct(GatheredBatchNorm):
    """timm's batch norm with its activation."""

    def forward(self, input: Tensor) -> Tensor:
        output: Tensor = self.act(self.drop(super().forward(input)))
        return output
