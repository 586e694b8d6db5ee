"""How laws call a loss: on copies, in a given precision, with or without gradients; and when two results agree."""

from __future__ import annotations

import copy
import functools
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from contrastive_ops.testing._violation import Broken, LawViolation, as_text, named, numbered

Loss: TypeAlias = Callable[..., Tensor]
Inputs: TypeAlias = Sequence[Tensor]
Law: TypeAlias = Callable[[Any, Any], None]


def law(check: Law) -> Law:
    """A law from its body: what is raised inside becomes a LawViolation with the law's name and first sentence."""

    @functools.wraps(check)
    def judged(subject: Any, example: Any) -> None:
        try:
            check(subject, example)
        except Broken as broken:
            raise violation(judged, broken.example, broken.observed, broken.expected) from None
        except (LawViolation, KeyboardInterrupt):
            raise
        except Exception as error:
            given = numbered(example) if isinstance(example, list) else named(example)
            raise violation(judged, given, in_short(error), "no error") from error

    return judged


def in_short(error: BaseException) -> str:
    """Type and first line of an exception."""
    return f"{type(error).__name__}: {(str(error).splitlines() or [''])[0]}"


def demand(check: Law) -> str:
    """What a law demands: the first paragraph of its docstring."""
    return " ".join((check.__doc__ or "").split("\n\n")[0].split())


def violation(check: Law, example: Any, observed: object, expected: object) -> LawViolation:
    """The LawViolation of a law."""
    name = getattr(check, "__name__", repr(check))
    return LawViolation(
        name, demand=demand(check), example=example, observed=as_text(observed), expected=as_text(expected)
    )


def fresh(loss: Loss) -> Loss:
    """A copy of a module, so that what one call remembers does not enter the next; a function as it is."""
    return copy.deepcopy(loss) if isinstance(loss, nn.Module) else loss


def cast(inputs: Inputs, dtype: torch.dtype = torch.float64) -> list[Tensor]:
    """Copies in another precision; integers and masks as they are."""
    return [x.detach().to(dtype).clone() if x.is_floating_point() else x.clone() for x in inputs]


def value(loss: Loss, inputs: Inputs) -> Tensor:
    """The scalar that a fresh copy returns."""
    return scalar(fresh(loss)(*inputs), inputs).detach()


def scalar(result: object, inputs: Inputs) -> Tensor:
    """What a loss returned, if it is a floating-point tensor of one element."""
    if not isinstance(result, Tensor) or result.numel() != 1 or not result.is_floating_point():
        shown = f"tensor of shape {tuple(result.shape)}" if isinstance(result, Tensor) else type(result).__name__
        raise Broken(named(inputs), shown, "a floating-point tensor of one element")
    return result.reshape(())


def gradients(loss: Loss, inputs: Inputs, *, autocast: torch.dtype | None = None) -> tuple[Tensor, list[Tensor]]:
    """The value and the gradient of every floating-point argument; zeros where the loss stops it."""
    leaves = [x.detach().clone().requires_grad_(x.is_floating_point()) for x in inputs]
    with torch.autocast("cpu", dtype=autocast or torch.bfloat16, enabled=autocast is not None):
        result = scalar(fresh(loss)(*leaves), inputs)
    return result.detach(), backward(result, [x for x in leaves if x.requires_grad])


def backward(result: Tensor, leaves: Sequence[Tensor]) -> list[Tensor]:
    """Gradients of a scalar; zeros where nothing flows."""
    if not result.requires_grad:
        return [torch.zeros_like(x) for x in leaves]
    found = torch.autograd.grad(result, leaves, allow_unused=True)
    return [torch.zeros_like(x) if g is None else g for x, g in zip(leaves, found, strict=True)]


def tolerance(*results: Tensor) -> float:
    """How far two ways to one number may differ: by the precision in which the loss computes."""
    return 1e-7 if all(x.dtype == torch.float64 for x in results) else 1e-4


def same(observed: Tensor, expected: Tensor) -> bool:
    """Whether two values are one but for rounding."""
    error = (observed.double() - expected.double()).abs()
    return bool(error <= tolerance(observed, expected) * expected.double().abs().clamp(min=1))


def unchanged(loss: Loss, inputs: Inputs, moved: Inputs, how: str) -> None:
    """Raise unless the loss gives the same value for both."""
    expected, observed = value(loss, inputs), value(loss, moved)
    if not same(observed, expected):
        raise Broken({**named(inputs), "changed": how}, observed, f"{as_text(expected)}, as before")


def norm(tensors: Sequence[Tensor]) -> Tensor:
    """The length of several gradients taken as one vector."""
    length: Tensor = torch.linalg.vector_norm(torch.stack([torch.linalg.vector_norm(x.double()) for x in tensors]))
    return length
