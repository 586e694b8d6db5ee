"""The flags that all trainers share, and presets: a preset changes values only, an explicit flag wins over it."""

from __future__ import annotations

import argparse
import dataclasses
import json
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, TypeVar


@dataclass(frozen=True)
class CommonConfig:
    """The flags that every trainer has; a trainer's own Config adds its paper's numbers."""

    preset: str = "digits"  # the set of values that the other flags start from
    data: str = "digits"  # digits | cifar10:PATH | folder:PATH | NAME[:ROOT] of timm.data.create_dataset
    evaluate_on: Literal["test", "validation"] = (
        "test"  # validation: held out of the training images, for choosing settings
    )
    out: Path | None = (
        None  # the run folder; by default runs/METHOD-PRESET-seedSEED, with a number where that is taken
    )
    resume: bool = False  # continue from the newest valid checkpoint of the run folder
    epochs: int = 65  # passes over the training images
    batch_size: int = 64  # images a step, over all ranks together
    lr: float = 0.06  # the peak learning rate, used as given (never rescaled)
    seed: int = 0  # of weights, order of images and views
    image_size: int = 32  # height and width of the views
    encoder: str = "tiny"  # tiny (0.3 M weights, made for 32 pixels) or any model name of timm
    precision: Literal["fp32", "bf16", "fp16"] = "fp32"  # of the forward pass (autocast)
    compile: bool = False  # torch.compile the encoder
    device: str = "auto"  # auto, cpu or cuda
    workers: int = 4  # processes a rank that decode images from files
    ema_decay: float = 0.0  # above 0: evaluate (and export) weights averaged with this decay, by torch-ema
    knn_images: int = 50_000  # at most so many training images in the gallery of the kNN and linear evaluation
    checkpoint_steps: int = 1000  # a checkpoint after so many steps, besides the one after every epoch
    max_steps: int = 0  # above 0: stop, saved, after so many steps; the schedule is still that of all epochs


ConfigT = TypeVar("ConfigT", bound=CommonConfig)


def parse(method: str, presets: Mapping[str, ConfigT], arguments: Sequence[str] | None = None) -> ConfigT:
    """Reads the command line: the preset that `--preset` names gives the defaults, flags replace single values."""
    import tyro

    arguments = sys.argv[1:] if arguments is None else list(arguments)
    finder = argparse.ArgumentParser(add_help=False, allow_abbrev=False)
    finder.add_argument("--preset", default="digits")
    preset = finder.parse_known_args(arguments)[0].preset
    if preset not in presets:
        raise SystemExit(f"--preset: expected one of {', '.join(presets)}; got {preset!r}")
    default = dataclasses.replace(presets[preset], preset=preset)
    config = tyro.cli(type(default), default=default, args=arguments, prog=f"{method}.py")
    check(config)
    name = f"{method}-{preset}-seed{config.seed}"
    return config if config.out else dataclasses.replace(config, out=run_folder(name, resume=config.resume))


def run_folder(name: str, *, resume: bool) -> Path:
    """runs/NAME, or runs/NAME-2 and so on where that holds a run already; to resume, the last one that does.

    The ranks agree: each asks before any of them writes, since the process group forms between the two.
    """
    first, count = Path("runs") / name, 1
    folder = last = first
    while (folder / "config.json").exists():
        count, last = count + 1, folder
        folder = first.with_name(f"{name}-{count}")
    return last if resume else folder


def check(config: CommonConfig) -> None:
    """Names the flag, what it should be and what came, before anything starts."""
    for name in ("epochs", "batch_size", "image_size", "knn_images", "checkpoint_steps"):
        if getattr(config, name) < 1:
            raise SystemExit(f"--{name.replace('_', '-')}: expected at least 1, got {getattr(config, name)}")
    for name in ("lr", "workers", "max_steps"):
        if not getattr(config, name) >= 0:
            raise SystemExit(f"--{name.replace('_', '-')}: expected 0 or more, got {getattr(config, name)}")
    if not 0 <= config.ema_decay < 1:
        raise SystemExit(f"--ema-decay: expected a number in [0, 1), got {config.ema_decay}")


def as_dict(config: CommonConfig) -> dict[str, Any]:
    """The configuration as JSON can hold it."""
    return json.loads(json.dumps(dataclasses.asdict(config), default=str))
