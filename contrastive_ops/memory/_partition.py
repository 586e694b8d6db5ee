"""The partition function of noise-contrastive estimation."""

from __future__ import annotations

from math import inf, log

import torch
from torch import Tensor, nn

from contrastive_ops import _checks
from contrastive_ops._embeddings import promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.collectives import gather_rows


class NCEPartition(nn.Module):
    r"""The constant Z of noise-contrastive estimation, from the scores of a batch; the same on every rank.

    $$Z_\text{batch} = n \cdot \mathrm{mean}\, e^{s}, \qquad
      Z \leftarrow Z_\text{batch} \text{ once, or with a momentum } Z \leftarrow m Z + (1 - m)\, Z_\text{batch}$$

    over all scores of all ranks. It is kept as ln Z, so that no score overflows. As the paper has it, the first batch
    sets Z for good; with a momentum it follows the network.

    Args:
        num_data: n, the number of images that noise is drawn from.
        momentum: None: Z is set by the first update and stays; m in [0, 1]: an exponential moving average.

    Attributes:
        log_partition: () float32 buffer, ln Z; infinity until the first update, which `nce_loss` refuses.

    Raises:
        ValueError: `num_data` below 1, or a momentum outside [0, 1].
        TypeError: an argument is of the wrong type.

    Example:
        >>> partition = NCEPartition(100)
        >>> partition.update(torch.tensor([[0.0, 2.0], [1.0, 1.0]]))
        >>> print(f"{partition.log_partition.item():.4f}")
        5.8454

    References:
        "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (Wu et al., 2018), equation 8. The
        authors' code estimates Z once, on the very first batch, positives included.
    """

    log_partition: Tensor

    def __init__(self, num_data: int, *, momentum: float | None = None) -> None:
        _checks.is_count("num_data", num_data)
        if momentum is not None:
            _checks.is_real("momentum", momentum, low=0, high=1, why="it multiplies the old value: 0.99, not 0.01")
        super().__init__()
        self.num_data, self.momentum = num_data, momentum
        self.register_buffer("log_partition", torch.tensor(inf, dtype=torch.float32))

    @torch.no_grad()
    def update(self, scores: Tensor, *, group: Group = None) -> None:
        """Estimate Z from scores that are already divided by the temperature. In evaluation mode nothing is stored.

        Args:
            scores: any shape; the number of scores may differ between ranks and be 0.
            group: ranks whose scores are averaged; None: the default group, or this process alone; False: alone.

        Raises:
            ValueError: no score at all, or a NaN on CPU.
            TypeError: `scores` is no floating-point tensor.
        """
        process_group = resolve(group)
        _checks.is_floating("scores", scores, shape=(), at_least=True)
        _checks.same_device(partition=self.log_partition, scores=scores)
        if scores.numel() == 0 and process_group is None:
            raise ValueError(f"scores: expected at least one, got {_checks.show(scores)}")
        if not self.training:
            return
        total = promote(scores.detach())[0].flatten().logsumexp(0)
        parts = torch.stack([total, total.new_tensor(float(scores.numel()))]).unsqueeze(0)
        if process_group is not None:
            parts, _ = gather_rows(parts, process_group, name="scores")
        batch = parts[:, 0].logsumexp(0) - parts[:, 1].sum().log() + log(self.num_data)
        if _checks.readable(batch) and not bool(batch.isfinite()):
            raise ValueError("scores: expected at least one score on some rank, got none on every rank")
        self.log_partition.copy_(self._mixed(self.log_partition.to(batch), batch))

    def _mixed(self, old: Tensor, batch: Tensor) -> Tensor:
        """The first estimate as it is; a later one mixed in, or not at all."""
        if self.momentum is None:
            later = old
        else:
            m = old.new_tensor(self.momentum)
            later = torch.logaddexp(m.log() + old, (1 - m).log() + batch)
        return torch.where(old == inf, batch, later)

    def extra_repr(self) -> str:
        return f"num_data={self.num_data}, momentum={self.momentum}"
