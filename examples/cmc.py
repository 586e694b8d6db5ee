"""CMC: what an image is in one modality tells what it is in another (Tian, Krishnan, Isola, 2019).

    x_m = modality m of view(image), m = l, ab, gradient      # lightness, colour, edges; an encoder f_m for each
    z_m = normalize(g_m(f_m(x_m)))
    for each pair (a, b), both ways:                          # all pairs (full graph) or those with the first (core)
        loss += cross_entropy(z_a . z_b of all images / T, target=own image)                         # --loss softmax
        loss += nce(z_a . bank_b[own image and K random ones] / T, own image, Z_ab)                  # --loss nce
    loss.backward(); update(f, g)
    bank_m[image] = normalize(0.5 * bank_m[image] + 0.5 * z_m)                                       # nce only

"Contrastive Multiview Coding", equations 3, 6 and 7. A view is scored against the other's bank, never its own; the
random entries are the same for all pairs. What is evaluated are the features f_m side by side, and each alone.
The paper shows one crop in all modalities and leaves its colours alone. On the digits each has a crop and colours of
its own, and Z follows the network (see instdisc.py). BN takes its statistics over all ranks here.

    python examples/cmc.py                                              # the embedded digits, minutes on a CPU
    python examples/cmc.py --loss nce --graph core --modalities l ab
    torchrun --nproc-per-node 8 examples/cmc.py --preset paper --data folder:/path/to/imagenet
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import _runtime as rt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import contrastive_ops as co


@dataclass(frozen=True)
class Config(rt.CommonConfig):
    """CMC's own numbers; the defaults are the preset digits."""

    epochs: int = 35  # passes over the training images
    batch_size: int = 128  # images a step, over all ranks together
    lr: float = 2e-3  # the peak learning rate
    views: Literal["digits", "cmc", "none"] = "digits"  # the recipe of augmentation
    own_view: bool = True  # each modality shows a view of its own; else one view of the image shows in all
    modalities: tuple[Literal["l", "ab", "gradient"], ...] = ("l", "ab", "gradient")  # the first is the core
    graph: Literal["core", "full"] = "full"  # pairs with the first modality, or all pairs
    loss: Literal["nce", "softmax"] = "softmax"  # against noise from the banks, or against the batch
    dim: int = 128  # width of the embeddings
    temperature: float = 0.1  # T of the loss
    noise: int = 128  # K, entries of the banks drawn for each image (nce)
    bank_momentum: float = 0.5  # of an entry when its image comes again (nce)
    partition_momentum: float = 0.9  # of Z, which follows the network; 1 keeps the first batch's (nce)
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd with momentum 0.9
    weight_decay: float = 1e-2  # of all parameters
    schedule: Literal["cosine", "sixths"] = "cosine"  # to 0, or a tenth at 3/6, 4/6 and 5/6 of the run
    warmup: float = 0.05  # part of the run in which the learning rate rises from 0


PAPER = Config(
    data="folder:imagenet", views="cmc", own_view=False, modalities=("l", "ab"), encoder="resnet50",
    image_size=224, epochs=240, batch_size=128, lr=0.03, loss="nce", noise=16384, partition_momentum=1.0,
    temperature=0.07, optimizer="sgd", weight_decay=1e-4, schedule="sixths", warmup=0.0, workers=16,
)  # fmt: skip
PRESETS = {"digits": Config(), "paper": PAPER}


class Network(nn.Module):
    """The encoders and a linear head behind each: a unit embedding of every modality."""

    def __init__(self, encoder: rt.Modalities, dim: int) -> None:
        super().__init__()
        self.encoder = encoder
        self.heads = nn.ModuleList(co.projection_mlp(w, dim, dim, num_layers=1) for w in encoder.widths)

    def forward(self, x: list[Tensor]) -> list[Tensor]:
        return [F.normalize(g(h).float()) for g, h in zip(self.heads, self.encoder.features(x), strict=True)]


def main(run: rt.Run, config: Config) -> None:
    """Builds the networks, trains, evaluates each epoch, and leaves a run folder."""
    folder = rt.start_folder(config, run)
    train, test = rt.load_images(config, run)
    evaluation = rt.Evaluation(train, test, config, run)

    torch.manual_seed(config.seed)  # the same weights on every rank
    encoder = rt.create_modalities(config.modalities, config.encoder, compiled=config.compile)
    net = Network(encoder, config.dim).to(run.device, memory_format=torch.channels_last)
    model = rt.distribute(rt.synchronise_norms(net, run), run)

    optimizer = rt.OPTIMIZERS[config.optimizer](net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(encoder, config.ema_decay)
    nce, count = config.loss == "nce", len(config.modalities)
    momenta = {"momentum": config.bank_momentum, "partition_momentum": config.partition_momentum}
    memory = rt.CrossBanks(len(train), config.dim, count, **momenta).to(run.device) if nce else None
    chance = rt.chance_of_pairs(count, config.graph, rows=config.batch_size, noise=config.noise if nce else 0)
    monitor = co.CollapseMonitor(config.dim, chance_loss=chance).to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"net": net, "memory": memory, "optimizer": optimizer, "scaler": scaler, "averaged": averaged}
    checkpoints = rt.Checkpoints(config, run, {**parts, "monitor": monitor}, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, encoder, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, _, index in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            images = rt.to_float(pixels)
            x = encoder.views(images, config.views, size=config.image_size, own=config.own_view, generator=generator)
            with precision:
                z = model(x)
            log.require_finite(step + 1, torch.cat(z))
            if memory:
                noise = memory.sample(len(images), config.noise, generator=generator)
                loss = memory(z, index, noise, temperature=config.temperature, graph=config.graph)
            else:
                loss = co.cmc_loss(z, temperature=config.temperature, graph=config.graph)
            lr = rt.SCHEDULES[config.schedule](step, steps, config.lr, warmup_steps=config.warmup * steps)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)
            if memory:
                memory.update(index, z)

            step += 1
            monitor.update(z[0], loss)
            log.train(step, {"loss": loss, "lr": lr, **rt.health(net, z[0])}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", images, x)
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            log.evaluate(step, {"epoch": epoch + 1, **encoder.knn(evaluation)}, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        rt.finish_modalities("cmc", encoder, evaluation, log, monitor)


if __name__ == "__main__":
    rt.launch(main, rt.parse("cmc", PRESETS))
