"""The loop as GAN textbooks teach it, written plainly: what this collection is measured against.

Curves and integers follow M. Liu, Learn Generative AI with PyTorch (Manning 2024), chapter 3, and
digits follow "Your First GAN" of the course Build Basic GANs (DeepLearning.AI 2020).

Curves: networks with ReLU and dropout, `DataLoader`, a discriminator step on real points, one on
generated ones, a generator step; stop when the mean squared error of the last batch's y has found
no new minimum for 1,000 epochs. Integers: one linear layer against one linear layer; stop when the
remainders of the last batch have not. It is told the rule behind the data to do so. Digits: four
hidden layers with batch norm against three, at a very low rate.

    python benchmarks/textbook.py     both curves and the integers, until each stops by itself
"""

import itertools
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass

import measure
import torch
from torch import Tensor, nn
from torch.utils.data import DataLoader

import common


@dataclass(frozen=True)
class Textbook:
    """What the loop ends with, and what it took."""

    generator: nn.Module  # in eval mode, in the data's own units
    seconds: float
    iterations: int
    stopped: bool  # by itself, not for want of epochs or time


def curve_networks() -> tuple[nn.Module, nn.Module]:
    """Generator (n, 2) -> (n, 2) and discriminator (n, 2) -> (n, 1), a probability."""
    generator = nn.Sequential(
        nn.Linear(2, 16), nn.ReLU(), nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 2)
    )
    discriminator = nn.Sequential(
        nn.Linear(2, 256), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(256, 128), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(128, 64), nn.ReLU(), nn.Dropout(0.3),
        nn.Linear(64, 1), nn.Sigmoid(),
    )  # fmt: skip
    return generator, discriminator


def integer_networks() -> tuple[nn.Module, nn.Module]:
    """Generator (n, 100) -> (n, 100) and discriminator (n, 100) -> (n, 1), a probability."""
    generator = nn.Sequential(nn.Linear(100, 100), nn.ReLU())
    discriminator = nn.Sequential(nn.Linear(100, 1), nn.Sigmoid())
    return generator, discriminator


def digit_networks() -> tuple[nn.Module, nn.Module]:
    """Generator (n, 64) -> (n, 784) and discriminator (n, 784) -> (n, 1), a logit."""
    sizes, layers = (64, 128, 256, 512, 1024), []
    for inputs, outputs in itertools.pairwise(sizes):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU(inplace=True)]
    generator = nn.Sequential(*layers, nn.Linear(1024, 784), nn.Sigmoid())
    discriminator = nn.Sequential(
        nn.Linear(784, 512), nn.LeakyReLU(0.2),
        nn.Linear(512, 256), nn.LeakyReLU(0.2),
        nn.Linear(256, 128), nn.LeakyReLU(0.2),
        nn.Linear(128, 1),
    )  # fmt: skip
    return generator, discriminator


def learn_points(
    data: Tensor,
    curve: Callable[[Tensor], Tensor],
    *,
    seed: int = 0,
    limit: float = 400.0,
    watch: Callable[[float, nn.Module], None] | None = None,
) -> Textbook:
    """Learn points (n, 2) on y = curve(x); `limit` is in seconds.

    `watch` is told the seconds and the generator after each epoch; its own time is not counted.
    """

    def error(points: Tensor) -> float:
        return (points[:, 1] - curve(points[:, 0])).square().mean().item()

    torch.manual_seed(seed)
    batches = DataLoader(data, batch_size=128, shuffle=True)
    return _learn(batches, *curve_networks(), 2, error, 1000, limit, watch)


def learn_integers(
    data: Tensor,
    *,
    seed: int = 0,
    limit: float = 400.0,
    watch: Callable[[float, nn.Module], None] | None = None,
) -> Textbook:
    """Learn one-hot rows (n, 100) of integers that five divides."""

    def error(rows: Tensor) -> float:
        return (common.one_hot_decode(rows) % 5).float().square().mean().item()

    torch.manual_seed(seed)
    return _learn(OneBatch(data, 10), *integer_networks(), 100, error, 800, limit, watch)


