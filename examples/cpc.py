"""CPC: tell which latent comes next from a context of those before it (van den Oord, Li, Vinyals, 2018).

    z = f(each cell of the grid)       # image: overlapping patches; sequence: windows of the image's columns
    c = context(z)                     # at row r of rows 0..r only: masked convolutions, or a GRU down each column
    for k in first..steps:             # the latent k rows below in the same column, k windows later
        loss of k = cross_entropy(W_k c at r . all z of the batch, target=z at r + k)
    loss = mean over k, r and columns;  loss.backward();  update(f, context, W)

"Representation Learning with Contrastive Predictive Coding", equation 4: no normalisation, no temperature. Candidates
are the patches of the global batch (the paper: of a worker), so that any number of processes has the same loss; with
`--first 2` or more the rows that are never predicted are none. The paper's ResNet-v2-101 has no norm; timm's has group
norm, which keeps patches as much apart. The paper's features, the mean of z, stand in summary.json beside those of c.
On the digits each patch has a brightness and sign of its own: else the background tells the image, and kNN fell.

    python examples/cpc.py                                              # the embedded digits, minutes on a CPU
    torchrun --nproc-per-node 2 examples/cpc.py --preset sequence
    torchrun --nproc-per-node 32 examples/cpc.py --preset paper --data folder:/path/to/imagenet
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import _runtime as rt
import torch
from torch import Tensor, nn

import contrastive_ops as co

VIEWS = {"digits": rt.grey_digits_view, "cpc": rt.grey_patches_view, "none": rt.grey_view}


@dataclass(frozen=True)
class Config(rt.CommonConfig):
    """CPC's own numbers; the defaults are the preset digits."""

    modality: Literal["image", "sequence"] = "image"  # a grid of patches, or windows of the image's columns
    encoder: str = "auto"  # of a patch: tiny-gn or any of timm without batch norm; of a window: conv1d; auto chooses
    epochs: int = 15  # passes over the training images
    batch_size: int = 32  # images a step, over all ranks together
    lr: float = 1e-3  # the peak learning rate
    views: Literal["digits", "cpc", "none"] = "digits"  # the recipe of augmentation; all are grey
    patch: int = 12  # side of a patch, width of a window
    stride: int = 5  # from a patch or window to the next; below patch they overlap
    context: Literal["pixelcnn", "gru"] = "pixelcnn"  # masked convolutions, or a GRU down each column
    width: int = 128  # of the context
    first: int = 1  # the nearest row predicted; of patches that overlap the next one is partly seen
    steps: int = 3  # the farthest
    features: Literal["rows", "mean", "last", "latents"] = "rows"  # of c: rows side by side, mean, last row; mean of z
    final_lr: float = 0.0  # to which the learning rate falls along a cosine
    weight_decay: float = 1e-2  # of all parameters, by AdamW
    warmup: float = 0.05  # part of the run in which the learning rate rises from 0


SEQUENCE = Config(modality="sequence", context="gru", patch=8, stride=4, steps=4, epochs=30)
PAPER = Config(
    data="folder:imagenet", views="cpc", encoder="resnetv2-101-stage3", image_size=256, epochs=100,
    batch_size=512, lr=2e-4, final_lr=2e-4, patch=64, stride=32, steps=5, width=1024, features="latents",
    weight_decay=0.0, warmup=0.0, workers=16,
)  # fmt: skip
PRESETS = {"digits": Config(), "sequence": SEQUENCE, "paper": PAPER}


class CPC(nn.Module):
    """Predictions (B, T, steps, D) of latents (B, T, D), for which every column of a grid is a sequence of its own."""

    def __init__(self, features: rt.ContextFeatures, width: int, ahead: int) -> None:
        super().__init__()
        self.features, self.ahead = features, ahead
        self.predict = nn.Linear(width, ahead * features.dim, bias=False)

    def forward(self, grid: Tensor) -> tuple[Tensor, Tensor]:
        z, c = (x.transpose(1, 2).flatten(0, 1) for x in self.features.encode(grid))
        return self.predict(c).unflatten(-1, (self.ahead, -1)), z


def main(run: rt.Run, config: Config) -> None:
    """Builds the networks, trains, evaluates each epoch, and leaves a run folder."""
    config = replace(config, encoder=rt.encoder_for(config.modality, config.encoder))
    folder = rt.start_folder(config, run)
    cut = rt.Cut(config.modality, config.patch, config.stride)
    rows, columns = cut.grid(config.image_size, first=config.first, steps=config.steps)
    train, test = rt.load_images(config, run)
    evaluation = rt.Evaluation(train, test, config, run)
    view = partial(VIEWS[config.views], cut=cut, size=config.image_size)

    torch.manual_seed(config.seed)  # the same weights on every rank
    features = rt.create_context_features(cut, config)
    net = CPC(features, config.width, config.steps - config.first + 1).to(run.device)
    model = rt.distribute(net, run)

    optimizer = rt.OPTIMIZERS["adamw"](net.parameters(), lr=config.lr, weight_decay=config.weight_decay)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(features, config.ema_decay)
    skip = config.first - 1  # rows between a context and the first that it predicts
    chance = math.log(config.batch_size * (rows - skip) * columns)
    monitor = co.CollapseMonitor(features.dim, chance_loss=chance).to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"net": net, "optimizer": optimizer, "scaler": scaler, "averaged": averaged, "monitor": monitor}
    checkpoints = rt.Checkpoints(config, run, parts, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, features, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, _, _ in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            images = rt.to_float(pixels)
            grid = view(images, generator=generator)
            with precision:
                predictions, z = (x.float() for x in model(grid))
            log.require_finite(step + 1, predictions)
            loss = co.cpc_loss(predictions[:, : rows - skip], z[:, skip:])
            lr = co.cosine_schedule(step, steps, config.lr, config.final_lr, warmup_steps=config.warmup * steps)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)

            step += 1
            monitor.update(z.flatten(0, 1), loss)
            log.train(step, {"loss": loss, "lr": lr, **rt.health(net, z.flatten(0, 1))}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", images, [rt.tile(grid)])
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            values = {"epoch": epoch + 1, "knn": evaluation.knn(features)}
        log.evaluate(step, values, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        rt.finish_context("cpc", features, evaluation, log, monitor)


if __name__ == "__main__":
    rt.launch(main, rt.parse("cpc", PRESETS))
