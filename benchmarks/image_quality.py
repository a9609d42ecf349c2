"""How good the image scripts are, on real images: results/images.md, pictures.md, and pictures.

python benchmarks/image_quality.py --data-dir DIR                  two hours on 2 cores
python benchmarks/image_quality.py --data-dir DIR --only dcgan     this row, the others stay
python benchmarks/image_quality.py --data FOLDER --seeds 1         20 minutes: pictures.md

FOLDER has a folder of pictures for each class, which dcgan.py learns, and PyTorch's example.
"""

import argparse
import datetime
import importlib
import os
import subprocess
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import measure
import textbook
import torch
from matplotlib.image import imsave
from measure import Figures
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss
from torchvision.utils import make_grid, save_image

import common
import conditional_gan
import cycle_gan
import dcgan
import images

GENERATED, CLASSES = 10_000, 10
NAMES = ["digits_gan", "dcgan", "dcgan_two_processes", "conditional_gan", "cycle_gan", "textbook"]
SHORT = ["as asked", "least class", "Frechet"]  # for README
SHORT += ["left as it is", "to outline", "to digit", "recognised", "seconds"]
PICTURE_COLUMNS = ["Frechet", "precision", "coverage", "near-copies", "seconds"]


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


class Bench:
    """The digits, a classifier of them, and what trains and measures each script."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.data_dir, self.settings = data_dir, settings
        self.digits, self.labels = images.load_images("mnist", data_dir)
        self.test, self.test_labels = images.load_images("mnist", data_dir, train=False)
        as_pictures = nn.Unflatten(1, (1, 28, 28))
        classifier = train_classifier(as_pictures(self.digits), self.labels)
        self.classifier = nn.Sequential(as_pictures, *classifier)
        self.features = self.classifier[:-1](self.digits)
        halves = torch.randperm(len(self.digits), generator=torch.Generator().manual_seed(0))
        self.unit = frechet(*(self.features[half] for half in halves.tensor_split(2)))

    def learn(self, name: str, seed: int, limit: float) -> nn.Module:
        """The generator that a training ends with; the textbook's loop has `limit` seconds."""
        if name == "textbook":
            return textbook.learn_digits(self.digits, seed, limit).generator
        if name == "dcgan_two_processes":
            return self.learn_by_torchrun(seed)
        rows = self.digits
        if name == "conditional_gan":
            rows = torch.cat([rows, common.one_hot_encode(self.labels, CLASSES)], dim=1)
        if name == "cycle_gan":
            rows = cycle_gan.unpaired_rows(rows)
        script = importlib.import_module(name)
        training = script.train(rows, seed=seed, progress=False, **self.settings)
        print(training.verdict, flush=True)
        return training.generator

    def learn_by_torchrun(self, seed: int) -> nn.Module:
        """The generator of dcgan.py on two processes, with one thread each."""
        with tempfile.TemporaryDirectory() as out:
            settings = self.settings | {"out": out, "data-dir": self.data_dir, "seed": seed}
            options = [f"--{name}={value}" for name, value in settings.items()]
            script = str(measure.ROOT / "dcgan.py")
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command = [*torchrun, "--nproc-per-node=2", script, "--quiet", *options]
            subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
            return common.load_model(Path(out, "generator.pt"), dcgan.LATENT_DIM)

    def evaluate(self, name: str, generator: nn.Module) -> Figures:
        """Figures of what `learn` gives; of translations, on test images and their outlines."""
        if name == "cycle_gan":
            to_digit, to_outline = generator.children()
            digits, outlines = self.test, cycle_gan.outline(self.test)
            return {
                "left as it is": l1_loss(outlines, digits).item(),
                "to outline": l1_loss(to_outline(digits), outlines).item(),
                "to digit": l1_loss(to_digit(outlines), digits).item(),
                "recognised": self.recognised(to_digit(outlines)),
            }
        wanted, noise = torch.arange(GENERATED) % CLASSES, torch.randn(GENERATED, 64)
        inputs = conditional_gan.generator_input(wanted) if name == "conditional_gan" else noise
        with torch.no_grad():
            generated = torch.cat([generator(some).flatten(1) for some in inputs.split(250)])
        grid = images.image_grid(generated[:100], 10)
        imsave(measure.RESULTS / f"{name}.png", grid, cmap="gray", vmin=0, vmax=1)
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

    def recognised(self, digits: Tensor) -> float:
        """The share of digits, like those of the test, that the classifier recognises."""
        return (self.classifier(digits).argmax(dim=1) == self.test_labels).double().mean().item()


