"""CLIP: find the text of an image, and the image of a text, among those of the batch (Radford et al., 2021).

    u = normalize(P f(crop(images)))                    # image encoder f, projection without bias
    v = normalize(Q g(captions))                        # text transformer g at the end of the text, projection
    logits = exp(s) * u @ v.T                           # s: a learned parameter, from ln(1 / 0.07)
    loss = (cross_entropy(rows, diagonal) + cross_entropy(columns, diagonal)) / 2
    loss.backward(); update(f, P, g, Q, s); clamp s to [0, ln 100]
    class of an image: the nearest mean of the embeddings of its prompts, "a photo of a seven", ...

"Learning Transferable Visual Models From Natural Language Supervision", figure 3: the batch is that of all ranks;
norms, biases and s get no weight decay. Images of a batch that share a caption are each other's negatives, though no
diagonal can tell them apart: of two the loss stays above ln 2, of N with C names of classes above about ln(N / C).
Deviations: words instead of byte pairs; BN over all ranks, so that their number changes nothing. On the digits most
captions name no colour: where colours tell the images of a batch apart, nothing is left that teaches digits.

    python examples/clip.py                                             # the embedded digits, minutes on a CPU
    torchrun --nproc-per-node 8 examples/clip.py --preset paper --data captions:/path/to/captions.csv
"""

from __future__ import annotations

import math
from collections import OrderedDict
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import _runtime as rt
import torch
from timm.optim import create_optimizer_v2
from torch import Tensor, nn

import contrastive_ops as co


@dataclass(frozen=True)
class Config(rt.CommonConfig):
    """CLIP's own numbers; the defaults are the preset digits."""

    epochs: int = 45  # passes over the training images
    batch_size: int = 64  # pairs a step, over all ranks together
    lr: float = 1e-3  # the peak learning rate
    views: Literal["digits-v2", "digits-grey", "square-crop", "none"] = "digits-grey"  # the recipe of augmentation
    dim: int = 128  # width of the space that images and texts share
    text_width: int = 128  # width of the text transformer, a head of attention for each 64
    text_layers: int = 2  # its blocks
    context: int = 32  # tokens of a caption at most, start and end included
    vocabulary: int = 49_152  # words at most, the most frequent ones
    beta2: float = 0.98  # of Adam; beta1 is 0.9
    eps: float = 1e-6  # of Adam
    weight_decay: float = 0.05  # decoupled; of all parameters but norms, biases and the logit scale
    warmup: float = 0.05  # part of the run in which the learning rate rises from 0; the paper: 2000 of 390,000 steps


PAPER = Config(
    data="captions:captions.csv", views="square-crop", encoder="resnet50_clip", image_size=224, epochs=32,
    batch_size=32_768, lr=5e-4, dim=1024, text_width=512, text_layers=12, context=77, beta2=0.999,
    eps=1e-8, weight_decay=0.2, warmup=0.005, workers=16,
)  # fmt: skip
PAPER_VIT = replace(PAPER, encoder="vit_base_patch32_clip_quickgelu_224", dim=512, beta2=0.98, eps=1e-6)
PRESETS = {"digits": Config(), "paper": PAPER, "paper-vit": PAPER_VIT}


class CLIP(nn.Module):
    """Both towers in one forward, and the scale of the logits."""

    def __init__(self, encoder: nn.Module, text: nn.Module, dim: int) -> None:
        super().__init__()
        projection = nn.Linear(encoder.num_features, dim, bias=False)
        nn.init.normal_(projection.weight, std=encoder.num_features**-0.5)
        self.images = nn.Sequential(OrderedDict(encoder=encoder, projection=projection))
        self.text, self.log_scale = text, nn.Parameter(torch.tensor(math.log(1 / 0.07)))

    def forward(self, images: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        return self.images(images).float(), self.text(tokens).float(), self.log_scale.exp()


def main(run: rt.Run, config: Config) -> None:
    """Builds both towers, trains, evaluates each epoch, and leaves a run folder."""
    folder = rt.start_folder(config, run)
    train, test, captions = rt.load_captioned(config, run)
    evaluation = rt.Evaluation(train, test, config, run)
    tokenizer = rt.WordTokenizer(captions.train.texts(), context=config.context, limit=config.vocabulary)
    zero_shot = rt.ZeroShot(captions, tokenizer, evaluation)
    view = partial(rt.VIEWS[config.views], size=config.image_size)

    torch.manual_seed(config.seed)  # the same weights on every rank
    encoder = rt.create_encoder(config.encoder, compiled=config.compile)
    text = rt.TextTransformer(len(tokenizer), config.context, config.text_width, config.text_layers, config.dim)
    net = CLIP(encoder, text, config.dim).to(run.device, memory_format=torch.channels_last)
    model = rt.distribute(rt.synchronise_norms(net, run), run)

    adam = {"betas": (0.9, config.beta2), "eps": config.eps, "fused": True}
    optimizer = create_optimizer_v2(net, "adamw", config.lr, config.weight_decay, **adam)
    precision, scaler = rt.mixed_precision(config.precision, run.device)
    averaged = rt.average(net, config.ema_decay)
    monitor = co.CollapseMonitor(config.dim, chance_loss=math.log(config.batch_size)).to(run.device)

    generator = rt.seeded_generator(config.seed, run)  # from here on each rank draws its own numbers
    parts = {"net": net, "optimizer": optimizer, "scaler": scaler, "averaged": averaged, "monitor": monitor}
    checkpoints = rt.Checkpoints(config, run, parts, generator)
    log, step, epoch_steps, steps = rt.begin(config, run, checkpoints, evaluation, encoder, images=len(train))

    for epoch in range(step // epoch_steps, config.epochs):
        order = rt.global_batches(len(train), batch_size=config.batch_size, seed=config.seed, epoch=epoch)
        for pixels, labels, index in train.read(order[step % epoch_steps :], run=run, workers=config.workers):
            if run.stop_requested() or step == config.max_steps > 0:
                checkpoints.save(step, log)
                return log.stop(step)

            images = rt.to_float(pixels)
            x = view(images, generator=generator)
            tokens = tokenizer(captions.draw(index, labels, epoch=epoch)).to(run.device)
            with precision:
                u, v, scale = model(x, tokens)
            log.require_finite(step + 1, u)
            loss = co.clip_loss(u, v, scale)
            lr = co.cosine_schedule(step, steps, config.lr, 0.0, warmup_steps=config.warmup * steps)
            rt.update(loss, optimizer, scaler, lr=lr, averaged=averaged)
            net.log_scale.data.clamp_(0, math.log(100))  # the parameter itself, so that it can come back

            step += 1
            monitor.update(u, loss)
            log.train(step, {"loss": loss, "lr": lr, "logit_scale": scale, **rt.health(net, u)}, images=len(images))
            if step == 1 and run.is_main:
                rt.save_views(folder / "views.png", images, [x])
            checkpoints.save_now_and_then(step, log)

        with rt.averaged_weights(averaged):
            values = {"epoch": epoch + 1, "knn": evaluation.knn(encoder), **zero_shot.accuracy(net)}
        log.evaluate(step, values, warnings=monitor.report())
        checkpoints.save(step, log)

    with rt.averaged_weights(averaged):
        zero_shot.save_picture(folder / "similarities.png", net)
        rt.finish("clip", encoder, evaluation, log, monitor, measured=zero_shot.accuracy(net))


if __name__ == "__main__":
    rt.launch(main, rt.parse("clip", PRESETS))
