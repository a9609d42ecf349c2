# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A GAN that learns to write digits: pictures of 28 by 28 pixels, from MNIST.

The generator turns normal noise (64 numbers) into a picture. It is never told what a digit is, or
that there are ten.

    python digits_gan.py                        train, and save in outputs/digits
    python digits_gan.py --dataset fashion      the same for clothes
    python digits_gan.py --resume               continue a training that was interrupted
    python digits_gan.py --generate 100         pictures of the saved generator
    python digits_gan.py --interpolate 12       interpolations between digits
"""

import copy
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
BATCHES_PER_EPOCH = 240
BETAS = (0.5, 0.99)  # of Adam
EMA_DECAY = 0.998  # of the moving average of the generator's weights


def real_samples(
    n: int,
    generator: torch.Generator | None = None,
    dataset: str = "mnist",
    data_dir: Path | str = "data",
) -> Tensor:
    """At most `n` different pictures (n, 1, 28, 28) of a data set, 0 black to 1 white."""
    pictures = images.load_dataset(dataset, data_dir).pictures
    order = torch.randperm(len(pictures), generator=generator)
    return pictures[order[:n]]


def build_generator() -> nn.Module:
    """Standard normal noise (n, LATENT_DIM) to pictures (n, 1, 28, 28) in 0..1."""
    return nn.Sequential(
        nn.Linear(LATENT_DIM, 128),
        nn.BatchNorm1d(128),
        nn.ReLU(),
        nn.Linear(128, 256),
        nn.BatchNorm1d(256),
        nn.ReLU(),
        nn.Linear(256, 512),
        nn.BatchNorm1d(512),
        nn.ReLU(),
        nn.Linear(512, 1024),
        nn.BatchNorm1d(1024),
        nn.ReLU(),
        nn.Linear(1024, 28 * 28),
        nn.Sigmoid(),
        nn.Unflatten(1, (1, 28, 28)),
    )


def build_discriminator() -> nn.Module:
    """Standardised pictures (n, 1, 28, 28) to logits (n, 1), above zero for "real"."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 512),
        nn.LeakyReLU(0.2),
        nn.Linear(512, 256),
        nn.LeakyReLU(0.2),
        nn.Linear(256, 128),
        nn.LeakyReLU(0.2),
        nn.Linear(128, 1),
    )


@common.isolated
def train(
    data: Tensor,
    *,
    seed: int | None = 0,
    device: str | torch.device = "auto",
    epochs: int = 40,
    patience: int | None = None,
    batch_size: int = 128,
    lr: float = 0.002,
    progress: bool = True,
    checkpoint: Path | None = None,
    resume: bool = False,
) -> Training:
    """Learn pictures (n, 1, 28, 28) in 0..1; InputError for others.

    Each epoch is saved to `checkpoint`, to `resume` from.
    """
    device = common.choose_device(device)
    pictures = images.as_pictures(data, channels=[1], sizes=[28])
    training = Training(
        pictures,
        seed=seed,
        epochs=epochs,
        patience=patience,
        progress=progress,
        features=images.Features(pictures),
    )
    batch_size = images.limit_batch_size(batch_size, len(pictures))
    batches = common.Batches(pictures.to(device), batch_size)

    generator = build_generator().to(device)
    ema_generator = copy.deepcopy(generator).eval()  # with averaged weights, which waver less
    discriminator = nn.Sequential(images.Standardize(pictures), build_discriminator()).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 1, device=device)  # what the discriminator says of real ones
    real_then_fake = torch.cat([ones, torch.zeros_like(ones)])
    fixed_noise = torch.randn(2048, LATENT_DIM, device=device)
    parts = [generator, ema_generator, discriminator, g_optimizer, d_optimizer]
    saved = images.Checkpoint(checkpoint, training, batches, parts, lr, resume)

    # A function, so that a GPU can record it, and replay it without Python
    @common.cuda_graph(device, g_optimizer, d_optimizer)
    def step(real: Tensor) -> tuple[Tensor, Tensor]:
        fakes = generator(torch.randn(batch_size, LATENT_DIM, device=device))

        # Discriminator step: tell real pictures from generated ones
        seen = images.augment(torch.cat([real, fakes.detach()]))
        d_loss = bce(discriminator(seen), real_then_fake)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator, which stays as it is (inputs=)
        g_loss = bce(discriminator(images.augment(fakes)), ones)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for epoch in training.epochs():
            common.set_lr(lr * (1 - (epoch - 1) / epochs), g_optimizer, d_optimizer)
            for _ in images.steps_of_epoch(BATCHES_PER_EPOCH, batches, progress):
                d_loss, g_loss = step(next(batches))
            training.evaluate(ema_generator, fixed_noise, d_loss.item(), g_loss.item())
            saved.save()
    return training.finish(ema_generator, torch.randn(4096, LATENT_DIM), **images.LIMITS)


def draw(axes: Any, data: Tensor, samples: Tensor) -> None:
    """Draws real pictures above generated ones."""
    images.draw_pictures(axes, {"real": data[:48], "generated": samples[:48]}, columns=12)


@cli.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = cli.Parser(__file__, __doc__, train)
    images.add_data_options(parser, ["mnist", "fashion"])
    parser.add_argument("--resume", action="store_true", help="continue an interrupted training")
    options = parser.parse_args(argv)
    if options.generate or options.interpolate:
        return images.use_generator(options, LATENT_DIM)

    random = common.random_generator("data", options.seed)
    data = real_samples(60_000, random, options.dataset, options.data_dir)
    labelled = images.load_dataset(options.dataset, options.data_dir)
    checkpoint = options.out / "checkpoint.pth"
    settings = parser.settings(options)
    training = train(data, **settings, checkpoint=checkpoint, resume=options.resume)
    # If you change real_samples, delete this line: it compares classes with those of the data set
    images.check_classes(training, training.samples, labelled)
    cli.save(options, training, LATENT_DIM, generator=training.generator)
    cli.save_picture(options, "samples.png", common.plot(training, draw))
    if options.animate:
        cli.save_picture(options, "training.gif", common.animate(training, draw))
    return images.report(options, training, checkpoint)


if __name__ == "__main__":
    sys.exit(main())
