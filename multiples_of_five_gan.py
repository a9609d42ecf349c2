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
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import one_hot
from torch.optim import Adam

import common
from common import Figure, Training

DEPTH, STEP = 100, 5

LATENT_DIM = DEPTH
EPOCHS, PATIENCE, COOLING = 60, 3, 20  # the last in which the learning rate falls
BATCHES_PER_EPOCH, BATCH_SIZE = 40, 512
LEARNING_RATE = 0.04
AVERAGING = 0.005  # share of the newest weights in the averaged generator
PENALTY = 0.003


def real_samples(n: int, generator: torch.Generator | None = None) -> Tensor:
    """`n` multiples of five as one-hot rows (n, 100), each of 0, 5, ..., 95 equally likely."""
    integers = STEP * torch.randint(DEPTH // STEP, (n,), generator=generator)
    return common.one_hot_encode(integers, DEPTH)


class Generator(nn.Module):
    """One linear layer; its largest output is the integer. (n, depth) noise to (n, depth) one-hot.

    The largest has no slope to learn from, so while training the softmax's stand in for it: the
    straight-through estimator (Bengio et al. 2013). The discriminator sees integers, no blends.
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


@common.torch_defaults(threads=1)
@common.stop_gently()
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
) -> Training:
    """Learn to generate integers like those of `data`, one-hot rows (n, depth); or ValueError."""
    device = common.choose_device(device)
    if LATENT_DIM != DEPTH:
        raise common.InputError(f"LATENT_DIM must be {DEPTH}, a number of noise for each integer")
    training = Training(data, seed, epochs, patience, batch_size, progress, COOLING)
    integers, depth = training.data.argmax(dim=1), training.data.shape[1]
    if not torch.equal(training.data, one_hot(integers, depth).to(training.data)):
        raise common.InputError("data must be one-hot rows: a single 1 in each, zeros elsewhere")
    batch_size = batch_size or min(BATCH_SIZE, len(integers))
    real = common.Batches(training.real.to(device), batch_size)
    generator = build_generator(depth).to(device)
    averaged = copy.deepcopy(generator).eval()
    discriminator = build_discriminator(depth).to(device)
    g_optimizer = Adam(generator.parameters(), lr, betas=(0.5, 0.99), fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, betas=(0.5, 0.99), fused=True)
    is_real = torch.ones(batch_size, 1, device=device)
    both = torch.cat([is_real, torch.zeros_like(is_real)])
    latents = torch.randn(2048, depth, device=device)

    for _ in training:
        for optimizer in (g_optimizer, d_optimizer):
            optimizer.param_groups[0]["lr"] = lr * training.pace
        for rows in islice(real, BATCHES_PER_EPOCH):
            fakes = generator(torch.randn(batch_size, depth, device=device))

            # Discriminator step: tell real rows from generated ones
            scores = discriminator(torch.cat([rows, fakes.detach()]))
            slope = discriminator.weight.square().sum()  # of a linear layer: the same everywhere
            d_loss = bce(scores, both) + PENALTY * slope
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()

            # Generator step: fool the discriminator
            g_loss = bce(discriminator(fakes), is_real)
            g_optimizer.zero_grad()
            g_loss.backward(inputs=list(generator.parameters()))
            g_optimizer.step()
            common.move_towards(averaged, generator, AVERAGING)

        training.evaluate(averaged, latents, d_loss, g_loss)
    training.judged(averaged, torch.randn(16384, depth))
    training.find_missing(integers, common.one_hot_decode(training.samples))
    return training


def shares(rows: Tensor) -> Tensor:
    """How often each integer comes, in %, in one-hot rows (n, depth), as points (depth, 2)."""
    return torch.stack([torch.arange(rows.shape[1]), 100 * rows.mean(dim=0)], dim=1)


def plot_integers(data: Tensor, training: Training) -> Figure:
    """How often each integer comes in real (n, depth) and generated rows, and the history."""
    top = [["integer"] * 3]
    figure, axes = common.plot_history(training.history, top, training.best_epoch)
    common.plot_shares(axes["integer"], *map(common.one_hot_decode, (data, training.samples)))
    axes["integer"].set(xlabel="integer")
    return figure


@common.reporting
def main(argv: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    parser.add_argument("--data", metavar="FILE", type=Path, help="learn integers from a CSV file")
    options = parser.parse_args(argv)

    if options.generate or options.interpolate:
        generator = common.load_model(options.out / "generator.pt", LATENT_DIM, DEPTH)
        if options.generate:
            blocks = common.generate(generator, LATENT_DIM, options)
            columns = (rows.argmax(dim=1, keepdim=True) for rows in blocks)
            common.write_csv(columns, "integer", "%d")
        if options.interpolate:
            random = common.stream("walk", options.seed)
            latents = common.walk(options.interpolate, LATENT_DIM, generator=random)
            near = 0.95 * latents + 0.3 * torch.randn(20, *latents.shape, generator=random)
            steps = torch.arange(20 * len(latents)) % len(latents) + 1
            points = torch.stack([steps, generator(near.flatten(0, 1)).argmax(dim=1)], dim=1)
            path = torch.stack([steps[: len(latents)], generator(latents).argmax(dim=1)], dim=1)
            shown = points, path, "step of the walk", "integer"
            with common.results(options.out, sys.stderr if options.generate else None) as folder:
                common.save_picture(folder / "interpolation.png", common.plot_path, *shown)
        return 0

    data = real_samples(2048, common.stream("data", options.seed))
    if options.data:
        integers = common.read_numbers(options.data, 1, DEPTH).flatten().long()
        data = common.one_hot_encode(integers, DEPTH)
    with common.results(options.out) as folder, common.stop_gently():
        training = train(data, **common.training_settings(options))
        common.save_model(folder, "generator", training.generator, LATENT_DIM)
        common.save_history(folder, training)
        common.save_picture(folder / "samples.png", plot_integers, data, training)
        if options.animate:
            film = {i: (row, shares(rows)) for i, (row, rows) in training.film.items()}
            frames = common.animate_points, shares(data), film, "integer", "share in %"
            common.save_picture(folder / "training.gif", *frames)
    return common.conclude(training, options)


if __name__ == "__main__":
    sys.exit(main())
