"""SimSiam's heads with the switches of its ablations, and its distance without the stop-gradient."""

from __future__ import annotations

from functools import partial

import torch.nn.functional as F
from torch import Tensor, nn

from contrastive_ops import prediction_mlp, projection_mlp


def simsiam_heads(
    in_dim: int, hidden_dim: int, dim: int, bottleneck_dim: int, *, norms: str = "default", predictor: str = "mlp"
) -> tuple[nn.Module, nn.Module]:
    """The projector and the predictor.

    norms says where BN stands: nowhere; behind hidden layers; behind the projector too; behind the predictor too. The
    predictor is a bottleneck that is trained, the same with the random weights it starts from, or the identity.
    """
    hidden = nn.BatchNorm1d if norms != "none" else None
    last = partial(nn.BatchNorm1d, affine=False) if norms in ("default", "all") else None
    projector = projection_mlp(
        in_dim, hidden_dim, dim, num_layers=3, norm=hidden, last_norm=last, bias=False, last_bias=False
    )
    if predictor == "none":
        return projector, nn.Identity()
    behind = nn.BatchNorm1d if norms == "all" else None
    bottleneck = prediction_mlp(dim, bottleneck_dim, norm=hidden, last_norm=behind)
    return projector, bottleneck.requires_grad_(predictor == "mlp")


def cosine_of_trained(p: Tensor, z: Tensor) -> Tensor:
    """The negative cosine whose target is trained too; on several ranks each takes the mean of its own rows."""
    return -F.cosine_similarity(p, z).mean()
