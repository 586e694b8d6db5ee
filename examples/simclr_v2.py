"""SimCLR v2: few labels go a long way after pre-training (Chen, Kornblith, Swersky, Norouzi, Hinton, 2020).

    pretrain:  z = normalize(g(f(concat(view(images), view(images)))))   # SimCLR; the head g has three layers
               loss = NT-Xent(z, T)                                      # memory: more negatives, from an average net
    finetune:  p = W relu(norm(g_1(f(x))))                               # from the head's first layer on; W from 0
               loss = cross_entropy(p, label)                            # 1 % or 10 % of the labels, class-balanced
    distil:    loss = -sum over classes of softmax(teacher(x) / T) log softmax(student(x) / T)   # all images, no label
               # the teacher is the fine-tuned network, which stays as it is; both see the same crop

"Big Self-Supervised Models are Strong Semi-Supervised Learners", section 2, equations 1 and 2. The memory is in the
paper and not in the released code; here it holds the average network's keys of one view, as in MoCo. Our student has
no layer of the head, starts at random, and may be smaller (`--student`). The run folder holds the pre-training; each
later stage has a run folder of its own inside. `alone` is the same network trained on those labels from random
weights. Pixels are normalised here, and not in the paper, whose later stages only crop and flip; the digits' colours
change there too, since they tell nothing. `--max-steps` counts the steps of a stage.

    python examples/simclr_v2.py                                        # all stages on the embedded digits
    python examples/simclr_v2.py --stage pretrain                       # the same as three commands
    python examples/simclr_v2.py --stage finetune --resume
    python examples/simclr_v2.py --stage distil --resume
    torchrun --nproc-per-node 8 examples/simclr_v2.py --preset paper --data folder:/path/to/imagenet
"""

from __future__ import annotations

import copy
import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Literal

import _runtime as rt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import contrastive_ops as co


@dataclass(frozen=True)
class Config(rt.CommonConfig):
    """SimCLR v2's own numbers; the defaults are the preset digits. Epochs, batch size and lr: of the pre-training."""

    stage: Literal["all", "pretrain", "finetune", "distil"] = "all"  # what to run; finetune and distil need the former
    epochs: int = 45  # passes over the training images
    batch_size: int = 128  # images a step, over all ranks together; twice as many rows
    lr: float = 2e-3  # the peak learning rate, also of distillation
    views: Literal["digits-v2", "simclr", "none"] = "digits-v2"  # the recipe of augmentation
    dim: int = 128  # width of the embedding
    hidden_dim: int = 256  # width inside the head
    temperature: float = 0.2  # T of NT-Xent
    memory: int = 0  # keys of an average network that are further negatives
    momentum: float = 0.999  # of that average
    optimizer: Literal["adamw", "lars"] = "adamw"  # of timm
    weight_decay: float = 1e-2  # of all parameters but biases and norms; none in fine-tuning
    warmup: float = 0.05  # part of the pre-training in which the learning rate rises from 0
    labels: tuple[float, ...] = (0.01, 0.1)  # the parts of the labels to learn from, each in turn
    augment: Literal["digits-crop", "digits-v2", "crop-flip", "none"] = "digits-v2"  # in the later stages
    finetune_epochs: tuple[int, ...] = (150, 40)  # passes over the labelled images, for each part; also alone
    finetune_batch_size: int = 32  # labelled images a step
    finetune_lr: float = 1e-3  # without warm-up
    alone_lr: float = 2e-3  # of training alone, with the pre-training's warm-up and weight decay
    distil_epochs: int = 20  # passes over all images
    distil_temperature: float = 1.0  # T of distillation: 0.1 to the same network, 1 to a smaller one in the paper
    student: str = ""  # the encoder to distil into; by default the same


DIGITS = Config()
PAPER = replace(
    DIGITS, data="folder:imagenet", views="simclr", encoder="sk-resnet50", image_size=224, epochs=800,
    batch_size=4096, lr=6.4, hidden_dim=2048, temperature=0.1, memory=65536, optimizer="lars", weight_decay=1e-4,
    augment="crop-flip", finetune_epochs=(60, 30), finetune_batch_size=1024, finetune_lr=0.16, alone_lr=3.2,
    distil_epochs=400, distil_temperature=0.1, workers=16,
)  # fmt: skip
PRESETS = {"digits": DIGITS, "paper": PAPER}

Finished = tuple[nn.Sequential, co.CollapseMonitor, rt.RunLog]
STAGES = {  # what each --stage runs besides the pre-training
    "all": ("alone", "finetuned", "distilled"),
    "pretrain": (),
    "finetune": ("alone", "finetuned"),
    "distil": ("distilled",),
}


