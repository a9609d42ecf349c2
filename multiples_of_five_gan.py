# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A GAN that learns integers from 0 to 99 divisible by five, one-hot encoded.

The generator maps 100 normal random numbers to a one-hot row: the index of the 1 is the integer. It
is never told what the integers have in common, nor how many there are.

    python multiples_of_five_gan.py                     train, save in outputs/multiples_of_five
    python multiples_of_five_gan.py --generate 1000     integers of the saved generator, as CSV
"""

import copy
import sys
from contextlib import suppress
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import one_hot
from torch.optim import Adam

import common
from common import Figure, Training

DEPTH, MULTIPLE_OF = 100, 5
LATENT_DIM = DEPTH  # must be equal: the generator begins as the identity
EPOCHS, PATIENCE, BATCHES_PER_EPOCH, BATCH_SIZE = 60, 3, 40, 512
LEARNING_RATE, COOLDOWN = 0.04, 20  # COOLDOWN: epochs in which the learning rate decays
PENALTY = 0.003  # weight of the gradient penalty
EMA_DECAY = 0.995  # of the moving average of the weights


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` multiples of five as one-hot rows (n, 100), each of 0, 5, ..., 95 equally likely."""
    integers = MULTIPLE_OF * torch.randint(DEPTH // MULTIPLE_OF, (n,), generator=generator)
    return common.one_hot_encode(integers, DEPTH)


class Generator(nn.Linear):
    """One linear layer: noise (n, depth) to one-hot rows (n, depth), softmax rows in training."""

    def __init__(self, depth: int = DEPTH) -> None:
        super().__init__(depth, depth)
        nn.init.eye_(self.weight)  # at first, all integers are equally likely
        nn.init.zeros_(self.bias)

    def forward(self, noise: Tensor) -> Tensor:
        logits = super().forward(noise)
        if self.training:
            return logits.softmax(dim=1)  # argmax has no gradient
        return one_hot(logits.argmax(dim=1), logits.shape[1]).to(logits.dtype)


build_generator = Generator


def build_discriminator(depth: int = DEPTH) -> nn.Linear:
    """One-hot rows (n, depth) to logits (n, 1), above zero for "real"; a weight per integer."""
    return nn.Linear(depth, 1)


@common.torch_defaults(threads=1)
def train(
    data: Tensor, *, seed: int = 0, device: str | torch.device = "cpu", progress: bool = True,
    epochs: int = EPOCHS, patience: int = PATIENCE, batch_size: int | None = None,
    lr: float = LEARNING_RATE,
) -> Training:  # fmt: skip
    """Learn to generate integers like those of `data`, one-hot rows (n, depth); or ValueError."""
    device = common.choose_device(device)
    training = Training(
        data, seed=seed, epochs=epochs, patience=patience, batch_size=batch_size,
        progress=progress, cooldown=COOLDOWN,
    )  # fmt: skip
    integers, depth = common.one_hot_decode(training.data), training.data.shape[1]
    if not torch.equal(training.data, one_hot(integers, depth).to(training.data)):
        raise common.InputError("data must be one-hot rows: a single 1 in each, zeros elsewhere")
    batch_size = batch_size or min(BATCH_SIZE, len(integers))
    batches = common.Batches(training.train_rows.to(device), batch_size)
    generator = build_generator(depth).to(device)
    ema_generator = copy.deepcopy(generator).eval()
    discriminator = build_discriminator(depth).to(device)
    g_optimizer = Adam(generator.parameters(), lr, betas=(0.5, 0.99), fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, betas=(0.5, 0.99), fused=True)
    ones = torch.ones(batch_size, 1, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])
    fixed_noise = torch.randn(2048, depth, device=device)

    @common.recorded(device)  # as a CUDA graph, on a GPU
    def step(rows: Tensor) -> tuple[Tensor, Tensor]:
        fakes = generator(torch.randn(batch_size, depth, device=device))

        # Discriminator step: tell real rows from generated ones
        scores = discriminator(torch.cat([rows, fakes.detach()]))
        penalty = discriminator.weight.square().sum()  # squared norm of its gradient
        d_loss = bce(scores, labels) + PENALTY * penalty
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator
        g_loss = bce(discriminator(fakes), ones)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))  # only its own gradients
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for _ in training.epochs():
            common.set_lr(lr * training.stopping.lr_factor, g_optimizer, d_optimizer)
            for rows in islice(batches, BATCHES_PER_EPOCH):
                d_loss, g_loss = step(rows)
            training.evaluate(ema_generator, fixed_noise, d_loss, g_loss)
    training.finish(ema_generator, torch.randn(16384, depth))
    training.check_missing(integers, common.one_hot_decode(training.samples))
    return training


def frequencies(rows: Tensor) -> Tensor:
    """The integers in one-hot rows (n, depth) and their shares in %: (depth, 2)."""
    return torch.stack([torch.arange(rows.shape[1]), 100 * rows.mean(dim=0)], dim=1)


def plot_integers(training: Training) -> Figure:
    """Plots the frequencies of real and generated integers, and the history."""
    figure, axes = common.plot_history(training, [["integer"] * 3])
    axes["integer"].bar(*frequencies(training.data).T, 0.9, color=common.REAL)
    axes["integer"].bar(*frequencies(training.samples).T, 0.45, color=common.GENERATED)
    axes["integer"].set(xlabel="integer", ylabel="share in %")
    axes["integer"].legend(["real", "generated"])
    return figure


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    parser.add_argument("--data", metavar="FILE", type=Path, help="train on integers of a CSV file")
    options = parser.parse_args(argv)
    if options.generate or options.interpolate:
        return common.use_generator(options, LATENT_DIM, ["integer"], common.one_hot_decode, DEPTH)

    data = real_samples(2048, common.stream("data", options.seed))
    if options.data:
        integers = common.read_numbers(options.data, columns=1, depth=DEPTH).flatten().long()
        data = common.one_hot_encode(integers, DEPTH)
    with common.output_folder(options.out) as folder:
        training = train(data, **parser.settings(options))
        common.save(folder, training, LATENT_DIM, generator=training.generator)
        common.save_picture(folder / "samples.png", plot_integers, training)
        if options.animate:
            film = common.animate_points, training, "integer", "share in %", frequencies
            common.save_picture(folder / "training.gif", *film)
    return common.report(training, options)


if __name__ == "__main__":
    sys.exit(main())