def measure_digits(options: argparse.Namespace) -> None:
    """Measure the scripts on digits, and write the results."""
    bench, page = Bench(options.data_dir, **options.settings), measure.RESULTS / "images.md"
    seconds = {"digits_gan": 190.0}  # if it is not measured now
    for name in [name for name in NAMES if name in options.only]:
        runs = []
        for seed in range(options.seeds):
            start = time.perf_counter()
            generator = bench.learn(name, seed, limit=seconds["digits_gan"])
            spent = {"seconds": time.perf_counter() - start}
            runs.append(bench.evaluate(name, generator) | spent)
            print(name, seed, runs[-1], flush=True)
        seconds[name] = mean(run["seconds"] for run in runs)
        when = f"{len(runs)} seeds, {datetime.date.today()}"
        measure.write_row(page, [name, measure.words(runs, ["KL", "clear", *SHORT]), when])
        if name != "dcgan_two_processes":
            measure.write_row(measure.README, [name, measure.words(runs, SHORT)])
    recognised = bench.recognised(bench.test)
    classifier = f"{recognised:.1%} of {len(bench.test):,} test digits are recognised.\n"
    measure.write_page(page.name, classifier=classifier)


def learn_pictures(pictures: Tensor, seed: int, limit: float, **settings: Any) -> textbook.Result:
    """What dcgan.py has learned by the end of the epoch in which `limit` seconds pass."""
    evaluate, start = common.Training.evaluate, time.perf_counter()

    def evaluate_in_time(*inputs: Any, **keywords: Any) -> None:
        evaluate(*inputs, **keywords)
        if time.perf_counter() - start > limit:
            raise KeyboardInterrupt

    with mock.patch.object(common.Training, "evaluate", evaluate_in_time):
        training = dcgan.train(pictures, seed=seed, progress=False, **settings)
    return textbook.Result(training.generator, time.perf_counter() - start)


def measure_pictures(options: argparse.Namespace) -> None:
    """Measure dcgan.py and PyTorch's example on colour pictures, and write the results."""
    pictures, labels, names = images.load_folder(options.data, 32)
    classifier = train_classifier(pictures, labels)
    mixed = pictures[torch.randperm(len(pictures), generator=common.stream("halves"))]
    learned, others = mixed.tensor_split(2)

    def judge(generated: Tensor) -> Figures:
        some, best, due = (classifier[:-1](each) for each in (generated, learned, others))
        unit = common.Standardize(due)
        precision, coverage = common.precision_and_coverage(unit(due), unit(some))
        rows = (each.flatten(1) for each in (learned, others, generated))
        figures = {"Frechet": frechet(some, due) / frechet(best, due), "precision": precision}
        return figures | {"coverage": coverage, "near-copies": measure.near_copies(*rows)}

    shown, runs = [learned], defaultdict(list, {"training half": [judge(learned)]})
    for seed in range(options.seeds):
        ours = learn_pictures(learned, seed, options.seconds, **options.settings)
        theirs = textbook.learn_pictures(learned, seed, ours.seconds)
        both = {"dcgan.py": (ours, dcgan.LATENT_DIM), "PyTorch's": (theirs, 100)}
        for name, (result, latent_dim) in both.items():
            shown.append(result.generator(torch.randn(len(others), latent_dim)))
            runs[name].append(judge(shown[-1]) | {"seconds": result.seconds})
            print(name, seed, runs[name][-1], flush=True)
    grids = [make_grid(each[:64], nrow=8, pad_value=1) for each in shown[:3]]
    save_image(grids, measure.RESULTS / "pictures.png", nrow=3, padding=8, pad_value=1)
    measure.write_page(
        "pictures.md",
        data=f"{len(pictures):,} pictures of {len(names)} classes, 32 by 32 pixels.\n",
        figures=measure.runs_table("generated by", runs, PICTURE_COLUMNS, 3),
    )


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=3)
    add = parser.add_argument
    add("--data-dir", type=Path, default=Path("data"), help="folder of the digits (%(default)s)")
    add("--only", nargs="+", choices=NAMES, default=NAMES, help="measure these alone")
    add("--data", type=Path, help="measure colour pictures in this folder, not digits")
    add("--seconds", type=float, default=600, help="of a training on them (%(default)s)")
    options = parser.parse_args()
    (measure_pictures if options.data else measure_digits)(options)


if __name__ == "__main__":
    main()
