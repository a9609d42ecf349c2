"""How good dcgan.py is on colour pictures, beside the DCGAN of PyTorch's examples.

python benchmarks/picture_quality.py --data FOLDER --seconds 600     20 minutes on 2 cores

FOLDER has a folder of pictures for each class. Writes results/pictures.md and pictures.png.
"""

import functools
import itertools
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any
from unittest import mock

import measure
import torch
from measure import Figures
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits as bce
from torch.nn.functional import cross_entropy
from torch.utils.data import DataLoader
from torchvision.utils import make_grid, save_image

import common
import dcgan
import images

COLUMNS = ["Frechet", "precision", "coverage", "near-copies", "seconds"]


def train_classifier(pictures: Tensor, labels: Tensor, epochs: int = 12) -> nn.Sequential:
    """A convolutional network: pictures (n, channels, size, size) to features (n, 128) to logits.

    The size is a multiple of four.
    """
    torch.manual_seed(0)
    channels, side = pictures.shape[1], pictures.shape[2] // 4
    classifier = nn.Sequential(
        nn.Conv2d(channels, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * side * side, 128), nn.ReLU(),
        nn.Linear(128, int(labels.max()) + 1),
    )  # fmt: skip
    optimizer = torch.optim.Adam(classifier.parameters(), 0.002)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, epochs)
    for _ in range(epochs):
        for chosen in torch.randperm(len(pictures)).split(128):
            optimizer.zero_grad()
            cross_entropy(classifier(pictures[chosen]), labels[chosen]).backward()
            optimizer.step()
        schedule.step()
    return classifier.eval().requires_grad_(False)


def frechet(some: Tensor, others: Tensor) -> float:
    """Frechet distance of features (n, d) and (m, d), as if normal (Heusel et al. 2017)."""
    some, others = some.double(), others.double()
    product = some.T.cov() @ others.T.cov()
    root_trace = torch.linalg.eigvals(product).real.clamp(min=0).sqrt().sum()
    shift = (some.mean(dim=0) - others.mean(dim=0)).square().sum()
    return (shift + some.T.cov().trace() + others.T.cov().trace() - 2 * root_trace).item()


def learn_ours(pictures: Tensor, seed: int, limit: float, **settings: Any) -> nn.Module:
    """The generator of dcgan.py, interrupted after the epoch in which `limit` seconds pass."""
    evaluate, start = common.Training.evaluate, time.perf_counter()

    def evaluate_in_time(*inputs: Any, **keywords: Any) -> None:
        evaluate(*inputs, **keywords)
        if time.perf_counter() - start > limit:
            raise KeyboardInterrupt

    with mock.patch.object(common.Training, "evaluate", evaluate_in_time):
        return dcgan.train(pictures, seed=seed, progress=False, **settings).generator


