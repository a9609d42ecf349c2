# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A CycleGAN: it translates between two kinds of images, and never sees a pair (Zhu et al. 2017).

Here they are digits and outlines. Unlike the paper, it has cross-entropy, batch norm, no buffer.

    python cycle_gan.py                            train, and save in outputs/cycle
    python cycle_gan.py --translate a.png b.png    images of your own, both ways
"""

import copy
import sys
from argparse import Namespace
from contextlib import suppress
from functools import partial

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import l1_loss, max_pool2d
from torch.optim import Adam

import common
import images

PIXELS = LATENT_DIM = 28 * 28  # a generator gets an image in place of noise
EPOCHS, PATIENCE, BATCHES_PER_EPOCH, BATCH_SIZE = 30, 30, 100, 16
LEARNING_RATE, BETAS, EMA_DECAY, CYCLE_WEIGHT = 0.001, (0.5, 0.99), 0.995, 10.0
swap_domains = partial(torch.roll, shifts=PIXELS, dims=1)  # exchanges the two images of rows


def outline(digits: Tensor) -> Tensor:
    """The outlines of digits (n, PIXELS): their 3 x 3 maximum minus the image."""
    return max_pool2d(digits.view(-1, 1, 28, 28), 3, stride=1, padding=1).flatten(1) - digits


def unpaired_rows(digits: Tensor) -> Tensor:
    """Rows (n / 2, 2 * PIXELS): a digit from the first half, an outline from the second."""
    return torch.cat([digits[: len(digits) // 2], outline(digits[-(len(digits) // 2) :])], dim=1)


def real_samples(
    n: int, generator: torch.Generator | None = None, dataset: str = "mnist", data_dir: str = "data"
) -> Tensor:
    """`n` random rows (n, 2 * PIXELS): a digit, and the outline of another."""
    rows = unpaired_rows(images.load_images(dataset, data_dir)[0])
    return rows[torch.randint(len(rows), (n,), generator=generator)]


def build_generator() -> nn.Module:
    """Images (n, PIXELS) to translations (n, PIXELS), pixels in 0..1."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 28, 28))]
    for channels in (1, 16, 16, 16):
        layers += [nn.Conv2d(channels, 16, 3, padding=1), nn.BatchNorm2d(16), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(16, 1, 3, padding=1), nn.Flatten(), nn.Sigmoid())


def build_discriminator() -> nn.Module:
    """Images (n, PIXELS) to one logit per patch (n, 49), above zero for "real" (PatchGAN)."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 32, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, 2, 1), nn.LeakyReLU(0.2), nn.Conv2d(64, 1, 3, 1, 1), nn.Flatten(),
    )  # fmt: skip


class Pair(nn.ModuleList):
    """Two networks, each for one of the two images of a row (n, 2 * PIXELS)."""

    def forward(self, rows: Tensor) -> Tensor:
        halves = zip(self, rows.chunk(2, dim=1), strict=True)
        return torch.cat([network(half) for network, half in halves], dim=1)


@common.torch_defaults()
def train(
    data: Tensor, *, seed: int = 0, device: str | torch.device = "cpu", progress: bool = True,
    epochs: int = EPOCHS, patience: int = PATIENCE, batch_size: int | None = None,
    lr: float = LEARNING_RATE) -> common.Training:  # fmt: skip
    """Learn rows (n, 2 * PIXELS) of a digit and an outline, in 0..1; generator: to_digit first."""
    device = common.choose_device(device)
    training = common.Training(
        images.check_images(data, more=PIXELS), seed=seed, epochs=epochs, patience=patience,
        batch_size=batch_size, progress=progress,
        features=partial(images.image_features, shape=(2, 28, 28)))  # fmt: skip
    batch_size = max(2, batch_size or min(BATCH_SIZE, len(data)))  # batch norm needs two rows
    batches = common.Batches(training.train_rows.to(device), batch_size)
    generators = Pair([build_generator(), build_generator()]).to(device)
    ema_generators = copy.deepcopy(generators).eval()
    discriminators = Pair([build_discriminator(), build_discriminator()]).to(device)
    g_optimizer = Adam(generators.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminators.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 2 * 49, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])
    examples = swap_domains(training.data[:2048])  # in place of noise

    @common.recorded(device)  # as a CUDA graph, on a GPU
    def step(rows: Tensor) -> tuple[Tensor, Tensor]:
        fakes = generators(swap_domains(rows))

        # Discriminator step: tell real images from translations
        d_loss = bce(discriminators(torch.cat([rows, fakes.detach()])), labels)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminators, and restore the images
        g_loss = bce(discriminators(fakes), ones)
        cycle_loss = l1_loss(generators(swap_domains(fakes)), rows)
        g_optimizer.zero_grad()
        (g_loss + CYCLE_WEIGHT * cycle_loss).backward(inputs=list(generators.parameters()))
        g_optimizer.step()
        common.update_ema(ema_generators, generators, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generators so far
        for epoch in training.epochs():
            common.set_lr(lr * (1 - 0.75 * (epoch - 1) / epochs), g_optimizer, d_optimizer)
            for rows in images.take(batches, BATCHES_PER_EPOCH, progress):
                d_loss, g_loss = step(rows)
            training.evaluate(ema_generators, examples[:512].to(device), d_loss, g_loss)
    training.finish(ema_generators, examples, **images.LIMITS)
    error = l1_loss(training.generator(swap_domains(training.samples)), training.data[:2048]).item()
    training.check(error <= 0.03, f"mean cycle error {error:.3f}")
    return training


def use_generators(options: Namespace) -> int:
    """Serves --translate, --generate and --interpolate; returns the exit status."""
    own = [images.read_image(path).repeat(1, 2) for path in options.translate]
    source = common.stream("samples", options.seed), options.dataset, options.data_dir
    rows = torch.cat(own) if own else real_samples(options.generate or 2, *source)
    names, steps = ("to_digit", "to_outline"), options.interpolate
    pair = Pair(common.load_model(options.out / f"{name}.pt", PIXELS, PIXELS) for name in names)
    with common.output_folder(options.out) as folder:
        if options.translate or options.generate:
            for name, part in zip(names, pair(swap_domains(rows)).chunk(2, dim=1), strict=True):
                images.save_images(folder / name, part, options.format, options.translate)
        if steps:
            walk = rows[:1].lerp(rows[-1:], torch.linspace(0, 1, steps).unsqueeze(1))
            parts = *walk.chunk(2, dim=1), *pair(swap_domains(walk)).chunk(2, dim=1)
            picture = folder / "interpolation.png"
            common.save_picture(picture, images.plot_grid, torch.cat(parts), steps)
    return 0


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    images.add_options(parser, files="--translate")
    options = parser.parse_args(argv)
    if options.translate or options.generate or options.interpolate:
        return use_generators(options)

    data, labels = images.load_images(options.dataset, options.data_dir)
    with common.output_folder(options.out) as folder:
        training = train(unpaired_rows(data), **parser.settings(options))
        images.check_classes(training, data[: len(data) // 2], labels[: len(data) // 2])
        to_digit, to_outline = training.generator.children()
        common.save(folder, training, PIXELS, to_outline=to_outline, to_digit=to_digit)
        digits, outlines = data[:16], outline(data[:16])
        rows = torch.cat([digits, to_outline(digits), outlines, to_digit(outlines)])
        figure = training, rows, 16, ["digits", "to outlines", "outlines", "to digits"]
        images.save_figures(folder, *figure, animate=options.animate)
    return common.report(training, options)


if __name__ == "__main__":
    sys.exit(main())
