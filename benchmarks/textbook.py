"""The training loop as GAN textbooks teach it: the baseline of the measurements.

Curves and integers follow M. Liu, Learn Generative AI with PyTorch (Manning 2024), chapter 3, which
stops when the last batch has had no lower error for many epochs. The error is that of y, or the
remainder of division by five: the loop is told the rule behind the data. Digits and colour pictures
follow scripts that people copy, with their settings: the DCGAN of pytorch/examples, with one layer
fewer, as its pictures have 64 pixels and these 32; and gan.py and dcgan.py of PyTorch-GAN, by Erik
Linder-Noren.
"""

import time
from collections.abc import Callable, Iterable
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy, pad
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam
from torch.utils.data import DataLoader

import common

EPOCHS = 10_000
PICTURE_LATENT_DIM = 100  # random numbers that become a picture

Networks = tuple[nn.Module, nn.Module]  # generator and discriminator
Step = Callable[[Tensor], Tensor]  # trains both networks on real rows; gives the last fakes
Watch = Callable[[float, nn.Module], None]  # gets the seconds and the generator after each epoch


class Result(NamedTuple):
    """What a training ends with."""

    generator: nn.Module  # in eval mode, in the data's own units
    seconds: float
    stopped: bool = False  # by early stopping, not by the time limit


# --- Curves and integers -----------------------------------------------------------------------


def learn_points(
    data: Tensor,
    curve: Callable[[Tensor], Tensor],
    seed: int,
    limit: float,
    watch: Watch | None = None,
) -> Result:
    """Learn points (n, 2) on y = curve(x), for `limit` seconds at most."""
    torch.manual_seed(seed)
    generator = nn.Sequential(
        nn.Linear(2, 16),
        nn.ReLU(),
        nn.Linear(16, 32),
        nn.ReLU(),
        nn.Linear(32, 2),
    )
    discriminator = nn.Sequential(
        nn.Linear(2, 256),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Dropout(0.3),
        nn.Linear(64, 1),
        nn.Sigmoid(),
    )

    def error(points: Tensor) -> float:
        return (points[:, 1] - curve(points[:, 0])).square().mean().item()

    loader = DataLoader(data, batch_size=128, shuffle=True)
    step = book_step(generator, discriminator, latent_dim=2)
    return train(generator, step, lambda: loader, limit, error, patience=1000, watch=watch)


def learn_integers(data: Tensor, seed: int, limit: float = 400.0) -> Result:
    """Learn one-hot rows (n, 100) of integers that are divisible by five."""
    torch.manual_seed(seed)
    generator = nn.Sequential(nn.Linear(100, 100), nn.ReLU())
    discriminator = nn.Sequential(nn.Linear(100, 1), nn.Sigmoid())

    def error(rows: Tensor) -> float:
        return (common.one_hot_decode(rows) % 5).float().square().mean().item()

    def batches() -> list[Tensor]:
        return [data[torch.randint(len(data), (10,))]]

    step = book_step(generator, discriminator, latent_dim=100)
    return train(generator, step, batches, limit, error, patience=800)


def targets(real: Tensor) -> tuple[Tensor, Tensor]:
    """What a discriminator should say of as many real and as many generated rows (n, 1)."""
    return torch.ones(len(real), 1), torch.zeros(len(real), 1)


def book_step(generator: nn.Module, discriminator: nn.Module, latent_dim: int) -> Step:
    """The book's step: the discriminator's for real rows, that for generated ones, the other's."""
    g_optimizer = Adam(generator.parameters(), lr=0.0005)
    d_optimizer = Adam(discriminator.parameters(), lr=0.0005)

    def step(real: Tensor) -> Tensor:
        ones, zeros = targets(real)
        d_optimizer.zero_grad()
        binary_cross_entropy(discriminator(real), ones).backward()
        d_optimizer.step()

        d_optimizer.zero_grad()
        fakes = generator(torch.randn(len(real), latent_dim))
        binary_cross_entropy(discriminator(fakes.detach()), zeros).backward()
        d_optimizer.step()

        g_optimizer.zero_grad()
        fakes = generator(torch.randn(len(real), latent_dim))
        binary_cross_entropy(discriminator(fakes), ones).backward()
        g_optimizer.step()
        return fakes.detach()

    return step


# --- Pictures ----------------------------------------------------------------------------------


class Affine(nn.Module):
    """Numbers times a factor, plus a shift."""

    def __init__(self, factor: float, shift: float) -> None:
        super().__init__()
        self.factor = factor
        self.shift = shift

    def forward(self, numbers: Tensor) -> Tensor:
        return self.factor * numbers + self.shift


