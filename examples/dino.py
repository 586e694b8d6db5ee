"""DINO: a student learns to say of each crop what its own average says of the others (Caron et al., 2021).

    x_1, x_2, x_3, ... = crops(image)                         # two large ones, then small ones for the student alone
    p_t = softmax((g_t(x) - c) / T_t)                         # teacher: large crops; centred by c, sharpened by T_t
    p_s = softmax(g_s(x) / T_s)                               # student: all crops
    loss = mean over crops t != s of cross_entropy(p_t, p_s)
    loss.backward(); clip each gradient; update(g_s)          # the head's last layer stands still at first
    g_t = m * g_t + (1 - m) * g_s                             # momentum update, after the step
    c = m_c * c + (1 - m_c) * mean(g_t(x))                    # of the logits of all large crops of all ranks

"Emerging Properties in Self-Supervised Vision Transformers", algorithm 1; the teacher is evaluated. BN spans ranks.
Centring alone (T_t = 1) makes its outputs even (entropy ln K), sharpening alone (m_c = 1, c = 0) lets one win (0).

    python examples/dino.py                                             # the embedded digits, minutes on a CPU
    torchrun --nproc-per-node 8 examples/dino.py --preset paper --data folder:/path/to/imagenet
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
    """DINO's own numbers; the defaults are the preset digits."""

    epochs: int = 130  # passes over the training images
    image_size: int = 20  # height and width of the large crops
    batch_size: int = 32  # images a step, over all ranks together
    lr: float = 0.07  # the peak learning rate
    views: Literal["digits-dino", "digits-dino-vit", "dino", "dino-resnet", "none"] = "digits-dino"  # the augmentation
    crops: tuple[int, int] = (2, 0)  # large ones, for both networks, and small ones, for the student
    small_size: int = 16  # height and width of the small crops; for a ViT a multiple of its patches
    dim: int = 1024  # K, outputs of the head
    hidden_dim: int = 1024  # width inside the head
    bottleneck_dim: int = 128  # width before its last layer
    head_layers: int = 2  # linear ones before the last one
    head_norm: bool = True  # BN in the head
    freeze_scale: bool = True  # the rows of the head's last layer keep length 1
    freeze_epochs: int = 130  # in which the head's last layer stands still: here all
    momentum: float = 0.99  # m of the teacher at first; rises to 1
    student_temperature: float = 0.08  # T_s
    teacher_temperature: tuple[float, float] = (0.035, 0.07)  # T_t in the first epoch, and after its warm-up
    temperature_epochs: int = 60  # of that warm-up
    center_momentum: float = 0.6  # m_c; keeps T_s / T_t / (1 - m_c) below 1 / (1 - m), where the mean could swing
    clip: float = 3.0  # largest norm of the gradient of each parameter by itself
    drop_path: float = 0.0  # largest rate of the student's skipped residual branches
    optimizer: Literal["adamw", "sgd", "momentum"] = "sgd"  # of timm; momentum is sgd without Nesterov's
    weight_decay: tuple[float, float] = (5e-4, 5e-4)  # at first and at the end, of all but biases and norms
    warmup: float = 0.05  # part of the run in which the learning rate rises from 0


PAPER = Config(data="folder:imagenet", views="dino", encoder="vit_small_patch16_224", image_size=224, epochs=300,
               batch_size=1024, lr=2e-3, crops=(2, 8), small_size=96, dim=65536, hidden_dim=2048, bottleneck_dim=256,
               head_layers=3, head_norm=False, freeze_scale=False, freeze_epochs=1, momentum=0.996,
               student_temperature=0.1, teacher_temperature=(0.04, 0.07), temperature_epochs=30, center_momentum=0.9,
               drop_path=0.1, optimizer="adamw", weight_decay=(0.04, 0.4), warmup=10 / 300, workers=16)  # fmt: skip
PAPER_RESNET = replace(PAPER, views="dino-resnet", encoder="resnet50", epochs=100, batch_size=512, lr=0.06,
                       freeze_scale=True, teacher_temperature=(0.04, 0.04), drop_path=0.0, optimizer="momentum",
                       weight_decay=(1e-4, 1e-4), warmup=10 / 100)  # fmt: skip
