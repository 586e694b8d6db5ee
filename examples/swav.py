"""SwAV: predict, from one crop of an image, the prototypes that another is assigned to (Caron et al., 2020).

    C = normalize(C)                                        # prototypes, back to length 1 before every step
    z = normalize(g(f(x))), s = z . C                       # all crops x of the images; one pass for each size
    for each large crop i:
        q_i = sinkhorn([queue_i . C, s_i] / epsilon)[-B:]   # all ranks' rows use the prototypes evenly; no gradient
        enqueue(queue_i, z_i)                               # with small batches: late in training, and used once full
    loss = mean over i and crops v other than i of cross_entropy(s_v / T, target=q_i)
    loss.backward(); update(f, g, C)                        # C stays as it is in the first epochs

"Unsupervised Learning of Visual Features by Contrasting Cluster Assignments", algorithm 1 and section 3.2, in the
order of the official code. Each rank has queues of its own; BN takes its statistics over all ranks, for each size of
crop by itself.

    python examples/swav.py                                             # the embedded digits, minutes on a CPU
    torchrun --nproc-per-node 2 examples/swav.py
    torchrun --nproc-per-node 64 examples/swav.py --preset paper --data folder:/path/to/imagenet
    python examples/swav.py --no-sinkhorn                               # a negative control; see what the log says
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import _runtime as rt
import torch

import contrastive_ops as co


@dataclass(frozen=True)
class Config(rt.CommonConfig):
    """SwAV's own numbers; the defaults are the preset digits."""

    epochs: int = 50  # passes over the training images
    batch_size: int = 32  # images a step, over all ranks together
    lr: float = 0.07  # the peak learning rate; it falls to a thousandth
    views: Literal["digits", "swav", "none"] = "digits"  # the recipe of augmentation
    crops: tuple[int, int] = (2, 0)  # large ones, which are assigned and predict, and small ones, which only predict
    small_size: int = 16  # height and width of the small crops
    dim: int = 32  # width of the embedding; below P, or embeddings can flee all prototypes
    hidden_dim: int = 1024  # width inside the head
    prototypes: int = 256  # P
    freeze_epochs: int = 40  # epochs in which prototypes stay where they started; sooner, they gather
    sinkhorn: bool = True  # off: the softmax of a row's own scores is its assignment; should fail
    epsilon: float = 0.03  # by which scores are divided for the assignments
    temperature: float = 0.3  # T of the loss; large here, since views hardly agree at first
    queue_size: int = 256  # rows of earlier batches, over all ranks, beside each large crop's; 0: none
    queue_epoch: int = 1  # the first epoch that fills the queues
    optimizer: Literal["sgd", "lars", "adamw"] = "sgd"  # of timm; sgd with Nesterov's momentum
    weight_decay: float = 5e-4  # of all parameters
    warmup: float = 0.05  # part of the run in which the learning rate rises, from a sixteenth


DIGITS = Config()
PAPER = replace(
    DIGITS, data="folder:imagenet", views="swav", crops=(2, 6), small_size=96, encoder="resnet50", image_size=224,
    epochs=800, batch_size=4096, lr=4.8, dim=128, hidden_dim=2048, prototypes=3000, freeze_epochs=1, epsilon=0.05,
    temperature=0.1, queue_size=0, queue_epoch=15, optimizer="lars", weight_decay=1e-6, warmup=10 / 800, workers=16,
)  # fmt: skip
PAPER_256 = replace(PAPER, epochs=200, batch_size=256, lr=0.6, queue_size=3840, warmup=0.0)
PRESETS = {"digits": DIGITS, "paper": PAPER, "paper-256": PAPER_256}


def main(run: rt.Run, config: Config) -> None:  # noqa: PLR0915 (the method from top to bottom)
    """Builds the network and its queues, trains, evaluates each epoch, and leaves a run folder."""
    folder = rt.start_folder(config, run)
    train, test = rt.load_images(config, run)
    evaluation = rt.Evaluation(train, test, config, run)
    view = rt.crops_of(config.views, sizes=(config.image_size, config.small_size), counts=config.crops)

    torch.manual_seed(config.seed)  # the same weights on every rank
    encoder = rt.create_encoder(config.encoder, compiled=config.compile)
    head = co.projection_mlp(encoder.num_features, config.hidden_dim, config.dim)
    net = rt.PrototypeNetwork(encoder, head, co.Prototypes(config.dim, config.prototypes))
    net = net.to(run.device, memory_format=torch.channels_last)
    model = rt.distribute(rt.synchronise_norms(net, run), run)
    queues = rt.RankQueues(config.crops[0], config.queue_size, config.dim, run)

    rates = {"lr": config.lr, "weight_decay": config.weight_decay}
    optimizer = rt.create_optimizer(config.optimizer, net, **rates, decay_all=True)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(encoder, config.ema_decay)
    chance = math.log(config.prototypes)
    monitor = co.CollapseMonitor(config.dim, chance_loss=chance, chance_name="ln P", floor_loss=0.0).to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"net": net, "queues": queues, "optimizer": optimizer, "scaler": scaler}
    checkpoints = rt.Checkpoints(config, run, {**parts, "averaged": averaged, "monitor": monitor}, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, encoder, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, _, _ in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            images = rt.to_float(pixels)
            x = view(images, generator=generator)
            net.prototypes.normalize_()
            with precision:
                z, scores = model(x)
            log.require_finite(step + 1, torch.cat(z))
            q = []
            for i in range(config.crops[0]):  # the large crops
                earlier = queues.exchange(i, z[i], begun=epoch >= config.queue_epoch)
                s = torch.cat([net.prototypes(earlier), scores[i]]).detach()
                q_i = co.sinkhorn(s, epsilon=config.epsilon) if config.sinkhorn else (s / config.epsilon).softmax(1)
                q.append(q_i[len(earlier) :])
            loss = co.swapped_prediction(scores, q, temperature=config.temperature)
            rise = {"warmup_steps": config.warmup * steps, "warmup_start": config.lr / 16}
            lr = co.cosine_schedule(step, steps, config.lr, config.lr / 1000, **rise)
            rt.backward(loss, optimizer, scaler)
            if step < config.freeze_epochs * epoch_steps:
                net.prototypes.weight.grad = None
            rt.apply(optimizer, scaler, lr=lr, averaged=averaged)

            step += 1
            monitor.update(z[0], loss)
            log.train(step, {"loss": loss, "lr": lr, **rt.health(net, z[0])}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", images, x)
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            values = {"epoch": epoch + 1, "knn": evaluation.knn(encoder)}
        log.evaluate(step, values, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        rt.finish("swav", encoder, evaluation, log, monitor)


if __name__ == "__main__":
    rt.launch(main, rt.parse("swav", PRESETS))