def learn_as_pytorch(pictures: Tensor, seed: int, limit: float, **_: Any) -> Callable:
    """The generator of PyTorch's example, with a layer less, after `limit` seconds."""
    torch.manual_seed(seed)
    channels = pictures.shape[1]
    generator = nn.Sequential(nn.Unflatten(1, (100, 1, 1)))
    discriminator = nn.Sequential(nn.Conv2d(channels, 64, 4, 2, 1, bias=False), nn.LeakyReLU(0.2))
    for inputs, outputs, stride in ((100, 256, 1), (256, 128, 2), (128, 64, 2)):
        layer = nn.ConvTranspose2d(inputs, outputs, 4, stride, stride // 2, bias=False)
        generator.extend([layer, nn.BatchNorm2d(outputs), nn.ReLU()])
    generator.extend([nn.ConvTranspose2d(64, channels, 4, 2, 1, bias=False), nn.Tanh()])
    for inputs, outputs in itertools.pairwise((64, 128, 256)):
        layer = nn.Conv2d(inputs, outputs, 4, 2, 1, bias=False)
        discriminator.extend([layer, nn.BatchNorm2d(outputs), nn.LeakyReLU(0.2)])
    discriminator.extend([nn.Conv2d(256, 1, 4, bias=False), nn.Flatten()])
    for part in (*generator, *discriminator):
        if hasattr(part, "weight"):
            nn.init.normal_(part.weight, float(isinstance(part, nn.BatchNorm2d)), 0.02)
    adam = functools.partial(torch.optim.Adam, lr=0.0002, betas=(0.5, 0.999))
    g_optimizer, d_optimizer = adam(generator.parameters()), adam(discriminator.parameters())
    loader, start = DataLoader(2 * pictures - 1, 64, shuffle=True), time.perf_counter()
    for real in itertools.chain.from_iterable(itertools.repeat(loader)):
        ones = torch.ones(len(real), 1)
        fakes = generator(torch.randn(len(real), 100))
        d_optimizer.zero_grad()
        (bce(discriminator(real), ones) + bce(discriminator(fakes.detach()), 0 * ones)).backward()
        d_optimizer.step()
        g_optimizer.zero_grad()
        bce(discriminator(fakes), ones).backward()
        g_optimizer.step()
        if time.perf_counter() - start > limit:
            break
    generator.eval()
    return lambda noise: (generator(noise) + 1) / 2


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=1)
    parser.add_argument("--data", type=Path, required=True, help="folder of pictures")
    parser.add_argument("--seconds", type=float, default=600, help="of a training (%(default)s)")
    options = parser.parse_args()
    pictures, labels, names = images.load_folder(options.data, 32)
    classifier = train_classifier(pictures, labels)
    mixed = pictures[torch.randperm(len(pictures), generator=common.stream("halves"))]
    learned, others = mixed.tensor_split(2)

    def judge(generated: Tensor) -> Figures:
        some, best, due = (classifier[:-1](each) for each in (generated, learned, others))
        precision, coverage = common.precision_and_coverage(due, some)
        rows = (each.flatten(1) for each in (learned, others, generated))
        figures = {"Frechet": frechet(some, due) / frechet(best, due), "precision": precision}
        return figures | {"coverage": coverage, "near-copies": measure.near_copies(*rows)}

    loops = {"dcgan.py": (learn_ours, dcgan.LATENT_DIM), "PyTorch's": (learn_as_pytorch, 100)}
    shown, runs = [learned], defaultdict(list, {"training half": [judge(learned)]})
    for seed in range(options.seeds):
        limit = options.seconds
        for name, (learn, latent_dim) in loops.items():
            start = time.perf_counter()
            generator = learn(learned, seed, limit, **options.settings)
            limit = time.perf_counter() - start  # PyTorch's gets as many
            with torch.no_grad():
                shown.append(generator(torch.randn(len(others), latent_dim)))
            runs[name].append(judge(shown[-1]) | {"seconds": limit})
            print(name, seed, runs[name][-1], flush=True)
    grids = [make_grid(each[:64], nrow=8, pad_value=1) for each in shown[:3]]
    save_image(grids, measure.RESULTS / "pictures.png", nrow=3, padding=8, pad_value=1)
    rows = [[name, *measure.cells(each, COLUMNS, 3)] for name, each in runs.items()]
    (measure.RESULTS / "pictures.md").write_text(f"""\
# Colour pictures

{len(pictures):,} pictures of {len(names)} classes, 32 by 32 pixels: a random half for training, the
other half for testing. PyTorch's: the DCGAN of pytorch/examples with its settings and one layer
less, for as many seconds as dcgan.py took. Mean / worst over seeds:

{measure.table(["generated by", *COLUMNS], rows)}
- Frechet: distance to the test half in the features of a classifier, divided by that of the halves.
- Precision: share of generated pictures near test pictures; coverage: the reverse.
- Near-copies: share as near to a training picture, pixel by pixel, as the nearest 5 % of the test
  half.

![Training pictures, dcgan.py, PyTorch's](pictures.png)

{measure.source()}""")


if __name__ == "__main__":
    main()
