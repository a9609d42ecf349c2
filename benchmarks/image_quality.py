"""How good the image scripts are, on real images: results/images.md, and pictures.

python benchmarks/image_quality.py --data-dir DIR                  two hours on 2 cores
python benchmarks/image_quality.py --data-dir DIR --only dcgan     this row, the others stay
"""

import argparse
import datetime
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import mean
from typing import Any

import measure
import textbook
import torch
from matplotlib.figure import Figure
from measure import Figures
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss

import conditional_gan
import cycle_gan
import dcgan
import digits_gan
import images
from common import load_model, one_hot_encode

GENERATED, CLASSES = 10_000, 10
SCRIPTS = {"digits_gan": digits_gan, "dcgan": dcgan}  # from noise alone, to digits
NAMES = [*SCRIPTS, "dcgan_two_processes", "conditional_gan", "cycle_gan", "textbook"]
SHORT: measure.Columns = {  # for README
    **{"as asked": min, "least class": min, "Frechet": max, "left as it is": max},
    **{"to outline": max, "to digit": max, "recognised": min, "seconds": max},
}
COLUMNS: measure.Columns = {"KL": max, "clear": min} | SHORT


def train_classifier(images: Tensor, labels: Tensor, epochs: int = 12) -> nn.Sequential:
    """A convolutional network: images (n, 784) to features (n, 128), and to logits (n, 10)."""
    torch.manual_seed(0)
    classifier = nn.Sequential(
        nn.Unflatten(1, (1, 28, 28)),
        nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
        nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(),
        nn.Linear(128, CLASSES),
    )  # fmt: skip
    optimizer = torch.optim.Adam(classifier.parameters(), 0.002)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, epochs)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            cross_entropy(classifier(images[chosen]), labels[chosen]).backward()
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


class Bench:
    """The digits, a classifier of them, and what trains and measures each script."""

    def __init__(self, options: argparse.Namespace) -> None:
        self.options = options
        self.digits, self.labels = images.load_images("mnist", options.data_dir)
        self.test, self.test_labels = images.load_images("mnist", options.data_dir, train=False)
        self.classifier = train_classifier(self.digits, self.labels)
        self.features = self.classifier[:-1](self.digits)
        halves = torch.randperm(len(self.digits), generator=torch.Generator().manual_seed(0))
        self.unit = frechet(*(self.features[half] for half in halves.tensor_split(2)))

    def learn(self, name: str, seed: int, limit: float) -> nn.Module:
        """The generator that a training ends with; the textbook's loop has `limit` seconds."""
        settings = {"seed": seed, "progress": False} | self.options.settings
        if name == "textbook":
            return textbook.learn_digits(self.digits, seed, limit).generator
        if name == "dcgan_two_processes":
            return self.learn_by_torchrun(seed)
        if name == "conditional_gan":
            rows = torch.cat([self.digits, one_hot_encode(self.labels, CLASSES)], dim=1)
            return conditional_gan.train(rows, **settings).generator
        if name == "cycle_gan":
            return cycle_gan.train(cycle_gan.unpaired_rows(self.digits), **settings).generator
        return SCRIPTS[name].train(self.digits, **settings).generator

    def learn_by_torchrun(self, seed: int) -> nn.Module:
        """The generator of dcgan.py on two processes, with one thread each."""
        epochs = self.options.settings.get("epochs", dcgan.EPOCHS)
        with tempfile.TemporaryDirectory() as out:
            command: list[Any] = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node=2", measure.ROOT / "dcgan.py", "--quiet", f"--out={out}"]
            command += [f"--data-dir={self.options.data_dir}", f"--epochs={epochs}"]
            environment = os.environ | {"OMP_NUM_THREADS": "1"}
            subprocess.run([*command, f"--seed={seed}"], env=environment, check=True)
            return load_model(Path(out, "generator.pt"), dcgan.LATENT_DIM, dcgan.PIXELS)

    def evaluate(self, name: str, generator: nn.Module) -> Figures:
        """Figures of what `learn` gives."""
        if name == "cycle_gan":
            return self.evaluate_translations(*generator.children())
        wanted, noise = torch.arange(GENERATED) % CLASSES, torch.randn(GENERATED, 64)
        inputs = conditional_gan.generator_input(wanted) if name == "conditional_gan" else noise
        with torch.no_grad():
            generated = torch.cat([generator(some) for some in inputs.split(250)])
        save_picture(measure.RESULTS / f"{name}.png", generated[:100])
        classes = self.classifier(generated).argmax(dim=1)
        due, share = (x.bincount(minlength=CLASSES) / len(x) for x in (self.labels, classes))
        _, clear = images.nearest_class(generated[:2048], self.digits, self.labels)
        figures = {
            "KL": (share * (share.clamp(min=1e-9) / due).log()).sum().item(),
            "clear": clear.double().mean().item(),
            "Frechet": frechet(self.classifier[:-1](generated), self.features) / self.unit,
        }
        if name == "conditional_gan":
            right = (classes == wanted).double().view(-1, CLASSES).mean(dim=0)
            figures |= {"as asked": right.mean().item(), "least class": right.min().item()}
        return figures

    def evaluate_translations(self, to_digit: nn.Module, to_outline: nn.Module) -> Figures:
        """Figures on test images, beside their true counterparts."""
        digits, outlines = self.test, cycle_gan.outline(self.test)
        return {
            "left as it is": l1_loss(outlines, digits).item(),
            "to outline": l1_loss(to_outline(digits), outlines).item(),
            "to digit": l1_loss(to_digit(outlines), digits).item(),
            "recognised": self.recognised(to_digit(outlines)),
        }

    def recognised(self, digits: Tensor) -> float:
        """The share of digits, like those of the test, that the classifier recognises."""
        return (self.classifier(digits).argmax(dim=1) == self.test_labels).double().mean().item()


def save_picture(path: Path, digits: Tensor) -> None:
    """Draw a hundred digits (100, 784)."""
    figure = Figure(figsize=(5, 5))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(images.image_grid(digits, 10), cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=3)
    add = parser.add_argument
    add("--data-dir", type=Path, default=Path("data"), help="folder of the images (%(default)s)")
    add("--only", nargs="+", choices=NAMES, default=NAMES, help="measure these alone")
    options = parser.parse_args()
    bench, page, readme = Bench(options), measure.RESULTS / "images.md", measure.README
    seconds = [190.0]  # of digits_gan.py, if it is not measured now
    for name in [name for name in NAMES if name in options.only]:
        runs = []
        for seed in range(options.seeds):
            start = time.perf_counter()
            generator = bench.learn(name, seed, limit=mean(seconds))
            spent = {"seconds": time.perf_counter() - start}
            runs.append(bench.evaluate(name, generator) | spent)
            print(name, seed, runs[-1], flush=True)
        if name == "digits_gan":
            seconds = [run["seconds"] for run in runs]
        when = f"{len(runs)} seeds, {datetime.date.today()}"
        measure.write_row(page, [name, measure.words(runs, COLUMNS), when])
        if name != "dcgan_two_processes":
            measure.write_row(readme, [name, measure.words(runs, SHORT)])
    recognised = bench.recognised(bench.test)
    classifier = f"{recognised:.1%} of {len(bench.test):,} test digits are recognised.\n"
    measure.write_blocks(page, classifier=classifier, source=measure.source())


if __name__ == "__main__":
    main()
