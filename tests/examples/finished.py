"""A finished run without a training: what a trainer reads that builds on another's encoder."""

from __future__ import annotations

import json
from pathlib import Path

import torch
from _runtime.models import create_encoder, save_encoder, timm_arguments


def write_finished_run(folder: Path) -> Path:
    """A run folder with a random `tiny` encoder, always the same; nothing where it is there already."""
    if not (folder / "summary.json").exists():
        folder.mkdir()
        with torch.random.fork_rng():
            torch.manual_seed(0)
            save_encoder(create_encoder("tiny"), folder / "encoder.safetensors")
        (folder / "config.json").write_text(json.dumps({"encoder": "tiny"}))
        (folder / "summary.json").write_text(json.dumps({"timm": timm_arguments("tiny")}))
    return folder
