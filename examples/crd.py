"""CRD: find the teacher's embedding of the student's image among those of other images (Tian, Krishnan, Isola, 2020).

    x = view(images); s, t = f_s(x), f_t(x)                  # features; c_s, c_t make logits; f_t and c_t are frozen
    z_s, z_t = normalize(g_s(s)), normalize(g_t(t))          # linear heads, both of which learn
    rows = index of x, and of K images of other classes
    crd = nce(z_s, bank_t[rows], Z_s) + nce(z_t, bank_s[rows], Z_t)   # InstDisc's loss; each side has its own Z
    kd = T^2 * cross_entropy(softmax(c_s(s) / T), target=softmax(c_t(t) / T))
    loss = gamma * cross_entropy(c_s(s), labels) + alpha * kd + beta * crd
    loss.backward(); update(f_s, c_s, g_s, g_t)
    bank_s[index], bank_t[index] = normalize(0.5 * old + 0.5 * z)     # z from before the update

"Contrastive Representation Distillation", section 3. The teacher, and the student alone to compare with, come first,
by this loop with alpha = beta = 0, in OUT/teacher and OUT/alone. Negatives are independent, so one may come twice.
On ImageNet beta and K are those of CIFAR-100. Preset digits lets Z follow the network, as in instdisc.py.

    python examples/crd.py                                   # the embedded digits: three trainings, minutes on a CPU
    torchrun --nproc-per-node 2 examples/crd.py --preset kd --teacher runs/crd-digits-seed0/teacher
    torchrun --nproc-per-node 8 examples/crd.py --preset paper --data folder:/path/to/imagenet
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Literal

import _runtime as rt
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import contrastive_ops as co


@dataclass(frozen=True)
class Config(rt.StudentConfig):
    """CRD's own numbers; the defaults are the preset digits."""

    gamma: float = 1.0  # weight of the cross-entropy with the labels
    alpha: float = 1.0  # weight of the distillation of logits
    beta: float = 0.05  # weight of the contrastive loss; alpha = beta = 0 trains without a teacher
    dim: int = 128  # width of the embeddings
    noise: int = 256  # K, images that each image is told apart from
    negatives: Literal["label", "index"] = "label"  # images of other classes, or any
    temperature: float = 0.1  # of the contrastive loss
    bank_momentum: float = 0.5  # of an entry when its image comes again; 0 replaces it
    partition_momentum: float = 0.9  # of Z, which follows the network; 1 keeps the first batch's, as in the paper


PRESETS = {
    "digits": Config(), "kd": Config(beta=0.0), "crd": Config(alpha=0.0), "alone": Config(alpha=0.0, beta=0.0),
    "paper": Config(
        data="folder:imagenet", views="crop-flip", encoder="resnet18", teacher_encoder="resnet34", image_size=224,
        epochs=100, batch_size=256, lr=0.1, alpha=0.0, beta=0.8, noise=16384, temperature=0.07, workers=16,
        partition_momentum=1.0, optimizer="sgd", weight_decay=1e-4, schedule="step-30-60-90", warmup=0.0,
    ),
}  # fmt: skip


def contrast(z: Tensor, bank: co.MemoryBank, partition: co.NCEPartition, rows: Tensor, temperature: float) -> Tensor:
    """NCE of embeddings: the bank's entry of each one's first row is its positive, those of the others are noise."""
    entries = bank.lookup(rows)
    partition.update(entries @ z.detach().unsqueeze(2) / temperature)
    constants = {"log_partition": partition.log_partition, "num_data": len(bank.entries), "temperature": temperature}
    return co.nce_loss(z, entries[:, 0], entries[:, 1:], **constants)


def main(run: rt.Run, config: Config) -> None:  # noqa: PLR0915 (the method from top to bottom)
    """Has the teacher and the student alone trained, builds the networks, trains, and leaves a run folder."""
    if not (config := rt.after_stages(main, run, config, plain=replace(config, alpha=0.0, beta=0.0))):
        return  # stopped before the student's turn
    folder = rt.start_folder(config, run)
    train, test = rt.load_images(config, run)
    evaluation = rt.Evaluation(train, test, config, run)
    labels = rt.labels_of(train)
    teacher = rt.load_classifier(config.teacher, labels, run) if config.teacher else None

    torch.manual_seed(config.seed)  # the same weights on every rank, and of the student with and without a teacher
    net = rt.create_student(config, labels, teacher, dim=config.dim if config.beta else None)  # f_s, c_s, g_s, g_t
    classifier, encoder = net.classifier, net.classifier.encoder
    model = rt.distribute(rt.synchronise_norms(net.to(run.device, memory_format=torch.channels_last), run), run)

    optimizer = rt.OPTIMIZERS[config.optimizer](net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(classifier, config.ema_decay)
    n = len(train) if config.beta else 1  # without the contrastive loss nothing is remembered
    bank_s, bank_t = (co.MemoryBank(n, config.dim, momentum=config.bank_momentum).to(run.device) for _ in "st")
    sum_s, sum_t = (co.NCEPartition(n, momentum=config.partition_momentum).to(run.device) for _ in "st")  # Z_s, Z_t
    pairs = rt.Pairs(labels, run, seed=config.seed, by_label=config.negatives == "label")
    monitor = co.CollapseMonitor(net.dim).to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"net": net, "optimizer": optimizer, "scaler": scaler, "averaged": averaged, "monitor": monitor}
    memory = {"memory": nn.ModuleList([bank_s, bank_t, sum_s, sum_t])}
    checkpoints = rt.Checkpoints(config, run, parts | memory, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, encoder, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, y, index in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            x = rt.VIEWS[config.views](rt.to_float(pixels), size=config.image_size, generator=generator)
            with precision:
                known, target = teacher.features_and_logits(x) if teacher else (None, None)
                logits, z_s, z_t = model(x, known)
            log.require_finite(step + 1, z_s)
            terms = {"ce": config.gamma * F.cross_entropy(co.all_gather(logits), co.all_gather(y))}
            if config.alpha:
                kd = co.distillation_loss(logits, target, temperature=config.kd_temperature)
                terms["kd"] = config.alpha * config.kd_temperature**2 * kd
            if config.beta:  # each side is scored against the other's bank
                rows = pairs.draw(order[step % epoch_steps], config.noise, step=step)
                sides = (z_s, bank_t, sum_s), (z_t, bank_s, sum_t)
                terms["crd"] = config.beta * sum(contrast(*side, rows, config.temperature) for side in sides)
                bank_s.update(index, z_s.detach())
                bank_t.update(index, z_t.detach())
            loss = sum(terms.values())
            lr = rt.SCHEDULES[config.schedule](step, steps, config.lr, warmup_steps=config.warmup * steps)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)

            step += 1
            monitor.update(z_s, loss)
            log.train(step, {"loss": loss, **terms, "lr": lr, **rt.health(net, z_s)}, images=len(x))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", rt.to_float(pixels), [x])
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            values = {"knn": evaluation.knn(encoder), "top1": evaluation.top1(classifier)}
        log.evaluate(step, {"epoch": epoch + 1, **values}, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        rt.finish_student("crd", classifier, evaluation, log, monitor, config)


if __name__ == "__main__":
    rt.launch(main, rt.parse("crd", PRESETS))
