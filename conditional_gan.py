# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A conditional GAN: it generates a requested digit, or another kind of picture.

The generator gets noise and a one-hot label (Mirza and Osindero 2014). The discriminator has one
output per label, as in Mescheder et al. 2018; only the output of the picture's label is used.

    python conditional_gan.py                              train, and save in outputs/conditional
    python conditional_gan.py --generate 100 --label 7     sevens; without --label, all in turn
    python conditional_gan.py --data FOLDER                pictures; its subfolders are the labels
"""

import copy
import math
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import cli
import common
import images
from common import InputError, Training, one_hot_encode

LATENT_DIM = 64  # random numbers that become one picture, with a label
WIDTH = 16  # channels of the largest feature maps, twice as many for colour
DIGITS = list("0123456789")
BATCHES_PER_EPOCH = 240
BETAS = (0.0, 0.99)  # of Adam. With momentum, the two networks would oscillate
EMA_DECAY = 0.98  # of the moving average of the generator's weights


def real_samples(
    n: int,
    generator: torch.Generator | None = None,
    dataset: str = "mnist",
    data_dir: Path | str = "data",
    folder: Path | str | None = None,
    size: int = 32,
    progress: bool = True,
) -> tuple[Tensor, Tensor]:
    """At most `n` different pictures (n, channels, size, size) in 0..1, and their labels (n,).

    They are of a data set ("mnist", "fashion" or "cifar10"), or in the subfolders of a folder.
    """
    pictures, labels, _ = images.load(
        dataset, data_dir, folder, size, labelled=True, progress=progress
    )
    order = torch.randperm(len(pictures), generator=generator)[:n]
    return pictures[order], labels[order]


def requested_labels(labels: Tensor, n: int) -> Tensor:
    """Labels (n,) as frequent as in the data."""
    return labels[torch.arange(n) % len(labels)]


def generator_input(labels: Tensor, classes: int = len(DIGITS)) -> Tensor:
    """Noise and one-hot labels (n, LATENT_DIM + classes), for labels (n,)."""
    noise = torch.randn(len(labels), LATENT_DIM)
    return torch.cat([noise, one_hot_encode(labels, classes)], dim=1)


def build_generator(channels: int = 1, size: int = 28, classes: int = len(DIGITS)) -> nn.Module:
    """Noise and a label (n, LATENT_DIM + classes) to pictures (n, channels, size, size) in 0..1."""
    width = WIDTH if channels == 1 else 2 * WIDTH
    inputs = LATENT_DIM + classes
    maps = width * math.ceil(size / 8)  # of 4 by 4 pixels; half as many of twice the side follow
    layers = [
        nn.Unflatten(1, (inputs, 1, 1)),
        nn.ConvTranspose2d(inputs, maps, kernel_size=4, bias=False),
    ]
    kernel_size = 3 if size == 28 else 4  # 3 makes 7 pixels of 4
    while maps > width:
        layers += [
            nn.BatchNorm2d(maps),
            nn.ReLU(),
            nn.ConvTranspose2d(maps, maps // 2, kernel_size, stride=2, padding=1, bias=False),
        ]
        maps //= 2
        kernel_size = 4
    layers += [
        nn.BatchNorm2d(width),
        nn.ReLU(),
        # A transposed convolution would leave a checkerboard in the pictures (Odena et al. 2016)
        nn.Upsample(scale_factor=2),
        nn.Conv2d(width, channels, kernel_size=3, padding=1),
        nn.Sigmoid(),
    ]
    return nn.Sequential(*layers)


def build_discriminator(channels: int = 1, size: int = 28, classes: int = len(DIGITS)) -> nn.Module:
    """Standardised pictures to logits (n, classes), above zero for "a real one of this label"."""
    maps = WIDTH if channels == 1 else 2 * WIDTH
    side = size // 2
    layers = [
        nn.Conv2d(channels, maps, kernel_size=4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
    ]
    while side > 4:  # as many maps double, the side halves
        kernel_size = 3 if side == 7 else 4  # 3 makes 4 pixels of 7
        layers += [
            nn.Conv2d(maps, 2 * maps, kernel_size, stride=2, padding=1),
            nn.LeakyReLU(0.2),
        ]
        maps *= 2
        side = math.ceil(side / 2)
    layers += [
        nn.Flatten(),
        nn.Linear(maps * side * side, 256),
        nn.LeakyReLU(0.2),
        nn.Linear(256, classes),
    ]
    return nn.Sequential(*layers)


def score(discriminator: nn.Module, pictures: Tensor, labels: Tensor) -> Tensor:
    """The discriminator's logits (n,) for pictures with one-hot labels (n, classes)."""
    return (discriminator(pictures) * labels).sum(dim=1)


