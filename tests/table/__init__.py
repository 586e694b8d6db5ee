"""The table of public names: one row each (or one for each mode), with what the laws need to know of it.

A new public name is one new row. Each law of the design that can apply to a name runs over every row that fills the
law's column; a column left out means that the law has nothing to bite on, and `why_not` says so in words.
"""

from tests.table import (
    assignments,
    collectives,
    in_batch,
    info_nce,
    memory,
    metrics,
    momentum,
    networks,
    targets,
    views,
)
from tests.table.row import Inputs, Row, equal

TABLE: tuple[Row, ...] = (
    *info_nce.ROWS,
    *in_batch.ROWS,
    *targets.ROWS,
    *memory.ROWS,
    *assignments.ROWS,
    *momentum.ROWS,
    *collectives.ROWS,
    *networks.ROWS,
    *views.ROWS,
    *metrics.ROWS,
)

__all__ = ["TABLE", "Inputs", "Row", "equal"]
