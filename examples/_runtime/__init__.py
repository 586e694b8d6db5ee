"""What every trainer stands on: ranks, flags, data, checkpoints, logs, evaluation, pictures; nothing of a method.

Trainers say `import _runtime as rt`; the modules themselves import each other.
"""

from _runtime.begin import begin
from _runtime.captions import load_captioned
from _runtime.checkpoint import Checkpoints, seeded_generator
from _runtime.config import CommonConfig, parse
from _runtime.cross_banks import CrossBanks, chance_of_pairs
from _runtime.data import global_batches, steps_per_epoch
from _runtime.evaluate import Evaluation
from _runtime.launch import Run, launch
from _runtime.log import RunLog, start_folder
from _runtime.modalities import Modalities, create_modalities, finish_modalities
from _runtime.models import create_encoder, health
from _runtime.norm import scale_only_norm, synchronise_norms
from _runtime.optimise import (
    OPTIMIZERS,
    SCHEDULES,
    average,
    averaged_weights,
    create_adamw,
    create_optimizer,
    distribute,
    mixed_precision,
    update,
)
from _runtime.plots import save_views
from _runtime.results import finish
from _runtime.sources import load_images
from _runtime.text import TextTransformer, WordTokenizer
from _runtime.views import VIEWS, digits_v1_view, digits_v2_view, plain_view, to_float, unchanged_view
from _runtime.zero_shot import ZeroShot

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "VIEWS",
    "Checkpoints",
    "CommonConfig",
    "CrossBanks",
    "Evaluation",
    "Modalities",
    "Run",
    "RunLog",
    "TextTransformer",
    "WordTokenizer",
    "ZeroShot",
    "average",
    "averaged_weights",
    "begin",
    "chance_of_pairs",
    "create_adamw",
    "create_encoder",
    "create_modalities",
    "create_optimizer",
    "digits_v1_view",
    "digits_v2_view",
    "distribute",
    "finish",
    "finish_modalities",
    "global_batches",
    "health",
    "launch",
    "load_captioned",
    "load_images",
    "mixed_precision",
    "parse",
    "plain_view",
    "save_views",
    "scale_only_norm",
    "seeded_generator",
    "start_folder",
    "steps_per_epoch",
    "synchronise_norms",
    "to_float",
    "unchanged_view",
    "update",
]
