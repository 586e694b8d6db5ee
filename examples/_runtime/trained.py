"""Encoders that a run left behind."""

from __future__ import annotations

import json
from pathlib import Path

from torch import nn

from _runtime.modalities import load_modalities
from _runtime.predictive import CONTEXT_FILE, load_context_features


def encoder_of(folder: Path) -> str:
    """The `--encoder` of a run."""
    if not (folder / "config.json").exists():
        raise FileNotFoundError(f"--trained: expected the folder of a run with config.json, got {folder}")
    return str(json.loads((folder / "config.json").read_text())["encoder"])


def load_encoder(folder: Path) -> nn.Module:
    """The encoder of a finished run, with its weights: what is in its encoder.safetensors."""
    import timm

    summary, weights = folder / "summary.json", folder / "encoder.safetensors"
    if not (summary.exists() and weights.exists()):
        raise FileNotFoundError(
            f"--trained: expected a finished run, with summary.json and {weights.name}, got {folder}"
        )
    if (folder / CONTEXT_FILE).exists():
        return load_context_features(folder)
    found = json.loads(summary.read_text())
    if "modalities" in found:
        return load_modalities(folder, found["modalities"], found["timm"])
    return timm.create_model(**found["timm"], checkpoint_path=str(weights))


def load_weights(net: nn.Module, path: Path) -> None:
    """Puts the weights of a file into a network of the same form."""
    from safetensors.torch import load_file

    if not path.exists():
        raise FileNotFoundError(f"expected the weights of a finished stage, got {path}, which is not there")
    net.load_state_dict(load_file(path))