@common.isolated
def train(
    pictures: Tensor,
    labels: Tensor,
    *,
    names: Sequence[str] = DIGITS,
    seed: int | None = 0,
    device: str | torch.device = "auto",
    epochs: int = 40,
    patience: int | None = None,
    batch_size: int = 64,
    lr: float = 0.002,
    progress: bool = True,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Training:
    """Learn pictures (n, channels, size, size) in 0..1 with labels (n,), indices into `names`.

    The generator keeps the names. Each epoch is saved to `checkpoint`, to `resume` from.
    InputError for other data.
    """
    device = common.choose_device(device)
    classes = len(names)
    pictures = images.as_pictures(pictures)
    labels = images.as_labels(labels, len(pictures), classes)
    channels, size = pictures.shape[1:3]
    training = Training(
        pictures,
        seed=seed,
        epochs=epochs,
        patience=patience,
        progress=progress,
        features=images.Features(pictures),
    )
    cutout = len(pictures) < images.MANY  # few could be learned by heart
    batch_size = images.limit_batch_size(batch_size, len(pictures))
    batches = common.Batches(torch.arange(len(pictures), device=device), batch_size)
    real_pictures = pictures.to(device)
    real_labels = one_hot_encode(labels, classes).to(device)

    generator = build_generator(channels, size, classes)
    images.save_names(generator, names)  # saved with the weights
    discriminator = nn.Sequential(
        images.Standardize(pictures), build_discriminator(channels, size, classes)
    )
    for network in (generator, discriminator):
        network.to(device).to(memory_format=torch.channels_last)  # for faster convolutions
    ema_generator = copy.deepcopy(generator).eval()  # with averaged weights, which waver less
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, device=device)  # what the discriminator says of real ones
    real_then_fake = torch.cat([ones, torch.zeros_like(ones)])
    count = 2048 if size < 128 else 512  # more large pictures would take gigabytes
    fixed_noise = generator_input(requested_labels(labels, count), classes).to(device)
    parts = [generator, ema_generator, discriminator, g_optimizer, d_optimizer]
    saved = images.Checkpoint(checkpoint, training, batches, parts, lr, resume)

    # A function, so that a GPU can record it, and replay it without Python
    @common.cuda_graph(device, g_optimizer, d_optimizer)
    def step(
        real: Tensor, label: Tensor, penalty: Tensor, *, apply_penalty: bool
    ) -> tuple[Tensor, Tensor]:
        noise = torch.randn(batch_size, LATENT_DIM, device=device)
        fakes = generator(torch.cat([noise, label], dim=1))

        # Discriminator step: tell real pictures of a label from generated ones
        seen = images.augment(torch.cat([real, fakes.detach()]), cutout)
        scores = score(discriminator, seen.requires_grad_(apply_penalty), label.repeat(2, 1))
        d_loss = bce(scores, real_then_fake)
        if apply_penalty:
            d_loss = d_loss + penalty * common.gradient_penalty(scores, seen)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator, which stays as it is (inputs=)
        g_loss = bce(score(discriminator, images.augment(fakes, cutout), label), ones)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for epoch in training.epochs():
            done = (epoch - 1) / epochs
            common.set_lr(images.learning_rate(lr, pictures, done), g_optimizer, d_optimizer)
            # A tensor, as a number would stay as it was when a step was recorded
            penalty = torch.tensor(images.penalty_weight(pictures, done), device=device)
            for i in images.steps_of_epoch(BATCHES_PER_EPOCH, batches, progress):
                chosen = next(batches)
                # The penalty in every fourth step is enough (Karras et al. 2020)
                d_loss, g_loss = step(
                    real_pictures[chosen], real_labels[chosen], penalty, apply_penalty=i % 4 == 0
                )
            training.evaluate(ema_generator, fixed_noise, d_loss.item(), g_loss.item())
            saved.save()
    noise = generator_input(requested_labels(labels, 2 * count), classes)
    return training.finish(ema_generator, noise, **images.LIMITS)


def draw(axes: Any, _: Tensor, samples: Tensor, requested: Tensor, names: Sequence[str]) -> None:
    """Draws samples in a row for each label; they were requested with these labels."""
    rows = {}
    for i, name in enumerate(names[:20]):
        rows[name] = samples[requested[: len(samples)] == i][:12]
    columns = max(len(pictures) for pictures in rows.values())
    images.draw_pictures(axes, rows, max(1, columns))


@cli.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = cli.Parser(__file__, __doc__, train)
    images.add_data_options(parser, ["mnist", "fashion", "cifar10"])
    images.add_folder_options(parser)
    parser.add_argument("--resume", action="store_true", help="continue an interrupted training")
    parser.add_argument("--label", metavar="NAME", help="with --generate: this label alone")
    options = parser.parse_args(argv)
    images.require_matching_options(options)
    if options.generate or options.interpolate:
        return images.use_generator(options, LATENT_DIM, labelled=True)
    if options.label:
        raise InputError("--label chooses what to generate; give --generate or --interpolate too")

    source = images.source(options)
    pictures, labels = real_samples(60_000, common.random_generator("data", options.seed), **source)
    labelled = images.load(**source, labelled=True)  # if you change real_samples, pass your names
    checkpoint = options.out / "checkpoint.pth"
    training = train(
        pictures,
        labels,
        names=labelled.names,
        checkpoint=checkpoint,
        resume=options.resume,
        **parser.settings(options),
    )
    requested = requested_labels(labels, len(training.samples))
    # If you change real_samples, delete this line: it compares classes with those of the data set
    images.check_classes(training, training.samples, labelled, requested)
    if options.data:
        copies = images.check_copies(training)
    inputs = LATENT_DIM + len(labelled.names)
    cli.save(options, training, inputs, generator=training.generator)
    draw_rows = partial(draw, requested=requested, names=labelled.names)
    cli.save_picture(options, "samples.png", common.plot(training, draw_rows))
    if options.data:
        cli.save_picture(options, "copies.png", copies)
    if options.animate:
        cli.save_picture(options, "training.gif", common.animate(training, draw_rows))
    return images.report(options, training, checkpoint)


if __name__ == "__main__":
    sys.exit(main())
