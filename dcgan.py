# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A deep convolutional GAN: it learns to write digits, of MNIST, or to draw pictures of your own.

Convolutions share weights between positions, so a stroke is learned once (Radford et al. 2015; here
with hidden linear layers, and without batch norm in the discriminator).

    python dcgan.py                             train, and save in outputs/dcgan
    python dcgan.py --data FOLDER --size 64     learn the pictures in a folder
    python dcgan.py --resume                    continue a training that was interrupted
    python dcgan.py --generate 100              images of the saved generator
    python dcgan.py --interpolate 12            interpolations between digits
    torchrun --nproc-per-node 2 dcgan.py        for several GPUs or machines; slower on two cores
"""

import copy
import sys
from contextlib import suppress
from functools import partial
from itertools import pairwise
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import common
import images
from common import Standardize, Training

LATENT_DIM, WIDTH = 64, 16  # WIDTH: channels of the largest maps, twice as many for colour
EPOCHS, PATIENCE, BATCHES_PER_EPOCH, BATCH_SIZE = 18, 18, 240, 128
LEARNING_RATE, BETAS = 0.002, (0.0, 0.99)  # beta1 = 0: with momentum the two networks oscillate
EMA_DECAY = 0.998  # of the moving average of the weights
PENALTY, PENALTY_DECAY = 4.0, 0.02  # weight of the gradient penalty; its final fraction


def real_samples(
    n: int, generator: torch.Generator | None = None, dataset: str = "mnist", data_dir: str = "data"
) -> Tensor:
    """`n` random images (n, 784) of "mnist" or "fashion", 0 black to 1 white."""
    data, _ = images.load_images(dataset, data_dir)
    return data[torch.randint(len(data), (n,), generator=generator)]


def build_generator(shape: tuple[int, ...] = (1, 28, 28)) -> nn.Module:
    """Standard normal noise (n, LATENT_DIM) to pictures (n, channels, size, size) in 0..1."""
    side, widths = images.doublings(shape, WIDTH * min(shape[0], 2))
    layers: list[nn.Module] = [
        nn.Linear(LATENT_DIM, 256), nn.BatchNorm1d(256), nn.ReLU(),
        nn.Linear(256, 512), nn.BatchNorm1d(512), nn.ReLU(),
        nn.Linear(512, widths[0] * side**2), nn.Unflatten(1, (widths[0], side, side)),
    ]  # fmt: skip
    for inputs, outputs in pairwise(widths):
        convolution = nn.ConvTranspose2d(inputs, outputs, 4, stride=2, padding=1)
        layers += [nn.BatchNorm2d(inputs), nn.ReLU(), convolution]
    return nn.Sequential(*layers, nn.Sigmoid())


def build_discriminator(shape: tuple[int, ...] = (1, 28, 28)) -> nn.Module:
    """Pictures (n, channels, size, size) to logits (n, 1), above zero for "real"."""
    side, widths = images.doublings(shape, WIDTH * min(shape[0], 2))
    layers: list[nn.Module] = []
    for inputs, outputs in pairwise(reversed(widths)):
        layers += [nn.Conv2d(inputs, outputs, 4, stride=2, padding=1), nn.LeakyReLU(0.2)]
    return nn.Sequential(
        *layers, nn.Flatten(), nn.Linear(widths[0] * side**2, 256), nn.LeakyReLU(0.2),
        nn.Linear(256, 1),
    )  # fmt: skip


@common.torch_defaults()
def train(
    data: Tensor, *, seed: int = 0, device: str | torch.device = "cpu", progress: bool = True,
    epochs: int = EPOCHS, patience: int = PATIENCE, batch_size: int | None = None,
    lr: float = LEARNING_RATE, checkpoint: Path | None = None, resume: bool = False,
) -> Training:  # fmt: skip
    """Learn pictures (n, channels, size, size), or rows (n, 784), in 0..1; ValueError for others.

    Each epoch is saved to `checkpoint`, to `resume` from. torchrun gives each process a share.
    """
    device = common.choose_device(device)
    shape = np.shape(data)[1:] if np.ndim(data) == 4 else images.SHAPE
    training = Training(
        images.check_images(data, shape=shape), seed=seed, epochs=epochs, patience=patience,
        batch_size=batch_size, progress=progress,
        features=partial(images.image_features, shape=shape),
    )  # fmt: skip
    pictures = training.train_rows.unflatten(1, shape)
    batch_size = max(2, batch_size or min(BATCH_SIZE, len(data)))  # batch norm needs two rows
    generator = build_generator(shape)
    discriminator = nn.Sequential(Standardize(pictures, one_unit=True), build_discriminator(shape))
    for network in (generator, discriminator):
        network.to(device).to(memory_format=torch.channels_last)  # for faster convolutions
    ema_generator = copy.deepcopy(generator).eval()
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 1, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])
    count = min(2048, 2**23 // shape[1] ** 2)  # more large pictures would take gigabytes
    fixed_noise = torch.randn(count, LATENT_DIM, device=device)
    rank, processes = 0, 1
    ddp_generator: nn.Module = generator
    ddp_discriminator: nn.Module = discriminator
    if distributed.is_initialized():  # each backward pass averages the gradients of all processes
        rank, processes = distributed.get_rank(), distributed.get_world_size()
        torch.manual_seed(common.stream(f"process {rank}", seed).initial_seed())
        for weights in (*generator.parameters(), *discriminator.parameters()):
            if 1 in weights.shape:  # its gradient may have other strides, and torch warns of that
                weights.register_hook(lambda grad, like=weights: torch.empty_like(like).copy_(grad))
        ddp_generator = nn.parallel.DistributedDataParallel(generator)
        ddp_discriminator = nn.parallel.DistributedDataParallel(discriminator)
    batches = common.Batches(pictures[rank::processes].to(device), batch_size)
    parts = generator, ema_generator, discriminator, g_optimizer, d_optimizer

    @common.recorded(device)  # as a CUDA graph, on a GPU
    def step(real: Tensor, penalty: Tensor, *, apply_penalty: bool) -> tuple[Tensor, Tensor]:
        fakes = ddp_generator(torch.randn(batch_size, LATENT_DIM, device=device))

        # Discriminator step: tell real images from generated ones
        augmented = images.augment(torch.cat([real, fakes.detach()]))
        augmented.requires_grad_(apply_penalty)
        scores = ddp_discriminator(augmented)
        d_loss = bce(scores, labels)
        if apply_penalty:  # lazy regularization (Karras et al. 2020)
            d_loss = d_loss + penalty * common.gradient_penalty(scores, augmented)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator
        g_loss = bce(discriminator(images.augment(fakes)), ones)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))  # only its own gradients
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY**processes)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for epoch in images.epochs(training, checkpoint, resume, batches, *parts):
            rate = processes**0.5 * lr * (1 - (epoch - 1) / epochs)  # square-root scaling
            common.set_lr(rate, g_optimizer, d_optimizer)
            penalty = ones.new_tensor(PENALTY * PENALTY_DECAY ** ((epoch - 1) / epochs))
            steps = BATCHES_PER_EPOCH // processes
            for i, real in enumerate(images.take(batches, steps, progress)):
                d_loss, g_loss = step(real, penalty, apply_penalty=i % 4 == 0)
            training.evaluate(ema_generator, fixed_noise, d_loss, g_loss)
    return training.finish(ema_generator, torch.randn(2 * count, LATENT_DIM), **images.LIMITS)


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    images.add_options(parser, folder=True)
    options = parser.parse_args(argv)
    images.join_processes(options)  # under torchrun
    if options.generate or options.interpolate:
        return images.use_generator(options, LATENT_DIM)

    settings = parser.settings(options)
    checkpoint = None if distributed.is_initialized() else options.out / "checkpoint.pth"
    data, labels, names = images.load_data(options)
    if distributed.is_initialized() and distributed.get_rank():  # the first process saves
        train(data, **settings | {"progress": False})
        return 0
    with common.output_folder(options.out) as folder:
        training = train(data, **settings, checkpoint=checkpoint, resume=options.resume)
        images.check_classes(training, data, labels, names)
        if options.data:
            images.check_copies(training, data, folder)
        common.save(folder, training, LATENT_DIM, generator=training.generator)
        shown = torch.cat([data[torch.arange(80) % len(data)], training.samples[:80]])
        figure = training, shown, 20, ["real", "generated"]
        images.save_figures(folder, *figure, animate=options.animate)
    return images.report(training, options, checkpoint)


if __name__ == "__main__":
    sys.exit(main())
