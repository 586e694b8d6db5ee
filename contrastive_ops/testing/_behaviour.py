"""Laws of a well-behaved function: the same again, nothing touched, any number of rows."""

from __future__ import annotations

from typing import Any

import torch
from torch import nn

from contrastive_ops.testing._evaluate import Inputs, Loss, cast, fresh, gradients, in_short, law, scalar
from contrastive_ops.testing._violation import Broken, as_text, named


@law
def deterministic(loss: Loss, inputs: Inputs) -> None:
    """The same inputs give the same bits, whatever the global random state, which stays as it is."""
    x = cast(inputs, torch.float32)
    with torch.random.fork_rng(devices=[]):
        results = []
        for seed in (0, 1):
            torch.manual_seed(seed)
            before = torch.random.get_rng_state()
            results.append(gradients(loss, x))
            if not torch.equal(torch.random.get_rng_state(), before):
                raise Broken(named(x), "numbers were drawn from torch's global random state", "none")
    (first, ways), (second, others) = results
    if not (identical(first, second) and all(map(identical, ways, others))):
        raise Broken(named(x), f"{first.item()!r}, then {second.item()!r} (or another gradient)", "the same bits")


@law
def pure(loss: Loss, inputs: Inputs) -> None:
    """A call in evaluation mode changes neither its inputs nor what the loss remembers."""
    x, called = cast(inputs, torch.float32), fresh(loss)
    if isinstance(called, nn.Module):
        called.eval()
    given = [rows.clone() for rows in x]
    before = remembered(called)
    scalar(called(*given), x)
    for name, old, new in zip(named(x), x, given, strict=True):
        if not torch.equal(old, new):
            raise Broken(named(x), f"{name} was changed to {as_text(new)}", f"{name} as it was given")
    for name, after in remembered(called).items():
        # from None: made at the first call and kept, such as a mask
        if before.get(name) is not None and not identical(before[name], after):
            observed = f"{name} changed from {as_text(before[name])} to {as_text(after)}"
            raise Broken(named(x), observed, f"{name} as it was before the call in eval()")


def remembered(subject: object) -> dict[str, Any]:
    """Copies of parameters, buffers and plain attributes of a module and its children."""
    if not isinstance(subject, nn.Module):
        return {}
    found: dict[str, Any] = {}
    for prefix, module in subject.named_modules():
        start = f"{prefix}." if prefix else ""
        tensors = {**dict(module.named_parameters(recurse=False)), **dict(module.named_buffers(recurse=False))}
        plain = {k: v for k, v in vars(module).items() if not k.startswith("_") and k != "training"}
        for name, held in {**plain, **tensors}.items():
            if held is None or isinstance(held, (torch.Tensor, bool, int, float, str)):
                found[start + name] = held.detach().clone() if isinstance(held, torch.Tensor) else held
    return found


def identical(a: Any, b: Any) -> bool:
    """The same bits, NaN included."""
    if isinstance(a, torch.Tensor) and isinstance(b, torch.Tensor):
        return a.dtype == b.dtype and a.shape == b.shape and torch.allclose(a, b, rtol=0, atol=0, equal_nan=True)
    return type(a) is type(b) and a == b


@law
def batch_of_any_size(loss: Loss, inputs: Inputs) -> None:
    """The last, smaller batch of an epoch works: a finite value for every number of rows from two on."""
    x = cast(inputs)
    shared = [len(rows) != len(x[0]) for rows in x]
    called = fresh(loss)
    scalar(called(*x), x)
    for rows in range(len(x[0]) - 1, 1, -1):
        smaller = [y if whole else y[:rows] for y, whole in zip(x, shared, strict=True)]
        where = {**named(smaller), "after": f"a batch of {len(x[0])} rows"}
        try:
            observed = scalar(called(*smaller), smaller)
        except Exception as error:
            raise Broken(where, in_short(error), "no error") from error
        if not torch.isfinite(observed):
            raise Broken(where, observed, "a finite value")
