"""How embeddings lie in their space: close for positives, spread evenly, in how many dimensions."""

from __future__ import annotations

from math import log

import torch
from torch import Tensor

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote, unit_rows
from contrastive_ops.kernels import log_sum_exp


def alignment(x: Tensor, y: Tensor, *, alpha: float = 2.0) -> Tensor:
    r"""Mean distance, to the power alpha, of positive pairs on the unit sphere: 0 when views coincide.

    $$\mathcal{L}_\text{align} = \frac1B \sum_i \lVert x_i - y_i \rVert^\alpha$$

    with l2-normalised rows, so 2 - 2 cos at alpha = 2. A loss as well as a metric. It describes the rows given; for
    those of all ranks, with the gradient that DDP's averaging makes exact, give it `all_gather(x)` and
    `all_gather(y)`.

    Args:
        x: (B, D) embeddings of one view, any length; a zero row stays zero and gets no gradient.
        y: (B, D) embeddings of the other view, row i the positive of row i.
        alpha: power of the distance, > 0. Where a pair coincides the gradient is 0, also for alpha of 1 and below.

    Returns:
        () tensor, float32 (float64 for float64 inputs), from 0 to 2^alpha.

    Raises:
        ValueError: a shape or value out of range, no row, a NaN on CPU.
        TypeError: an argument is of the wrong type.

    Example:
        >>> alignment(torch.tensor([[1.0, 0.0], [0.0, 3.0]]), torch.tensor([[0.0, 2.0], [0.0, 1.0]]))
        tensor(1.)

    References:
        "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere" (Wang
        and Isola, 2020), section 4.1. The authors' function expects rows that are normalised already.
    """
    rows, width = _checks.is_floating("x", x, shape=("B", "D")).shape
    _checks.is_floating("y", y, shape=(rows, width))
    _at_least("x", x, 1)
    _checks.same_device(x=x, y=y)
    _checks.is_positive("alpha", alpha, why="distances are raised to it")
    with full_precision(x.device):
        x, y = map(unit_rows, promote(x, y))
        squares = (x - y).square().sum(1)
        zero = squares == 0  # the slope of a power below 1 is infinite there, and must not meet the chain rule
        powers: Tensor = squares.masked_fill(zero, 1) ** (alpha / 2)
        return powers.masked_fill(zero, 0).mean()


def uniformity(x: Tensor, *, t: float = 2.0) -> Tensor:
    r"""Log of the mean Gaussian potential of all pairs on the unit sphere: 0 collapsed, near -2t spread evenly.

    $$\mathcal{L}_\text{uniform} = \log \frac{2}{B (B - 1)} \sum_{i < j} e^{-t \lVert x_i - x_j \rVert^2}$$

    with l2-normalised rows. A loss as well as a metric: the softmax engine of the losses visits the pairs block by
    block, so no (B, B) matrix exists. It describes the rows given. The mean of several ranks' logarithms is not the
    logarithm of the mean: for the value of all ranks, with the gradient that DDP's averaging makes exact, give it
    `all_gather(x)`.

    Args:
        x: (B, D) embeddings of one view, B >= 2, any length; a zero row stays at the origin and gets no gradient.
        t: inverse width of the potential, > 0.

    Returns:
        () tensor, float32 (float64 for float64 inputs), from -4t to 0; about -2t + 2 t^2 / D for even spread.

    Raises:
        ValueError: a shape or value out of range, fewer than 2 rows, a NaN on CPU.
        TypeError: an argument is of the wrong type.

    Example:
        >>> uniformity(torch.tensor([[1.0, 0.0], [-5.0, 0.0]]))
        tensor(-8.)
        >>> z = torch.randn(2000, 128, generator=torch.Generator().manual_seed(0))
        >>> print(f"{uniformity(z):.2f} {-2 * 2 + 2 * 2**2 / 128:.2f}")
        -3.94 -3.94

    References:
        "Understanding Contrastive Representation Learning through Alignment and Uniformity on the Hypersphere" (Wang
        and Isola, 2020), section 4.1, and, as here, distinct pairs in the authors' code (a row with itself would
        bias the value upwards), which expects normalised rows and holds all distances.
    """
    _checks.is_floating("x", x, shape=("B", "D"))
    _at_least("x", x, 2)
    _checks.is_positive("t", t, why="it is the inverse width of the potential")
    with full_precision(x.device):
        x = unit_rows(*promote(x))
        # -t |a - b|^2 = <2t a, b> - t |a|^2 - t |b|^2: one more column carries the last term into the products. The
        # squared lengths are the constants 1 and 0, which the rounding of unit rows would only blur.
        lengths = t * (x.detach() != 0).any(1, keepdim=True).to(x)
        query, keys = torch.cat([2 * t * x, torch.ones_like(lengths)], 1), torch.cat([x, -lengths], 1)
        itself = torch.arange(len(x), device=x.device).unsqueeze(1)
        potentials = log_sum_exp(query, keys, drop=itself) - lengths.squeeze(1)
        mean: Tensor = potentials.logsumexp(0) - log(len(x) * (len(x) - 1))
        return mean


