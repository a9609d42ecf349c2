# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A deep convolutional GAN that learns to write digits: images of 28 by 28 pixels, from MNIST.

Convolutions share weights between positions, so a stroke is learned once (Radford et al. 2015; here
with hidden linear layers, and without batch norm in the discriminator).

    python dcgan.py                             train, and save in outputs/dcgan
    python dcgan.py --generate 100              images of the saved generator
    python dcgan.py --interpolate 12            interpolations between digits
    torchrun --nproc-per-node 2 dcgan.py        for several GPUs or machines; slower on two cores
"""

import copy
import sys
from contextlib import suppress

import torch
from torch import Tensor, distributed, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.parallel import DistributedDataParallel
from torch.optim import Adam

import common
import images
from common import Standardize, Training

PIXELS, LATENT_DIM, WIDTH = 28 * 28, 64, 16  # channels where there are fewest
EPOCHS, PATIENCE, BATCHES_PER_EPOCH, BATCH_SIZE = 34, 34, 240, 64
LEARNING_RATE, BETAS = 0.002, (0.0, 0.99)  # beta1 = 0: with momentum the two networks oscillate
EMA_DECAY = 0.998  # of the moving average of the weights
PENALTY, PENALTY_DECAY = 4.0, 0.02  # weight of the gradient penalty; its final fraction


def real_samples(
    n: int, generator: torch.Generator | None = None, dataset: str = "mnist", data_dir: str = "data"
) -> Tensor:
    """`n` random images (n, PIXELS) of a data set, 0 black to 1 white."""
    data, _ = images.load_images(dataset, data_dir)
    return data[torch.randint(len(data), (n,), generator=generator)]


def build_generator() -> nn.Module:
    """Standard normal noise (n, LATENT_DIM) to images (n, PIXELS), pixels in 0..1."""
    return nn.Sequential(
        nn.Linear(LATENT_DIM, 256), nn.BatchNorm1d(256), nn.ReLU(),
        nn.Linear(256, 512), nn.BatchNorm1d(512), nn.ReLU(),
        nn.Linear(512, 2 * WIDTH * 7 * 7), nn.Unflatten(1, (2 * WIDTH, 7, 7)),
        nn.BatchNorm2d(2 * WIDTH), nn.ReLU(),
        nn.ConvTranspose2d(2 * WIDTH, WIDTH, 4, stride=2, padding=1),
        nn.BatchNorm2d(WIDTH), nn.ReLU(),
        nn.ConvTranspose2d(WIDTH, 1, 4, stride=2, padding=1), nn.Flatten(), nn.Sigmoid(),
    )  # fmt: skip


def build_discriminator() -> nn.Module:
    """Images (n, PIXELS) to logits (n, 1), above zero for "real"."""
    return nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, WIDTH, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Conv2d(WIDTH, 2 * WIDTH, 4, stride=2, padding=1), nn.LeakyReLU(0.2),
        nn.Flatten(), nn.Linear(2 * WIDTH * 7 * 7, 256), nn.LeakyReLU(0.2),
        nn.Linear(256, 1),
    )  # fmt: skip


@common.torch_defaults()
def train(
    data: Tensor, *, seed: int = 0, device: str | torch.device = "cpu", progress: bool = True,
    epochs: int = EPOCHS, patience: int = PATIENCE, batch_size: int | None = None,
    lr: float = LEARNING_RATE,
) -> Training:  # fmt: skip
    """Learn images (n, PIXELS) in 0..1; under torchrun, with a share of them for each process."""
    device = common.choose_device(device)
    training = Training(
        images.check_images(data), seed=seed, epochs=epochs, patience=patience,
        batch_size=batch_size, progress=progress, pixels=True,
    )  # fmt: skip
    batch_size = max(2, batch_size or min(BATCH_SIZE, len(data)))  # batch norm needs two rows
    generator = build_generator().to(device).to(memory_format=torch.channels_last)
    ema_generator = copy.deepcopy(generator).eval()
    standardize = Standardize(training.train_rows, one_unit=True)
    discriminator = nn.Sequential(standardize, build_discriminator())
    discriminator = discriminator.to(device).to(memory_format=torch.channels_last)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, 1, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])
    fixed_noise = torch.randn(2048, LATENT_DIM, device=device)
    rank, processes = 0, 1
    ddp_generator: nn.Module = generator
    ddp_discriminator: nn.Module = discriminator
    if distributed.is_initialized():  # each backward pass averages the gradients of all processes
        rank, processes = distributed.get_rank(), distributed.get_world_size()
        torch.manual_seed(common.stream(f"process {rank}", seed).initial_seed())
        for weights in (*generator.parameters(), *discriminator.parameters()):
            if 1 in weights.shape:  # its gradient may have other strides, and torch warns of that
                weights.register_hook(lambda grad, like=weights: torch.empty_like(like).copy_(grad))
        ddp_generator = DistributedDataParallel(generator)
        ddp_discriminator = DistributedDataParallel(discriminator)
    batches = common.Batches(training.train_rows[rank::processes].to(device), batch_size)

    @common.recorded(device)
    def step(rows: Tensor, penalty: Tensor, *, apply_penalty: bool) -> tuple[Tensor, Tensor]:
        fakes = ddp_generator(torch.randn(batch_size, LATENT_DIM, device=device))

        # Discriminator step: tell real images from generated ones
        augmented = images.augment(torch.cat([rows, fakes.detach()]))
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
        g_loss.backward(inputs=list(generator.parameters()))
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY**processes)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for epoch in training.epochs():
            rate = processes**0.5 * lr * (1 - (epoch - 1) / epochs)  # square-root scaling
            common.set_lr(rate, g_optimizer, d_optimizer)
            penalty = ones.new_tensor(PENALTY * PENALTY_DECAY ** ((epoch - 1) / epochs))
            for i, rows in zip(range(BATCHES_PER_EPOCH // processes), batches, strict=False):
                d_loss, g_loss = step(rows, penalty, apply_penalty=i % 4 == 0)
            training.evaluate(ema_generator, fixed_noise, d_loss, g_loss)
            if processes > 1 and images.stop_together(training, device):
                break
    return training.finish(ema_generator, torch.randn(4096, LATENT_DIM))


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    images.add_options(parser)
    options = parser.parse_args(argv)
    images.join_processes(options)  # under torchrun
    if options.generate or options.interpolate:
        return images.use_generator(options, LATENT_DIM)

    settings = parser.settings(options)
    data, labels = images.load_images(options.dataset, options.data_dir)
    if distributed.is_initialized() and distributed.get_rank():  # the first process saves
        train(data, **settings | {"progress": False})
        return 0
    with common.output_folder(options.out) as folder:
        training = train(data, **settings)
        images.check_classes(training, data, labels)
        common.save(folder, training, LATENT_DIM, generator=training.generator)
        figure = training, torch.cat([data[:80], training.samples[:80]]), 20, ["real", "generated"]
        common.save_picture(folder / "samples.png", images.plot_images, *figure)
        if options.animate:
            common.save_picture(folder / "training.gif", images.animate_images, training)
    return common.report(training, options)


if __name__ == "__main__":
    sys.exit(main())
