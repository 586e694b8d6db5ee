"""What every trainer stands on: ranks, flags, data, checkpoints, logs, evaluation, pictures.

Also the networks, memories and captions that would make a trainer too long to read. Trainers say `import _runtime as
rt`; the modules themselves import each other.
"""

from _runtime.begin import begin
from _runtime.captions import load_captioned
from _runtime.checkpoint import Checkpoints, seeded_generator
from _runtime.classifier import load_classifier
from _runtime.config import CommonConfig, parse
from _runtime.crop_encoders import CropNetwork, create_crop_encoder, teacher_of
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
from _runtime.models import create_encoder, first_and_last_layer, health, save_encoder, teacher_health
from _runtime.norm import scale_only_norm, synchronise_norms
from _runtime.optimise import (
    OPTIMIZERS,
    SCHEDULES,
    apply,
    average,
    averaged_weights,
    backward,
    clip_each,
    create_optimizer,
    distribute,
    linear_rise,
    mixed_precision,
    update,
)
from _runtime.pairs import Pairs
from _runtime.plots import save_views
from _runtime.predictive import ContextFeatures, create_context_features, encoder_for, finish_context
from _runtime.prototypes import PrototypeNetwork, RankQueues
from _runtime.results import finish
from _runtime.siamese import cosine_of_trained, simsiam_heads
from _runtime.sources import Images, load_images
from _runtime.stages import StudentConfig, after_stages, create_student, finish_student
from _runtime.text import TextTransformer, WordTokenizer
from _runtime.trained import encoder_of, load_encoder, load_weights
from _runtime.view_crops import crops_of
from _runtime.view_pairs import VIEW_PAIRS
from _runtime.views import VIEWS, digits_v1_view, digits_v2_view, plain_view, to_float, unchanged_view
from _runtime.vit import create_moco_encoder, is_vit
from _runtime.zero_shot import ZeroShot

__all__ = [
    "OPTIMIZERS",
    "SCHEDULES",
    "VIEWS",
    "VIEW_PAIRS",
    "Checkpoints",
    "CommonConfig",
    "ContextFeatures",
    "CropNetwork",
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
    "clip_each",
    "cosine_of_trained",
    "count_classes",
    "create_context_features",
    "chance_of_pairs",
    "create_crop_encoder",
    "create_encoder",
    "create_modalities",
    "create_moco_encoder",
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
    "first_and_last_layer",
    "global_batches",
    "grey_digits_view",
    "grey_patches_view",
    "grey_view",
    "health",
    "is_vit",
    "label_loss",
    "labelled_subset",
    "labels_of",
    "launch",
    "linear_rise",
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
    "simsiam_heads",
    "stage_results",
    "start_folder",
    "steps_per_epoch",
    "synchronise_norms",
    "table_of_labels",
    "teacher_health",
    "teacher_of",
    "tile",
    "to_float",
    "unchanged_view",
    "update",
]
