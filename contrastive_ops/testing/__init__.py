"""The conformance kit: what it takes to hold one's own losses to the laws that this package obeys."""

from contrastive_ops.testing._processes import run_distributed

__all__ = ["run_distributed"]
