"""An alarm, not only a figure: says in words that a training has collapsed, and by which constant one sees it."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contrastive_ops import _checks
from contrastive_ops.metrics._geometry import feature_std

_NEAR = 0.01  # of the span that the constants give


class CollapseMonitor(nn.Module):
    r"""Watches embeddings and loss, and reports in sentences what looks collapsed.

    A sign counts once it has held for `patience` updates in a row:

    - $\mathrm{feature\_std} < \mathrm{low\_std} / \sqrt{D}$: all embeddings point one way;
    - the loss is within 1 % of `chance_loss`: the network tells nothing apart;
    - the loss is within 1 % of `floor_loss`: the task has become trivial.

    | method | what to watch for |
    |---|---|
    | MoCo, a queue of K keys | `chance_loss=log(1 + K), chance_name="ln(1+K)"` |
    | MoCo v3, N rows over all ranks | `chance_loss=4 * temperature * log(N), chance_name="4 tau ln N"` |
    | SimCLR, N images | `chance_loss=log(2 * N - 1), chance_name="ln(2N-1)"` |
    | SwAV, P prototypes | `chance_loss=log(P), chance_name="ln P"` |
    | DINO, K outputs, its teacher's entropy | `chance_loss=log(K), floor_loss=0.0, loss_name="teacher entropy"` |
    | SimSiam | `floor_loss=-1.0, floor_name="-1"` |
    | BYOL | `floor_loss=0.0, floor_name="0"` |

    State is in persistent buffers and updated without waiting for the device; only `report` reads it.

    Args:
        dim: D, the width of the embeddings.
        chance_loss: the loss of a network that tells nothing apart; None: not watched.
        chance_name: its formula, quoted in the report, for instance "ln(1+K)".
        floor_loss: the loss of a trivial solution; None: not watched.
        floor_name: its formula.
        loss_name: what `update` is given as its loss, quoted in the report. DINO's teacher tells more than the loss:
            without sharpening its entropy is ln K, without centring 0, whatever the student has learned.
        low_std: in [0, 1], the part of 1 / sqrt(D), the deviation of evenly spread embeddings, below which embeddings
            count as gathered. BN behind a head slows their fall: 0.6 tells SimSiam's and BYOL's collapse early, whose
            healthy embeddings stay near 1.
        patience: updates in a row that make a sign count.

    Raises:
        ValueError: `dim` or `patience` below 1, `low_std` outside [0, 1], or a loss that is not finite.
        TypeError: an argument is of the wrong type.

    Example:
        >>> import math
        >>> monitor = CollapseMonitor(4, patience=1)
        >>> monitor.update(torch.ones(8, 4))
        >>> print(monitor.report()[0])
        feature std 0.0000 has been below 0.25 of 1/sqrt(4) = 0.5000 for 1 update: all embeddings point one way
        >>> z, healthy = torch.ones(8, 4), torch.eye(4)
        >>> moco = CollapseMonitor(4, chance_loss=math.log(1 + 256), chance_name="ln(1+K)", patience=1)
        >>> moco.update(healthy, info_nce(z, z, torch.ones(256, 4)))
        >>> print(*moco.report())
        loss 5.5491 has stood at ln(1+K) = 5.5491 for 1 update: the network tells nothing apart
        >>> swav = CollapseMonitor(4, chance_loss=math.log(300), chance_name="ln P", patience=1)
        >>> swav.update(healthy, nn.functional.cross_entropy(torch.zeros(8, 300), torch.arange(8)))
        >>> print(*swav.report())
        loss 5.7038 has stood at ln P = 5.7038 for 1 update: the network tells nothing apart
        >>> names = {"chance_name": "ln K", "loss_name": "teacher entropy"}
        >>> dino = CollapseMonitor(4, chance_loss=math.log(8), **names, patience=1)
        >>> dino.update(healthy, torch.special.entr(torch.full((4, 8), 1 / 8)).sum(1).mean())
        >>> print(*dino.report())
        teacher entropy 2.0794 has stood at ln K = 2.0794 for 1 update: the network tells nothing apart
        >>> simsiam = CollapseMonitor(4, floor_loss=-1.0, floor_name="-1", patience=1)
        >>> simsiam.update(healthy, -nn.functional.cosine_similarity(z, 2 * z).mean())
        >>> print(*simsiam.report())
        loss -1.0000 has stood at -1 = -1.0000 for 1 update: the task has become trivial

    References:
        SimSiam (Chen and He, 2021), section 4.1, for the deviation; SwAV's authors' notes for losses that stand at
        ln P; DINO (Caron et al., 2021), section 5.3, for the teacher's entropy.
    """

    std: Tensor
    loss: Tensor
    gathered: Tensor
    at_chance: Tensor
    at_floor: Tensor

    def __init__(
        self,
        dim: int,
        *,
        chance_loss: float | None = None,
        chance_name: str = "chance",
        floor_loss: float | None = None,
        floor_name: str = "the floor",
        loss_name: str = "loss",
        low_std: float = 0.25,
        patience: int = 50,
    ) -> None:
        _checks.is_count("dim", dim)
        _checks.is_real("low_std", low_std, low=0.0, high=1.0)
        _checks.is_count("patience", patience)
        for name, value in (("chance_loss", chance_loss), ("floor_loss", floor_loss)):
            if value is not None:
                _checks.is_real(name, value)
        super().__init__()
        self.dim, self.low_std, self.patience = dim, low_std, patience
        self.chance_loss, self.chance_name = chance_loss, chance_name
        self.floor_loss, self.floor_name = floor_loss, floor_name
        self.loss_name = loss_name
        for name in ("std", "loss"):
            self.register_buffer(name, torch.zeros(()))
        for name in ("gathered", "at_chance", "at_floor"):
            self.register_buffer(name, torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def update(self, z: Tensor, loss: Tensor | float | None = None) -> None:
        """Look at one step's embeddings (B, D), B >= 2, and at its loss. In evaluation mode nothing is stored.

        Raises:
            ValueError: `z` has another width, or fewer than 2 rows.
            TypeError: `z` is no floating-point tensor.
        """
        _checks.is_floating("z", z, shape=("B", self.dim))
        std = feature_std(z)
        if not self.training:
            return
        self.std.copy_(std)
        self._count(self.gathered, std < self.low_std * self.dim**-0.5)
        if loss is None:
            return
        self.loss.copy_(torch.as_tensor(loss))
        for counter, constant in ((self.at_chance, self.chance_loss), (self.at_floor, self.floor_loss)):
            if constant is not None:
                self._count(counter, (self.loss - constant).abs() < _NEAR * max(1.0, abs(constant)))

    @staticmethod
    def _count(counter: Tensor, holds: Tensor) -> None:
        counter.add_(1).mul_(holds.to(counter))

    def report(self) -> list[str]:
        """One sentence for each sign that has held for `patience` updates; an empty list when healthy."""
        held = int(self.gathered)
        said = []
        if held >= self.patience:
            said.append(
                f"feature std {float(self.std):.4f} has been below {self.low_std:g} of 1/sqrt({self.dim}) = "
                f"{self.dim**-0.5:.4f} for {_updates(held)}: all embeddings point one way"
            )
        for counter, constant, name, meaning in (
            (self.at_chance, self.chance_loss, self.chance_name, "the network tells nothing apart"),
            (self.at_floor, self.floor_loss, self.floor_name, "the task has become trivial"),
        ):
            if constant is not None and int(counter) >= self.patience:
                said.append(
                    f"{self.loss_name} {float(self.loss):.4f} has stood at {name} = {constant:.4f} for "
                    f"{_updates(int(counter))}: {meaning}"
                )
        return said

    def extra_repr(self) -> str:
        return f"dim={self.dim}, low_std={self.low_std:g}, patience={self.patience}"


def _updates(count: int) -> str:
    return f"{count} update{'s' * (count != 1)}"
