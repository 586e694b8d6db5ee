"""BYOL: predict what a slowly moving average of oneself makes of another view (Grill et al., 2020).

    x1, x2 = view1(x), view2(x)                                 # blurred always; blurred rarely, solarised at times
    p1, p2 = q(g(f(x1))), q(g(f(x2)))                           # online: encoder f, projector g, predictor q
    z1, z2 = g'(f'(x1)), g'(f'(x2))                             # target: no predictor, no gradient
    loss = D(p1, z2) + D(p2, z1)                                # D(p, z) = 2 - 2 cos(p, z)
    loss.backward(); update(f, g, q)
    f', g' = m * (f', g') + (1 - m) * (f, g)                    # after the step; m rises to 1

"Bootstrap Your Own Latent: A New Approach to Self-Supervised Learning", section 3. BN takes its statistics over all
ranks, of one view at a time, and the target's statistics are its own. The target starts as a copy of the online
network; the authors' code draws it anew and reports no difference.

    python examples/byol.py                                             # the embedded digits, minutes on a CPU
    torchrun --nproc-per-node 2 examples/byol.py
    torchrun --nproc-per-node 8 examples/byol.py --preset paper --data folder:/path/to/imagenet
    python examples/byol.py --no-predictor                              # a negative control; see what the log says
"""

from __future__ import annotations

import copy
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
    """BYOL's own numbers; the defaults are the preset digits."""

    epochs: int = 100  # passes over the training images
    lr: float = 0.1  # the peak learning rate
    views: Literal["digits", "digits-v2", "byol", "none"] = "digits-v2"  # the recipe of augmentation
    dim: int = 256  # width of projections
    hidden_dim: int = 2048  # width inside projector and predictor
    last_norm: bool = True  # BN without scale and shift behind the projector too, which the paper has not
    predictor: bool = True  # off: projections are compared as they are; should collapse
    momentum: float = 0.9  # m at the start; it rises to 1 in half a cosine
    optimizer: Literal["sgd", "adamw", "lars"] = "sgd"  # of timm
    weight_decay: float = 5e-4  # of all parameters but biases and norms
    warmup: float = 0.05  # part of the run in which the learning rate rises from 0


DIGITS = Config()
PAPER = replace(
    DIGITS, data="folder:imagenet", views="byol", encoder="resnet50", image_size=224, epochs=300, batch_size=4096,
    lr=4.8, hidden_dim=4096, last_norm=False, momentum=0.99, optimizer="lars", weight_decay=1e-6, warmup=10 / 300,
    workers=16,
)  # fmt: skip
PRESETS = {"digits": DIGITS, "paper": PAPER}


def main(run: rt.Run, config: Config) -> None:
    """Builds the networks, trains, evaluates each epoch, and leaves a run folder."""
    folder = rt.start_folder(config, run)
    train, test = rt.load_images(config, run)
    evaluation = rt.Evaluation(train, test, config, run)
    views = partial(rt.VIEW_PAIRS[config.views], size=config.image_size)

    torch.manual_seed(config.seed)  # the same weights on every rank
    encoder = rt.create_encoder(config.encoder, compiled=config.compile)
    widths, norm = (encoder.num_features, config.hidden_dim, config.dim), partial(nn.BatchNorm1d, affine=False)
    projector = co.projection_mlp(*widths, last_bias=False, last_norm=norm if config.last_norm else None)
    predictor = co.prediction_mlp(config.dim, config.hidden_dim, bias=True, last_bias=False)
    network = nn.Sequential(OrderedDict(encoder=encoder, projector=projector))
    online = nn.Sequential(OrderedDict(network=network, predictor=predictor if config.predictor else nn.Identity()))
    online = rt.synchronise_norms(online.to(run.device, memory_format=torch.channels_last), run, views=2)
    target = copy.deepcopy(network).requires_grad_(False)
    model = rt.distribute(online, run)

    optimizer = rt.create_optimizer(config.optimizer, online, lr=config.lr, weight_decay=config.weight_decay)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(encoder, config.ema_decay)
    monitor = co.CollapseMonitor(config.dim, floor_loss=0.0, floor_name="0", low_std=0.6).to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"online": online, "target": target, "optimizer": optimizer, "scaler": scaler, "averaged": averaged}
    checkpoints = rt.Checkpoints(config, run, {**parts, "monitor": monitor}, generator)
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
                p1, p2 = model(x).float().chunk(2)
                with torch.no_grad():
                    z1, z2 = target(x).float().chunk(2)
            log.require_finite(step + 1, p1)
            loss = co.byol_loss(p1, z2) + co.byol_loss(p2, z1)
            lr = co.cosine_schedule(step, steps, config.lr, 0.0, warmup_steps=config.warmup * steps)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)
            momentum = co.cosine_schedule(step, steps, config.momentum, 1.0)
            co.momentum_update(network, target, momentum, buffers="keep")

            step += 1
            monitor.update(z1, loss)
            log.train(step, {"loss": loss, "lr": lr, "m": momentum, **rt.health(online, z1)}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", images, [x1, x2])
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            log.evaluate(step, {"epoch": epoch + 1, "knn": evaluation.knn(encoder)}, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        rt.finish("byol", encoder, evaluation, log, monitor)


if __name__ == "__main__":
    rt.launch(main, rt.parse("byol", PRESETS))