def main(run: rt.Run, config: Config) -> None:
    """Runs the stages of `--stage` where they stopped, and leaves a table of accuracies."""
    check(config)
    folder = rt.start_folder(config, run)
    train, test = rt.load_images(config, run)
    evaluation = rt.Evaluation(train, test, config, run)
    pretrained = pretrain(run, config, train, evaluation)
    if pretrained is None:
        return
    net, monitor, log = pretrained
    seconds = log.seconds
    for kind in STAGES[config.stage]:
        for part in config.labels:
            if not classify(run, config, kind, part, net, train, evaluation):
                return
    found = rt.stage_results(folder)
    seconds += sum(stage["seconds"] for stage in found)
    log = rt.RunLog(config, run, total_steps=log.total, step=log.total, seconds=seconds)  # goes on with the first's
    log.say(rt.markdown_of_labels(found, STAGES["all"]))
    measured = {"table": rt.table_of_labels(found)}
    measured |= {f"{stage['stage']} {100 * stage['labels']:g} %": stage["top1"] for stage in found}
    rt.finish("simclr_v2", net.encoder, evaluation, log, monitor, measured=measured)


def check(config: Config) -> None:
    """Says what does not fit before hours of training, not after them."""
    if config.stage in ("finetune", "distil") and not config.resume:
        raise ValueError(f"--stage: {config.stage} goes on with an earlier run; add --resume, and its --out")
    if not all(0 < part <= 1 for part in config.labels):
        raise ValueError(f"--labels: expected parts in (0, 1], got {config.labels}")
    if len(config.finetune_epochs) not in (1, len(config.labels)):
        given, labels = len(config.finetune_epochs), len(config.labels)
        raise ValueError(f"--finetune-epochs: expected 1 or {labels} numbers, as --labels has, got {given}")


