# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A GAN that learns integers from 0 to 99 divisible by five, one-hot encoded.

The generator turns 100 random numbers into a one-hot row: the index of the 1 is the integer. It is
never told what the integers have in common, nor how many there are.

    python multiples_of_five_gan.py                     train, save in outputs/multiples_of_five
    python multiples_of_five_gan.py --generate 1000     integers of the saved generator, as CSV
"""

import copy
import sys
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import one_hot
from torch.optim import Adam

import cli
import common
from common import Training

DEPTH = 100
MULTIPLE_OF = 5

LATENT_DIM = DEPTH  # as many random numbers as integers: at first, the largest one decides
BATCHES_PER_EPOCH = 40
COOLDOWN = 20  # last epochs of a training, in which the learning rate falls to zero
BETAS = (0.5, 0.99)  # of Adam
EMA_DECAY = 0.995  # of the moving average of the generator's weights
PENALTY = 0.003  # weight of the gradient penalty


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` multiples of five as one-hot rows (n, 100), each of 0, 5, ..., 95 equally likely."""
    integers = MULTIPLE_OF * torch.randint(DEPTH // MULTIPLE_OF, (n,), generator=generator)
    return common.one_hot_encode(integers, DEPTH)


class Generator(nn.Module):
    """Noise (n, depth) to probabilities of integers (n, depth); in eval mode, to one-hot rows."""

    def __init__(self, depth: int) -> None:
        super().__init__()
        self.layer = nn.Linear(depth, depth)
        nn.init.eye_(self.layer.weight)  # at first, all integers are equally likely
        nn.init.zeros_(self.layer.bias)

    def forward(self, noise: Tensor) -> Tensor:
        logits = self.layer(noise)
        if self.training:
            return logits.softmax(dim=1)  # argmax has no gradient
        return one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)


def build_discriminator(depth: int) -> nn.Linear:
    """One-hot rows (n, depth) to logits (n, 1), above zero for "real"; a weight per integer."""
    return nn.Linear(depth, 1)


def train(
    data: Tensor,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    epochs: int = 60,
    patience: int = 3,
    batch_size: int = 512,
    lr: float = 0.04,
    progress: bool = True,
) -> Training:
    """Learn to generate integers like those of `data`, one-hot rows (n, depth); or InputError."""
    device = common.choose_device(device)
    rows = common.as_rows(data).float()
    depth = rows.shape[1]
    integers = common.one_hot_decode(rows)
    if not torch.equal(rows, common.one_hot_encode(integers, depth)):
        raise common.InputError("data must be one-hot rows: a single 1 in each, zeros elsewhere")
    training = Training(
        rows, seed=seed, epochs=epochs, patience=patience, cooldown=COOLDOWN, progress=progress
    )
    batch_size = min(batch_size, len(rows))
    batches = common.Batches(rows.to(device), batch_size)

    generator = Generator(depth).to(device)
    # With averaged weights, which waver less; in eval mode, as what is measured are integers
    ema_generator = copy.deepcopy(generator).eval()
    discriminator = build_discriminator(depth).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    real = torch.ones(batch_size, 1, device=device)  # what the discriminator should say
    real_then_fake = torch.cat([real, torch.zeros_like(real)])
    fixed_noise = torch.randn(2048, depth, device=device)

    # A function, so that a GPU can record it, and replay it without Python
    @common.cuda_graph(device, g_optimizer, d_optimizer)
    def step(rows: Tensor) -> tuple[Tensor, Tensor]:
        fakes = generator(torch.randn(batch_size, depth, device=device))

        # Discriminator step: tell real rows from generated ones
        scores = discriminator(torch.cat([rows, fakes.detach()]))
        # It is linear: its gradient is its weight, everywhere
        penalty = discriminator.weight.square().sum()
        d_loss = bce(scores, real_then_fake) + PENALTY * penalty
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator, which stays as it is
        g_loss = bce(discriminator(fakes), real)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for _ in training.epochs():
            common.set_lr(lr * training.lr_factor, g_optimizer, d_optimizer)
            for _ in range(BATCHES_PER_EPOCH):
                d_loss, g_loss = step(next(batches))
            training.evaluate(ema_generator, fixed_noise, d_loss.item(), g_loss.item())
    training.finish(ema_generator, torch.randn(16384, depth))
    training.check_missing(integers, common.one_hot_decode(training.samples))
    return training


def draw(axes: Any, data: Tensor, samples: Tensor) -> None:
    """Draws the shares of real and of generated integers, given as one-hot rows (n, depth)."""
    integers = range(data.shape[1])
    real_shares = 100 * data.mean(dim=0).numpy()
    shares = 100 * samples.mean(dim=0).numpy()
    axes.bar(integers, real_shares, 0.9, color=common.REAL, label="real")
    axes.bar(integers, shares, 0.45, color=common.GENERATED, label="generated")
    axes.set(xlabel="integer", ylabel="share in %")
    axes.legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2, fontsize="small")


@cli.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = cli.Parser(__file__, __doc__, train)
    parser.add_argument(
        "--data", metavar="FILE", type=Path, help="learn the integers of a CSV file"
    )
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # faster, for networks as small as these
    if options.generate or options.interpolate:
        return cli.use_generator(options, LATENT_DIM, ["integer"], common.one_hot_decode)

    data = real_samples(2048, common.random_numbers("data", options.seed))
    if options.data:
        integers = cli.read_numbers(options.data, columns=1, depth=DEPTH).flatten().long()
        data = common.one_hot_encode(integers, DEPTH)
    training = train(data, **parser.settings(options))
    cli.save(options, training, LATENT_DIM, generator=training.generator)
    cli.save_picture(options, "samples.png", common.plot(training, draw))
    if options.animate:
        cli.save_picture(options, "training.gif", common.animate(training, draw))
    return cli.report(options, training)


if __name__ == "__main__":
    sys.exit(main())
