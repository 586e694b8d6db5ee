"""Linear probe: what a linear classifier reads from a frozen encoder.

    h = f(augment(x))                                         # f of a finished run, in evaluation mode, no gradient
    loss = cross_entropy(W h + b, label)
    loss.backward(); update(W, b)                             # SGD; W from N(0, 0.01), b from 0

The protocol of the papers, with their numbers as presets (paper is SimCLR's); the accuracy (top1) is that on images
without augmentation. Besides it stands what every trainer measures at its end by L-BFGS (linear). The learning rates
fit the scale of the features: MoCo's is 30 as its features are small. `--labels 0.01` takes 1 % of the labels, as many
of each class. The run folder's encoder is the one that was given.

    python examples/linear_probe.py --trained runs/simclr-digits-seed0
    torchrun --nproc-per-node 2 examples/linear_probe.py --trained runs/simclr-digits-seed0 --labels 0.01
    python examples/linear_probe.py --preset paper --data folder:/path/to/imagenet --trained runs/simclr-paper-seed0
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import _runtime as rt
import torch
from torch import nn

import contrastive_ops as co


@dataclass(frozen=True)
class Config(rt.CommonConfig):
    """The probe's own numbers; the defaults are the preset digits. The run gives `--encoder`."""

    trained: Path = Path("runs/simclr-digits-seed0")  # the folder of a finished run
    epochs: int = 30  # passes over the labelled images
    batch_size: int = 128  # images a step, over all ranks together
    lr: float = 0.1  # the peak learning rate
    labels: float = 1.0  # the part of the labels that is used, for all that is measured
    augment: Literal["digits-crop", "crop-flip", "none"] = "digits-crop"  # of the training images
    nesterov: bool = True  # the momentum of 0.9 looks ahead
    weight_decay: float = 0.0  # of the classifier
    schedule: Literal["cosine", "step"] = "cosine"  # cosine to 0, or a tenth at 60 % and at 80 % of the run


DIGITS = Config()
PAPER = replace(
    DIGITS, data="folder:imagenet", image_size=224, augment="crop-flip", epochs=90, batch_size=4096, lr=1.6,
    workers=16,
)  # fmt: skip
MOCO = replace(PAPER, epochs=100, batch_size=256, lr=30.0, nesterov=False, schedule="step")
PRESETS = {
    "digits": DIGITS,
    "paper": PAPER,
    "moco": MOCO,
    "swav": replace(PAPER, epochs=100, batch_size=256, lr=0.3, nesterov=False, weight_decay=1e-6),
    "byol": replace(PAPER, epochs=80, batch_size=1024, lr=0.8),
    "moco-v3": replace(PAPER, batch_size=1024, lr=0.4, nesterov=False),  # of a ResNet; 12 of a ViT
    "dino": replace(PAPER, epochs=100, batch_size=1024, lr=0.004, nesterov=False),
}


def main(run: rt.Run, config: Config) -> None:  # noqa: PLR0915 (the method from top to bottom)
    """Builds the classifier, trains, evaluates each epoch, and leaves a run folder."""
    config = replace(config, encoder=rt.encoder_of(config.trained))
    folder = rt.start_folder(config, run)
    train, test = rt.load_images(config, run)
    train = rt.labelled_subset(train, config.labels, seed=config.seed)
    evaluation = rt.Evaluation(train, test, config, run)
    view = partial(rt.VIEWS[config.augment], size=config.image_size)

    torch.manual_seed(config.seed)  # the same weights on every rank
    encoder = rt.load_encoder(config.trained).requires_grad_(False).eval()
    width = encoder(torch.zeros(1, 3, config.image_size, config.image_size)).shape[1]
    classifier = nn.Linear(width, rt.count_classes(train))
    nn.init.normal_(classifier.weight, std=0.01), nn.init.zeros_(classifier.bias)
    net = nn.Sequential(OrderedDict(encoder=encoder, classifier=classifier)).eval()  # BN keeps its statistics
    net.to(run.device, memory_format=torch.channels_last)
    if config.compile:
        encoder.compile()
    model = rt.distribute(classifier, run)

    optimizer = torch.optim.SGD(
        classifier.parameters(), config.lr, momentum=0.9, nesterov=config.nesterov, weight_decay=config.weight_decay
    )
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(classifier, config.ema_decay)
    chance = math.log(classifier.out_features)
    monitor = co.CollapseMonitor(classifier.out_features, chance_loss=chance, chance_name="ln C").to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"classifier": classifier, "optimizer": optimizer, "scaler": scaler}
    checkpoints = rt.Checkpoints(config, run, {**parts, "averaged": averaged, "monitor": monitor}, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, encoder, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, labels, _ in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            images = rt.to_float(pixels)
            x = view(images, generator=generator)
            with precision:
                with torch.no_grad():
                    h = encoder(x)
                logits = model(h).float()
            log.require_finite(step + 1, logits)
            loss = rt.label_loss(logits, labels)
            lr = rt.SCHEDULES[config.schedule](step, steps, config.lr)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)

            step += 1
            monitor.update(logits, loss)
            log.train(step, {"loss": loss, "lr": lr, **rt.health(classifier, logits)}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", images, [x])
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            values = {"epoch": epoch + 1, "top1": evaluation.top1(net)}
        log.evaluate(step, values, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        found = {"top1": evaluation.top1(net), "trained": str(config.trained), "labels": config.labels}
        rt.finish("linear_probe", encoder, evaluation, log, monitor, measured=found)


if __name__ == "__main__":
    rt.launch(main, rt.parse("linear_probe", PRESETS))
