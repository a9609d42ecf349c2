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
BATCHES_PER_EPOCH = 40  # an epoch is not one pass over the data, but so many steps
COOLDOWN = 20  # the last epochs, in which the learning rate falls to zero
BETAS = (0.5, 0.99)  # of Adam
EMA_DECAY = 0.995  # of the moving average of the generator's weights
PENALTY = 0.003  # weight of the gradient penalty


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """Returns `n` of the integers 0, 5, ..., 95, equally likely, as one-hot rows (n, 100)."""
    count = (DEPTH - 1) // MULTIPLE_OF + 1
    integers = MULTIPLE_OF * torch.randint(count, (n,), generator=generator)
    return common.one_hot_encode(integers, DEPTH)


class Generator(nn.Module):
    """Turns noise (n, depth) into probabilities of integers (n, depth).

    In eval mode, it turns noise into one-hot rows.
    """

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
    """Turns one-hot rows (n, depth) into logits (n, 1), above zero for "real"."""
    return nn.Linear(depth, 1)


@common.isolated
def train(
    data: Tensor,
    *,
    seed: int | None = 0,
    device: str | torch.device = "auto",
    epochs: int = 60,
    patience: int = 3,
    batch_size: int = 512,
    lr: float = 0.04,
    progress: bool = True,
) -> Training:
    """Trains a GAN on `data`, integers as one-hot rows (n, depth).

    After `patience` epochs without progress the learning rate falls for COOLDOWN epochs; then
    training ends. Raises InputError if the data or a setting are invalid.
    """
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
    # With a moving average of the weights: it wavers less. In eval mode, it makes integers
    ema_generator = copy.deepcopy(generator).eval()
    discriminator = build_discriminator(depth).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 1, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])  # of real rows, then of generated ones
    fixed_noise = torch.randn(2048, depth, device=device)  # so that epochs can be compared

    # One step: a function, as the decorator makes it faster on a GPU. On a CPU it does nothing
    @common.cuda_graph(device, g_optimizer, d_optimizer)
    def step(rows: Tensor) -> tuple[Tensor, Tensor]:
        fakes = generator(torch.randn(batch_size, depth, device=device))  # for both networks

        # Discriminator step: tell real rows from generated ones
        scores = discriminator(torch.cat([rows, fakes.detach()]))
        # It is linear: its gradient is its weight, everywhere
        penalty = discriminator.weight.square().sum()
        d_loss = bce(scores, labels) + PENALTY * penalty
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator
        g_loss = bce(discriminator(fakes), ones)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))  # not the discriminator's gradients
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C ends the loop; the best generator so far is kept
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
    """Runs the command line; returns the exit status."""
    parser = cli.Parser(__file__, __doc__, train)  # with an option for each setting of `train`
    help_text = "learn the integers in a CSV file, one a line, from 0 to 99"
    parser.add_argument("--data", metavar="FILE", type=Path, help=help_text)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # faster, for networks as small as these
    if options.generate or options.interpolate:
        return cli.use_generator(options, LATENT_DIM, ["integer"], common.one_hot_decode)

    if options.data:
        integers = cli.read_numbers(options.data, columns=1, depth=DEPTH).flatten().long()
        data = common.one_hot_encode(integers, DEPTH)
    else:
        data = real_samples(2048, common.random_generator("data", options.seed))
    training = train(data, **parser.settings(options))
    cli.save(options, training, LATENT_DIM, generator=training.generator)
    cli.save_picture(options, "samples.png", common.plot(training, draw))
    if options.animate:
        cli.save_picture(options, "training.gif", common.animate(training, draw))
    return cli.report(options, training)


if __name__ == "__main__":
    sys.exit(main())
