"""How embeddings lie on the sphere."""

from __future__ import annotations

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote, unit_rows


@torch.no_grad()
def feature_std(z: Tensor) -> Tensor:
    r"""Mean over channels of the standard deviation of l2-normalised embeddings: 1 / sqrt(D) when healthy.

    $$\frac1D \sum_d \mathrm{std}_i\Big(\frac{z_{id}}{\lVert z_i\rVert}\Big)$$

    Args:
        z: (B, D) embeddings, B >= 2.

    Returns:
        () tensor, float32 (float64 for float64 inputs): about 1 / sqrt(D) for embeddings spread evenly over the
        sphere, 0 when all have collapsed to one direction.

    Raises:
        ValueError: fewer than 2 rows, the wrong shape, a NaN on CPU.
        TypeError: `z` is no floating-point tensor.

    Example:
        >>> z = torch.randn(4096, 64, generator=torch.Generator().manual_seed(0))
        >>> print(f"{feature_std(z):.3f} {64 ** -0.5:.3f}")
        0.125 0.125

    References:
        SimSiam (Chen and He, 2021), section 4.1 and figure 2. The deviation is the unbiased one, over N - 1.
    """
    rows, _ = _checks.is_floating("z", z, shape=("B", "D")).shape
    if rows < 2:
        raise ValueError(f"z: expected at least 2 rows to spread, got {_checks.show(z)}")
    with full_precision(z.device):
        return unit_rows(*promote(z)).std(0).mean()
