# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A GAN that learns which integers are allowed: those in 0..99 that five divides, one-hot encoded.

The generator turns normal noise (100 numbers) into a one-hot row, whose place of the 1 is the
integer. It is never told what the integers have in common, nor how many there are.

    python multiples_of_five_gan.py                     train, save in outputs/multiples_of_five
    python multiples_of_five_gan.py --generate 1000     integers of the saved generator, as CSV
"""

import copy
import sys
from collections.abc import Sequence
from itertools import islice

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import one_hot
from torch.optim import Adam

import common
from common import Course, Training

DEPTH, STEP = 100, 5

LATENT_DIM = DEPTH
EPOCHS, PATIENCE = 50, 40
BATCHES_PER_EPOCH = 40
BATCH_SIZE = 512
LEARNING_RATE = 0.04
AVERAGING = 0.005  # share of the newest weights in the averaged generator
PENALTY = 0.003


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` multiples of five as one-hot rows (n, 100), each of 0, 5, ..., 95 equally likely."""
    return common.one_hot_encode(
        STEP * torch.randint(DEPTH // STEP, (n,), generator=generator), DEPTH
    )


class Generator(nn.Module):
    """One linear layer; its largest output is the integer. (n, depth) noise to (n, depth) one-hot.

    The largest has no slope to learn from, so while training the slopes of the softmax stand in
    for it: the straight-through estimator (Bengio et al. 2013). So the discriminator is shown
    integers, as real rows are, and no blends of them.
    """

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.linear = nn.Linear(depth, depth)
        nn.init.eye_(self.linear.weight)  # to begin with, every integer is equally likely
        nn.init.zeros_(self.linear.bias)

    def forward(self, noise: Tensor) -> Tensor:
        share = self.linear(noise).softmax(dim=1)
        row = one_hot(share.argmax(dim=1), share.shape[1]).to(share.dtype)
        return row + share - share.detach() if self.training else row


def build_generator(depth: int = DEPTH) -> nn.Module:
    """Standard normal noise (n, depth) to one-hot rows (n, depth)."""
    return Generator(depth)


def build_discriminator(depth: int = DEPTH) -> nn.Linear:
    """One-hot rows (n, depth) to logits (n, 1), above zero for "real": one weight an integer."""
    return nn.Linear(depth, 1)


@common.on_one_thread
def train(
    data: Tensor,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = True,
    epochs: int = EPOCHS,
    patience: int = PATIENCE,
    batch_size: int | None = None,
    lr: float = LEARNING_RATE,
    watch: common.Watch | None = None,
) -> Training:
    """Learn to generate integers like those of `data`, one-hot rows (n, depth).

    Raises ValueError for data of another form, or empty, and for bad settings.
    """
    common.check_one_hot(data)
    device = common.choose_device(device)
    course = Course(data, seed, epochs, patience, batch_size, lr, progress, watch)
    batch_size = batch_size or min(BATCH_SIZE, len(data))
    depth = data.shape[1]
    real = common.Batches(course.real.to(device), batch_size)
    generator = build_generator(depth).to(device)
    averaged = copy.deepcopy(generator).eval()
    discriminator = build_discriminator(depth).to(device)
    g_optimizer = Adam(generator.parameters(), lr, betas=(0.5, 0.99), fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, betas=(0.5, 0.99), fused=True)
    is_real = torch.ones(batch_size, 1, device=device)
    both = torch.cat([is_real, torch.zeros_like(is_real)])
    latents = torch.randn(2048, depth, device=device)

    for epoch in course:
        for optimizer in (g_optimizer, d_optimizer):
            optimizer.param_groups[0]["lr"] = lr * (1 - (epoch - 1) / epochs)
        for rows in islice(real, BATCHES_PER_EPOCH):
            fakes = generator(torch.randn(batch_size, depth, device=device))

            # Discriminator step: tell real rows from generated ones
            scores = discriminator(torch.cat([rows, fakes.detach()]))
            slope = discriminator.weight.square().sum()  # of a linear layer: the same everywhere
            d_loss = bce(scores, both) + PENALTY * slope
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()

            # Generator step: be taken for real
            g_loss = bce(discriminator(fakes), is_real)
            g_optimizer.zero_grad()
            g_loss.backward(inputs=list(generator.parameters()))
            g_optimizer.step()
            common.move_towards(averaged, generator, AVERAGING)

        course.evaluate(averaged, latents, d_loss, g_loss)
    return course.training(torch.randn(16384, depth))


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; gives the exit status."""
    return common.run(
        argv, "multiples_of_five", __doc__, common.Integers(), LATENT_DIM, real_samples, train
    )


if __name__ == "__main__":
    sys.exit(main())
