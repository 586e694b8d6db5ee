"""MoCo v1 and v2: a queue of keys from a slowly moving encoder as negatives (He et al., 2020; Chen et al., 2020).

    x_q, x_k = view(x), view(x)                               # two random views of each image
    q = normalize(f_q(x_q))                                   # queries
    f_k = m * f_k + (1 - m) * f_q                             # momentum update, before the keys
    k = normalize(unshuffle(f_k(shuffle(x_k))))               # keys; shuffled, so that BN cannot leak the answer
    loss = cross_entropy([q . k, q . queue] / T, target=0)    # the queue holds the keys of earlier batches
    loss.backward(); update(f_q); enqueue(queue, k)

"Momentum Contrast for Unsupervised Visual Representation Learning", algorithm 1, and "Improved Baselines with Momentum
Contrastive Learning". Their official code fixes the order above, and starts from a queue of random rows instead of an
empty one. Across ranks shuffling exchanges images; on one rank
BN takes statistics of `bn_splits` parts of the batch, as if each were a rank's.

    python examples/moco.py                                             # the embedded digits, minutes on a CPU
    torchrun --nproc-per-node 2 examples/moco.py --preset v1
    torchrun --nproc-per-node 8 examples/moco.py --preset paper --data folder:/path/to/imagenet
    python examples/moco.py --no-stop-gradient --momentum 0             # negative controls; see what the log says
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
import torch.nn.functional as F
from torch import nn

import contrastive_ops as co


@dataclass(frozen=True)
class Config(rt.CommonConfig):
    """MoCo's own numbers; the defaults are the preset v2."""

    views: Literal["digits-v1", "digits-v2", "moco-v1", "moco-v2"] = "digits-v2"  # the recipe of augmentation
    dim: int = 128  # width of queries and keys
    hidden_dim: int = 256  # width inside the MLP head
    head_layers: int = 2  # 1: the linear head of v1; 2: the MLP of v2
    queue_size: int = 512  # keys held as negatives
    momentum: float = 0.99  # m of the key encoder; 0 copies the query encoder and should fail
    temperature: float = 0.2  # T of the loss
    weight_decay: float = 5e-4  # of all parameters
    schedule: Literal["cosine", "step"] = "cosine"  # cosine to 0, or a tenth at 60 % and at 80 % of the run
    warmup: float = 0.08  # part of the run in which the learning rate rises from 0, so that embeddings spread at first
    bn_splits: int = 2  # parts of the batch with BN statistics of their own, when there is one rank
    stop_gradient: bool = True  # off: keys pass gradients into their encoder, which is trained too; should fail


V2 = Config()
V1 = replace(V2, views="digits-v1", head_layers=1, temperature=0.07, schedule="step", epochs=40)
PAPER_V2 = replace(
    V2, data="folder:imagenet", views="moco-v2", encoder="resnet50", image_size=224, epochs=200, batch_size=256,
    lr=0.03, hidden_dim=2048, queue_size=65536, momentum=0.999, weight_decay=1e-4, warmup=0.0, bn_splits=8, workers=16,
)  # fmt: skip
PAPER_V1 = replace(PAPER_V2, views="moco-v1", head_layers=1, temperature=0.07, schedule="step")
PRESETS = {"digits": V2, "v2": V2, "v1": V1, "paper": PAPER_V2, "paper-v2": PAPER_V2, "paper-v1": PAPER_V1}


def main(run: rt.Run, config: Config) -> None:  # noqa: PLR0915 (the method from top to bottom)
    """Builds the networks and the queue, trains, evaluates each epoch, and leaves a run folder."""
    folder = rt.start_folder(config, run)
    train, test = rt.load_images(config, run)
    evaluation = rt.Evaluation(train, test, config, run)
    view = partial(rt.VIEWS[config.views], size=config.image_size)

    torch.manual_seed(config.seed)  # the same weights on every rank
    encoder = rt.create_encoder(config.encoder, norm_splits=config.bn_splits if run.world_size == 1 else 1)
    head = co.projection_mlp(
        encoder.num_features, config.hidden_dim, config.dim, num_layers=config.head_layers, norm=None
    )
    online = nn.Sequential(OrderedDict(encoder=encoder, head=head)).to(run.device, memory_format=torch.channels_last)
    target = copy.deepcopy(online).requires_grad_(not config.stop_gradient)
    queue = co.NegativeQueue(config.queue_size, config.dim).to(run.device)
    if config.compile:
        online.encoder.compile(), target.encoder.compile()
    f_q, f_k = rt.distribute(online, run), rt.distribute(target, run)

    trained = [p for p in (*online.parameters(), *target.parameters()) if p.requires_grad]
    optimizer = rt.OPTIMIZERS["sgd"](trained, lr=config.lr, weight_decay=config.weight_decay)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(encoder, config.ema_decay)
    chance = math.log1p(config.queue_size)
    monitor = co.CollapseMonitor(config.dim, chance_loss=chance, chance_name="ln(1+K)", floor_loss=0.0).to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"online": online, "target": target, "queue": queue, "optimizer": optimizer, "scaler": scaler}
    checkpoints = rt.Checkpoints(config, run, {**parts, "averaged": averaged, "monitor": monitor}, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, encoder, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, _, _ in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            images = rt.to_float(pixels)
            x_q, x_k = view(images, generator=generator), view(images, generator=generator)
            with precision:
                q = F.normalize(f_q(x_q).float())
            log.require_finite(step + 1, q)
            co.momentum_update(online, target, config.momentum, buffers="keep")
            with precision, torch.set_grad_enabled(not config.stop_gradient):
                shuffled, places = co.shuffle_bn(x_k, generator=generator)
                k = F.normalize(co.unshuffle_bn(f_k(shuffled), places).float())
            negatives = queue.keys[: queue.num_filled]  # real keys only: an encoder soon learns to flee random rows
            loss = co.info_nce(q, k, negatives, temperature=config.temperature, normalize=False)
            lr = rt.SCHEDULES[config.schedule](step, steps, config.lr, warmup_steps=config.warmup * steps)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)
            queue.enqueue(k.detach())

            step += 1
            monitor.update(k, loss)
            log.train(step, {"loss": loss, "lr": lr, **rt.health(online, q)}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", images, [x_q, x_k])
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            values = {"epoch": epoch + 1, "knn": evaluation.knn(encoder)}
        log.evaluate(step, values, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        rt.finish("moco", encoder, evaluation, log, monitor)


if __name__ == "__main__":
    rt.launch(main, rt.parse("moco", PRESETS))
