# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A CycleGAN: it translates between two kinds of pictures, and never sees a pair (Zhu et al. 2017).

Here they are digits and outlines. Two generators translate one way each. A digit that is translated
to an outline and back must be the same digit: that is why a translation keeps what it shows. Unlike
the paper, it has cross-entropy, batch norm, no buffer.

    python cycle_gan.py                            train, and save in outputs/cycle
    python cycle_gan.py --translate a.png b.png    pictures of your own, both ways
    python cycle_gan.py --generate 100             translations of 100 digits and outlines
"""

import copy
import sys
from argparse import Namespace
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import l1_loss, max_pool2d
from torch.optim import Adam

import cli
import common
import images
from common import Training

SHAPE = (1, 28, 28)  # of a picture

BATCHES_PER_EPOCH = 100
BETAS = (0.5, 0.99)  # of Adam
EMA_DECAY = 0.995  # of the moving average of the generators' weights
CYCLE_WEIGHT = 10.0  # of the error of pictures that were translated and back
MAX_CYCLE_ERROR = 0.03  # largest good mean of this error


def outline(digits: Tensor) -> Tensor:
    """The outlines of digits (n, 1, 28, 28): their 3 x 3 maximum minus the picture."""
    return max_pool2d(digits, kernel_size=3, stride=1, padding=1) - digits


def real_samples(
    n: int,
    generator: torch.Generator | None = None,
    dataset: str = "mnist",
    data_dir: Path | str = "data",
) -> Tensor:
    """At most `n` unpaired pictures (n, 2, 28, 28): a digit, and the outline of another."""
    digits = images.load_dataset(dataset, data_dir).pictures
    order = torch.randperm(len(digits), generator=generator)[: 2 * n]
    half = len(order) // 2
    return torch.cat([digits[order[:half]], outline(digits[order[half : 2 * half]])], dim=1)


def build_generator() -> nn.Module:
    """Pictures (n, 1, 28, 28) to translations (n, 1, 28, 28) in 0..1."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, kernel_size=3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, kernel_size=3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 16, kernel_size=3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.Conv2d(16, 1, kernel_size=3, padding=1),
        nn.Sigmoid(),
    )


def build_discriminator() -> nn.Module:
    """Pictures (n, 1, 28, 28) to a logit per patch (n, 49), above zero for "real" (PatchGAN)."""
    return nn.Sequential(
        nn.Conv2d(1, 32, kernel_size=4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, kernel_size=4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 1, kernel_size=3, padding=1),
        nn.Flatten(),
    )


class Translators(nn.Module):
    """Both generators: digits and outlines (n, 2, 28, 28) to digits and outlines."""

    def __init__(self, to_digit: nn.Module, to_outline: nn.Module) -> None:
        super().__init__()
        self.to_digit = to_digit
        self.to_outline = to_outline

    def forward(self, pictures: Tensor) -> Tensor:
        digits, outlines = pictures.split(1, dim=1)
        return torch.cat([self.to_digit(outlines), self.to_outline(digits)], dim=1)


