"""The memory bank of InstDisc: one entry for each image of the data set."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from contrastive_ops import _checks
from contrastive_ops._embeddings import promote, to_unit_rows_, unit_rows
from contrastive_ops._group import Group, resolve
from contrastive_ops.collectives import gather_rows


class MemoryBank(nn.Module):
    r"""One unit vector per image, moved towards the image's newest embedding; the same on every rank.

    $$m_i \leftarrow \frac{\mu\, m_i + (1 - \mu)\, z_i}{\lVert \mu\, m_i + (1 - \mu)\, z_i \rVert}$$

    Score with the old entry first, update second. All state is in one persistent buffer. Keep the bank outside a
    DDP-wrapped module (DDP would send rank 0's copy to all at every forward).

    Args:
        num_data: n, the number of images.
        dim: D, width of the embeddings.
        momentum: mu in [0, 1], the weight of the old entry; 0 replaces it.
        generator: draws the first entries, unit vectors; None: from a fixed seed, and so the same on every rank.

    Attributes:
        entries: (n, D) buffer.

    Raises:
        ValueError: a count below 1, or a momentum outside [0, 1].
        TypeError: an argument is of the wrong type.

    Example:
        >>> bank, index = MemoryBank(3, 2, momentum=0.5), torch.tensor([1])
        >>> _ = bank.entries[1].copy_(torch.tensor([1.0, 0.0]))
        >>> bank.update(index, torch.tensor([[0.0, 1.0]]))
        >>> bank.lookup(index)
        tensor([[0.7071, 0.7071]])

    References:
        "Unsupervised Feature Learning via Non-Parametric Instance Discrimination" (Wu et al., 2018), section 3.1, with
        the momentum of the authors' code. Theirs starts from uniform coordinates, rows that are of length 1 only on
        average; these are unit vectors, uniform on the sphere.
    """

    entries: Tensor

    def __init__(
        self, num_data: int, dim: int, *, momentum: float = 0.5, generator: torch.Generator | None = None
    ) -> None:
        _checks.is_count("num_data", num_data)
        _checks.is_count("dim", dim)
        _checks.is_real("momentum", momentum, low=0, high=1, why="it multiplies the old entry")
        _checks.is_generator(generator)
        super().__init__()
        self.momentum = momentum
        # not torch's own random state: ranks seeded apart must start from the same entries
        generator = generator or torch.Generator().manual_seed(0)
        rows = torch.randn(num_data, dim, generator=generator, device=generator.device)
        to_unit_rows_(rows)
        self.register_buffer("entries", rows.to(torch.get_default_device()))

    def lookup(self, index: Tensor) -> Tensor:
        """The entries of the images `index`, of any shape: one more dimension D, a copy, no gradient.

        Raises:
            ValueError: an index out of range on CPU, or the wrong device.
            TypeError: `index` holds no integers.
        """
        shape = tuple(index.shape) if isinstance(index, Tensor) else ("...",)
        _checks.is_index("index", index, shape=shape, below=len(self.entries))
        _checks.same_device(bank=self.entries, index=index)
        return self.entries[index]

    @torch.no_grad()
    def update(self, index: Tensor, z: Tensor, *, group: Group = None) -> None:
        """Mix every rank's embeddings into their images' entries, on every rank alike.

        Of an index that comes twice the later row wins, in rank order. In evaluation mode nothing is stored.

        Args:
            index: (B,) images of this rank's rows; B may differ between ranks and be 0.
            z: (B, D) their embeddings, unit rows.
            group: ranks whose rows are stored; None: the default group, or this process alone; False: alone.

        Raises:
            ValueError: a shape or device does not fit, an index out of range or a NaN on CPU; on every rank where the
                ranks' rows do not fit together.
            TypeError: an argument is of the wrong type.
        """
        process_group = resolve(group)
        _checks.is_index("index", index, shape=("B",), below=len(self.entries))
        _checks.is_floating("z", z, shape=(len(index), self.entries.shape[1]))
        _checks.same_device(bank=self.entries, index=index, z=z)
        if not self.training:
            return
        if process_group is not None:
            index, _ = gather_rows(index.long(), process_group, name="index")
            z, _ = gather_rows(z, process_group, name="z")
        index, z = _latest(index.long(), z)
        old, new = promote(self.entries[index], z)
        mixed = unit_rows(self.momentum * old + (1 - self.momentum) * new)
        self.entries.index_copy_(0, index, mixed.to(self.entries.dtype))

    def sample(self, batch: int, num_negatives: int, *, generator: torch.Generator | None = None) -> Tensor:
        """(batch, num_negatives) indices of noise: uniform, independent, with replacement, as the NCE's noise is.

        They may repeat and may name the positive itself, which the formula allows for.

        Raises:
            ValueError: a count below 1.
            TypeError: an argument is of the wrong type.
        """
        _checks.is_count("batch", batch)
        _checks.is_count("num_negatives", num_negatives)
        _checks.is_generator(generator)
        device = self.entries.device if generator is None else generator.device
        index = torch.randint(len(self.entries), (batch, num_negatives), generator=generator, device=device)
        return index.to(self.entries.device)

    def extra_repr(self) -> str:
        return f"num_data={len(self.entries)}, dim={self.entries.shape[1]}, momentum={self.momentum}"


def _latest(index: Tensor, z: Tensor) -> tuple[Tensor, Tensor]:
    """The same rows sorted by index, each with the embedding of the last row of its index.

    Equal indices then write equal values, so that the order in which a device writes them does not matter; and
    nothing waits for the device, as choosing rows would.
    """
    ordered, order = index.sort(stable=True)
    last = torch.searchsorted(ordered, ordered, right=True) - 1
    return ordered, z[order[last]]
