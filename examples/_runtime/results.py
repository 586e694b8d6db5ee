"""What a finished run leaves: summary.json, encoder.safetensors and pictures."""

from __future__ import annotations

import platform
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from torch import nn

from _runtime.attention import save_attention
from _runtime.evaluate import Evaluation, knn_accuracy, linear_accuracy
from _runtime.log import RunLog, write_json
from _runtime.models import save_encoder, timm_arguments
from _runtime.plots import save_curves
from contrastive_ops import CollapseMonitor, GradientSpikeMonitor

LAST_STEPS = 100  # over which the last loss is averaged


def finish(
    method: str,
    encoder: nn.Module,
    evaluation: Evaluation,
    log: RunLog,
    monitor: CollapseMonitor,
    *,
    measured: Mapping[str, Any] | None = None,
    spikes: GradientSpikeMonitor | None = None,
) -> None:
    """Evaluates the encoder for the last time and writes the results; called on every rank.

    measured is what else the trainer found, for summary.json; spikes adds its sentences to the warnings.
    """
    gallery, queries = evaluation.encode(encoder)
    if log.run.is_main:
        results = {"knn": knn_accuracy(gallery, queries), "linear": linear_accuracy(gallery, queries)}
        save_encoder(encoder, log.folder / "encoder.safetensors")
        warnings = monitor.report() + (spikes.report() if spikes else [])
        summary = summarise(method, {**results, **(measured or {})}, log) | {"warnings": warnings}
        write_json(log.folder / "summary.json", summary)
        save_attention(log.folder / "attention.png", encoder, evaluation)
        title = f"{method}, preset {log.config.preset}"
        save_curves(log.folder, title=title, dim=monitor.dim, chance=monitor.chance_loss)
        shown = ("knn_initial", "knn", "linear", *(measured or {}), "loss", "feature_std", "seconds")
        log.say("  ".join(f"{name} {summary[name]:.4g}" for name in shown if isinstance(summary[name], float)))
    log.close()


def summarise(method: str, results: Mapping[str, Any], log: RunLog) -> dict[str, Any]:
    """What the run was and what came of it."""
    config, run = log.config, log.run
    steps = [record for record in log.records if "loss" in record][-LAST_STEPS:]
    return {
        "method": method,
        "preset": config.preset,
        "data": config.data,
        "evaluate_on": config.evaluate_on,
        "seed": config.seed,
        "world_size": run.world_size,
        "epochs": config.epochs,
        "knn_initial": log.first("knn"),
        **results,
        "baselines": log.first("baselines"),
        "loss": mean_of(steps, "loss"),
        "feature_std": mean_of(steps, "feature_std"),
        "seconds": round(log.seconds, 1),
        "images_per_second": mean_of(log.records, "images_per_second"),
        "device": str(run.device),
        "timm": timm_arguments(config.encoder),
        "versions": versions(),
        "commit": commit(),
    }


def mean_of(records: Sequence[Mapping[str, Any]], name: str) -> float | None:
    values = [record[name] for record in records if name in record]
    return sum(values) / len(values) if values else None


def versions() -> dict[str, str]:
    """What the numbers were computed with."""
    from importlib.metadata import version

    names = ("contrastive-ops", "torch", "timm", "torch-ema")
    return {"python": platform.python_version(), **{name: version(name) for name in names}}


def commit() -> str:
    """The commit of the source tree, with a + where files differ from it; empty outside of one."""
    git = ["git", "-C", str(Path(__file__).parent)]
    try:
        head = subprocess.run([*git, "rev-parse", "HEAD"], capture_output=True, text=True, check=True).stdout.strip()
        dirty = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=True).stdout
    except (OSError, subprocess.CalledProcessError):
        return ""
    return head + ("+" if dirty.strip() else "")
