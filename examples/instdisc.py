"""InstDisc: each image a class of its own, told apart by a memory bank of embeddings (Wu, Xiong, Yu, Lin, 2018).

    v = normalize(g(f(view(x))))                              # one view of each image; encoder f, linear head g
    m, noise = bank[index of x], K random entries of the bank for each image
    Z = n * mean exp(v . noise / T)                           # from the first batch, a constant from then on
    P(b) = exp(v . b / T) / Z;  h(b) = P(b) / (P(b) + K / n)  # is b the entry of x, or noise?
    loss = -log h(m) - sum over the noise of log(1 - h(b)) + lambda * |v - m|^2
    loss.backward(); update(f, g)
    bank[index of x] = normalize(0.5 * m + 0.5 * v)           # v from before the update

"Unsupervised Feature Learning via Non-Parametric Instance Discrimination", equations 4 to 9; `--loss softmax`, over
all entries, is the authors' for CIFAR-10. Noise is each rank's own. On the digits a constant Z taught nothing.

    python examples/instdisc.py                                         # the embedded digits, minutes on a CPU
    torchrun --nproc-per-node 8 examples/instdisc.py --preset paper --data folder:/path/to/imagenet
    python examples/instdisc.py --preset paper-cifar --data cifar10:/path/to/cifar-10-python.tar.gz
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import _runtime as rt
import torch
import torch.nn.functional as F
from torch import nn

import contrastive_ops as co


@dataclass(frozen=True)
class Config(rt.CommonConfig):
    """InstDisc's own numbers; the defaults are the preset digits."""

    epochs: int = 80  # passes over the training images; an image is compared with itself once in each
    batch_size: int = 64  # images a step, over all ranks together
    lr: float = 2e-3  # the peak learning rate
    views: Literal["digits-v1", "digits-v2", "moco-v1", "instdisc-cifar"] = "digits-v2"  # the recipe of augmentation
    dim: int = 128  # width of the embedding
    loss: Literal["nce", "softmax"] = "nce"  # against noise from the bank, or against all of the bank
    noise: int = 512  # K, entries of the bank drawn for each image (nce)
    temperature: float = 0.1  # T of the loss
    bank_momentum: float = 0.5  # of an entry when its image comes again; 0 replaces it
    partition_momentum: float = 0.9  # of Z, which follows the network; 1 keeps the first batch's, as in the paper
    proximal: float = (
        0.0  # lambda; 30 in the paper, 0 in the authors' code, where the bank's momentum stands in for it
    )
    optimizer: Literal["adamw", "sgd"] = "adamw"  # sgd with momentum 0.9
    weight_decay: float = 1e-2  # of all parameters
    schedule: Literal["cosine", "step"] = "cosine"  # cosine to 0, or a tenth at 60 % and at 80 % of the run
    warmup: float = 0.05  # part of the run in which the learning rate rises from 0


PAPER = Config(
    data="folder:imagenet", views="moco-v1", encoder="resnet50", image_size=224, epochs=200, batch_size=256,
    lr=0.03, noise=4096, partition_momentum=1.0, temperature=0.07, optimizer="sgd", weight_decay=1e-4,
    schedule="step", warmup=0.0, workers=16,
)  # fmt: skip
PAPER_CIFAR = replace(
    PAPER, data="cifar10:cifar-10-python.tar.gz", views="instdisc-cifar", encoder="resnet18", image_size=128,
    batch_size=128, loss="softmax", temperature=0.1, weight_decay=5e-4, workers=4,
)  # fmt: skip
PRESETS = {"digits": Config(), "paper": PAPER, "paper-cifar": PAPER_CIFAR}


def main(run: rt.Run, config: Config) -> None:  # noqa: PLR0915 (the method from top to bottom)
    """Builds the network and the bank, trains, evaluates each epoch, and leaves a run folder."""
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
    k, n = config.noise, len(train)
    bank = co.MemoryBank(n, config.dim, momentum=config.bank_momentum).to(run.device)
    partition = co.NCEPartition(n, momentum=config.partition_momentum).to(run.device)
    chance = math.log1p(k) + k * math.log1p(1 / k) if config.loss == "nce" else math.log(n)  # where P = 1/n
    monitor = co.CollapseMonitor(config.dim, chance_loss=chance).to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"net": net, "bank": bank, "partition": partition, "optimizer": optimizer, "scaler": scaler}
    checkpoints = rt.Checkpoints(config, run, {**parts, "averaged": averaged, "monitor": monitor}, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, encoder, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, _, index in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            images = rt.to_float(pixels)
            x = view(images, generator=generator)
            with precision:
                v = F.normalize(model(x).float())
            log.require_finite(step + 1, v)
            entry = bank.lookup(index)
            if config.loss == "nce":
                noise = bank.lookup(bank.sample(len(v), k, generator=generator))
                partition.update(noise @ v.detach().unsqueeze(2) / config.temperature)
                log_z = partition.log_partition
                loss = co.nce_loss(v, entry, noise, temperature=config.temperature, log_partition=log_z, num_data=n)
            else:
                own = index.unsqueeze(1) == torch.arange(n, device=run.device)
                loss = co.info_nce(v, entry, bank.entries, mask=own, temperature=config.temperature, normalize=False)
            loss = loss + config.proximal * co.byol_loss(v, entry)  # 2 - 2 cos is the squared distance of unit rows
            lr = rt.SCHEDULES[config.schedule](step, steps, config.lr, warmup_steps=config.warmup * steps)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)
            bank.update(index, v.detach())

            step += 1
            monitor.update(v, loss)
            log.train(step, {"loss": loss, "lr": lr, **rt.health(net, v)}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", images, [x])
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            values = {"epoch": epoch + 1, "knn": evaluation.knn(encoder)}
        log.evaluate(step, values, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        rt.finish("instdisc", encoder, evaluation, log, monitor)


if __name__ == "__main__":
    rt.launch(main, rt.parse("instdisc", PRESETS))
