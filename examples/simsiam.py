"""SimSiam: two views of an image predict each other, held up by a stop-gradient alone (Chen, He, 2021).

    z1, z2 = g(f(x1)), g(f(x2))                                 # encoder f, projector g, on each view by itself
    p1, p2 = h(z1), h(z2)                                       # predictor h, a bottleneck
    loss = D(p1, sg(z2)) / 2 + D(p2, sg(z1)) / 2                # D(p, z) = -cos(p, z); sg stops the gradient
    loss.backward(); update(f, g, h)                            # h with a learning rate that stays

"Exploring Simple Siamese Representation Learning", algorithm 1. BN takes its statistics over all ranks, of one view
at a time. The switches are its ablations; --no-stop-gradient and --predictor none collapse; the log says so.

    python examples/simsiam.py                                          # the embedded digits, minutes on a CPU
    torchrun --nproc-per-node 2 examples/simsiam.py
    torchrun --nproc-per-node 8 examples/simsiam.py --preset paper --data folder:/path/to/imagenet
"""

from __future__ import annotations

import copy
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import _runtime as rt
import torch
from torch import Tensor, nn

import contrastive_ops as co


@dataclass(frozen=True)
class Config(rt.CommonConfig):
    """SimSiam's own numbers; the defaults are the preset digits."""

    epochs: int = 100  # passes over the training images
    lr: float = 0.1  # the peak learning rate
    views: Literal["digits", "digits-v2", "moco-v2", "none"] = "digits-v2"  # the recipe of augmentation
    dim: int = 256  # width of the embedding
    hidden_dim: int = 1024  # width inside the projector
    bottleneck_dim: int = 2048  # width inside the predictor; in the paper a bottleneck
    weight_decay: float = 5e-4  # of all parameters
    warmup: float = 0.05  # part of the run in which the learning rate rises from 0
    stop_gradient: bool = True  # off: targets are trained too, by the cosine; should collapse
    predictor: Literal["mlp", "fixed", "none"] = "mlp"  # fixed: random weights that stay; none should collapse
    predictor_lr: Literal["constant", "decayed"] = "constant"  # decayed: as all others
    symmetric: bool = True  # off: the first view predicts the second, and not the reverse
    similarity: Literal["cosine", "cross-entropy"] = "cosine"  # cross-entropy: of softmaxes over channels
    norms: Literal["none", "hidden", "default", "all"] = "default"  # where the heads have BN; all: at every end
    alternation: int = 1  # k: targets of k steps come from the weights at the first of them


DIGITS = Config()
PAPER = replace(
    DIGITS, data="folder:imagenet", views="moco-v2", encoder="resnet50-zero-init", image_size=224, epochs=100,
    batch_size=512, lr=0.1, dim=2048, hidden_dim=2048, bottleneck_dim=512, weight_decay=1e-4, warmup=0.0, workers=16,
)  # fmt: skip
DISTANCES = {"cosine": co.stop_grad_cosine, "cross-entropy": co.stop_grad_cross_entropy}
PRESETS = {"digits": DIGITS, "paper": PAPER}


class SimSiam(nn.Sequential):
    """Encoder, projector, predictor; returns what the last two make of images."""

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        z = self.projector(self.encoder(x))
        return self.predictor(z).float(), z.float()


def main(run: rt.Run, config: Config) -> None:  # noqa: PLR0915 (the method from top to bottom)
    """Builds the network, trains, evaluates each epoch, and leaves a run folder."""
    folder = rt.start_folder(config, run)
    train, test = rt.load_images(config, run)
    evaluation = rt.Evaluation(train, test, config, run)
    views = partial(rt.VIEW_PAIRS[config.views], size=config.image_size)
    distance = DISTANCES[config.similarity] if config.stop_gradient else rt.cosine_of_trained

    torch.manual_seed(config.seed)  # the same weights on every rank
    encoder = rt.create_encoder(config.encoder, compiled=config.compile)
    widths = (encoder.num_features, config.hidden_dim, config.dim, config.bottleneck_dim)
    projector, predictor = rt.simsiam_heads(*widths, norms=config.norms, predictor=config.predictor)
    net = SimSiam(OrderedDict(encoder=encoder, projector=projector, predictor=predictor))
    net = rt.synchronise_norms(net.to(run.device, memory_format=torch.channels_last), run, views=2)
    model = rt.distribute(net, run)
    frozen = copy.deepcopy(net).requires_grad_(False) if config.alternation > 1 else None

    constant = {"params": predictor.parameters(), "constant_lr": config.predictor_lr == "constant"}
    groups = [{"params": [*encoder.parameters(), *projector.parameters()]}, constant]
    optimizer = rt.OPTIMIZERS["sgd"](groups, lr=config.lr, weight_decay=config.weight_decay)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(encoder, config.ema_decay)
    monitor = co.CollapseMonitor(config.dim, floor_loss=-1.0, floor_name="-1", low_std=0.6).to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"net": net, "frozen": frozen, "optimizer": optimizer, "scaler": scaler, "averaged": averaged}
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
            if frozen is not None and step % config.alternation == 0:
                co.momentum_update(net, frozen, 0.0)
            x = torch.cat([x1, x2])
            with precision:
                p, z = model(x)
                z = z if frozen is None else frozen(x)[1]
            log.require_finite(step + 1, z)
            (p1, p2), (z1, z2) = p.chunk(2), z.chunk(2)
            loss = distance(p1, z2)
            loss = (loss + distance(p2, z1)) / 2 if config.symmetric else loss
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
        rt.finish("simsiam", encoder, evaluation, log, monitor)


if __name__ == "__main__":
    rt.launch(main, rt.parse("simsiam", PRESETS))
