# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A deep convolutional GAN: it learns to write digits, of MNIST, or to draw pictures of your own.

Convolutions share weights between positions, so a stroke is learned once (Radford et al. 2015; here
the discriminator has a hidden linear layer, a gradient penalty, and no batch norm).

    python dcgan.py                             train, and save in outputs/dcgan
    python dcgan.py --data FOLDER --size 64     learn the pictures in a folder
    python dcgan.py --resume                    continue a training that was interrupted
    python dcgan.py --generate 100              pictures of the saved generator
    python dcgan.py --interpolate 12            interpolations between digits

dcgan_multigpu.py does the same on several GPUs or machines.
"""

import copy
import math
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import cli
import common
import images
from common import Training

LATENT_DIM = 64  # random numbers that become one picture
WIDTH = 16  # channels of the largest feature maps, twice as many for colour
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
) -> Tensor:
    """At most `n` different pictures (n, channels, size, size), 0 black to 1 white.

    They are of a data set ("mnist", "fashion" or "cifar10"), or in a folder.
    """
    pictures = images.load(dataset, data_dir, folder, size, progress=progress).pictures
    order = torch.randperm(len(pictures), generator=generator)
    return pictures[order[:n]]


def build_generator(channels: int = 1, size: int = 28) -> nn.Module:
    """Standard normal noise (n, LATENT_DIM) to pictures (n, channels, size, size) in 0..1."""
    width = WIDTH if channels == 1 else 2 * WIDTH
    maps = width * math.ceil(size / 8)  # of 4 by 4 pixels; half as many of twice the side follow
    layers = [
        nn.Unflatten(1, (LATENT_DIM, 1, 1)),
        nn.ConvTranspose2d(LATENT_DIM, maps, kernel_size=4, bias=False),
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


def build_discriminator(channels: int = 1, size: int = 28) -> nn.Module:
    """Standardised pictures (n, channels, size, size) to logits (n, 1), above zero for "real"."""
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
        nn.Linear(256, 1),
    ]
    return nn.Sequential(*layers)


@common.isolated
def train(
    data: Tensor,
    *,
    seed: int | None = 0,
    device: str | torch.device = "auto",
    epochs: int = 34,
    patience: int | None = None,
    batch_size: int = 64,
    lr: float = 0.002,
    progress: bool = True,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Training:
    """Learn pictures (n, channels, size, size) in 0..1; InputError for others.

    Each epoch is saved to `checkpoint`, to `resume` from.
    """
    device = common.choose_device(device)
    pictures = images.as_pictures(data)
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
    batches = common.Batches(pictures.to(device), batch_size)

    generator = build_generator(channels, size)
    discriminator = nn.Sequential(images.Standardize(pictures), build_discriminator(channels, size))
    for network in (generator, discriminator):
        network.to(device).to(memory_format=torch.channels_last)  # for faster convolutions
    ema_generator = copy.deepcopy(generator).eval()  # with averaged weights, which waver less
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 1, device=device)  # what the discriminator says of real ones
    real_then_fake = torch.cat([ones, torch.zeros_like(ones)])
    count = 2048 if size < 128 else 512  # more large pictures would take gigabytes
    fixed_noise = torch.randn(count, LATENT_DIM, device=device)
    parts = [generator, ema_generator, discriminator, g_optimizer, d_optimizer]
    saved = images.Checkpoint(checkpoint, training, batches, parts, lr, resume)

    # A function, so that a GPU can record it, and replay it without Python
    @common.cuda_graph(device, g_optimizer, d_optimizer)
    def step(real: Tensor, penalty: Tensor, *, apply_penalty: bool) -> tuple[Tensor, Tensor]:
        fakes = generator(torch.randn(batch_size, LATENT_DIM, device=device))

        # Discriminator step: tell real pictures from generated ones
        seen = images.augment(torch.cat([real, fakes.detach()]), cutout)
        scores = discriminator(seen.requires_grad_(apply_penalty))
        d_loss = bce(scores, real_then_fake)
        if apply_penalty:
            d_loss = d_loss + penalty * common.gradient_penalty(scores, seen)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator, which stays as it is (inputs=)
        g_loss = bce(discriminator(images.augment(fakes, cutout)), ones)
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
                # The penalty in every fourth step is enough (Karras et al. 2020)
                d_loss, g_loss = step(next(batches), penalty, apply_penalty=i % 4 == 0)
            training.evaluate(ema_generator, fixed_noise, d_loss.item(), g_loss.item())
            saved.save()
    return training.finish(ema_generator, torch.randn(2 * count, LATENT_DIM), **images.LIMITS)


def draw(axes: Any, data: Tensor, samples: Tensor) -> None:
    """Draws real pictures above generated ones."""
    images.draw_pictures(axes, {"real": data[:48], "generated": samples[:48]}, columns=12)


@cli.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = cli.Parser(__file__, __doc__, train)
    images.add_data_options(parser, ["mnist", "fashion", "cifar10"])
    images.add_folder_options(parser)
    parser.add_argument("--resume", action="store_true", help="continue an interrupted training")
    options = parser.parse_args(argv)
    images.require_matching_options(options)
    if options.generate or options.interpolate:
        return images.use_generator(options, LATENT_DIM)

    source = images.source(options)
    data = real_samples(60_000, common.random_generator("data", options.seed), **source)
    labelled = images.load(**source)
    checkpoint = options.out / "checkpoint.pth"
    settings = parser.settings(options)
    training = train(data, **settings, checkpoint=checkpoint, resume=options.resume)
    # If you change real_samples, delete this line: it compares classes with those of the data set
    images.check_classes(training, training.samples, labelled)
    if options.data:
        copies = images.check_copies(training)
    cli.save(options, training, LATENT_DIM, generator=training.generator)
    cli.save_picture(options, "samples.png", common.plot(training, draw))
    if options.data:
        cli.save_picture(options, "copies.png", copies)
    if options.animate:
        cli.save_picture(options, "training.gif", common.animate(training, draw))
    return images.report(options, training, checkpoint)


if __name__ == "__main__":
    sys.exit(main())
