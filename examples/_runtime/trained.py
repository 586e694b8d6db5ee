"""Encoders that a run left behind."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from _runtime.modalities import load_modalities


def load_encoder(folder: Path) -> nn.Module:
    """The encoder of a finished run, with its weights: what is in its encoder.safetensors."""
    import timm

    summary, weights = folder / "summary.json", folder / "encoder.safetensors"
    if not (summary.exists() and weights.exists()):
        raise FileNotFoundError(f"expected a finished run with summary.json and {weights.name}, got {folder}")
    found = json.loads(summary.read_text())
    if "modalities" in found:
        return load_modalities(folder, found["modalities"], found["timm"])
    return timm.create_model(**found["timm"], checkpoint_path=str(weights))
