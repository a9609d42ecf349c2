# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A conditional GAN: it generates a requested digit, or another kind of picture.

The generator gets noise and a one-hot label (Mirza and Osindero 2014). The discriminator has one
output per label, as in Mescheder et al. 2018; only the output of the image's label is used.

    python conditional_gan.py                              train, and save in outputs/conditional
    python conditional_gan.py --generate 100 --label 7     sevens; without --label, all in turn
    python conditional_gan.py --data FOLDER                pictures; its subfolders are the labels
"""

import copy
import sys
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import common
import images
from common import InputError, Standardize, Training, one_hot_encode

LATENT_DIM, WIDTH = 64, 16  # WIDTH: channels of the largest maps, twice as many for colour
DIGITS, SHAPE = list("0123456789"), (1, 28, 28)
EPOCHS, PATIENCE, BATCHES_PER_EPOCH, BATCH_SIZE = 40, 40, 240, 64
LEARNING_RATE, BETAS = 0.002, (0.0, 0.99)  # beta1 = 0: with momentum the two networks oscillate
EMA_DECAY = 0.998  # of the moving average of the weights
PENALTY, PENALTY_DECAY = 4.0, 0.02  # weight of the gradient penalty; its final fraction


def real_samples(
    n: int, generator: torch.Generator | None = None, dataset: str = "mnist", data_dir: str = "data"
) -> Tensor:
    """`n` random rows (n, 784 + 10) of "mnist" or "fashion": an image in 0..1, and its label."""
    data, labels = images.load_images(dataset, data_dir)
    rows = torch.cat([data, one_hot_encode(labels, len(DIGITS))], dim=1)
    return rows[torch.randint(len(rows), (n,), generator=generator)]


def requested_labels(labels: Tensor, count: int) -> Tensor:
    """Labels (count,): the first 64, for the GIF, in runs of eight, the others as in the data."""
    shown = torch.arange(64) // 8 % (int(labels.max()) + 1)
    return torch.cat([shown, labels[torch.arange(count - 64) % len(labels)]])


def generator_input(labels: Tensor, classes: int = len(DIGITS)) -> Tensor:
    """Noise and one-hot labels (n, LATENT_DIM + classes), for labels (n,)."""
    return torch.cat([torch.randn(len(labels), LATENT_DIM), one_hot_encode(labels, classes)], dim=1)


def build_generator(shape: tuple[int, ...] = SHAPE, classes: int = len(DIGITS)) -> nn.Module:
    """Noise and a label (n, LATENT_DIM + classes) to pictures (n, channels, size, size) in 0..1."""
    side, widths = images.doublings(shape, WIDTH * min(shape[0], 2))
    layers: list[nn.Module] = [
        nn.Linear(LATENT_DIM + classes, 256), nn.BatchNorm1d(256), nn.ReLU(),
        nn.Linear(256, 512), nn.BatchNorm1d(512), nn.ReLU(),
        nn.Linear(512, widths[0] * side**2), nn.Unflatten(1, (widths[0], side, side)),
    ]  # fmt: skip
    for inputs, outputs in pairwise(widths):
        convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
        layers += [nn.BatchNorm2d(inputs), nn.ReLU(), convolution]
    return nn.Sequential(*layers, nn.Sigmoid())


def build_discriminator(shape: tuple[int, ...] = SHAPE, classes: int = len(DIGITS)) -> nn.Module:
    """Pictures to logits (n, classes), above zero for "a real one with this label"."""
    side, widths = images.doublings(shape, WIDTH * min(shape[0], 2))
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(reversed(widths)):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(widths[0] * side**2, 256), nn.LeakyReLU(0.2),
        nn.Linear(256, classes),
    )  # fmt: skip


class WithLabel(nn.Sequential):
    """A generator whose pictures keep their labels: rows (n, pixels + classes), like real ones."""

    def forward(self, noise: Tensor) -> Tensor:
        return torch.cat([super().forward(noise).flatten(1), noise[:, LATENT_DIM:]], dim=1)


@common.torch_defaults()
def train(
    data: Tensor, *, seed: int = 0, device: str | torch.device = "cpu", progress: bool = True,
    epochs: int = EPOCHS, patience: int = PATIENCE, batch_size: int | None = None,
    lr: float = LEARNING_RATE, checkpoint: Path | None = None, resume: bool = False,
    shape: tuple[int, ...] = SHAPE, names: list[str] = DIGITS,
) -> Training:  # fmt: skip
    """Learn rows (n, pixels + classes): a picture of a shape in 0..1, and its one-hot label.

    Each epoch is saved to `checkpoint`, to `resume` from. The generator keeps the labels' names.
    """
    device, classes = common.choose_device(device), len(names)
    data = images.check_images(data, classes, shape)
    if not data[:, -classes:].sort(dim=1).values.eq(torch.eye(classes)[-1]).all():
        raise InputError(f"the last {classes} columns must be one-hot labels")
    training = Training(
        data, seed=seed, epochs=epochs, patience=patience, batch_size=batch_size,
        progress=progress, features=partial(images.image_features, shape=shape),
    )  # fmt: skip
    batch_size = max(2, batch_size or min(BATCH_SIZE, len(data)))  # batch norm needs two rows
    batches = common.Batches(training.train_rows.to(device), batch_size)
    generator = build_generator(shape, classes)
    images.save_names(generator, names)  # saved with the weights
    standardize = Standardize(training.train_rows[:, :-classes].unflatten(1, shape), one_unit=True)
    discriminator = nn.Sequential(standardize, build_discriminator(shape, classes))
    for network in (generator, discriminator):
        network.to(device).to(memory_format=torch.channels_last)  # for faster convolutions
    ema_generator = copy.deepcopy(generator).eval()
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])
    count = min(2048, 2**23 // shape[1] ** 2)  # more large pictures would take gigabytes
    requested = requested_labels(data[:, -classes:].argmax(dim=1), 2 * count)
    fixed_noise = generator_input(requested[:count], classes).to(device)
    parts = generator, ema_generator, discriminator, g_optimizer, d_optimizer

    @common.recorded(device)  # as a CUDA graph, on a GPU
    def step(rows: Tensor, penalty: Tensor, *, apply_penalty: bool) -> tuple[Tensor, Tensor]:
        real, label = rows[:, :-classes].unflatten(1, shape), rows[:, -classes:]
        noise = torch.randn(batch_size, LATENT_DIM, device=device)
        fakes = generator(torch.cat([noise, label], dim=1))

        # Discriminator step: tell real images of a label from generated ones
        augmented = images.augment(torch.cat([real, fakes.detach()]))
        augmented.requires_grad_(apply_penalty)
        scores = (discriminator(augmented) * label.repeat(2, 1)).sum(dim=1)
        d_loss = bce(scores, labels)
        if apply_penalty:  # lazy regularization (Karras et al. 2020)
            d_loss = d_loss + penalty * common.gradient_penalty(scores, augmented)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator
        g_loss = bce((discriminator(images.augment(fakes)) * label).sum(dim=1), ones)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))  # only its own gradients
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for epoch in images.epochs(training, checkpoint, resume, batches, *parts):
            common.set_lr(lr * (1 - (epoch - 1) / epochs), g_optimizer, d_optimizer)
            penalty = ones.new_tensor(PENALTY * PENALTY_DECAY ** ((epoch - 1) / epochs))
            for i, rows in enumerate(images.take(batches, BATCHES_PER_EPOCH, progress)):
                d_loss, g_loss = step(rows, penalty, apply_penalty=i % 4 == 0)
            training.evaluate(WithLabel(ema_generator), fixed_noise, d_loss, g_loss)
    training.finish(WithLabel(ema_generator), generator_input(requested, classes), **images.LIMITS)
    training.generator = ema_generator
    training.samples = training.samples[:, :-classes].unflatten(1, shape)
    return training


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    images.add_options(parser, folder=True)
    parser.add_argument("--label", metavar="NAME", help="label to generate, by name or number")
    options = parser.parse_args(argv)
    if options.generate or options.interpolate:
        return images.use_generator(options, LATENT_DIM, labelled=True)

    settings, checkpoint = parser.settings(options), options.out / "checkpoint.pth"
    data, labels, names = images.load_data(options, labelled=True)
    with common.output_folder(options.out) as folder:
        settings |= {"shape": tuple(data.shape[1:]), "names": names, "resume": options.resume}
        rows = torch.cat([data.flatten(1), one_hot_encode(labels, len(names))], dim=1)
        training = train(rows, **settings, checkpoint=checkpoint)
        requested = requested_labels(labels, len(training.samples))
        images.check_classes(training, data, labels, names, requested)
        if options.data:
            images.check_copies(training, data, folder)
        common.save(folder, training, LATENT_DIM + len(names), generator=training.generator)
        shown = torch.arange(len(names[:20])).repeat_interleave(20)
        figure = training.generator(generator_input(shown, len(names))), 20, names[:20]
        images.save_figures(folder, training, *figure, animate=options.animate)
    return images.report(training, options, checkpoint)


if __name__ == "__main__":
    sys.exit(main())
