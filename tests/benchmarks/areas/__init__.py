"""All items, in the order of the page."""

from tests.benchmarks.areas import (
    augmentation,
    enqueue,
    knn,
    losses_over_ranks,
    momentum,
    nt_xent,
    queue_loss,
    shuffle,
    sinkhorn,
    small,
    spread_and_cpc,
    two_directions,
)
from tests.benchmarks.contest import Area

AREAS: tuple[Area, ...] = (
    *nt_xent.AREAS,
    *two_directions.AREAS,
    *spread_and_cpc.AREAS,
    *queue_loss.AREAS,
    *small.AREAS,
    *momentum.AREAS,
    *sinkhorn.AREAS,
    *enqueue.AREAS,
    *augmentation.AREAS,
    *shuffle.AREAS,
    *losses_over_ranks.AREAS,
    *knn.AREAS,
)


def by_name(name: str) -> Area:
    return next(area for area in AREAS if area.name == name)
