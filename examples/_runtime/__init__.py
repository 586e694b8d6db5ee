"""What every trainer stands on: ranks, flags, data, checkpoints, logs, evaluation, pictures.

Also the networks, memories and captions that would make a trainer too long to read. Trainers say `import _runtime as
rt`; the modules themselves import each other.
"""

from _runtime.begin import begin
from _runtime.captions import load_captioned
from _runtime.checkpoint import Checkpoints, seeded_generator
from _runtime.classifier import load_classifier
from _runtime.config import CommonConfig, parse
from _runtime.cross_banks import CrossBanks, chance_of_pairs
from _runtime.data import global_batches, steps_per_epoch
from _runtime.evaluate import Evaluation
from _runtime.grids import Cut, grey_digits_view, grey_patches_view, grey_view, tile
from _runtime.labels import (
    count_classes,
    label_loss,
    labelled_subset,
    labels_of,
    markdown_of_labels,
    stage_results,
    table_of_labels,
)
from _runtime.launch import Run, launch
from _runtime.log import RunLog, start_folder
from _runtime.modalities import Modalities, create_modalities, finish_modalities
from _runtime.models import create_encoder, health, save_encoder
from _runtime.norm import scale_only_norm, synchronise_norms
from _runtime.optimise import (
    OPTIMIZERS,
    SCHEDULES,
    apply,
    average,
    averaged_weights,
    backward,
    create_optimizer,
    distribute,
    mixed_precision,
    update,
)
from _runtime.pairs import Pairs
from _runtime.plots import save_views
from _runtime.predictive import ContextFeatures, create_context_features, encoder_for, finish_context
from _runtime.prototypes import PrototypeNetwork, RankQueues
from _runtime.results import finish
from _runtime.sources import Images, load_images
from _runtime.stages import StudentConfig, after_stages, create_student, finish_student
from _runtime.text import TextTransformer, WordTokenizer
from _runtime.trained import encoder_of, load_encoder, load_weights
from _runtime.view_crops import CROPS, crops_of
from _runtime.view_pairs import VIEW_PAIRS, unchanged_pair
from _runtime.views import VIEWS, digits_v1_view, digits_v2_view, plain_view, to_float, unchanged_view
from _runtime.zero_shot import ZeroShot

__all__ = [
    "CROPS",
    "OPTIMIZERS",
    "SCHEDULES",
    "VIEWS",
    "VIEW_PAIRS",
    "Checkpoints",
    "CommonConfig",
    "ContextFeatures",
    "Cut",
    "CrossBanks",
    "Evaluation",
    "Images",
    "Modalities",
    "Pairs",
    "PrototypeNetwork",
    "RankQueues",
    "Run",
    "RunLog",
    "StudentConfig",
    "after_stages",
    "apply",
    "backward",
    "TextTransformer",
    "WordTokenizer",
    "ZeroShot",
    "average",
    "averaged_weights",
    "begin",
    "count_classes",
    "create_context_features",
    "chance_of_pairs",
    "create_encoder",
    "create_modalities",
    "create_optimizer",
    "create_student",
    "crops_of",
    "digits_v1_view",
    "digits_v2_view",
    "distribute",
    "encoder_for",
    "encoder_of",
    "finish",
    "finish_context",
    "finish_modalities",
    "finish_student",
    "global_batches",
    "grey_digits_view",
    "grey_patches_view",
    "grey_view",
    "health",
    "label_loss",
    "labelled_subset",
    "labels_of",
    "launch",
    "load_classifier",
    "load_encoder",
    "load_captioned",
    "load_images",
    "load_weights",
    "markdown_of_labels",
    "mixed_precision",
    "parse",
    "plain_view",
    "save_encoder",
    "save_views",
    "scale_only_norm",
    "seeded_generator",
    "stage_results",
    "start_folder",
    "steps_per_epoch",
    "synchronise_norms",
    "table_of_labels",
    "tile",
    "to_float",
    "unchanged_pair",
    "unchanged_view",
    "update",
]
