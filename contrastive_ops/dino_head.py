"""DINO's head: a perceptron, the sphere, and prototypes of fixed length."""

from __future__ import annotations

from itertools import pairwise

from torch import Tensor, nn
from torch.nn.utils.parametrizations import weight_norm

from contrastive_ops import _checks
from contrastive_ops._embeddings import full_precision, promote, unit_rows
from contrastive_ops.heads import Norm


class DINOHead(nn.Module):
    r"""DINO's projection head: an MLP with GELU, l2 normalisation, and a weight-normalised last layer without bias.

    $$h(x)_k = g_k \Big\langle \frac{v_k}{\lVert v_k\rVert}, \frac{f(x)}{\lVert f(x)\rVert}\Big\rangle, \qquad
      f(x) = W_L\,\mathrm{GELU}(n(W_{L-1} \dots)) + b_L$$

    With g = 1 each logit is a cosine. The MLP starts from a (truncated) normal distribution of deviation 0.02 and
    zero biases, the directions v from torch's default for linear layers.

    The paper keeps the last layer fixed during the first epoch. A trainer does so after the backward pass, with
    `for p in head.last_layer.parameters(): p.grad = None`: the optimiser then passes it over, weight decay included.

    Args:
        in_dim: width of the features.
        out_dim: K, logits (prototypes).
        hidden_dim: width between the layers of the MLP (unused with one layer).
        bottleneck_dim: width of f(x).
        num_layers: L, linear layers before the last one, at least 1.
        norm: makes the norm n behind each hidden linear layer from its width; None for none.
        freeze_scale: keep g at 1 (student and teacher of ViT-B); False trains it (the student of ViT-S).

    Raises:
        ValueError: a width or `num_layers` below 1.
        TypeError: an argument is of the wrong type.

    Example:
        >>> head = DINOHead(8, 100, hidden_dim=16, bottleneck_dim=4)
        >>> logits = head(torch.randn(5, 8))
        >>> logits.shape
        torch.Size([5, 100])
        >>> print(bool(logits.abs().max() <= 1), sum(p.numel() for p in head.parameters() if p.requires_grad))
        True 884

    References:
        "Emerging Properties in Self-Supervised Vision Transformers" (Caron et al., 2021), section 3.1 and appendix C.
        `freeze_scale` is `norm_last_layer` in the authors' code. They normalise by `torch.nn.utils.weight_norm`, which
        cannot be deep-copied after a forward pass; the parametrization here can (save its `state_dict`: torch pickles
        no parametrized module). A feature of zeros gives logits of zeros and no gradient, and the length is computed
        in float32 under autocast.
    """

    def __init__(
        self,
        in_dim: int,
        out_dim: int = 65536,
        *,
        hidden_dim: int = 2048,
        bottleneck_dim: int = 256,
        num_layers: int = 3,
        norm: Norm | None = None,
        freeze_scale: bool = True,
    ) -> None:
        for name, count in (
            ("in_dim", in_dim),
            ("out_dim", out_dim),
            ("hidden_dim", hidden_dim),
            ("bottleneck_dim", bottleneck_dim),
            ("num_layers", num_layers),
        ):
            _checks.is_count(name, count)
        _checks.is_maker("norm", norm)
        _checks.is_flag("freeze_scale", freeze_scale)
        super().__init__()
        widths = [in_dim, *[hidden_dim] * (num_layers - 1), bottleneck_dim]
        layers: list[nn.Module] = []
        for before, after in pairwise(widths[:-1]):
            layers += [_linear(before, after), *([norm(after)] if norm else []), nn.GELU()]
        self.mlp = nn.Sequential(*layers, _linear(widths[-2], bottleneck_dim))
        self.last_layer = weight_norm(nn.Linear(bottleneck_dim, out_dim, bias=False))
        scale = self.last_layer.get_parameter("parametrizations.weight.original0")
        nn.init.ones_(scale).requires_grad_(not freeze_scale)

    def forward(self, x: Tensor) -> Tensor:
        """Features (B, in_dim) to logits (B, out_dim), not yet divided by a temperature."""
        z = self.mlp(x)
        with full_precision(z.device):
            unit = unit_rows(*promote(z)).to(z.dtype)
        logits: Tensor = self.last_layer(unit)
        return logits


def _linear(before: int, after: int) -> nn.Linear:
    layer = nn.Linear(before, after)
    nn.init.trunc_normal_(layer.weight, std=0.02)
    nn.init.zeros_(layer.bias)
    return layer
