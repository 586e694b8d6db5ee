"""Other libraries: here or not, and why not. One that is not here is told in the table, never left out in silence."""

from __future__ import annotations

from functools import cache
from importlib import import_module
from importlib.metadata import PackageNotFoundError, version

# what is imported of each to know that it works
MODULES = {
    "lightly": "lightly.loss",
    "pytorch-metric-learning": "pytorch_metric_learning.losses",
    "kornia": "kornia.augmentation",
    "torchvision": "torchvision.transforms",
    "timm": "timm.utils",
    "torch-ema": "torch_ema",
}
# known, and out of reach of any current torch
UNREACHABLE = {
    "solo-learn": "not installed: its newest release on PyPI, 1.0.2, demands torch 1.9.1; "
    "its formulas take part as the gather + cross-entropy form",
    "swav, dino, moco, open_clip": "not installed: released as repositories, not as packages that can be imported; "
    "their formulas take part as released forms",
}


@cache
def why_not(name: str, module: str = "") -> str:
    """Why a package, or a part of it, cannot take part; empty where it can."""
    try:
        version(name)
    except PackageNotFoundError:
        return "not installed: pip install -e '.[benchmarks]'"
    try:
        import_module(module or MODULES[name])
    except Exception as error:  # whatever a foreign import runs into
        return f"not imported: {type(error).__name__}: {error}"
    return ""


def versions() -> dict[str, str]:
    """Of those that take part."""
    return {name: version(name) for name in ("torch", *MODULES) if name == "torch" or not why_not(name)}


def absent() -> dict[str, str]:
    """Those that do not, with the reason."""
    reasons = {name: why_not(name) for name in MODULES}
    return {name: reason for name, reason in reasons.items() if reason} | UNREACHABLE