def learn_digits(digits: Tensor, seed: int, limit: float, example: str) -> Result:
    """Learn digits (n, 1, 28, 28) as an example does: most give them a margin, to 32 pixels."""
    margin = EXAMPLES[example].margin
    result = learn_pictures(pad(digits, [margin] * 4), seed, limit, example)
    without_margin = nn.ZeroPad2d(-margin)
    return result._replace(generator=nn.Sequential(result.generator, without_margin).eval())


def learn_pictures(
    pictures: Tensor, seed: int, limit: float, example: str = "PyTorch's DCGAN"
) -> Result:
    """Learn pictures (n, channels, size, size) for `limit` seconds, to the end of the epoch."""
    torch.manual_seed(seed)
    build_networks, build_step, _ = EXAMPLES[example]
    generator, discriminator = build_networks(*pictures.shape[1:3])
    loader = DataLoader(pictures, batch_size=64, shuffle=True)
    step = build_step(generator, discriminator)
    return train(generator, step, lambda: loader, limit)


def pytorch_dcgan(channels: int, _: int) -> Networks:
    """Networks for pictures of 32 by 32 pixels (pytorch/examples, dcgan/main.py)."""
    generator = nn.Sequential(
        nn.Unflatten(1, (PICTURE_LATENT_DIM, 1, 1)),
        nn.ConvTranspose2d(PICTURE_LATENT_DIM, 256, kernel_size=4, bias=False),
        nn.BatchNorm2d(256),
        nn.ReLU(),
        nn.ConvTranspose2d(256, 128, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(128),
        nn.ReLU(),
        nn.ConvTranspose2d(128, 64, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, channels, kernel_size=4, stride=2, padding=1, bias=False),
        nn.Tanh(),
        Affine(0.5, 0.5),  # -1..1 to 0..1
    )
    discriminator = nn.Sequential(
        Affine(2.0, -1.0),  # 0..1 to -1..1
        nn.Conv2d(channels, 64, kernel_size=4, stride=2, padding=1, bias=False),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, 128, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(128),
        nn.LeakyReLU(0.2),
        nn.Conv2d(128, 256, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(256),
        nn.LeakyReLU(0.2),
        nn.Conv2d(256, 1, kernel_size=4, bias=False),
        nn.Flatten(),
    )
    generator.apply(initialize)
    discriminator.apply(initialize)
    return generator, discriminator


def pytorch_gan_gan(channels: int, size: int) -> Networks:
    """Linear networks (PyTorch-GAN, gan.py)."""
    pixels = channels * size * size
    generator = nn.Sequential(
        nn.Linear(PICTURE_LATENT_DIM, 128),
        nn.LeakyReLU(0.2),
        nn.Linear(128, 256),
        nn.BatchNorm1d(256, eps=0.8),
        nn.LeakyReLU(0.2),
        nn.Linear(256, 512),
        nn.BatchNorm1d(512, eps=0.8),
        nn.LeakyReLU(0.2),
        nn.Linear(512, 1024),
        nn.BatchNorm1d(1024, eps=0.8),
        nn.LeakyReLU(0.2),
        nn.Linear(1024, pixels),
        nn.Tanh(),
        nn.Unflatten(1, (channels, size, size)),
        Affine(0.5, 0.5),
    )
    discriminator = nn.Sequential(
        Affine(2.0, -1.0),
        nn.Flatten(),
        nn.Linear(pixels, 512),
        nn.LeakyReLU(0.2),
        nn.Linear(512, 256),
        nn.LeakyReLU(0.2),
        nn.Linear(256, 1),
    )
    return generator, discriminator


def pytorch_gan_dcgan(channels: int, _: int) -> Networks:
    """Networks for pictures of 32 by 32 pixels (PyTorch-GAN, dcgan.py)."""
    generator = nn.Sequential(
        nn.Linear(PICTURE_LATENT_DIM, 128 * 8 * 8),
        nn.Unflatten(1, (128, 8, 8)),
        nn.BatchNorm2d(128),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(128, 128, kernel_size=3, padding=1),
        nn.BatchNorm2d(128, eps=0.8),
        nn.LeakyReLU(0.2),
        nn.Upsample(scale_factor=2),
        nn.Conv2d(128, 64, kernel_size=3, padding=1),
        nn.BatchNorm2d(64, eps=0.8),
        nn.LeakyReLU(0.2),
        nn.Conv2d(64, channels, kernel_size=3, padding=1),
        nn.Tanh(),
        Affine(0.5, 0.5),
    )
    layers: list[nn.Module] = [Affine(2.0, -1.0)]
    for before, after in pairwise([channels, 16, 32, 64, 128]):
        layers += [
            nn.Conv2d(before, after, kernel_size=3, stride=2, padding=1),
            nn.LeakyReLU(0.2),
            nn.Dropout2d(0.25),
        ]
        if after > 16:
            layers.append(nn.BatchNorm2d(after, eps=0.8))
    discriminator = nn.Sequential(*layers, nn.Flatten(), nn.Linear(128 * 2 * 2, 1))
    generator.apply(initialize)
    discriminator.apply(initialize)
    return generator, discriminator


def initialize(layer: nn.Module) -> None:
    """Sets the weights of a convolution or of batch norm as both DCGANs do."""
    if isinstance(layer, nn.Conv2d | nn.ConvTranspose2d):
        nn.init.normal_(layer.weight, 0.0, 0.02)
    if isinstance(layer, nn.BatchNorm2d):
        nn.init.normal_(layer.weight, 1.0, 0.02)


def optimizers(generator: nn.Module, discriminator: nn.Module) -> tuple[Adam, Adam]:
    """Those of all these examples."""
    return (
        Adam(generator.parameters(), lr=0.0002, betas=(0.5, 0.999)),
        Adam(discriminator.parameters(), lr=0.0002, betas=(0.5, 0.999)),
    )


def pytorch_step(generator: nn.Module, discriminator: nn.Module) -> Step:
    """The step of PyTorch's example: one of the discriminator, and the other's, for one batch."""
    g_optimizer, d_optimizer = optimizers(generator, discriminator)

    def step(real: Tensor) -> Tensor:
        ones, zeros = targets(real)
        d_optimizer.zero_grad()
        bce(discriminator(real), ones).backward()
        fakes = generator(torch.randn(len(real), PICTURE_LATENT_DIM))
        bce(discriminator(fakes.detach()), zeros).backward()
        d_optimizer.step()

        g_optimizer.zero_grad()
        bce(discriminator(fakes), ones).backward()
        g_optimizer.step()
        return fakes.detach()

    return step


def pytorch_gan_step(generator: nn.Module, discriminator: nn.Module) -> Step:
    """The step of PyTorch-GAN: one of the generator, and the other's, for the same fakes."""
    g_optimizer, d_optimizer = optimizers(generator, discriminator)

    def step(real: Tensor) -> Tensor:
        ones, zeros = targets(real)
        g_optimizer.zero_grad()
        fakes = generator(torch.randn(len(real), PICTURE_LATENT_DIM))
        bce(discriminator(fakes), ones).backward()
        g_optimizer.step()

        d_optimizer.zero_grad()
        real_loss = bce(discriminator(real), ones)
        fake_loss = bce(discriminator(fakes.detach()), zeros)
        ((real_loss + fake_loss) / 2).backward()
        d_optimizer.step()
        return fakes.detach()

    return step


class Example(NamedTuple):
    """A script that people copy."""

    build_networks: Callable[[int, int], Networks]  # for channels and size
    build_step: Callable[[nn.Module, nn.Module], Step]
    margin: int = 2  # around digits, in pixels


EXAMPLES = {
    "PyTorch's DCGAN": Example(pytorch_dcgan, pytorch_step),
    "PyTorch-GAN's dcgan.py": Example(pytorch_gan_dcgan, pytorch_gan_step),
    "PyTorch-GAN's gan.py": Example(pytorch_gan_gan, pytorch_gan_step, margin=0),
}

# --- The loop ----------------------------------------------------------------------------------


def train(
    generator: nn.Module,
    step: Step,
    batches: Callable[[], Iterable[Tensor]],
    limit: float,
    error: Callable[[Tensor], float] | None = None,
    patience: int = EPOCHS,
    watch: Watch | None = None,
) -> Result:
    """Train on the batches of each epoch until `error` stalls or `limit` seconds have passed.

    The error is that of the last fakes; it stalls after `patience` epochs without a lower one. The
    time of `watch` is not counted.
    """
    lowest = float("inf")
    waited = 0
    seconds = 0.0
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for real in batches():
            fakes = step(real)
        if error is not None:
            last = error(fakes)
            waited = 0 if last < lowest else waited + 1
            lowest = min(lowest, last)
        seconds += time.perf_counter() - start
        if watch is not None:
            watch(seconds, generator)
        if waited >= patience or seconds >= limit:
            break
    return Result(generator.eval().requires_grad_(False), seconds, waited >= patience)
