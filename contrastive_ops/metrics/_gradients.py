"""How large gradients are."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from contrastive_ops import _checks


@torch.no_grad()
def gradient_infinity_norm(parameters: nn.Module | Tensor | Iterable[Tensor]) -> Tensor:
    r"""The largest absolute entry of all gradients: the sign of a spike.

    $$\max_{p, i} \Big|\frac{\partial L}{\partial p_i}\Big|$$

    Args:
        parameters: a module, a parameter or several parameters. Those without a gradient do not count.

    Returns:
        () float32 tensor on the gradients' device; 0 where there is no gradient, NaN where one holds a NaN.

    Raises:
        TypeError: `parameters` is none of these.

    Example:
        >>> w = torch.tensor([1.0, -3.0], requires_grad=True)
        >>> (w**2).sum().backward()
        >>> gradient_infinity_norm(w)
        tensor(6.)

    References:
        "An Empirical Study of Training Self-Supervised Vision Transformers" (Chen, Xie and He, 2021), figure 4:
        spikes of the first layer's infinity norm come before those of the last layers and before a dip in accuracy.
    """
    return largest_entry("parameters", parameters)


def largest_entry(name: str, parameters: object) -> Tensor:
    """`gradient_infinity_norm` of the argument `name`."""
    if isinstance(parameters, nn.Module):
        parameters = parameters.parameters()
    elif isinstance(parameters, Tensor):
        parameters = [parameters]
    elif not isinstance(parameters, Iterable):
        raise TypeError(f"{name}: expected a module or tensors, got {_checks.show(parameters)}")
    tensors = list(parameters)
    for tensor in tensors:
        if not isinstance(tensor, Tensor):
            raise TypeError(f"{name}: expected a module or tensors, got {_checks.show(tensor)} among them")
    gradients = [t.grad for t in tensors if t.grad is not None and t.grad.numel()]
    if not gradients:
        return torch.zeros((), device=tensors[0].device if tensors else None)
    largest = [g.float() for g in torch._foreach_norm(gradients, float("inf"))]
    return torch.stack([g.to(largest[0].device) for g in largest]).max()
