"""Contrastive predictive coding: which latent did this context predict?"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import Tensor
from torch.nn.functional import pad

from contrastive_ops import _checks
from contrastive_ops._embeddings import directions, full_precision, promote
from contrastive_ops._group import Group, resolve
from contrastive_ops.kernels import contrast
from contrastive_ops.losses._candidates import gather_candidates
from contrastive_ops.losses._reduction import check_options, check_rows, reduce_rows

if TYPE_CHECKING:
    from torch.distributed import ProcessGroup

Score = Callable[..., Tensor]  # of rows against keys, of which one is their own
NEGATIVES = ("batch", "time", "batch_and_time")


def cpc_loss(
    predictions: Tensor,
    latents: Tensor,
    *,
    temperature: float | Tensor = 1.0,
    normalize: bool = False,
    negatives: str = "batch_and_time",
    reduction: str = "mean",
    group: Group = None,
    block_size: int | None = None,
) -> Tensor:
    r"""InfoNCE of predicted against true latents, over all contexts and steps ahead.

    $$\ell_{bts} = -\log \frac{e^{\langle p_{bts}, z_{b,t+s}\rangle/\tau}}
      {\sum_{c \in \text{candidates}} e^{\langle p_{bts}, z_c\rangle/\tau}}, \qquad s = 1 \dots S,\; t + s < T$$

    For a fixed context the softmax runs over candidate latents, not over contexts. Grids (rows of image patches) are
    sequences: put the columns into B.

    Args:
        predictions: (B, T, S, D): predictions[:, t, s - 1] was made at t for t + s, for instance W_s c_t. What falls
            beyond the end is ignored.
        latents: (B, T, D), T >= 2, the same T on every rank.
        temperature: tau > 0, a number or a tensor of shape () that may require a gradient.
        normalize: l2-normalise every row (a zero row stays zero and gets no gradient); the paper does not.
        negatives: "batch": the latents of all other sequences at the predicted time; "time": of the same sequence at
            all other times; "batch_and_time": every other latent of every sequence. Sequences are those of all ranks.
        reduction: "mean" or "sum" over the valid terms of all ranks, the same on every rank; "none": this rank's
            (B, M), the terms of each sequence ordered by t, then s.
        group: ranks over which to take negatives and the mean; None: the default group, or this process alone;
            False: alone.
        block_size: columns of logits that exist at a time; None: as many as stay in the cache.

    Returns:
        float32 (float64 for float64 inputs) scalar, or (B, M) for "none". The log of the number of candidates where
        all latents are equal.

    Raises:
        ValueError: a shape, device, temperature or choice does not fit; a NaN on CPU; an empty batch when alone.
        TypeError: an argument is of the wrong type.

    Example:
        >>> latents = torch.eye(3).unsqueeze(0)  # one sequence of three latents
        >>> predictions = latents.roll(-1, 1).unsqueeze(2)  # at each time the right next latent
        >>> print(f"{cpc_loss(predictions, latents):.4f}")
        0.5514

    References:
        "Representation Learning with Contrastive Predictive Coding" (van den Oord et al., 2018), equation 4, without
        normalisation and temperature, as there. Open re-implementations normalise over contexts instead, or use a
        binary cross-entropy; the paper's softmax over candidates is what bounds the mutual information.
    """
    process_group = resolve(group)
    _check(predictions, latents)
    _checks.is_positive("temperature", temperature, why="similarities are divided by it")
    _checks.is_choice("negatives", negatives, NEGATIVES)
    check_options(reduction=reduction, normalize=normalize, block_size=block_size)
    check_rows("predictions", predictions, process_group)
    with full_precision(latents.device):
        predictions, latents = promote(predictions, latents)
        if normalize:
            predictions, latents = directions(predictions), directions(latents)
        # one after the other the steps ahead, each with the times that it reaches from
        steps = predictions.unbind(2)[: latents.shape[1] - 1]
        score = partial(contrast, scale=1 / temperature, unit=normalize, block_size=block_size)
        if negatives == "time":
            losses = _other_times(steps, latents, score)
        elif negatives == "batch":
            losses = _other_sequences(steps, latents, process_group, score)
        else:
            losses = _all_others(steps, latents, process_group, score)
        if reduction == "none":
            losses = losses[:, _by_time(len(steps), latents)]
        return reduce_rows(losses, reduction, process_group, name="predictions")


def _check(predictions: Tensor, latents: Tensor) -> None:
    rows, length, width = _checks.is_floating("latents", latents, shape=("B", "T", "D")).shape
    _checks.is_floating("predictions", predictions, shape=(rows, length, "S", width))
    if length < 2:
        raise ValueError(f"latents: expected at least 2 times, one to predict from another, got {length}")
    if predictions.shape[2] < 1:
        raise ValueError(f"predictions: expected at least one step ahead, got {_checks.show(predictions)}")
    _checks.same_device(latents=latents, predictions=predictions)


def _queries(steps: Sequence[Tensor], length: int) -> Tensor:
    """(B, M, D) what has a latent to predict."""
    return torch.cat([steps[s][:, : length - 1 - s] for s in range(len(steps))], dim=1)


def _targets(count: int, latents: Tensor) -> Tensor:
    """(M,) the times that are predicted."""
    times = torch.arange(latents.shape[1], device=latents.device)
    return torch.cat([times[1 + s :] for s in range(count)])


def _by_time(count: int, latents: Tensor) -> Tensor:
    """(M,) the order by the time predicted from, then by the step ahead."""
    times = torch.arange(latents.shape[1], device=latents.device)
    return torch.cat([times[: len(times) - 1 - s] * count + s for s in range(count)]).argsort()


def _other_times(steps: Sequence[Tensor], latents: Tensor, score: Score) -> Tensor:
    """(B, M) against the sequence's other latents: one small softmax per sequence, batched."""
    own = _targets(len(steps), latents).expand(len(latents), -1).unsqueeze(2)
    return score(_queries(steps, latents.shape[1]), latents, own=own)


def _all_others(steps: Sequence[Tensor], latents: Tensor, group: ProcessGroup | None, score: Score) -> Tensor:
    """(B, M) against all latents of all sequences of all ranks but the predicted one."""
    candidates, own = gather_candidates(latents, group, name="latents")
    place = own * latents.shape[1] + _targets(len(steps), latents)
    query = _queries(steps, latents.shape[1])
    return score(query.flatten(0, 1), candidates.flatten(0, 1), own=place.view(-1, 1)).view_as(place)


def _other_sequences(steps: Sequence[Tensor], latents: Tensor, group: ProcessGroup | None, score: Score) -> Tensor:
    """(B, M) against the other sequences of all ranks at the predicted time.

    One softmax for each predicted time, batched. Early times are reached by fewer steps than late ones, so their rows
    are filled up with zeros, whose results nobody reads.
    """
    candidates, own = gather_candidates(latents, group, name="latents")
    length = latents.shape[1]
    reached = [pad(steps[s][:, : length - 1 - s], (0, 0, 1 + s, 0)) for s in range(len(steps))]
    grid = torch.stack(reached).permute(2, 0, 1, 3)  # (T, S, B, D), by predicted time
    place = own.squeeze(1).expand(grid.shape[:3]).flatten(1).unsqueeze(2)
    losses = score(grid.flatten(1, 2), candidates.transpose(0, 1), own=place).view(grid.shape[:3])
    return torch.cat([losses[1 + s :, s] for s in range(len(steps))]).T