@common.isolated
def train(
    data: Tensor,
    *,
    seed: int | None = 0,
    device: str | torch.device = "auto",
    epochs: int = 30,
    patience: int | None = None,
    batch_size: int = 16,
    lr: float = 0.001,
    progress: bool = True,
) -> Training:
    """Learn from pictures (n, 2, 28, 28) in 0..1, a digit and an outline; InputError for others.

    The `generator` of what it returns holds both, `to_digit` and `to_outline`.
    """
    device = common.choose_device(device)
    pictures = images.as_pictures(data, channels=[2], sizes=[28])
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

    to_digit = build_generator().to(device)
    to_outline = build_generator().to(device)
    generators = Translators(to_digit, to_outline)
    ema_generators = copy.deepcopy(generators).eval()  # with averaged weights, which waver less
    d_digit = build_discriminator().to(device)
    d_outline = build_discriminator().to(device)
    d_weights = [*d_digit.parameters(), *d_outline.parameters()]
    g_optimizer = Adam(generators.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(d_weights, lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 49, device=device)  # what they say of real pictures
    real_then_fake = torch.cat([ones, torch.zeros_like(ones)])
    examples = pictures[:2048]  # they take the place of noise

    # A function, so that a GPU can record it, and replay it without Python
    @common.cuda_graph(device, g_optimizer, d_optimizer)
    def step(real: Tensor) -> tuple[Tensor, Tensor]:
        digits, outlines = real.split(1, dim=1)
        fake_digits = to_digit(outlines)
        fake_outlines = to_outline(digits)

        # Discriminator step: tell real pictures from translations
        digit_scores = d_digit(torch.cat([digits, fake_digits.detach()]))
        outline_scores = d_outline(torch.cat([outlines, fake_outlines.detach()]))
        d_loss = (bce(digit_scores, real_then_fake) + bce(outline_scores, real_then_fake)) / 2
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminators, which stay as they are (inputs=), and restore the
        # pictures
        g_loss = (bce(d_digit(fake_digits), ones) + bce(d_outline(fake_outlines), ones)) / 2
        digit_error = l1_loss(to_digit(fake_outlines), digits)
        outline_error = l1_loss(to_outline(fake_digits), outlines)
        cycle_loss = (digit_error + outline_error) / 2
        loss = g_loss + CYCLE_WEIGHT * cycle_loss
        g_optimizer.zero_grad()
        loss.backward(inputs=list(generators.parameters()))
        g_optimizer.step()
        common.update_ema(ema_generators, generators, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generators so far
        for epoch in training.epochs():
            common.set_lr(lr * (1 - 0.75 * (epoch - 1) / epochs), g_optimizer, d_optimizer)
            for _ in images.steps_of_epoch(BATCHES_PER_EPOCH, batches, progress):
                d_loss, g_loss = step(next(batches))
            fixed_examples = examples[:512].to(device)
            training.evaluate(ema_generators, fixed_examples, d_loss.item(), g_loss.item())
    training.finish(ema_generators, examples, **images.LIMITS)
    restored = training.generator(training.samples)
    error = l1_loss(restored, examples).item()
    training.check(
        "error after a cycle",
        error <= MAX_CYCLE_ERROR,
        f"{error:.3f}",
        f"at most {MAX_CYCLE_ERROR}",
        "pictures that are translated to and fro change too much.",
    )
    return training


def draw(axes: Any, data: Tensor, samples: Tensor) -> None:
    """Draws digits and outlines, and below each its translation."""
    rows = {
        "digits": data[:8, :1],
        "to outlines": samples[:8, 1:],
        "outlines": data[:8, 1:],
        "to digits": samples[:8, :1],
    }
    images.draw_pictures(axes, rows, columns=8)


def use_generators(options: Namespace) -> int:
    """Serves --translate, --generate and --interpolate; returns the exit status."""
    cli.require_no_training_options(options)
    to_digit = cli.load_model(options.out / "to_digit.pt", SHAPE)
    to_outline = cli.load_model(options.out / "to_outline.pt", SHAPE)
    if options.translate:
        digits = outlines = torch.cat([images.read_grey(path) for path in options.translate])
        names = images.distinct_names(options.translate)
    else:
        random = common.random_generator("samples", options.seed)
        real = real_samples(options.generate or 2, random, options.dataset, options.data_dir)
        digits, outlines = real.split(1, dim=1)
        names = [f"{i:05}" for i in range(len(real))]
    if options.translate or options.generate:
        with images.new_folder(options.out / "to_digit") as folder:
            images.save_pictures(folder, to_digit(outlines), names)
        with images.new_folder(options.out / "to_outline") as folder:
            images.save_pictures(folder, to_outline(digits), names)
    if options.interpolate:  # from the first picture to the last
        place = torch.linspace(0, 1, options.interpolate).view(-1, 1, 1, 1)
        digits = digits[:1].lerp(digits[-1:], place)
        outlines = outlines[:1].lerp(outlines[-1:], place)
        rows = [digits, to_outline(digits), outlines, to_digit(outlines)]
        figure = images.plot_pictures(torch.cat(rows), options.interpolate)
        cli.save_picture(options, "interpolation.png", figure)
    return 0


@cli.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = cli.Parser(__file__, __doc__, train)
    images.add_data_options(parser, ["mnist", "fashion"])
    help_text = "do not train: translate pictures, light on black; others are inverted"
    parser.add_argument("--translate", metavar="FILE", nargs="+", type=Path, help=help_text)
    options = parser.parse_args(argv)
    if options.translate or options.generate or options.interpolate:
        return use_generators(options)

    random = common.random_generator("data", options.seed)
    data = real_samples(60_000, random, options.dataset, options.data_dir)
    labelled = images.load_dataset(options.dataset, options.data_dir)
    training = train(data, **parser.settings(options))
    # If you change real_samples, delete this line: it compares classes with those of the data set
    images.check_classes(training, training.samples[:, :1], labelled)
    to_digit, to_outline = training.generator.children()
    cli.save(options, training, SHAPE, to_outline=to_outline, to_digit=to_digit)
    cli.save_picture(options, "samples.png", common.plot(training, draw))
    if options.animate:
        cli.save_picture(options, "training.gif", common.animate(training, draw))
    return cli.report(options, training)


if __name__ == "__main__":
    sys.exit(main())
