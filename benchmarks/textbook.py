"""The training loop as GAN textbooks teach it: the baseline of the measurements.

Curves and integers follow M. Liu, Learn Generative AI with PyTorch (Manning 2024), chapter 3, which
stops when the last batch has had no lower error for many epochs. The error is that of y, or the
remainder of division by five: the loop is told the rule behind the data. Digits follow "Your First
GAN" of the course Build Basic GANs (DeepLearning.AI 2020), with batch norm and a low learning rate;
colour pictures follow the DCGAN of PyTorch's examples, with a layer less.
"""

import itertools
import time
from collections.abc import Callable, Iterable
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam
from torch.utils.data import DataLoader

import common

EPOCHS = 10_000
Watch = Callable[[float, nn.Module], None]  # gets the seconds and the generator after each epoch


class Result(NamedTuple):
    """What a training ends with."""

    generator: nn.Module  # in eval mode, in the data's own units
    seconds: float
    stopped: bool = False  # by early stopping, not by the time limit


def linear_layers(*sizes: int, after: Callable[[int], list[nn.Module]]) -> nn.Sequential:
    """Linear layers from each size to the next, each with what `after` gives for its size."""
    pairs = itertools.pairwise(sizes)
    return nn.Sequential(*(part for n, m in pairs for part in (nn.Linear(n, m), *after(m))))


def learn_points(
    data: Tensor, curve: Callable[[Tensor], Tensor], seed: int, limit: float,
    watch: Watch | None = None,
) -> Result:  # fmt: skip
    """Learn points (n, 2) on y = curve(x), for `limit` seconds at most."""
    torch.manual_seed(seed)
    generator = linear_layers(2, 16, 32, after=lambda _: [nn.ReLU()]).append(nn.Linear(32, 2))
    discriminator = linear_layers(2, 256, 128, 64, after=lambda _: [nn.ReLU(), nn.Dropout(0.3)])
    discriminator.extend([nn.Linear(64, 1), nn.Sigmoid()])

    def error(points: Tensor) -> float:
        return (points[:, 1] - curve(points[:, 0])).square().mean().item()

    loader = DataLoader(data, batch_size=128, shuffle=True)
    return train(generator, discriminator, lambda: loader, 2, limit, error, 1000, watch)


def learn_integers(data: Tensor, seed: int, limit: float = 400.0) -> Result:
    """Learn one-hot rows (n, 100) of integers that are divisible by five."""
    torch.manual_seed(seed)
    generator = nn.Sequential(nn.Linear(100, 100), nn.ReLU())
    discriminator = nn.Sequential(nn.Linear(100, 1), nn.Sigmoid())

    def error(rows: Tensor) -> float:
        return (common.one_hot_decode(rows) % 5).float().square().mean().item()

    def batches() -> list[Tensor]:
        return [data[torch.randint(len(data), (10,))]]

    return train(generator, discriminator, batches, 100, limit, error, 800)


def learn_digits(images: Tensor, seed: int, limit: float) -> Result:
    """Learn images (n, 784) for `limit` seconds, to the end of the epoch."""
    torch.manual_seed(seed)
    generator = linear_layers(
        64, 128, 256, 512, 1024, after=lambda n: [nn.BatchNorm1d(n), nn.ReLU(inplace=True)]
    )
    generator.extend([nn.Linear(1024, 784), nn.Sigmoid()])
    discriminator = linear_layers(784, 512, 256, 128, after=lambda _: [nn.LeakyReLU(0.2)])
    discriminator.append(nn.Linear(128, 1))
    loader = DataLoader(images, batch_size=128, shuffle=True)
    return train(
        generator, discriminator, lambda: loader, 64, limit,
        loss=bce, lr=0.00001, joint_step=True,
    )  # fmt: skip


def learn_pictures(pictures: Tensor, seed: int, limit: float) -> Result:
    """Learn pictures (n, channels, 32, 32) for `limit` seconds, to the end of the epoch."""
    torch.manual_seed(seed)
    channels, pixels = pictures.shape[1], torch.tensor([[0.0], [1.0]])
    generator = nn.Sequential(nn.Unflatten(1, (100, 1, 1)))
    for inputs, outputs, stride in ((100, 256, 1), (256, 128, 2), (128, 64, 2)):
        layer = nn.ConvTranspose2d(inputs, outputs, 4, stride, stride // 2, bias=False)
        generator.extend([layer, nn.BatchNorm2d(outputs), nn.ReLU()])
    generator.extend([nn.ConvTranspose2d(64, channels, 4, 2, 1, bias=False), nn.Tanh()])
    discriminator = nn.Sequential(nn.Conv2d(channels, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2))
    for inputs, outputs in itertools.pairwise((64, 128, 256)):
        layer = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        discriminator.extend([layer, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)])
    discriminator.extend([nn.Conv2d(256, 1, 4, bias=False), nn.Flatten()])
    for part in (*generator, *discriminator):
        if hasattr(part, "weight"):
            nn.init.normal_(part.weight, float(isinstance(part, nn.BatchNorm2d)), 0.02)
    generator.append(common.Unstandardize(pixels))  # -1..1 to 0..1
    discriminator.insert(0, common.Standardize(pixels))
    loader = DataLoader(pictures, batch_size=64, shuffle=True)
    return train(
        generator, discriminator, lambda: loader, 100, limit,
        loss=bce, lr=0.0002, betas=(0.5, 0.999), joint_step=True, same_fakes=True,
    )  # fmt: skip


def train(
    generator: nn.Module, discriminator: nn.Module, batches: Callable[[], Iterable[Tensor]],
    latent_dim: int, limit: float, error: Callable[[Tensor], float] | None = None,
    patience: int = EPOCHS, watch: Watch | None = None,
    loss: Callable[[Tensor, Tensor], Tensor] = binary_cross_entropy,
    lr: float = 0.0005, betas: tuple[float, float] = (0.9, 0.999),
    joint_step: bool = False, same_fakes: bool = False,
) -> Result:  # fmt: skip
    """Train on the batches of each epoch until `error` stalls or `limit` seconds have passed.

    The book takes a step of the discriminator for real rows and another for generated ones, the
    others a joint one for the mean of both losses (or their sum, which is the same for Adam).
    PyTorch's generator learns from the same fakes. The time of `watch` is not counted.
    """
    weight = 0.5 if joint_step else 1.0
    networks = generator, discriminator
    g_optimizer, d_optimizer = (Adam(each.parameters(), lr, betas) for each in networks)
    lowest, waited, seconds = float("inf"), 0, 0.0
    for _ in range(EPOCHS):
        start = time.perf_counter()
        for real in batches():
            ones, zeros = torch.ones(len(real), 1), torch.zeros(len(real), 1)

            d_optimizer.zero_grad()
            (weight * loss(discriminator(real), ones)).backward()
            if not joint_step:
                d_optimizer.step()
                d_optimizer.zero_grad()
            fakes = generator(torch.randn(len(real), latent_dim))
            (weight * loss(discriminator(fakes.detach()), zeros)).backward()
            d_optimizer.step()

            g_optimizer.zero_grad()
            if not same_fakes:
                fakes = generator(torch.randn(len(real), latent_dim))
            loss(discriminator(fakes), ones).backward()
            g_optimizer.step()
        if error is not None:
            found = error(fakes.detach())
            lowest, waited = min(lowest, found), 0 if found < lowest else waited + 1
        seconds += time.perf_counter() - start
        if watch is not None:
            watch(seconds, generator)
        if waited >= patience or seconds >= limit:
            break
    return Result(generator.eval().requires_grad_(False), seconds, waited >= patience)
