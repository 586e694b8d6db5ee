"""MoCo v3's frozen patch projection. Imports timm, so nothing imports this module before its name is asked for."""

from __future__ import annotations

from collections.abc import Callable
from math import sqrt
from typing import Any, TypeVar

import torch
import torch.nn.functional as F
from timm.layers.format import Format
from timm.layers.patch_embed import PatchEmbed
from torch import Tensor, nn

from contrastive_ops import _checks

Size = int | tuple[int, int]
ModuleT = TypeVar("ModuleT", bound=nn.Module)


class FrozenPatchEmbed(PatchEmbed):
    r"""timm's patch embedding with a random projection that is never trained: MoCo v3's cure for instability.

    $$y = \mathrm{sg}(W) * x + \mathrm{sg}(b), \qquad
      W \sim U\Big({\pm}\sqrt{6 / (C p^2 + D)}\Big), \quad b = 0$$

    For `timm.create_model("vit_small_patch16_224", embed_layer=FrozenPatchEmbed)`; a model that exists already takes
    `FrozenPatchEmbed.freeze(vit)`. The initialisation is drawn again whenever timm initialises the model, in any of
    its modes. Names and shapes of the state are those of `PatchEmbed`, so checkpoints of either load into the other.

    `requires_grad` is False, so optimisers pass the projection over. `model.requires_grad_(True)` turns the flag on,
    yet no gradient reaches the weights, and an optimiser changes nothing that has no gradient, not by weight decay
    either. (DDP waits for a gradient of whatever has the flag: wrap with the flag off.) The images' gradient passes,
    and the norm behind the projection, where there is one, is trained.

    Args:
        img_size: height and width of the images, one number for both; None for any.
        patch_size: p, likewise for the patches.
        in_chans: C, channels of the images.
        embed_dim: D, width of a token.
        norm_layer: makes the norm behind the projection from its width; None for none.
        flatten: return tokens (B, N, D) and not a map (B, D, H / p, W / p).
        output_fmt: "NCHW", "NHWC", "NCL" or "NLC"; overrules `flatten`.
        bias: whether there is a b.
        strict_img_size: whether images must be of `img_size`, and not only a multiple of the patches.
        dynamic_img_pad: pad images that are no multiple of the patches.
        device: of the parameters.
        dtype: of the parameters.

    Raises:
        ValueError: a size, width or format out of range; images of another size.
        TypeError: an argument is of the wrong type; a model without a patch projection.

    Example:
        >>> embed = FrozenPatchEmbed(img_size=32, patch_size=8, embed_dim=96)
        >>> embed(torch.randn(2, 3, 32, 32)).shape
        torch.Size([2, 16, 96])
        >>> print(f"{embed.proj.weight.max():.3f} {(6 / (3 * 8 * 8 + 96)) ** 0.5:.3f}")
        0.144 0.144
        >>> embed.proj.weight.requires_grad
        False

    References:
        "An Empirical Study of Training Self-Supervised Vision Transformers" (Chen, Xie and He, 2021), section 4.2 and
        figures 4 and 5. The authors' code (`stop_grad_conv1`) writes 3 where C stands here, the same for RGB, and
        only turns `requires_grad` off.
    """

    def __init__(
        self,
        *,
        img_size: Size | None = 224,
        patch_size: Size = 16,
        in_chans: int = 3,
        embed_dim: int = 768,
        norm_layer: Callable[..., nn.Module] | None = None,
        flatten: bool = True,
        output_fmt: str | None = None,
        bias: bool = True,
        strict_img_size: bool = True,
        dynamic_img_pad: bool = False,
        device: torch.device | str | None = None,
        dtype: torch.dtype | None = None,
    ) -> None:
        if img_size is not None:
            _checks.is_size("img_size", img_size)
        _checks.is_size("patch_size", patch_size)
        _checks.is_count("in_chans", in_chans)
        _checks.is_count("embed_dim", embed_dim)
        _checks.is_maker("norm_layer", norm_layer)
        formats = [form.value for form in Format]
        if output_fmt not in (None, *formats):
            raise ValueError(f"output_fmt: expected one of {', '.join(formats)}, or None, got {output_fmt!r}")
        flags = {
            "flatten": flatten,
            "bias": bias,
            "strict_img_size": strict_img_size,
            "dynamic_img_pad": dynamic_img_pad,
        }
        for name, flag in flags.items():
            _checks.is_flag(name, flag)
        make: Any = super().__init__  # its annotations know no pairs
        make(
            *(img_size, patch_size, in_chans, embed_dim, norm_layer),
            *(flatten, output_fmt, bias, strict_img_size, dynamic_img_pad),
        )
        self.proj = _frozen(self.proj)
        self.to(device=device, dtype=dtype)  # older timm's PatchEmbed takes neither
        self.init_weights()

    @classmethod
    def freeze(cls, vit: ModuleT, *, generator: torch.Generator | None = None) -> ModuleT:
        """Replace `vit.patch_embed` by a frozen one with a new random projection; returns `vit`.

        To freeze weights that are there, load them afterwards. Freeze before an optimiser or DDP takes the parameters.

        Args:
            vit: a model whose `patch_embed` is timm's `PatchEmbed` (ViT, DeiT, BEiT, EVA, CaiT, Swin, ...).
            generator: decides the projection.

        Raises:
            TypeError: `vit` has no such `patch_embed`: hybrids have layers before it, and other models none.
        """
        _checks.is_generator(generator)
        old: Any = getattr(vit, "patch_embed", None)
        if type(old) not in (PatchEmbed, cls) or not isinstance(vit, nn.Module):
            raise TypeError(
                f"vit: expected a model whose patch_embed is timm's PatchEmbed, got {type(vit).__name__} "
                f"with {type(old).__name__}; freeze before wrapping; hybrids and convolutional stems have none"
            )
        with torch.device("meta"):  # nothing is drawn but by the generator
            frozen = cls(
                img_size=old.img_size,
                patch_size=old.patch_size,
                in_chans=old.proj.in_channels,
                embed_dim=old.proj.out_channels,
                flatten=old.flatten,
                output_fmt=None if old.flatten else old.output_fmt,
                bias=old.proj.bias is not None,
                strict_img_size=old.strict_img_size,
                dynamic_img_pad=old.dynamic_img_pad,
                dtype=old.proj.weight.dtype,
            )
        frozen.to_empty(device=old.proj.weight.device).train(old.training).init_weights(generator=generator)
        frozen.norm = old.norm
        vit.patch_embed = frozen
        return vit

    def init_weights(self, *, generator: torch.Generator | None = None) -> None:
        """Draw the projection again, as MoCo v3 does; timm calls this on the way through a model."""
        _checks.is_generator(generator)
        bound = sqrt(6 / (self.proj.weight[0].numel() + self.proj.out_channels))
        nn.init.uniform_(self.proj.weight, -bound, bound, generator=generator)
        if self.proj.bias is not None:
            nn.init.zeros_(self.proj.bias)
        self.proj.requires_grad_(False)

    def reset_parameters(self) -> None:
        """The same, under the name that timm's mode "reset" calls."""
        self.init_weights()

    def set_input_size(self, img_size: Size | None = None, patch_size: Size | None = None) -> None:
        """timm's change of sizes; weights resampled to another patch size stay frozen."""
        super().set_input_size(img_size, patch_size)
        self.proj = _frozen(self.proj)

    def forward(self, x: Tensor) -> Tensor:
        """Images (B, C, H, W) to tokens (B, N, D), or to a map where `flatten` is False."""
        *_, height, width = _checks.is_tensor("x", x, shape=("B", self.proj.in_channels, "H", "W")).shape
        (rows, columns), wanted = self.patch_size, self.img_size
        if wanted is not None and self.strict_img_size:
            fits, expected = (height, width) == tuple(wanted), f"of {wanted[0]} x {wanted[1]}"
        else:
            fits = self.dynamic_img_pad or wanted is None or (height % rows == 0 and width % columns == 0)
            expected = f"that {rows} x {columns} patches divide"
        if not fits:
            raise ValueError(
                f"x: expected images {expected}, got {height} x {width}; resize them, or build the model with "
                "another img_size, with dynamic_img_size=True or with dynamic_img_pad=True"
            )
        embed: Callable[[Tensor], Tensor] = super().forward
        return embed(x)


class _FrozenConv2d(nn.Conv2d):
    """No gradient reaches its weights, whatever `requires_grad` says."""

    def forward(self, input: Tensor) -> Tensor:
        bias = None if self.bias is None else self.bias.detach()
        return F.conv2d(input, self.weight.detach(), bias, self.stride)


def _frozen(conv: nn.Conv2d) -> _FrozenConv2d:
    """The same parameters in a frozen convolution. It is made on "meta", where nothing is drawn or allocated."""
    patch: Any = conv.kernel_size
    frozen = _FrozenConv2d(
        conv.in_channels, conv.out_channels, patch, patch, bias=conv.bias is not None, device="meta"
    )
    frozen.weight, frozen.bias = conv.weight, conv.bias
    return frozen.requires_grad_(False).train(conv.training)
