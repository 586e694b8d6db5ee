"""The conformance kit: what it takes to hold one's own losses to the laws that this package obeys."""

from contrastive_ops.testing import laws as laws
from contrastive_ops.testing import strategies as strategies
from contrastive_ops.testing._check import check_loss
from contrastive_ops.testing._holder import check_holder
from contrastive_ops.testing._processes import run_distributed
from contrastive_ops.testing._violation import BrokenLaws, LawViolation

__all__ = ["BrokenLaws", "LawViolation", "check_holder", "check_loss", "run_distributed"]
