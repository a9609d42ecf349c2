# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A CycleGAN: it translates between two kinds of images, and never sees a pair (Zhu et al. 2017).

Here digits and outlines. Two generators translate, two discriminators judge; there and back must
restore the image. Other than in the paper: cross-entropy, batch norm, no buffer of earlier images.

    python cycle_gan.py                            train, and save in outputs/cycle
    python cycle_gan.py --translate a.png b.png    images of your own, both ways
"""

import copy
import sys
from contextlib import suppress
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import l1_loss, max_pool2d
from torch.optim import Adam

import common
import images

PIXELS = LATENT_DIM = 28 * 28  # a generator is given an image in place of noise
EPOCHS, PATIENCE, BATCHES_PER_EPOCH, BATCH_SIZE = 30, 30, 100, 16
LEARNING_RATE, BETAS = 0.001, (0.5, 0.99)
EMA_DECAY = 0.995  # of the moving average of the weights
CYCLE = 10.0  # what an error there and back counts, beside the opinion of a discriminator
WIDTH = 16  # channels of a generator


def outline(digits: Tensor) -> Tensor:
    """The outlines of digits (n, PIXELS): their 3 x 3 maximum minus the image."""
    return max_pool2d(digits.view(-1, 1, 28, 28), 3, stride=1, padding=1).flatten(1) - digits


def unpaired(digits: Tensor) -> Tensor:
    """Rows (n / 2, 2 * PIXELS): a digit from the first half, an outline from the second."""
    return torch.cat([digits[: len(digits) // 2], outline(digits[-(len(digits) // 2) :])], dim=1)


def real_samples(
    n: int, generator: torch.Generator | None = None, dataset: str = "mnist", data_dir: str = "data"
) -> Tensor:
    """`n` random rows (n, 2 * PIXELS): a digit, and the outline of another."""
    rows = unpaired(images.load_images(dataset, data_dir)[0])
    return rows[torch.randint(len(rows), (n,), generator=generator)]


def build_generator() -> nn.Module:
    """Images (n, PIXELS) to translations (n, PIXELS), pixels in 0..1."""
    layers: list[nn.Module] = [nn.Unflatten(1, (1, 28, 28))]
    for channels in (1, WIDTH, WIDTH, WIDTH):
        layers += [nn.Conv2d(channels, WIDTH, 3, padding=1), nn.BatchNorm2d(WIDTH), nn.ReLU()]
    return nn.Sequential(*layers, nn.Conv2d(WIDTH, 1, 3, padding=1), nn.Flatten(), nn.Sigmoid())


def build_discriminator() -> nn.Module:
    """Images (n, PIXELS) to logits (n, 49), above zero where a part of the image looks real."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)), nn.Conv2d(1, 32, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(64, 1, 3, padding=1), nn.Flatten(),
    )  # fmt: skip


class Both(nn.ModuleList):
    """Two networks side by side, each for one of the two images of a row."""

    def forward(self, rows: Tensor) -> Tensor:
        halves = zip(self, rows.chunk(2, dim=1), strict=True)
        return torch.cat([network(half) for network, half in halves], dim=1)


