# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A GAN that learns to write digits: images of 28 by 28 pixels, from MNIST.

The generator turns normal noise (64 numbers) into an image. It is never told what a digit is, or
that there are ten.

    python digits_gan.py                        train, and save in outputs/digits
    python digits_gan.py --dataset fashion      the same for clothes
    python digits_gan.py --resume               continue a training that was interrupted
    python digits_gan.py --generate 100         images of the saved generator
    python digits_gan.py --interpolate 12       interpolations between digits
"""

import copy
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import common
import images
from common import Standardize, Training

PIXELS, LATENT_DIM = 28 * 28, 64
EPOCHS, PATIENCE, BATCHES_PER_EPOCH, BATCH_SIZE = 40, 40, 240, 128
LEARNING_RATE, BETAS = 0.001, (0.5, 0.99)
EMA_DECAY = 0.998  # of the moving average of the weights


def real_samples(
    n: int, generator: torch.Generator | None = None, dataset: str = "mnist", data_dir: str = "data"
) -> Tensor:
    """`n` random images (n, PIXELS) of a data set, 0 black to 1 white."""
    data, _ = images.load_images(dataset, data_dir)
    return data[torch.randint(len(data), (n,), generator=generator)]


def build_generator() -> nn.Module:
    """Standard normal noise (n, LATENT_DIM) to images (n, PIXELS), pixels in 0..1."""
    layers: list[nn.Module] = []
    sizes = (LATENT_DIM, 128, 256, 512, 1024)
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], PIXELS), nn.Sigmoid())


def build_discriminator() -> nn.Module:
    """Images (n, PIXELS) to logits (n, 1), above zero for "real"."""
    return nn.Sequential(
        nn.Linear(PIXELS, 512), nn.LeakyReLU(0.2),
        nn.Linear(512, 256), nn.LeakyReLU(0.2),
        nn.Linear(256, 128), nn.LeakyReLU(0.2),
        nn.Linear(128, 1),
    )  # fmt: skip


@common.torch_defaults()
def train(
    data: Tensor, *, seed: int = 0, device: str | torch.device = "cpu", progress: bool = True,
    epochs: int = EPOCHS, patience: int = PATIENCE, batch_size: int | None = None,
    lr: float = LEARNING_RATE, checkpoint: Path | None = None, resume: bool = False,
) -> Training:  # fmt: skip
    """Learn images (n, PIXELS) in 0..1; each epoch is saved to `checkpoint`, to `resume` from."""
    device = common.choose_device(device)
    training = Training(
        images.check_images(data), seed=seed, epochs=epochs, patience=patience,
        batch_size=batch_size, progress=progress, features=images.image_features,
    )  # fmt: skip
    batch_size = max(2, batch_size or min(BATCH_SIZE, len(data)))  # batch norm needs two rows
    batches = common.Batches(training.train_rows.to(device), batch_size)
    generator = build_generator().to(device)
    ema_generator = copy.deepcopy(generator).eval()
    standardize = Standardize(training.train_rows, one_unit=True)
    discriminator = nn.Sequential(standardize, build_discriminator()).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 1, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])
    fixed_noise = torch.randn(2048, LATENT_DIM, device=device)
    parts = generator, ema_generator, discriminator, g_optimizer, d_optimizer

    @common.recorded(device)  # as a CUDA graph, on a GPU
    def step(rows: Tensor) -> tuple[Tensor, Tensor]:
        fakes = generator(torch.randn(batch_size, LATENT_DIM, device=device))

        # Discriminator step: tell real images from generated ones
        augmented = images.augment(torch.cat([rows, fakes.detach()]))
        d_loss = bce(discriminator(augmented), labels)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator
        g_loss = bce(discriminator(images.augment(fakes)), ones)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))  # only its own gradients
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for epoch in images.epochs(training, checkpoint, resume, batches, *parts):
            common.set_lr(lr * (1 - (epoch - 1) / epochs), g_optimizer, d_optimizer)
            for rows in images.take(batches, BATCHES_PER_EPOCH, progress):
                d_loss, g_loss = step(rows)
            training.evaluate(ema_generator, fixed_noise, d_loss, g_loss)
    return training.finish(ema_generator, torch.randn(4096, LATENT_DIM), **images.LIMITS)


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    images.add_options(parser)
    parser.add_argument("--resume", action="store_true", help="continue an interrupted training")
    options = parser.parse_args(argv)
    if options.generate or options.interpolate:
        return images.use_generator(options, LATENT_DIM)

    settings, checkpoint = parser.settings(options), options.out / "checkpoint.pth"
    data, labels = images.load_images(options.dataset, options.data_dir)
    with common.output_folder(options.out) as folder:
        training = train(data, **settings, checkpoint=checkpoint, resume=options.resume)
        images.check_classes(training, data, labels)
        common.save(folder, training, LATENT_DIM, generator=training.generator)
        shown = torch.cat([data[:80], training.samples[:80]])
        figure = training, shown, 20, ["real", "generated"]
        images.save_figures(folder, *figure, animate=options.animate)
    return images.report(training, options, checkpoint)


if __name__ == "__main__":
    sys.exit(main())
