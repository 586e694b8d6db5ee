"""The trainers and how each runs a few steps on tiny data: a new trainer is one line."""

from __future__ import annotations

from dataclasses import dataclass

TRAINED = "the folder of a finished run"  # a flag's value that the tests replace by such a folder


@dataclass(frozen=True)
class Trainer:
    """One file of `examples/` and the flags of a quick run."""

    name: str
    flags: tuple[str, ...] = ()
    mode: str = ""
    paper: tuple[str, ...] = ()  # besides --preset paper: what makes one step of it possible on a CPU
    invariant: tuple[str, ...] = ()  # flags under which one and two processes must agree; empty: BN of each rank's own


SHORT_STAGES = (
    *("--memory", "64", "--labels", "0.5", "--distil-epochs", "1"),
    *("--finetune-epochs", "2", "--finetune-batch-size", "6"),
)
TRAINERS = (
    Trainer("moco", ("--queue-size", "64"), paper=("--queue-size", "64", "--bn-splits", "1")),
    Trainer(
        "moco_v3",
        invariant=("--views", "none"),
        paper=("--image-size", "224", "--hidden-dim", "64"),
    ),
    Trainer("moco_v3", ("--preset", "vit"), mode="vit", invariant=("--views", "none")),
    Trainer("simclr", invariant=("--views", "none")),
    Trainer("invaspread"),
    Trainer("instdisc", ("--noise", "16"), paper=("--noise", "16")),
    Trainer("instdisc", ("--loss", "softmax"), mode="softmax"),
    Trainer("crd", ("--noise", "16"), paper=("--alpha", "0", "--beta", "0"), invariant=("--views", "none")),
    Trainer(
        "simclr_v2",
        SHORT_STAGES,
        paper=("--memory", "64", "--hidden-dim", "64"),
        invariant=("--views", "none", "--stage", "pretrain"),
    ),
    Trainer("linear_probe", ("--trained", TRAINED), invariant=("--augment", "none")),
    Trainer("cpc", paper=("--patch", "16", "--stride", "8"), invariant=("--views", "none")),
    Trainer(
        "cpc",
        ("--modality", "sequence", "--views", "digits", "--encoder", "auto"),
        mode="sequence",
        paper=("--patch", "16", "--stride", "8"),
        invariant=("--views", "none"),
    ),
    Trainer("clip", paper=("--text-layers", "1", "--text-width", "64"), invariant=("--views", "none")),
    Trainer("byol", paper=("--hidden-dim", "64"), invariant=("--views", "none")),
    Trainer("simsiam", paper=("--hidden-dim", "64", "--dim", "64"), invariant=("--views", "none")),
    Trainer("simsiam", ("--alternation", "3", "--norms", "all"), mode="alternation", invariant=("--views", "none")),
    Trainer("cmc", invariant=("--views", "none")),
    Trainer(
        "swav",
        ("--crops", "2", "2", "--queue-size", "0"),
        paper=("--crops", "2", "1", "--prototypes", "64"),
        invariant=("--views", "none"),
    ),
    Trainer(
        "swav",
        ("--queue-size", "24", "--queue-epoch", "0"),
        mode="queue",
        invariant=("--views", "none"),
    ),
    Trainer(
        "dino",
        ("--crops", "2", "2", "--freeze-epochs", "1"),
        paper=("--crops", "2", "1", "--small-size", "32", "--dim", "64"),
        invariant=("--views", "none"),
    ),
    Trainer(
        "dino",
        ("--preset", "vit", "--drop-path", "0.2", "--temperature-epochs", "2"),
        mode="vit",
        invariant=("--views", "none", "--drop-path", "0"),
    ),
    Trainer("cmc", ("--loss", "nce", "--noise", "16", "--graph", "core"), mode="nce", paper=("--noise", "16")),
)
