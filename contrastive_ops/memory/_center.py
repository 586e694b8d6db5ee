"""DINO's centre of the teacher's logits."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.collectives import agree, sum_over_ranks


class DINOCenter(nn.Module):
    r"""Centred and sharpened teacher distributions, and the moving centre; the same on every rank.

    $$P = \mathrm{softmax}\Big(\frac{g - c}{\tau_t}\Big), \qquad
      c \leftarrow m\, c + (1 - m)\, \frac1N \sum_i g_i$$

    The mean runs over the raw logits of all views and all ranks, each row counted once however the ranks share them.
    A step uses the centre as it is and updates it afterwards. Keep it outside a DDP-wrapped module.

    Args:
        dim: K, the width of the head's output.
        momentum: m in [0, 1], the weight of the old centre.
        group: ranks over which to take the mean; None: the default group, or this process alone; False: alone.

    Attributes:
        center: (K,) float32 buffer, zero at first.

    Raises:
        ValueError: `dim` below 1, or a momentum outside [0, 1].
        TypeError: an argument is of the wrong type.

    Example:
        >>> center, logits = DINOCenter(2), torch.tensor([[1.0, 0.0], [3.0, 0.0]])
        >>> center(logits, temperature=1.0)
        tensor([[0.7311, 0.2689],
                [0.9526, 0.0474]])
        >>> center.update(logits)
        >>> center.center
        tensor([0.2000, 0.0000])

    References:
        "Emerging Properties in Self-Supervised Vision Transformers" (Caron et al., 2021), equation 4 and algorithm 1.
    """

    center: Tensor

    def __init__(self, dim: int, *, momentum: float = 0.9, group: Group = None) -> None:
        _checks.is_count("dim", dim)
        _checks.is_real("momentum", momentum, low=0, high=1, why="it multiplies the old centre: 0.9, not 0.1")
        resolve(group)
        super().__init__()
        self.momentum, self.group = momentum, group
        self.register_buffer("center", torch.zeros(dim))

    @torch.no_grad()
    def forward(self, logits: Tensor, *, temperature: float | Tensor) -> Tensor:
        """The teacher's probabilities: float32 (float64 for float64 logits), without a gradient.

        Args:
            logits: (..., K) of the teacher; leading dimensions as one likes.
            temperature: tau_t > 0.
        """
        self._check(logits)
        _checks.is_positive("temperature", temperature, why="logits are divided by it")
        with full_precision(logits.device):
            wide, center = promote(logits, self.center)
            return (wide - center).div_(temperature).softmax(-1)

    @torch.no_grad()
    def update(self, logits: Tensor) -> None:
        """Move the centre towards the mean of the rows of all ranks. In evaluation mode nothing is stored.

        Args:
            logits: (..., K) raw logits of all of the teacher's views; the number of rows may differ between ranks and
                be 0.

        Raises:
            ValueError: another width or device, no row at all, or a NaN on CPU; on every rank where the ranks' logits
                do not fit together.
            TypeError: `logits` is no floating-point tensor.
        """
        process_group = resolve(self.group)
        self._check(logits)
        rows = logits.detach().flatten(0, -2) if logits.ndim > 1 else logits.detach().unsqueeze(0)
        if len(rows) == 0 and process_group is None:
            raise ValueError(f"logits: expected at least one row, got {_checks.show(logits)}")
        if not self.training:
            return
        total, count = promote(rows)[0].sum(0), len(rows)
        if process_group is not None:
            _, sizes = agree(rows, process_group, name="logits")
            count = sum(sizes)
            if count == 0:
                raise ValueError("logits: expected at least one row on some rank, got none on every rank")
            total = sum_over_ranks(total, process_group)
        self.center.lerp_((total / count).to(self.center.dtype), 1 - self.momentum)

    def _check(self, logits: Tensor) -> None:
        _checks.is_floating("logits", logits, shape=(), at_least=True)
        if logits.ndim == 0 or logits.shape[-1] != len(self.center):
            raise ValueError(f"logits: expected shape (..., {len(self.center)}), got {_checks.show(logits)}")
        _checks.same_device(center=self.center, logits=logits)

    def extra_repr(self) -> str:
        return f"dim={len(self.center)}, momentum={self.momentum}"
