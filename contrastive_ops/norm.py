"""Batch norm over parts of the batch: on one device what several devices' own batch norm does."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from contrastive_ops import _checks


class SplitBatchNorm2d(nn.BatchNorm2d):
    r"""Batch norm whose training statistics are those of each of S contiguous chunks of the batch.

    $$y_i = \gamma\,\frac{x_i - \mu_{s(i)}}{\sqrt{\sigma^2_{s(i)} + \epsilon}} + \beta, \qquad
      s(i) = \text{the chunk that row } i \text{ lies in}$$

    The stand-in on one device for the per-GPU batch norm that MoCo's shuffling needs: with `shuffle_bn` on the keys,
    a query and its positive are normalised among different images. Running statistics move once per batch, to the
    mean over chunks; evaluation is that of `BatchNorm2d`. Chunks are those of `torch.tensor_split`, so the batch need
    not divide. Takes the place of `norm_layer` in timm: `functools.partial(SplitBatchNorm2d, num_splits=8)`.

    Args:
        num_features: C, channels.
        num_splits: S, chunks.
        eps: added to the variance.
        momentum: weight of the new statistics (torch's convention); None is the cumulative average.
        affine: learn gamma and beta.
        track_running_stats: keep statistics for evaluation.
        device: of parameters and buffers.
        dtype: of parameters and buffers.

    Raises:
        ValueError: a count below 1; a training batch (B, C, H, W) with fewer rows than chunks.
        TypeError: an argument is of the wrong type.

    Example:
        >>> x = torch.tensor([1.0, 3.0, 10.0, 30.0]).view(4, 1, 1, 1)
        >>> SplitBatchNorm2d(1, 2, affine=False, eps=1e-9)(x).flatten()
        tensor([-1.,  1., -1.,  1.])

    References:
        "Momentum Contrast" (He et al., 2020), section 3.3. The authors' single-GPU notebook deals rows to splits in
        turn; chunks are what ranks would hold.
    """

    def __init__(
        self,
        num_features: int,
        num_splits: int,
        *,
        eps: float = 1e-5,
        momentum: float | None = 0.1,
        affine: bool = True,
        track_running_stats: bool = True,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        _checks.is_count("num_features", num_features)
        _checks.is_count("num_splits", num_splits)
        super().__init__(num_features, eps, momentum, affine, track_running_stats, device=device, dtype=dtype)
        self.num_splits = num_splits

    def forward(self, input: Tensor) -> Tensor:
        """Normalise (B, C, H, W): by chunks in training, by the running statistics in evaluation."""
        _checks.is_tensor("input", input, shape=("B", self.num_features, "H", "W"))
        if not (self.training or self.running_mean is None):
            return super().forward(input)
        if len(input) < self.num_splits:
            raise ValueError(
                f"input: expected at least num_splits={self.num_splits} rows, got {_checks.show(input)}; "
                "use a larger batch or fewer splits"
            )
        chunks = input.tensor_split(self.num_splits)
        means, variances = self._running(len(chunks))
        factor = self._factor()
        parts = [
            F.batch_norm(chunk, mean, variance, self.weight, self.bias, True, factor, self.eps)
            for chunk, mean, variance in zip(chunks, means, variances, strict=True)
        ]
        self._remember(means, variances)
        return torch.cat(parts)

    def _running(self, count: int) -> tuple[list[Tensor | None], list[Tensor | None]]:
        """A copy of the running statistics for each chunk to move on its own."""
        if self.running_mean is None or self.running_var is None:
            return [None] * count, [None] * count
        return [self.running_mean.clone() for _ in range(count)], [self.running_var.clone() for _ in range(count)]

    def _factor(self) -> float:
        if self.momentum is not None or self.num_batches_tracked is None:
            return self.momentum or 0.0
        return 1.0 / (int(self.num_batches_tracked) + 1)

    def _remember(self, means: list[Tensor | None], variances: list[Tensor | None]) -> None:
        if self.running_mean is None or self.running_var is None or self.num_batches_tracked is None:
            return
        with torch.no_grad():
            self.running_mean.copy_(torch.stack([mean for mean in means if mean is not None]).mean(0))
            self.running_var.copy_(torch.stack([var for var in variances if var is not None]).mean(0))
            self.num_batches_tracked.add_(1)

    def extra_repr(self) -> str:
        return f"{self.num_features}, num_splits={self.num_splits}, eps={self.eps}, momentum={self.momentum}"
