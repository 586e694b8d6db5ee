"""The queue of MoCo: the newest keys of the steps before."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contrastive_ops import _checks
from contrastive_ops._embeddings import to_unit_rows_
from contrastive_ops._group import Group, resolve
from contrastive_ops.collectives import gather_rows


class NegativeQueue(nn.Module):
    r"""A ring of the newest `num_keys` keys, the same on every rank, first in first out.

    $$\text{keys}[(n + i) \bmod K] \leftarrow k_i \quad (i = 0 \dots B - 1), \qquad n \leftarrow n + B$$

    Any batch size works: a batch that runs over the end goes on at the start, and of a batch larger than the queue
    the newest keys stay. All state is in two persistent buffers, so a checkpoint continues bit for bit. Keep the
    queue outside a DDP-wrapped module (DDP would send rank 0's copy to all at every forward).

    Args:
        num_keys: K, the number of keys held.
        dim: D, their width.
        init: "randn": random unit rows until real keys come, drawn from a fixed seed and so the same on every rank
            and independent of torch's random state; "zeros".
        dtype: of the stored keys; None is torch's default dtype.
        generator: draws the "randn" rows from this generator instead of the fixed seed.

    Attributes:
        keys: (K, D) buffer in ring order, a view that costs nothing: pass it as `negative_keys`.
        num_enqueued: () int64 buffer, keys ever enqueued; the next goes to row num_enqueued mod K.

    Raises:
        ValueError: `num_keys` or `dim` below 1, or an unknown `init`.
        TypeError: an argument is of the wrong type.

    Example:
        >>> queue = NegativeQueue(3, 1, init="zeros")
        >>> queue.enqueue(torch.tensor([[1.0], [2.0]]))
        >>> queue.enqueue(torch.tensor([[3.0], [4.0]]))
        >>> queue.keys.flatten(), queue.num_filled
        (tensor([4., 2., 3.]), 3)

    References:
        "Momentum Contrast" (He et al., 2020), section 3.1 and algorithm 1. The authors' code stores columns (D, K)
        and demands that the batch divides K; here rows are keys and nothing has to divide.
    """

    keys: Tensor
    num_enqueued: Tensor

    def __init__(
        self,
        num_keys: int,
        dim: int,
        *,
        init: str = "randn",
        dtype: torch.dtype | None = None,
        generator: torch.Generator | None = None,
    ) -> None:
        _checks.is_count("num_keys", num_keys)
        _checks.is_count("dim", dim)
        _checks.is_choice("init", init, ("randn", "zeros"))
        _checks.is_generator(generator)
        if dtype is not None and not (isinstance(dtype, torch.dtype) and dtype.is_floating_point):
            raise TypeError(f"dtype: expected a floating-point torch.dtype or None, got {dtype!r}")
        super().__init__()
        if init == "zeros":
            rows = torch.zeros(num_keys, dim)
        else:
            # not torch's own random state: ranks seeded apart must start from the same rows
            generator = generator or torch.Generator().manual_seed(0)
            rows = torch.randn(num_keys, dim, generator=generator, device=generator.device)
            to_unit_rows_(rows)
        self.register_buffer("keys", rows.to(device=torch.get_default_device(), dtype=dtype))
        self.register_buffer("num_enqueued", torch.zeros((), dtype=torch.int64))

    @property
    def num_filled(self) -> int:
        """How many rows hold real keys (reading it waits for the device)."""
        return min(int(self.num_enqueued), len(self.keys))

    def enqueue(self, keys: Tensor, *, group: Group = None) -> None:
        """Store every rank's keys in rank order, as given but for the dtype; the oldest make room.

        In evaluation mode (`eval()`) nothing is stored, as batch norm stores nothing then.

        Args:
            keys: (B, D) new keys of this rank; B may differ between ranks and be 0.
            group: ranks whose keys are stored; None: the default group, or this process alone; False: alone.

        Raises:
            ValueError: wrong width or device, a NaN on CPU; on every rank where the ranks' keys do not fit together.
            TypeError: `keys` is no floating-point tensor.
        """
        process_group = resolve(group)
        held, enqueued = self.keys, self.num_enqueued  # once: a module looks its buffers up slowly
        _checks.is_floating("keys", keys, shape=("B", held.shape[1]))
        _checks.same_device(queue=held, keys=keys)
        if not self.training:
            return
        keys = keys.detach()  # nothing here needs a gradient then: cheaper than switching gradients off and on
        if process_group is not None:
            keys, _ = gather_rows(keys, process_group, name="keys")
        count, size = len(keys), len(held)
        newest = keys[-size:] if count > size else keys
        if _checks.readable(enqueued):
            _write_slices(held, newest, (int(enqueued) + count - len(newest)) % size)
        else:
            _write_rows(held, newest, enqueued + (count - len(newest)))
        enqueued.add_(count)

    def extra_repr(self) -> str:
        return f"num_keys={len(self.keys)}, dim={self.keys.shape[1]}"


def _write_slices(held: Tensor, newest: Tensor, start: int) -> None:
    """Where the pointer can be read for nothing: up to the end, and on from the start."""
    room = len(held) - start
    if len(newest) <= room:
        held[start : start + len(newest)].copy_(newest)
    else:
        held[start:].copy_(newest[:room])
        held[: len(newest) - room].copy_(newest[room:])


def _write_rows(held: Tensor, newest: Tensor, first: Tensor) -> None:
    """Index arithmetic on tensors: no branch on the pointer, no wait for the device."""
    rows = (first + torch.arange(len(newest), device=newest.device)) % len(held)
    held.index_copy_(0, rows, newest.to(held.dtype))