VIT = Config(views="digits-dino-vit", encoder="tiny-hybrid-vit", image_size=24, epochs=70, optimizer="adamw", lr=2e-3,
    weight_decay=(0.01, 0.01), teacher_temperature=(0.035, 0.06), temperature_epochs=40, freeze_epochs=70)  # fmt: skip
PRESETS = {"digits": Config(), "vit": VIT, "paper": PAPER, "paper-resnet50": PAPER_RESNET}


def main(run: rt.Run, config: Config) -> None:  # noqa: PLR0915 (the method from top to bottom)
    """Builds student and teacher, trains, evaluates each epoch, and leaves a run folder."""
    folder = rt.start_folder(config, run)
    train, test = rt.load_images(config, run)
    evaluation = rt.Evaluation(train, test, config, run)
    view = rt.crops_of(config.views, sizes=(config.image_size, config.small_size), counts=config.crops)

    torch.manual_seed(config.seed)  # the same weights on every rank
    encoder = rt.create_crop_encoder(config.encoder, drop_path=config.drop_path, compiled=config.compile)
    size = {"hidden_dim": config.hidden_dim, "bottleneck_dim": config.bottleneck_dim, "num_layers": config.head_layers}
    norm = torch.nn.BatchNorm1d if config.head_norm else None
    head = co.DINOHead(encoder.num_features, config.dim, **size, norm=norm, freeze_scale=config.freeze_scale)
    student = rt.CropNetwork(encoder, head).to(run.device, memory_format=torch.channels_last)
    teacher = rt.teacher_of(student, compiled=config.compile)
    center = co.DINOCenter(config.dim, momentum=config.center_momentum).to(run.device)
    g_s, g_t = (rt.distribute(rt.synchronise_norms(net, run), run) for net in (student, teacher))

    optimizer = rt.create_optimizer(config.optimizer, student, lr=config.lr, weight_decay=max(config.weight_decay))
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(teacher.encoder, config.ema_decay)
    monitor = co.CollapseMonitor(config.dim, chance_loss=math.log(config.dim), chance_name="ln K", floor_loss=0.0,
                                 floor_name="0", loss_name="teacher entropy").to(run.device)  # fmt: skip
    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"student": student, "teacher": teacher, "center": center, "optimizer": optimizer, "scaler": scaler}
    checkpoints = rt.Checkpoints(config, run, {**parts, "averaged": averaged, "monitor": monitor}, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, teacher.encoder, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        warm = rt.linear_rise(epoch, config.temperature_epochs, *config.teacher_temperature)  # T_t
        for pixels, _, _ in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            images = rt.to_float(pixels)
            x = view(images, generator=generator)
            with precision:
                t, s = g_t(x[: config.crops[0]]), g_s(x)
            log.require_finite(step + 1, torch.cat(s))
            p = [center(logits, temperature=warm) for logits in t]
            loss = co.dino_loss(student=s, teacher=p, student_temperature=config.student_temperature)
            rt.backward(loss, optimizer, scaler)
            rt.clip_each(student, config.clip, frozen=head.last_layer if epoch < config.freeze_epochs else None)
            lr = co.cosine_schedule(step, steps, config.lr, 1e-6, warmup_steps=config.warmup * steps)
            optimizer.param_groups[-1]["weight_decay"] = co.cosine_schedule(step, steps, *config.weight_decay)
            rt.apply(optimizer, scaler, lr=lr, averaged=averaged)
            co.momentum_update(student, teacher, co.cosine_schedule(step, steps, config.momentum, 1.0), buffers="keep")
            center.update(torch.cat(t))

            step += 1
            health = {**rt.health(student, s[0]), **rt.teacher_health(p, loss)}
            monitor.update(s[0], health["teacher_entropy"])
            log.train(step, {"loss": loss, "lr": lr, **health}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", images, x)
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            log.evaluate(step, {"epoch": epoch + 1, "knn": evaluation.knn(teacher.encoder)}, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        rt.finish("dino", teacher.encoder, evaluation, log, monitor)


if __name__ == "__main__":
    rt.launch(main, rt.parse("dino", PRESETS))
