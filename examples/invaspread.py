"""InvaSpread: an image's two views close, all other images apart (Ye, Zhang, Yuen, Chang, 2019).

    x = concat(view(images), view(images))              # both views in one forward
    z = normalize(g(f(x)))                              # encoder f, linear head g
    p_ab = exp(z_a . sg(z_b) / T) / sum over c != a of exp(z_a . sg(z_c) / T)      # sg stops the gradient
    loss = mean over the 2N rows a of (-log p_ab, b: other view of a) + (sum over all other b of -log(1 - p_ab))
    loss.backward(); update(f, g)

"Unsupervised Embedding Learning via Invariant and Spreading Instance Feature", equations 4 to 8, as in the authors'
code: both views are augmented, each is an anchor, and gradients flow through anchors alone. The instances are those of
all ranks; BN takes its statistics on each rank, over both views.

    python examples/invaspread.py                                       # the embedded digits, minutes on a CPU
    torchrun --nproc-per-node 2 examples/invaspread.py
    python examples/invaspread.py --preset paper --data cifar10:/path/to/cifar-10-python.tar.gz
"""

from __future__ import annotations

import math
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import _runtime as rt
import torch
from torch import nn

import contrastive_ops as co


def paper_schedule(step: int, total_steps: int, start: float, *, warmup_steps: float = 0) -> float:
    """The authors' steps of 301 epochs: a tenth from epoch 120, a twentieth from 160, a hundredth from 200."""
    epoch = 301 * step / total_steps
    rising = min(1.0, step / warmup_steps) if warmup_steps else 1.0
    return start * rising * (1.0 if epoch < 120 else 0.1 if epoch < 160 else 0.05 if epoch < 200 else 0.01)


SCHEDULES: dict[str, Callable[..., float]] = {"cosine": partial(co.cosine_schedule, end=0.0), "paper": paper_schedule}


@dataclass(frozen=True)
class Config(rt.CommonConfig):
    """InvaSpread's own numbers; the defaults are the preset digits."""

    epochs: int = 40  # passes over the training images
    batch_size: int = 128  # images a step, over all ranks together; twice as many rows
    lr: float = 2e-3  # the peak learning rate
    views: Literal["digits-v1", "digits-v2", "invaspread"] = "digits-v2"  # the recipe of augmentation
    dim: int = 128  # width of the embedding
    temperature: float = 0.1  # T of the loss
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd with momentum 0.9
    weight_decay: float = 1e-2  # of all parameters
    schedule: Literal["cosine", "paper"] = "cosine"  # cosine to 0, or the paper's steps down
    warmup: float = 0.05  # part of the run in which the learning rate rises from 0


DIGITS = Config()
# CIFAR-10. The authors' ResNet-18 keeps the 32 pixels in its stem; timm's divides by 4, hence views of 128
PAPER = replace(
    DIGITS, data="cifar10:cifar-10-python.tar.gz", views="invaspread", encoder="resnet18", image_size=128, epochs=301,
    lr=0.03, optimizer="sgd", weight_decay=5e-4, schedule="paper", warmup=0.0,
)  # fmt: skip
PRESETS = {"digits": DIGITS, "paper": PAPER}


def main(run: rt.Run, config: Config) -> None:
    """Builds the network, trains, evaluates each epoch, and leaves a run folder."""
    folder = rt.start_folder(config, run)
    train, test = rt.load_images(config, run)
    evaluation = rt.Evaluation(train, test, config, run)
    view = partial(rt.VIEWS[config.views], size=config.image_size)

    torch.manual_seed(config.seed)  # the same weights on every rank
    encoder = rt.create_encoder(config.encoder, compiled=config.compile)
    head = co.projection_mlp(encoder.num_features, config.dim, config.dim, num_layers=1)
    net = nn.Sequential(OrderedDict(encoder=encoder, head=head)).to(run.device, memory_format=torch.channels_last)
    model = rt.distribute(net, run)

    optimizer = rt.OPTIMIZERS[config.optimizer](net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(encoder, config.ema_decay)
    others = 2 * config.batch_size - 1
    chance = math.log(others) + (others - 1) * math.log(others / (others - 1))  # where all rows are equal
    monitor = co.CollapseMonitor(config.dim, chance_loss=chance).to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"net": net, "optimizer": optimizer, "scaler": scaler, "averaged": averaged, "monitor": monitor}
    checkpoints = rt.Checkpoints(config, run, parts, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, encoder, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, _, _ in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            images = rt.to_float(pixels)
            x1, x2 = view(images, generator=generator), view(images, generator=generator)
            with precision:
                z1, z2 = model(torch.cat([x1, x2])).float().chunk(2)
            log.require_finite(step + 1, z1)
            loss = co.spread_loss(z1, z2, temperature=config.temperature)
            lr = SCHEDULES[config.schedule](step, steps, config.lr, warmup_steps=config.warmup * steps)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)

            step += 1
            monitor.update(z1, loss)
            log.train(step, {"loss": loss, "lr": lr, **rt.health(net, z1)}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", images, [x1, x2])
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            values = {"epoch": epoch + 1, "knn": evaluation.knn(encoder)}
        log.evaluate(step, values, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        rt.finish("invaspread", encoder, evaluation, log, monitor)


if __name__ == "__main__":
    rt.launch(main, rt.parse("invaspread", PRESETS))
