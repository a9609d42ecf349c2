# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A deep convolutional GAN that learns to write digits: images of 28 by 28 pixels, from MNIST.

Convolutions learn a stroke once for all places (Radford et al. 2015; here with hidden linear layers
and no batch norm in the discriminator): better digits than digits_gan.py's, a quarter more time.

    python dcgan.py                             train, and save in outputs/dcgan
    python dcgan.py --generate 100              images of the saved generator
    python dcgan.py --interpolate 12            what lies between one digit and another
    torchrun --nproc-per-node 2 dcgan.py        for several GPUs or machines; slower on two cores
"""

import copy
import os
import sys
from itertools import islice

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
LEARNING_RATE, BETAS = 0.002, (0.0, 0.99)  # no momentum, as what is to be learned moves
AVERAGING = 0.002  # share of the newest weights in the averaged generator
PENALTY, LATE = 4.0, 0.02  # on the discriminator's slope; the share of it that is left at the end


def real_samples(
    n: int, generator: torch.Generator | None = None, dataset: str = "mnist", data_dir: str = "data"
) -> Tensor:
    """`n` random images (n, 784) of a data set, 0 black to 1 white."""
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
    """Learn images (n, PIXELS) in 0..1; under torchrun, with a share of them for each process."""
    data = images.check_images(data)
    device = common.choose_device(device)
    training = Training(data, seed, epochs, patience, batch_size, progress, one_unit=True)
    batch_size = max(2, batch_size or min(BATCH_SIZE, len(data)))  # to have a deviation to norm
    generator = build_generator().to(device).to(memory_format=torch.channels_last)
    averaged = copy.deepcopy(generator).eval()
    discriminator = nn.Sequential(Standardize(training.real, one_unit=True), build_discriminator())
    discriminator = discriminator.to(device).to(memory_format=torch.channels_last)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    is_real = torch.ones(batch_size, 1, device=device)
    both = torch.cat([is_real, torch.zeros_like(is_real)])
    latents = torch.randn(2048, LATENT_DIM, device=device)
    generate, rank, processes = generator, 0, 1
    judge: nn.Module = discriminator
    if distributed.is_initialized():  # each backward pass averages the slopes of all processes
        generate, judge = DistributedDataParallel(generator), DistributedDataParallel(discriminator)
        rank, processes = distributed.get_rank(), distributed.get_world_size()
        torch.manual_seed(common.stream(f"process {rank}", seed).initial_seed())
        for part in (*generator.parameters(), *discriminator.parameters()):
            if 1 in part.shape:  # slopes may have another stride along it, and torch warns of that
                part.register_hook(lambda slopes, like=part: torch.empty_like(like).copy_(slopes))
    real = common.Batches(training.real[rank::processes].to(device), batch_size)

    for epoch in training:
        for optimizer in (g_optimizer, d_optimizer):  # root rule (Malladi et al. 2022), rate alone
            optimizer.param_groups[0]["lr"] = processes**0.5 * lr * (1 - (epoch - 1) / epochs)
        penalty = PENALTY * LATE ** ((epoch - 1) / epochs)
        for step, rows in enumerate(islice(real, BATCHES_PER_EPOCH // processes)):
            fakes = generate(torch.randn(batch_size, LATENT_DIM, device=device))

            # Discriminator step: tell real images from generated ones
            punished = step % 4 == 0  # lazily (StyleGAN2, Karras et al. 2020), at the same weight
            seen = images.augment(torch.cat([rows, fakes.detach()])).requires_grad_(punished)
            scores = judge(seen)
            d_loss = bce(scores, both)
            if punished:
                d_loss = d_loss + penalty * common.gradient_penalty(scores, seen)
            d_optimizer.zero_grad()
            d_loss.backward()
            d_optimizer.step()

            # Generator step: fool the discriminator
            g_loss = bce(discriminator(images.augment(fakes)), is_real)
            g_optimizer.zero_grad()
            g_loss.backward(inputs=list(generator.parameters()))
            g_optimizer.step()
            common.move_towards(averaged, generator, processes * AVERAGING)

        training.evaluate(averaged, latents, d_loss, g_loss)
        if processes > 1:  # all end when one does
            last = torch.tensor(epoch if common.SIGNALS else training.last, device=device)
            distributed.all_reduce(last, distributed.ReduceOp.MIN)
            training.last = int(last)
    return training.judged(averaged, torch.randn(4096, LATENT_DIM))


@common.reporting
def main(argv: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    images.add_options(parser)
    options = parser.parse_args(argv)
    images.join_processes(options)  # if torchrun has started them

    if options.generate or options.interpolate:
        generator = common.load_model(options.out / "generator.pt", LATENT_DIM, PIXELS)
        with common.results(options.out) as folder:
            if options.generate:
                blocks = common.generate(generator, LATENT_DIM, options)
                images.save_images(folder / "generated", blocks, options.format)
            if options.interpolate:
                steps, random = options.interpolate, common.stream("walk", options.seed)
                walks = [common.walk(steps, LATENT_DIM, 2, random) for _ in range(8)]
                rows, picture = generator(torch.cat(walks)), folder / "interpolation.png"
                common.save_picture(picture, images.plot_strips, rows, steps)
        return 0

    settings = common.training_settings(options)
    data, labels = images.load_images(options.dataset, options.data_dir)
    if os.environ.get("RANK", "0") != "0":  # the first process saves
        train(data, **settings | {"progress": False})
        return 0
    with common.results(options.out) as folder, common.stop_gently():
        training = train(data, **settings)
        classes = images.judge(training, data, labels)
        common.save_model(folder, "generator", training.generator, LATENT_DIM)
        common.save_history(folder, training)
        figure = images.plot_images, training, data, labels, classes
        common.save_picture(folder / "samples.png", *figure)
        if options.animate:
            common.save_picture(folder / "training.gif", images.animate_images, training.film)
    return common.conclude(training, options)


if __name__ == "__main__":
    sys.exit(main())
