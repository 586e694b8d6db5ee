"""Laws of the formula: what may be changed without changing the value, and what must change it."""

from __future__ import annotations

import torch

from contrastive_ops.testing._evaluate import Inputs, Loss, cast, law, same, unchanged, value
from contrastive_ops.testing._violation import Broken, as_text, named


@law
def permutation(loss: Loss, inputs: Inputs) -> None:
    """The order of the rows does not matter, as long as partners stay together."""
    x = cast(inputs)
    for shift, how in ((0, "rows reversed"), (1, "rows reversed, the last then made the first")):
        unchanged(loss, x, [rows.flip(0).roll(shift, 0) for rows in x], how)


@law
def view_swap(loss: Loss, inputs: Inputs) -> None:
    """Exchanging the two views does not change the value."""
    first, second, *others = cast(inputs)
    unchanged(loss, [first, second, *others], [second, first, *others], "the first two arguments exchanged")


@law
def rotation(loss: Loss, inputs: Inputs) -> None:
    """Rotating the space in which all embeddings lie does not change the value."""
    x = cast(inputs)
    dim = x[0].shape[-1]
    noise = torch.randn(dim, dim, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    turned = torch.linalg.qr(noise).Q
    unchanged(loss, x, [rows @ turned if rows.is_floating_point() else rows for rows in x], "all rows rotated")


@law
def rescaling(loss: Loss, inputs: Inputs) -> None:
    """The length of a row does not matter (for losses that normalise their inputs)."""
    x = cast(inputs)
    factors = [torch.tensor([2.0, 0.25, 8.0, 0.5])[torch.arange(len(rows)) % 4].double() for rows in x]
    longer = [
        rows * f.view(-1, *[1] * (rows.ndim - 1)) if rows.is_floating_point() else rows
        for rows, f in zip(x, factors, strict=True)
    ]
    unchanged(loss, x, longer, "rows multiplied by 2, 1/4, 8, 1/2, 2, ...")


@law
def strides(loss: Loss, inputs: Inputs) -> None:
    """How the entries lie in memory does not matter: transposed and sliced views give what their copies give."""
    x = cast(inputs)
    transposed = [rows.transpose(0, -1).contiguous().transpose(0, -1) for rows in x]
    unchanged(loss, x, transposed, "the same values as transposed views")
    unchanged(loss, x, [rows.repeat_interleave(2, -1)[..., ::2] for rows in x], "the same values as sliced views")


@law
def positive_is_no_negative(loss: Loss, inputs: Inputs) -> None:
    """A perfectly aligned pair with opposite negatives costs less than 0.4 of what indistinguishable embeddings cost.

    InfoNCE and NT-Xent stay below 0.22 at temperatures up to 1. With the positive among its own negatives it is 0.5
    and more, at any temperature: the loss cannot fall below ln 2. Only the direction of the first row is used.
    """
    given = cast(inputs)
    row = given[0][:1] / given[0][:1].norm()
    if len(given) == 2:
        apart, equal = [torch.cat([row, -row])] * 2, [torch.cat([row, row])] * 2
    else:  # one query, so that no other key can be its negative
        apart, equal = [row, row, torch.cat([-row, -row])], [row, row, torch.cat([row, row])]
    observed, confused = value(loss, apart), value(loss, equal)
    if not observed < 0.4 * confused:
        limit = f"less than {as_text(0.4 * confused)}, as indistinguishable embeddings cost {as_text(confused)}"
        raise Broken(named(apart), observed, limit)


@law
def more_negatives(loss: Loss, inputs: Inputs) -> None:
    """One more negative never lowers the loss."""
    *others, negatives = cast(inputs)
    if len(others) < 2:
        raise Broken(named(inputs), "no negatives among the inputs", "inputs=with_negatives()")
    if len(negatives) < 2:
        return
    more, fewer = value(loss, [*others, negatives]), value(loss, [*others, negatives[:-1]])
    if more < fewer and not same(more, fewer):
        raise Broken(named([*others, negatives]), more, f"at least {as_text(fewer)}, as without the last negative")