@torch.no_grad()
def effective_rank(z: Tensor, *, center: bool = False) -> Tensor:
    r"""In how many dimensions embeddings lie: the exponential of the entropy of their singular values.

    $$\exp\Big(-\sum_k p_k \ln p_k\Big), \qquad p_k = \sigma_k / \sum_l \sigma_l$$

    From 1 (all on a line) to min(B, D) (orthogonal columns of one length). Uncentred it is RankMe, which rises with
    the accuracy to expect on other tasks and needs no labels.

    Args:
        z: (B, D) embeddings; lengths count, as rows are not normalised. RankMe takes about 25,600 rows.
        center: subtract the mean row first, so that a common offset is no dimension.

    Returns:
        () tensor without a gradient, float32 (float64 for float64 inputs); 0 where all that is left is zeros.

    Raises:
        ValueError: the wrong shape, no row or no column, a NaN on CPU.
        TypeError: an argument is of the wrong type.

    Example:
        >>> print(f"{effective_rank(torch.eye(8)[:, :5]):.3f} {effective_rank(torch.ones(8, 5)):.3f}")
        5.000 1.000

    References:
        "The Effective Rank" (Roy and Vetterli, 2007), section 2; "RankMe" (Garrido et al., 2023), equation 1, which
        adds 1e-7 to each p. Here 0 ln 0 is 0, and singular values below what rounding makes of zeros are zeros.
    """
    rows, width = _checks.is_floating("z", z, shape=("B", "D")).shape
    _checks.is_flag("center", center)
    if rows == 0 or width == 0:
        raise ValueError(f"z: expected at least one row and one column, got {_checks.show(z)}")
    with full_precision(z.device):
        (z,) = promote(z)
        largest = z.abs().amax()
        z = z / largest.masked_fill(largest == 0, 1)  # the result has no scale, and squares must not leave the range
        values: Tensor = torch.linalg.svdvals(z - z.mean(0) if center else z)
        values = values.masked_fill(values < max(rows, width) * torch.finfo(z.dtype).eps, 0)
        total = values.sum()
        entropy: Tensor = torch.special.entr(values / total.masked_fill(total == 0, 1)).sum()
        return entropy.exp().masked_fill(total == 0, 0)


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
    _checks.is_floating("z", z, shape=("B", "D"))
    _at_least("z", z, 2)
    with full_precision(z.device):
        return unit_rows(*promote(z)).std(0).mean()


def _at_least(name: str, x: Tensor, rows: int) -> None:
    if len(x) < rows:
        raise ValueError(f"{name}: expected at least {rows} row{'s' * (rows > 1)}, got {_checks.show(x)}")