def learn_digits(images: Tensor, seconds: float, *, seed: int = 0) -> Textbook:
    """Learn images (n, 784) for so many seconds; the tutorial's loop has no end of its own."""
    torch.manual_seed(seed)
    generator, discriminator = digit_networks()
    loss = nn.BCEWithLogitsLoss()
    g_optimizer = torch.optim.Adam(generator.parameters(), 0.00001)
    d_optimizer = torch.optim.Adam(discriminator.parameters(), 0.00001)
    start, iterations = time.perf_counter(), 0
    while True:
        for real in DataLoader(images, batch_size=128, shuffle=True):
            if time.perf_counter() - start >= seconds:
                spent = time.perf_counter() - start
                return Textbook(generator.eval(), spent, iterations, stopped=False)
            ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)

            d_optimizer.zero_grad()
            fakes = generator(torch.randn(len(real), 64)).detach()
            d_loss = (loss(discriminator(fakes), zeros) + loss(discriminator(real), ones)) / 2
            d_loss.backward()
            d_optimizer.step()

            g_optimizer.zero_grad()
            g_loss = loss(discriminator(generator(torch.randn(len(real), 64))), ones)
            g_loss.backward()
            g_optimizer.step()
            iterations += 1


@dataclass(frozen=True)
class OneBatch:
    """An epoch of a single batch of `size` rows, drawn anew."""

    data: Tensor
    size: int

    def __iter__(self) -> Iterator[Tensor]:
        yield self.data[torch.randint(len(self.data), (self.size,))]


def _learn(
    batches: Iterable[Tensor],
    generator: nn.Module,
    discriminator: nn.Module,
    latent_dim: int,
    error: Callable[[Tensor], float],
    patience: int,
    limit: float,
    watch: Callable[[float, nn.Module], None] | None,
) -> Textbook:
    loss = nn.BCELoss()
    g_optimizer = torch.optim.Adam(generator.parameters(), 0.0005)
    d_optimizer = torch.optim.Adam(discriminator.parameters(), 0.0005)
    least, waited, iterations, seconds = float("inf"), 0, 0, 0.0
    for _ in range(10_000):
        start = time.perf_counter()
        for real in batches:
            ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)

            d_optimizer.zero_grad()
            real_loss = loss(discriminator(real), ones)
            real_loss.backward()
            d_optimizer.step()

            d_optimizer.zero_grad()
            fakes = generator(torch.randn(len(real), latent_dim))
            fake_loss = loss(discriminator(fakes.detach()), zeros)
            fake_loss.backward()
            d_optimizer.step()

            g_optimizer.zero_grad()
            fakes = generator(torch.randn(len(real), latent_dim))
            g_loss = loss(discriminator(fakes), ones)
            g_loss.backward()
            g_optimizer.step()
            iterations += 1
        with torch.no_grad():
            found = error(fakes)
        waited = 0 if found < least else waited + 1
        least = min(least, found)
        seconds += time.perf_counter() - start
        if watch is not None:
            watch(seconds, generator)
        if waited >= patience or seconds >= limit:
            break
    return Textbook(generator.eval(), seconds, iterations, waited >= patience)


def main() -> None:
    """Run all three, and say what they took."""
    for name in measure.OWN_SHAPES:
        data, curve = measure.training_points(name), measure.SHAPES[name].curve
        assert curve is not None
        ended = learn_points(data, curve, limit=float("inf"))
        found = measure.judge(name, data, ended.generator(torch.randn(measure.GENERATED, 2)))
        print(f"{name}: F {found['F']:.2f}, {ended.seconds:.0f} s, {ended.iterations} steps")
    ended = learn_integers(measure.training_integers(measure.OWN_SET), limit=float("inf"))
    print(f"integers: {ended.seconds:.1f} s, {ended.iterations} steps")


if __name__ == "__main__":
    main()
