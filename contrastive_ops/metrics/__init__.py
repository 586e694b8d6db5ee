"""What tells whether a representation is any good, and whether training still lives."""

from contrastive_ops.metrics._geometry import feature_std
from contrastive_ops.metrics._gradients import gradient_infinity_norm
from contrastive_ops.metrics._knn import knn_predict
from contrastive_ops.metrics._monitor import CollapseMonitor

__all__ = ["CollapseMonitor", "feature_std", "gradient_infinity_norm", "knn_predict"]
