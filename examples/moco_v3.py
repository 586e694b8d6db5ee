"""MoCo v3: no queue; the keys of the other images in a large batch are the negatives (Chen, Xie, He, 2021).

    x1, x2 = view(x), view'(x)                                # two random views of each image
    q1, q2 = h(f(x1)), h(f(x2))                               # encoder and projector f, predictor h
    f_k = m * f_k + (1 - m) * f                               # momentum update, before the keys; m rises to 1
    k1, k2 = f_k(x1), f_k(x2)                                 # keys; there is no predictor behind them
    loss = ctr(q1, k2) + ctr(q2, k1)       # ctr(q, k) = 2 T * cross_entropy(cosines of q and all k / T, target=own k)
    loss.backward(); update(f, h)

"An Empirical Study of Training Self-Supervised Vision Transformers", algorithm 1; keys and BN statistics are of all
ranks. A ViT's patch projection may be frozen: learned, its gradient spikes before accuracy dips. The log says when.

    python examples/moco_v3.py                                          # a ResNet on the embedded digits
    python examples/moco_v3.py --preset vit                             # a small ViT; also --patch-embed frozen
    torchrun --nproc-per-node 8 examples/moco_v3.py --preset paper --data folder:/path/to/imagenet
"""

from __future__ import annotations

import copy
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
    """MoCo v3's own numbers; the defaults are the preset digits."""

    epochs: int = 50  # passes over the training images
    lr: float = 0.1  # the peak learning rate
    views: Literal["digits", "digits-v2", "digits-vit", "moco-v3", "moco-v3-vit", "none"] = "digits-v2"  # augmentation
    patch_embed: Literal["learned", "frozen"] = "learned"  # the patch projection of a ViT, trained or left at random
    dim: int = 128  # width of queries and keys
    hidden_dim: int = 1024  # width inside projector and predictor
    momentum: float = 0.97  # m of the keys' network at first; it rises to 1 by half a cosine
    temperature: float = 0.2  # T of the loss
    optimizer: Literal["sgd", "adamw", "lamb", "lars"] = "sgd"  # of timm; sgd with Nesterov's momentum
    weight_decay: float = 5e-4  # of all parameters; with a ResNet not of biases and norms
    warmup: float = 0.1  # part of the run in which the learning rate rises from 0


DIGITS = Config()
VIT = replace(DIGITS, views="digits-vit", encoder="tiny-vit", image_size=24, epochs=120,
              lr=2e-3, optimizer="adamw", weight_decay=1e-2)  # fmt: skip
PAPER_VIT = replace(
    VIT, data="folder:imagenet", views="moco-v3-vit", encoder="vit-small-12-heads", patch_embed="frozen", dim=256,
    image_size=224, epochs=300, batch_size=4096, lr=2.4e-3, hidden_dim=4096, momentum=0.99, weight_decay=0.1,
    warmup=40 / 300, workers=16,
)  # fmt: skip
PAPER_RESNET50 = replace(
    DIGITS, data="folder:imagenet", views="moco-v3", encoder="resnet50-zero-init", image_size=224, epochs=100, lr=9.6,
    batch_size=4096, dim=256, hidden_dim=4096, momentum=0.99, temperature=1.0, optimizer="lars", weight_decay=1e-6,
    workers=16,
)  # fmt: skip
PRESETS = {"digits": DIGITS, "vit": VIT, "paper": PAPER_VIT, "paper-resnet50": PAPER_RESNET50}


def main(run: rt.Run, config: Config) -> None:  # noqa: PLR0915 (the method from top to bottom)
    """Builds the networks, trains, evaluates each epoch, and leaves a run folder."""
    folder = rt.start_folder(config, run)
    train, test = rt.load_images(config, run)
    evaluation = rt.Evaluation(train, test, config, run)
    views = partial(rt.VIEW_PAIRS[config.views], size=config.image_size)

    torch.manual_seed(config.seed)  # the same weights on every rank
    encoder = rt.create_moco_encoder(config.encoder, patch_embed=config.patch_embed, image_size=config.image_size)
    widths, norm = (encoder.num_features, config.hidden_dim, config.dim), partial(nn.BatchNorm1d, affine=False)
    layers, last_norm = (3, norm) if rt.is_vit(config.encoder) else (2, None)
    projector = co.projection_mlp(*widths, num_layers=layers, bias=False, last_bias=False, last_norm=norm)
    predictor = co.prediction_mlp(config.dim, config.hidden_dim, last_bias=False, last_norm=last_norm)
    online = nn.Sequential(OrderedDict(encoder=encoder, projector=projector))  # what the keys' network follows
    net = nn.Sequential(OrderedDict(online=online, predictor=predictor))
    net.to(run.device, memory_format=torch.channels_last)
    target = rt.synchronise_norms(copy.deepcopy(online), run, views=2).requires_grad_(False)
    if config.compile:
        online.encoder.compile(), target.encoder.compile()
    model = rt.distribute(rt.synchronise_norms(net, run, views=2), run)

    rates = {"lr": config.lr, "weight_decay": config.weight_decay}
    optimizer = rt.create_optimizer(config.optimizer, net, **rates, decay_all=rt.is_vit(config.encoder))
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(encoder, config.ema_decay)
    chance = 4 * config.temperature * math.log(config.batch_size)
    monitor = co.CollapseMonitor(config.dim, chance_loss=chance, chance_name="4 tau ln N").to(run.device)
    spikes = co.GradientSpikeMonitor().to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"net": net, "target": target, "optimizer": optimizer, "scaler": scaler, "averaged": averaged}
    checkpoints = rt.Checkpoints(config, run, {**parts, "monitor": monitor, "spikes": spikes}, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, encoder, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, _, _ in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            images = rt.to_float(pixels)
            x1, x2 = views(images, generator=generator)
            x = torch.cat([x1, x2])
            with precision:
                q1, q2 = model(x).chunk(2)
            log.require_finite(step + 1, q1)
            co.momentum_update(online, target, co.cosine_schedule(step, steps, config.momentum, 1.0), buffers="keep")
            with precision, torch.no_grad():
                k1, k2 = target(x).chunk(2)
            ctr = partial(co.info_nce, temperature=config.temperature)
            loss = 2 * config.temperature * (ctr(q1, k2) + ctr(q2, k1))
            lr = co.cosine_schedule(step, steps, config.lr, 0.0, warmup_steps=config.warmup * steps)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)

            step += 1
            monitor.update(q1, loss)
            spikes.update(*rt.first_and_last_layer(net))
            log.train(step, {"loss": loss, "lr": lr, **rt.health(net, q1)}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", images, [x1, x2])
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            values = {"epoch": epoch + 1, "knn": evaluation.knn(encoder)}
        log.evaluate(step, values, warnings=[*monitor.report(), *spikes.report()])
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        rt.finish("moco_v3", encoder, evaluation, log, monitor, spikes=spikes)


if __name__ == "__main__":
    rt.launch(main, rt.parse("moco_v3", PRESETS))