def pretrain(  # noqa: PLR0915 (a stage from top to bottom)
    run: rt.Run, config: Config, train: rt.Images, evaluation: rt.Evaluation
) -> Finished | None:
    """The first stage, SimCLR with a deeper head; None where it was stopped."""
    view = partial(rt.VIEWS[config.views], size=config.image_size)
    net = create_net(config, run)
    slow = copy.deepcopy(net).requires_grad_(False) if config.memory else None
    memory = co.NegativeQueue(config.memory, config.dim).to(run.device) if config.memory else None
    if config.compile:
        net.encoder.compile()
    model = rt.distribute(rt.synchronise_norms(net, run), run)
    slow = slow and rt.synchronise_norms(slow, run)

    optimizer = rt.create_optimizer(config.optimizer, net, lr=config.lr, weight_decay=config.weight_decay)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(net, config.ema_decay)
    chance = math.log(2 * config.batch_size - 1 + config.memory)
    monitor = co.CollapseMonitor(config.dim, chance_loss=chance, chance_name="ln(2N-1+K)").to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"net": net, "slow": slow, "memory": memory, "optimizer": optimizer, "scaler": scaler}
    checkpoints = rt.Checkpoints(config, run, {**parts, "averaged": averaged, "monitor": monitor}, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, net.encoder, images=len(train))
    if config.stage in ("finetune", "distil") and step < steps:
        log.close()
        raise ValueError(
            f"--stage: {config.stage} needs a finished pre-training, got one of {step} of {steps} steps in "
            f"{config.out}; run --stage pretrain --resume first"
        )

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, _, index in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            images = rt.to_float(pixels)
            x1, x2 = view(images, generator=generator), view(images, generator=generator)
            with precision:
                z1, z2 = F.normalize(model(torch.cat([x1, x2])).float()).chunk(2)
            log.require_finite(step + 1, z1)
            if slow is None or memory is None:
                loss = co.nt_xent(z1, z2, temperature=config.temperature)
            else:
                further = memory.keys[: memory.num_filled]
                loss = nt_xent_with_memory(z1, z2, index, further, temperature=config.temperature)
            lr = co.cosine_schedule(step, steps, config.lr, 0.0, warmup_steps=config.warmup * steps)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)
            if slow is not None and memory is not None:
                co.momentum_update(net, slow, config.momentum, buffers="keep")
                with precision, torch.no_grad():
                    memory.enqueue(F.normalize(slow(x2).float()))

            step += 1
            monitor.update(z1, loss)
            log.train(step, {"loss": loss, "lr": lr, **rt.health(net, z1)}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(log.folder / "views.png", images, [x1, x2])
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            values = {"epoch": epoch + 1, "knn": evaluation.knn(net.encoder)}
        log.evaluate(step, values, warnings=monitor.report())
        checkpoints.save(step, log)

    log.close()
    if averaged:
        averaged.copy_to()  # the averaged weights are what the later stages begin with
    return net, monitor, log


def classify(  # noqa: PLR0915 (a stage from top to bottom)
    run: rt.Run, config: Config, kind: str, part: float, base: nn.Module, train: rt.Images, evaluation: rt.Evaluation
) -> bool:
    """A later stage with a part of the labels: alone, finetuned or distilled; False where it was stopped."""
    out = stage_folder(config, kind, part)
    if (out / "summary.json").exists():
        return True
    classes, teacher = rt.count_classes(train), None
    if kind == "distilled":
        teacher = create_net(config, run, classes, layers=1).eval().requires_grad_(False)
        rt.load_weights(teacher, stage_folder(config, "finetuned", part) / "network.safetensors")
    else:
        train = rt.labelled_subset(train, part, seed=config.seed)
    config = of_stage(config, kind, part)
    rt.start_folder(config, run)
    view = partial(rt.VIEWS[config.augment], size=config.image_size)

    net = create_net(config, run, classes, layers=0 if teacher else 1)
    if kind == "finetuned":
        net.encoder.load_state_dict(base.encoder.state_dict())
        net.head.load_state_dict(base.head[:3].state_dict())
    if config.compile:
        net.encoder.compile()
    model = rt.distribute(rt.synchronise_norms(net, run), run)

    optimizer = rt.create_optimizer(config.optimizer, net, lr=config.lr, weight_decay=config.weight_decay)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(net, config.ema_decay)
    monitor = co.CollapseMonitor(classes, chance_loss=math.log(classes), chance_name="ln C").to(run.device)

    generator = rt.seeded_generator(config.seed, run)
    parts = {"net": net, "optimizer": optimizer, "scaler": scaler, "averaged": averaged, "monitor": monitor}
    checkpoints = rt.Checkpoints(config, run, parts, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, net.encoder, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, labels, _ in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                log.stop(step)
                return False

            images = rt.to_float(pixels)
            x = view(images, generator=generator)
            with precision:
                logits = model(x).float()
            log.require_finite(step + 1, logits)
            if teacher is None:
                loss = rt.label_loss(logits, labels)
            else:
                with precision, torch.no_grad():
                    target = teacher(x).float()
                loss = co.distillation_loss(logits, target, temperature=config.distil_temperature)
            lr = co.cosine_schedule(step, steps, config.lr, 0.0, warmup_steps=config.warmup * steps)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)

            step += 1
            monitor.update(logits, loss)
            log.train(step, {"loss": loss, "lr": lr, **rt.health(net, logits)}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(out / "views.png", images, [x])
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            values = {"epoch": epoch + 1, "top1": evaluation.top1(net)}
        log.evaluate(step, values, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        found = {"top1": evaluation.top1(net), "stage": kind, "labels": part}
        if run.is_main:
            rt.save_encoder(net, out / "network.safetensors")
        rt.finish("simclr_v2", net.encoder, evaluation, log, monitor, measured=found)
    return True


def create_net(config: Config, run: rt.Run, classes: int = 0, *, layers: int = 3) -> nn.Sequential:
    """Encoder and `layers` of the head, and a classifier where there are classes; the same weights on every rank."""
    torch.manual_seed(config.seed)
    encoder = rt.create_encoder(config.encoder)
    width = encoder.num_features
    head = co.projection_mlp(
        width, config.hidden_dim, config.dim, num_layers=3, bias=False, last_bias=False, last_norm=rt.scale_only_norm
    )
    net = nn.Sequential(OrderedDict(encoder=encoder, head=head[: 3 * layers]))  # a layer, its norm, and ReLU
    if classes:
        net.classifier = nn.Linear(config.hidden_dim if layers else width, classes)
        nn.init.zeros_(net.classifier.weight), nn.init.zeros_(net.classifier.bias)
    return net.to(run.device, memory_format=torch.channels_last)


def of_stage(config: Config, kind: str, part: float) -> Config:
    """The flags that every trainer has, with a later stage's values; it has a run folder of its own."""
    config = replace(config, out=stage_folder(config, kind, part), resume=True)
    if kind == "distilled":
        return replace(config, encoder=config.student or config.encoder, epochs=config.distil_epochs)
    epochs = config.finetune_epochs[config.labels.index(part) % len(config.finetune_epochs)]
    config = replace(config, epochs=epochs, batch_size=config.finetune_batch_size)
    if kind == "alone":
        return replace(config, lr=config.alone_lr)
    return replace(config, lr=config.finetune_lr, weight_decay=0.0, warmup=0.0)


def stage_folder(config: Config, kind: str, part: float) -> Path:
    """The run folder of a later stage, in that of the pre-training."""
    return Path(str(config.out)) / f"{kind}-{part:g}"


def nt_xent_with_memory(z1: Tensor, z2: Tensor, index: Tensor, keys: Tensor, *, temperature: float) -> Tensor:
    """NT-Xent of unit rows in which `keys` are further negatives of every row; `index` tells the images apart."""
    own = torch.cat([index, index])
    same = own.unsqueeze(1) == co.all_gather(own)  # the row itself and its positive
    negatives = torch.cat([co.all_gather(torch.cat([z1, z2])), keys])
    mask = F.pad(same, (0, len(keys)))
    query, positive = torch.cat([z1, z2]), torch.cat([z2, z1])
    return co.info_nce(query, positive, negatives, mask=mask, temperature=temperature, normalize=False)


if __name__ == "__main__":
    rt.launch(main, rt.parse("simclr_v2", PRESETS))
