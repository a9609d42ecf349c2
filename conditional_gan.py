# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A conditional GAN: it generates a requested digit.

The generator gets noise and a one-hot label (Mirza and Osindero 2014). The discriminator has one
output per label, as in Mescheder et al. 2018; only the output of the image's label is used.

    python conditional_gan.py                              train, and save in outputs/conditional
    python conditional_gan.py --generate 100 --label 7     sevens; without --label, all in turn
"""

import copy
import sys
from contextlib import suppress

import torch
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.optim import Adam

import common
import images
from common import Standardize, Training, one_hot_encode

PIXELS, CLASSES, LATENT_DIM = 28 * 28, 10, 64
EPOCHS, PATIENCE, BATCHES_PER_EPOCH, BATCH_SIZE = 46, 46, 240, 64
LEARNING_RATE, BETAS = 0.001, (0.0, 0.99)  # beta1 = 0: with momentum the two networks oscillate
EMA_DECAY = 0.998  # of the moving average of the weights
PENALTY, PENALTY_DECAY = 0.4, 0.05  # weight of the gradient penalty; its final fraction


def real_samples(
    n: int, generator: torch.Generator | None = None, dataset: str = "mnist", data_dir: str = "data"
) -> Tensor:
    """`n` random rows (n, PIXELS + CLASSES): an image, 0 black to 1 white, and its label."""
    data, labels = images.load_images(dataset, data_dir)
    rows = torch.cat([data, one_hot_encode(labels, CLASSES)], dim=1)
    return rows[torch.randint(len(rows), (n,), generator=generator)]


def generator_input(labels: Tensor) -> Tensor:
    """Noise and one-hot labels (n, LATENT_DIM + CLASSES), for labels (n,)."""
    return torch.cat([torch.randn(len(labels), LATENT_DIM), one_hot_encode(labels, CLASSES)], dim=1)


def build_generator() -> nn.Module:
    """Noise and a label (n, LATENT_DIM + CLASSES) to images (n, PIXELS), pixels in 0..1."""
    layers: list[nn.Module] = []
    sizes = (LATENT_DIM + CLASSES, 128, 256, 512, 1024)
    for inputs, outputs in zip(sizes, sizes[1:], strict=False):
        layers += [nn.Linear(inputs, outputs), nn.BatchNorm1d(outputs), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(sizes[-1], PIXELS), nn.Sigmoid())


def build_discriminator() -> nn.Module:
    """Images (n, PIXELS) to logits (n, CLASSES), above zero for "a real one with this label"."""
    return nn.Sequential(
        nn.Linear(PIXELS, 512), nn.LeakyReLU(0.2),
        nn.Linear(512, 256), nn.LeakyReLU(0.2),
        nn.Linear(256, 128), nn.LeakyReLU(0.2), nn.Linear(128, CLASSES),
    )  # fmt: skip


class WithLabel(nn.Sequential):
    """A generator whose images keep their labels: (n, PIXELS + CLASSES), like real rows."""

    def forward(self, noise: Tensor) -> Tensor:
        return torch.cat([super().forward(noise), noise[:, LATENT_DIM:]], dim=1)


@common.torch_defaults()
def train(
    data: Tensor, *, seed: int = 0, device: str | torch.device = "cpu", progress: bool = True,
    epochs: int = EPOCHS, patience: int = PATIENCE, batch_size: int | None = None,
    lr: float = LEARNING_RATE,
) -> Training:  # fmt: skip
    """Learn rows (n, PIXELS + CLASSES): an image, pixels in 0..1, and its label, one-hot."""
    data = images.check_images(data, more=CLASSES)
    if not data[:, PIXELS:].sort(dim=1).values.eq(torch.eye(CLASSES)[-1]).all():
        raise common.InputError(f"the last {CLASSES} columns must be one-hot labels")
    device = common.choose_device(device)
    training = Training(
        data, seed=seed, epochs=epochs, patience=patience, batch_size=batch_size,
        progress=progress, pixels=True,
    )  # fmt: skip
    batch_size = max(2, batch_size or min(BATCH_SIZE, len(data)))  # batch norm needs two rows
    batches = common.Batches(training.train_rows.to(device), batch_size)
    generator = build_generator().to(device)
    ema_generator = copy.deepcopy(generator).eval()
    standardize = Standardize(training.train_rows[:, :PIXELS], one_unit=True)
    discriminator = nn.Sequential(standardize, build_discriminator()).to(device)
    g_optimizer = Adam(generator.parameters(), lr, BETAS, fused=True)
    d_optimizer = Adam(discriminator.parameters(), lr, BETAS, fused=True)
    ones = torch.ones(batch_size, device=device)
    labels = torch.cat([ones, torch.zeros_like(ones)])
    fixed_noise = generator_input(torch.arange(2048) // 8 % CLASSES).to(device)  # in runs of eight

    @common.recorded(device)
    def step(rows: Tensor, penalty: Tensor, *, apply_penalty: bool) -> tuple[Tensor, Tensor]:
        real, label = rows.split([PIXELS, CLASSES], dim=1)
        noise = torch.randn(batch_size, LATENT_DIM, device=device)
        fakes = generator(torch.cat([noise, label], dim=1))

        # Discriminator step: tell real images of a label from generated ones
        augmented = images.augment(torch.cat([real, fakes.detach()]))
        augmented.requires_grad_(apply_penalty)
        scores = (discriminator(augmented) * label.repeat(2, 1)).sum(dim=1)
        d_loss = bce(scores, labels)
        if apply_penalty:  # lazy regularization (Karras et al. 2020)
            d_loss = d_loss + penalty * common.gradient_penalty(scores, augmented)
        d_optimizer.zero_grad()
        d_loss.backward()
        d_optimizer.step()

        # Generator step: fool the discriminator
        g_loss = bce((discriminator(images.augment(fakes)) * label).sum(dim=1), ones)
        g_optimizer.zero_grad()
        g_loss.backward(inputs=list(generator.parameters()))
        g_optimizer.step()
        common.update_ema(ema_generator, generator, EMA_DECAY)
        return d_loss, g_loss

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best generator so far
        for epoch in training.epochs():
            common.set_lr(lr * (1 - (epoch - 1) / epochs), g_optimizer, d_optimizer)
            penalty = ones.new_tensor(PENALTY * PENALTY_DECAY ** ((epoch - 1) / epochs))
            for i, rows in zip(range(BATCHES_PER_EPOCH), batches, strict=False):
                d_loss, g_loss = step(rows, penalty, apply_penalty=i % 4 == 0)
            training.evaluate(WithLabel(ema_generator), fixed_noise, d_loss, g_loss)
    training.finish(WithLabel(ema_generator), generator_input(torch.arange(4096) // 20 % CLASSES))
    training.generator, training.samples = ema_generator, training.samples[:, :PIXELS]
    return training


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train)
    images.add_options(parser)
    parser.add_argument("--label", type=int, choices=range(CLASSES), help="the digit to generate")
    options = parser.parse_args(argv)
    if options.generate or options.interpolate:
        digits = range(CLASSES) if options.label is None else [options.label]
        return images.use_generator(options, LATENT_DIM, torch.eye(CLASSES)[list(digits)])

    data, labels = images.load_images(options.dataset, options.data_dir)
    with common.output_folder(options.out) as folder:
        rows = torch.cat([data, one_hot_encode(labels, CLASSES)], dim=1)
        training = train(rows, **parser.settings(options))
        classes = images.check_classes(training, data, labels)
        right = (classes == torch.arange(2048) // 20 % CLASSES).float().mean().item()
        training.check(right >= 0.9, f"{right:.0%} show the requested class")
        common.save(folder, training, LATENT_DIM + CLASSES, generator=training.generator)
        figure = training, training.samples[:200], 20, list("0123456789")
        common.save_picture(folder / "samples.png", images.plot_images, *figure)
        if options.animate:
            common.save_picture(folder / "training.gif", images.animate_images, training)
    return common.report(training, options)


if __name__ == "__main__":
    sys.exit(main())
