"""Who takes part: the one file that asks whether a process group exists."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, TypeAlias, Union

import torch.distributed as dist

from contrastive_ops._checks import show

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Group: TypeAlias = Union["ProcessGroup", Literal[False], None]


def resolve(group: Group) -> ProcessGroup | None:
    """The process group to talk to, or None when this process is alone.

    None means the default group when `torch.distributed` is initialised, False means never to communicate.
    """
    if group is False:
        return None
    if group is None:
        if not (dist.is_available() and dist.is_initialized()):
            return None
        chosen = dist.group.WORLD
    elif dist.is_available() and isinstance(group, dist.ProcessGroup):
        chosen = group
    else:
        raise TypeError(
            "group: expected a ProcessGroup that this rank belongs to, None (the default group) or False (alone), "
            f"got {show(group)}"
        )
    assert chosen is not None
    return chosen if chosen.size() > 1 else None
