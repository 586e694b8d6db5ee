"""SimCLR: find the other view of an image among all other views of the batch (Chen, Kornblith, Norouzi, Hinton, 2020).

    x = concat(view(images), view(images))              # both views in one forward: they share BN statistics
    z = normalize(g(f(x)))                              # encoder f, projection head g
    loss = mean over the 2N rows of cross_entropy(z_a . z / T without z_a, target=other view of a)
    loss.backward(); update(f, g)

"A Simple Framework for Contrastive Learning of Visual Representations", algorithm 1: negatives are the rows of all
ranks, BN takes its statistics over all of them, and the head is dropped afterwards. Pixels are normalised here.

    python examples/simclr.py                                           # the embedded digits, minutes on a CPU
    torchrun --nproc-per-node 2 examples/simclr.py
    torchrun --nproc-per-node 8 examples/simclr.py --preset paper --data folder:/path/to/imagenet
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import _runtime as rt
import torch
from torch import nn

import contrastive_ops as co


@dataclass(frozen=True)
class Config(rt.CommonConfig):
    """SimCLR's own numbers; the defaults are the preset digits."""

    epochs: int = 35  # passes over the training images
    batch_size: int = 128  # images a step, over all ranks together; twice as many rows
    lr: float = 2e-3  # the peak learning rate
    views: Literal["digits-v2", "simclr", "none"] = "digits-v2"  # the recipe of augmentation
    dim: int = 128  # width of the embedding
    hidden_dim: int = 256  # width inside the head
    temperature: float = 0.2  # T of the loss
    optimizer: Literal["adamw", "lars"] = "adamw"  # of timm
    weight_decay: float = 1e-2  # of all parameters but biases and norms
    warmup: float = 0.05  # part of the run in which the learning rate rises from 0


DIGITS = Config()
PAPER = replace(
    DIGITS, data="folder:imagenet", views="simclr", encoder="resnet50", image_size=224, epochs=100, batch_size=4096,
    lr=4.8, hidden_dim=2048, temperature=0.1, optimizer="lars", weight_decay=1e-6, warmup=0.1, workers=16,
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
    head = co.projection_mlp(
        encoder.num_features, config.hidden_dim, config.dim, bias=False, last_bias=False, last_norm=rt.scale_only_norm
    )
    net = nn.Sequential(OrderedDict(encoder=encoder, head=head)).to(run.device, memory_format=torch.channels_last)
    model = rt.distribute(rt.synchronise_norms(net, run), run)

    optimizer = rt.create_optimizer(config.optimizer, net, lr=config.lr, weight_decay=config.weight_decay)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(encoder, config.ema_decay)
    chance = math.log(2 * config.batch_size - 1)
    monitor = co.CollapseMonitor(config.dim, chance_loss=chance, chance_name="ln(2N-1)").to(run.device)

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
            loss = co.nt_xent(z1, z2, temperature=config.temperature)
            lr = co.cosine_schedule(step, steps, config.lr, 0.0, warmup_steps=config.warmup * steps)
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
        rt.finish("simclr", encoder, evaluation, log, monitor)


if __name__ == "__main__":
    rt.launch(main, rt.parse("simclr", PRESETS))
