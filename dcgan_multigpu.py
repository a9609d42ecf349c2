# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""dcgan.py on several GPUs, of one machine or of several: it learns to write digits, of MNIST.

torchrun starts a process for each GPU, with its copy of both networks and batches of its own.
DistributedDataParallel averages the gradients of all processes in each backward pass, so the copies
stay equal. Without GPUs of NVIDIA, the processes share the CPU.

    torchrun --nproc-per-node 2 dcgan_multigpu.py      train on two GPUs
    python dcgan_multigpu.py --generate 100            pictures of the saved generator

On two machines with two GPUs each, start it on both. HOST is the name of one of them; the one whose
process becomes the first saves the results:

    torchrun --nnodes 2 --nproc-per-node 2 --rdzv-backend c10d --rdzv-endpoint HOST:29500 \\
        dcgan_multigpu.py
"""

import copy
import os
import signal
import sys
import warnings
from contextlib import suppress
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam

import cli
import common
import images
from common import InputError, Training

LATENT_DIM = 64  # random numbers that become one picture
BATCHES_PER_EPOCH = 240  # of all processes together
BETAS = (0.0, 0.99)  # of Adam. With momentum, the two networks would oscillate
EMA_DECAY = 0.98  # of the moving average of the generator's weights
SIGNALS: list[int] = []  # those received so far, by Ctrl-C or SIGTERM


def real_samples(
    n: int,
    generator: torch.Generator | None = None,
    dataset: str = "mnist",
    data_dir: Path | str = "data",
) -> Tensor:
    """At most `n` different pictures (n, 1, 28, 28) of a data set, 0 black to 1 white."""
    pictures = images.load_dataset(dataset, data_dir).pictures
    order = torch.randperm(len(pictures), generator=generator)
    return pictures[order[:n]]


def build_generator() -> nn.Module:
    """Standard normal noise (n, LATENT_DIM) to pictures (n, 1, 28, 28) in 0..1."""
    return nn.Sequential(
        nn.Unflatten(1, (LATENT_DIM, 1, 1)),
        nn.ConvTranspose2d(LATENT_DIM, 64, kernel_size=4, bias=False),
        nn.BatchNorm2d(64),
        nn.ReLU(),
        nn.ConvTranspose2d(64, 32, kernel_size=3, stride=2, padding=1, bias=False),  # 4 to 7
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.ConvTranspose2d(32, 16, kernel_size=4, stride=2, padding=1, bias=False),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        # A transposed convolution would leave a checkerboard in the pictures (Odena et al. 2016)
        nn.Upsample(scale_factor=2),
        nn.Conv2d(16, 1, kernel_size=3, padding=1),
        nn.Sigmoid(),
    )


def build_discriminator() -> nn.Module:
    """Standardised pictures (n, 1, 28, 28) to logits (n, 1), above zero for "real"."""
    return nn.Sequential(
        nn.Conv2d(1, 16, kernel_size=4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(16, 32, kernel_size=4, stride=2, padding=1),
        nn.LeakyReLU(0.2),
        nn.Conv2d(32, 64, kernel_size=3, stride=2, padding=1),  # 7 to 4
        nn.LeakyReLU(0.2),
        nn.Flatten(),
        nn.Linear(64 * 4 * 4, 256),
        nn.LeakyReLU(0.2),
        nn.Linear(256, 1),
    )


def on_any_process(flag: bool, device: torch.device) -> bool:
    """Whether the flag is true on one of the processes. All of them must ask at the same time."""
    number = torch.tensor(float(flag), device=device)
    distributed.all_reduce(number, distributed.ReduceOp.MAX)
    return number.item() > 0


def train(
    data: Tensor,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    epochs: int = 34,
    patience: int | None = None,
    batch_size: int = 64,
    lr: float = 0.002,
    progress: bool = True,
) -> Training | None:
    """Learn pictures (n, 1, 28, 28) in 0..1; InputError for others.

    Each process calls it. The first one measures the generator; the others give back None.
    """
    device = common.choose_device(device)
    rank = distributed.get_rank()
    processes = distributed.get_world_size()
    pictures = images.as_pictures(data, channels=[1], sizes=[28])
    training = Training(
        pictures,
        seed=seed,
        epochs=epochs,
        patience=patience,
        progress=progress,
        features=images.Features(pictures),
    )
    generator = build_generator().to(device)
    discriminator = nn.Sequential(images.Standardize(pictures), build_discriminator()).to(device)
    ddp_generator = DistributedDataParallel(generator)
    ddp_discriminator = DistributedDataParallel(discriminator)
    ema_generator = copy.deepcopy(generator).eval()  # with averaged weights, which waver less

    # Together, the processes see as many pictures in an epoch as dcgan.py, in fewer steps
    batches_per_epoch = max(1, BATCHES_PER_EPOCH // processes)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)

    # From here on, each process draws other batches, noise and shifts
    torch.manual_seed(common.random_generator(f"process {rank}", seed).initial_seed())
    cutout = len(pictures) < images.MANY  # few could be learned by heart
    batch_size = images.limit_batch_size(batch_size, len(pictures))
    batches = common.Batches(pictures.to(device), batch_size)
    ones = torch.ones(batch_size, 1, device=device)  # what the discriminator says of real ones
    real_then_fake = torch.cat([ones, torch.zeros_like(ones)])
    fixed_noise = torch.randn(2048, LATENT_DIM, device=device)

    def step(real: Tensor, penalty: float, *, apply_penalty: bool) -> tuple[Tensor, Tensor]:
        fakes = ddp_generator(torch.randn(batch_size, LATENT_DIM, device=device))

        # Discriminator step: tell real pictures from generated ones
        seen = images.augment(torch.cat([real, fakes.detach()]), cutout)
        scores = ddp_discriminator(seen.requires_grad_(apply_penalty))
        d_loss = bce(scores, real_then_fake)
        if apply_penalty:
            d_loss = d_loss + penalty * common.gradient_penalty(scores, seen)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator, which stays as it is (inputs=), so without DDP
        g_loss = bce(discriminator(images.augment(fakes, cutout)), ones)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY**processes)
        return d_loss, g_loss

    first = rank == 0
    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for epoch in training.epochs() if first else range(1, epochs + 1):
            done = (epoch - 1) / epochs
            # A step averages over all batches: it may grow with the square root of their number
            common.set_lr(lr * processes**0.5 * (1 - done), g_optimizer, d_optimizer)
            penalty = images.penalty_weight(pictures, done)
            for i in images.steps_of_epoch(batches_per_epoch, batches, progress and first):
                # A process that stopped alone would leave the others waiting for its gradients
                if on_any_process(len(SIGNALS) > 0, device):
                    raise KeyboardInterrupt
                # The penalty in every fourth step is enough (Karras et al. 2020)
                d_loss, g_loss = step(next(batches), penalty, apply_penalty=i % 4 == 0)
            if first:
                training.evaluate(ema_generator, fixed_noise, d_loss.item(), g_loss.item())
            if on_any_process(first and training.stopping.stopped, device):
                break
    # A process that ended while its threads still hold tensors of the last exchange would crash
    distributed.barrier()
    if not first:
        return None
    return training.finish(ema_generator, torch.randn(4096, LATENT_DIM), **images.LIMITS)


def draw(axes: Any, data: Tensor, samples: Tensor) -> None:
    """Draws real pictures above generated ones."""
    images.draw_pictures(axes, {"real": data[:48], "generated": samples[:48]}, columns=12)


def device_of_process(name: str, local_rank: int) -> torch.device:
    """A GPU for each process of this machine, or the CPU; InputError if there are too few GPUs."""
    device = common.choose_device(name)
    if device.type != "cuda":
        return torch.device("cpu")
    device = common.choose_device(f"cuda:{(device.index or 0) + local_rank}")
    torch.cuda.set_device(device)
    return device


@cli.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = cli.Parser(__file__, __doc__, train, several_processes=True)
    images.add_data_options(parser, ["mnist", "fashion"])
    options = parser.parse_args(argv)
    if options.generate or options.interpolate:
        return images.use_generator(options, LATENT_DIM)
    if "LOCAL_RANK" not in os.environ:
        raise InputError("start it with torchrun --nproc-per-node 2 dcgan_multigpu.py")

    local_rank = int(os.environ["LOCAL_RANK"])
    device = device_of_process(options.device, local_rank)
    distributed.init_process_group("nccl" if device.type == "cuda" else "gloo")
    if local_rank > 0:
        distributed.barrier()  # until the first process of this machine has loaded the pictures
    random = common.random_generator("data", options.seed)
    data = real_samples(60_000, random, options.dataset, options.data_dir)
    labelled = images.load_dataset(options.dataset, options.data_dir)
    if local_rank == 0:
        distributed.barrier()

    # A weight of one row may have two kinds of strides, which are the same; torch warns of that
    warnings.filterwarnings("ignore", message="Grad strides do not match")
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda number, _: SIGNALS.append(number))
    training = train(data, **parser.settings(options) | {"device": device})
    distributed.destroy_process_group()
    if training is None:
        return 0
    # If you change real_samples, delete this line: it compares classes with those of the data set
    images.check_classes(training, training.samples, labelled)
    cli.save(options, training, LATENT_DIM, generator=training.generator)
    cli.save_picture(options, "samples.png", common.plot(training, draw))
    if options.animate:
        cli.save_picture(options, "training.gif", common.animate(training, draw))
    return cli.report(options, training)


if __name__ == "__main__":
    sys.exit(main())