@common.torch_defaults()
def train(
    data: Tensor, *, seed: int = 0, device: str | torch.device = "cpu", progress: bool = True,
    epochs: int = EPOCHS, patience: int = PATIENCE, batch_size: int | None = None,
    lr: float = LEARNING_RATE,
) -> common.Training:  # fmt: skip
    """Learn rows (n, 2 * PIXELS) of a digit and an outline, in 0..1; `Both` has to_digit first."""
    data = images.check_images(data, more=PIXELS)
    device = common.choose_device(device)
    training = common.Training(
        data, seed=seed, epochs=epochs, patience=patience, batch_size=batch_size,
        progress=progress, one_unit=True,
    )  # fmt: skip
    batch_size = max(2, batch_size or min(BATCH_SIZE, len(data)))  # to have a deviation to norm
    batches = common.Batches(training.train_rows.to(device), batch_size)
    translators = Both([build_generator(), build_generator()]).to(device)
    judges = Both([build_discriminator(), build_discriminator()]).to(device)
    ema_generator = copy.deepcopy(translators).eval()
    g_optimizer = Adam(translators.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(judges.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 2 * 49, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])
    shown = torch.cat([training.held_out, training.train_rows])[:2048]

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for epoch in training.epochs():
            for optimizer in (g_optimizer, d_optimizer):
                optimizer.param_groups[0]["lr"] = lr * (1 - 0.75 * (epoch - 1) / epochs)
            for _, rows in zip(range(BATCHES_PER_EPOCH), batches, strict=False):
                fakes = translators(rows.roll(PIXELS, 1))

                # Discriminator step: tell real images from translations
                d_loss = bce(judges(torch.cat([rows, fakes.detach()])), labels)
                d_optimizer.zero_grad()
                d_loss.backward()
                d_optimizer.step()

                # Generator step: fool the discriminators, and find the way back
                g_loss = bce(judges(fakes), ones)
                there_and_back = l1_loss(translators(fakes.roll(PIXELS, 1)), rows)
                g_optimizer.zero_grad()
                (g_loss + CYCLE * there_and_back).backward(inputs=list(translators.parameters()))
                g_optimizer.step()
                common.update_ema(ema_generator, translators, EMA_DECAY)

            training.evaluate(ema_generator, shown[:512].to(device).roll(PIXELS, 1), d_loss, g_loss)
    training.finish(ema_generator, shown.roll(PIXELS, 1))
    error = l1_loss(training.generator(training.samples.roll(PIXELS, 1)), shown).item()
    training.check(error <= 0.03, f"mean cycle error {error:.3f}")
    return training


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    images.add_options(parser)
    parser.add_argument("--translate", metavar="FILE", nargs="+", type=Path, default=[],
        help=f"no training: images of your own, both ways; {images.OWN}")  # fmt: skip
    options = parser.parse_args(argv)
    names = "to_outline", "to_digit"

    if options.translate or options.generate or options.interpolate:
        own = [images.read_image(path).repeat(1, 2) for path in options.translate]
        count, random = options.generate or 2, common.stream("samples", options.seed)
        source = count, random, options.dataset, options.data_dir
        rows = torch.cat(own) if own else real_samples(*source)
        way = torch.linspace(0, 1, options.interpolate or 1).unsqueeze(1)
        with common.output_folder(options.out) as folder:
            walks: list[Tensor] = []
            for name, given in zip(names, rows.chunk(2, dim=1), strict=True):
                translate = common.load_model(options.out / f"{name}.pt", PIXELS, PIXELS)
                blocks = (translate(some) for some in given.split(common.CHUNK))
                images.save_images(folder / name, blocks, options.format, options.translate)
                walk = given[:1].lerp(given[-1:], way)
                walks += [walk, translate(walk)]
            if options.interpolate:
                rows, picture = torch.cat(walks), folder / "interpolation.png"
                common.save_picture(picture, images.plot_interpolations, rows, len(way))
        return 0

    data, labels = images.load_images(options.dataset, options.data_dir)
    with common.output_folder(options.out) as folder:
        training = train(unpaired(data), **common.training_settings(options))
        images.check_classes(training, data[: len(data) // 2], labels)
        to_digit, to_outline = training.generator.children()
        for name, translate in zip(names, (to_outline, to_digit), strict=True):
            common.save_model(folder, name, translate, PIXELS)
        common.save_history(folder, training)
        digits = training.held_out[:16, :PIXELS]
        outlines = outline(digits)
        shown = [digits, to_outline(digits), to_digit(to_outline(digits)), outlines]
        shown += [outlines, to_digit(outlines), to_outline(to_digit(outlines)), digits]
        stages = 2 * ["real", "translated", "and back", "truth"]
        figure = images.plot_image_rows, training, torch.cat(shown), 16, stages
        common.save_picture(folder / "samples.png", *figure)
        if options.animate:
            film = images.animate_images, training.snapshots
            common.save_picture(folder / "training.gif", *film)
    return common.report(training, options)


if __name__ == "__main__":
    sys.exit(main())
