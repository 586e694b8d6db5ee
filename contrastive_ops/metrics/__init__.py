"""What tells whether a representation is any good, and whether training still lives."""

from contrastive_ops.metrics._geometry import alignment, effective_rank, feature_std, uniformity
from contrastive_ops.metrics._gradients import gradient_infinity_norm
from contrastive_ops.metrics._knn import knn_predict
from contrastive_ops.metrics._monitor import CollapseMonitor
from contrastive_ops.metrics._spikes import GradientSpikeMonitor

__all__ = [
    "CollapseMonitor",
    "GradientSpikeMonitor",
    "alignment",
    "effective_rank",
    "feature_std",
    "gradient_infinity_norm",
    "knn_predict",
    "uniformity",
]
