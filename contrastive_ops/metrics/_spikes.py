"""The early sign of unstable training: a spike in the first layer's gradient, steps before the last layer's."""

from __future__ import annotations

from collections.abc import Iterable
from math import log

import torch
from torch import Tensor, nn

from contrastive_ops import _checks
from contrastive_ops.metrics._gradients import largest_entry

_WIDTHS = 6.0  # mean deviations of the logarithm: beyond what noise of any width reaches
_LAYERS = ("first", "last")


class GradientSpikeMonitor(nn.Module):
    r"""Watches the gradient's largest entry in the first and the last layer, and reports spikes in sentences.

    $$\ln g_s - \mu_s > \max(\ln r,\; 6\, d_s), \qquad g_s = \max_i \Big|\frac{\partial L}{\partial \theta_i}\Big|$$

    with $\mu$ and $d$ the running mean of $\ln g$ and of its distance from that mean, over the updates before. So a
    spike is `ratio` times the running (geometric) mean and also beyond the noise of this layer. A spike moves the
    mean no further than the limit it broke, so that the next one is still seen, and a lasting change of level is
    taken for normal after a while. Spikes within `window` updates of each other are one.

    Call `update` after the backward pass, once `GradScaler.unscale_` has been called where there is one. Gradients
    that are 0, absent, NaN or infinite count neither as spikes nor for the mean: a frozen layer stays silent, and so
    do the steps that a scaler skips. State is in persistent buffers, (first, last), changed without waiting for the
    device (move the monitor to the network's); only `report` reads it.

    Args:
        ratio: r > 1, times the running mean that make a spike.
        momentum: weight of the old mean, in [0, 1); the first updates are averaged evenly.
        warmup: updates with a gradient before the first that may count as a spike.
        window: updates without a spike that end one; also the longest delay from one layer's spike to the other's.

    Raises:
        ValueError: an argument out of range.
        TypeError: an argument is of the wrong type; `update` is given what holds no parameters.

    Example:
        >>> first, last = torch.ones(1, requires_grad=True), torch.ones(1, requires_grad=True)
        >>> monitor = GradientSpikeMonitor(warmup=10)
        >>> for step in range(1, 41):
        ...     first.grad = torch.tensor([3.0 if step == 20 else 0.15])
        ...     last.grad = torch.tensor([8.0 if step == 34 else 0.5])
        ...     monitor.update([first], [last])
        >>> print(*monitor.report(), sep="\n")
        gradient of the first layer spiked to 3 (20 times its running mean 0.15)
        at update 20, 14 updates before the last layer's
        gradient of the last layer spiked to 8 (16 times its running mean 0.5)
        at update 34, 14 updates after the first layer's

    References:
        "An Empirical Study of Training Self-Supervised Vision Transformers" (Chen, Xie and He, 2021), section 4.2 and
        figure 4: spikes in the first layer come some tens of iterations before those in the last layers and go with
        dips in accuracy; `FrozenPatchEmbed` is their remedy. The paper shows curves; the rule for a spike is ours.
    """

    num_updates: Tensor
    count: Tensor
    norm: Tensor
    log_mean: Tensor
    deviation: Tensor
    num_spikes: Tensor
    began: Tensor
    latest: Tensor
    peak: Tensor
    usual: Tensor

    def __init__(self, *, ratio: float = 10.0, momentum: float = 0.99, warmup: int = 50, window: int = 100) -> None:
        _checks.is_real("ratio", ratio, low=1, why="a spike is that many times the running mean")
        _checks.is_real("momentum", momentum, low=0, high=1, why="it multiplies the old mean")
        for name, value, wrong in (("ratio", ratio, 1), ("momentum", momentum, 1)):
            if value == wrong:
                raise ValueError(f"{name}: expected a number other than 1, got {value}; nothing could be told apart")
        _checks.is_count("warmup", warmup)
        _checks.is_count("window", window)
        super().__init__()
        self.ratio, self.momentum, self.warmup, self.window = ratio, momentum, warmup, window
        self.register_buffer("num_updates", torch.zeros((), dtype=torch.int64))
        for name in ("count", "num_spikes", "began", "latest"):
            self.register_buffer(name, torch.zeros(2, dtype=torch.int64))
        for name in ("norm", "log_mean", "deviation", "peak", "usual"):
            self.register_buffer(name, torch.zeros(2))

    @torch.no_grad()
    def update(
        self, first: nn.Module | Tensor | Iterable[Tensor], last: nn.Module | Tensor | Iterable[Tensor]
    ) -> None:
        """Look at the gradients of one step. In evaluation mode nothing is stored.

        Args:
            first: the first layer: a module, a parameter or several.
            last: the last layer, or what counts as the end of the network.

        Raises:
            TypeError: `first` or `last` is none of these.
        """
        norms = [largest_entry("first", first), largest_entry("last", last)]
        if not self.training:
            return
        self.norm.copy_(torch.stack([norm.to(self.norm.device) for norm in norms]))
        self.num_updates.add_(1)
        seen = self.norm.isfinite() & (self.norm > 0)
        excess = self.norm.masked_fill(~seen, 1).log() - self.log_mean
        limit = self.deviation.mul(_WIDTHS).clamp(min=log(self.ratio))
        ready = seen & (self.count >= self.warmup)
        self._remember(ready & (excess > limit))
        # a spike, or a fall, moves the mean as far as the limit and no further
        self._average(torch.where(ready, excess.clamp(-limit, limit), excess), seen)

    def _remember(self, spike: Tensor) -> None:
        new = spike & ((self.num_spikes == 0) | (self.num_updates - self.latest > self.window))
        self.num_spikes.add_(new)
        self.began.copy_(torch.where(new, self.num_updates, self.began))
        self.usual.copy_(torch.where(new, self.log_mean.exp(), self.usual))
        self.peak.copy_(torch.where(new, self.norm, torch.where(spike, self.norm.maximum(self.peak), self.peak)))
        self.latest.copy_(torch.where(spike, self.num_updates, self.latest))

    def _average(self, excess: Tensor, seen: Tensor) -> None:
        self.count.add_(seen)
        weight = (1 / self.count.clamp(min=1)).clamp(min=1 - self.momentum) * seen
        self.log_mean.add_(weight * excess)
        self.deviation.add_(weight * (excess.abs() - self.deviation))

    def report(self) -> list[str]:
        """A sentence for the latest spike of each layer, with its update and its distance to the other layer's."""
        began, spikes = self.began.tolist(), self.num_spikes.tolist()
        apart = began[1] - began[0]
        related = all(spikes) and abs(apart) <= self.window
        said = []
        for i, (layer, other) in enumerate((_LAYERS, _LAYERS[::-1])):
            if not spikes[i]:
                continue
            usual, peak = float(self.usual[i]), float(self.peak[i])
            order = _order(apart if i == 0 else -apart) + f" the {other} layer's" if related else ""
            said.append(
                f"gradient of the {layer} layer spiked to {peak:.2g} ({peak / usual:.0f} times its running mean "
                f"{usual:.2g}) at update {began[i]}{order}"
            )
        return said

    def extra_repr(self) -> str:
        return f"ratio={self.ratio}, momentum={self.momentum}, warmup={self.warmup}, window={self.window}"


def _order(updates: int) -> str:
    """In words, how long before (above 0) or after something."""
    count = f"{abs(updates)} update{'s' * (abs(updates) != 1)}"
    return f", {count} {'before' if updates > 0 else 'after'}" if updates else ", together with"
