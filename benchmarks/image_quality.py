"""How good the image scripts are, on real images: results/images.md, pictures.md, and pictures.

python benchmarks/image_quality.py --data-dir DIR                  two hours on 2 cores
python benchmarks/image_quality.py --data-dir DIR --only dcgan     this row, the others stay
python benchmarks/image_quality.py --data FOLDER --seeds 1         20 minutes: pictures.md

FOLDER has a folder of pictures for each class, which dcgan.py learns, and PyTorch's example.
"""

import argparse
import importlib
import json
import os
import re
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
from measure import Figures
from torch import Tensor, nn
from torch.nn.functional import avg_pool2d, cross_entropy, l1_loss, unfold
from torchvision.utils import make_grid, save_image

import cli
import common
import conditional_gan
import cycle_gan
import dcgan
import dcgan_multigpu
import fashion_classifier
import images

GENERATED = 10_000  # digits that are measured
DRAWS = 10  # of colour pictures, a training; their mean is shown, as single ones differ widely
CLASSES = 10
SCRIPTS = ["digits_gan", "dcgan", "dcgan_multigpu", "conditional_gan", "cycle_gan"]
ROWS = [*SCRIPTS, *textbook.EXAMPLES]  # of the page
NAMES = [*ROWS, "fashion_classifier"]
EXAMPLE_SECONDS = 230.0  # as long as dcgan.py takes, if that is not measured now
DIGIT_COLUMNS = ["Frechet", "patches", "KL", "clear", "as asked", "least class", "seconds"]
CYCLE_COLUMNS = ["left as it is", "to outline", "to digit", "recognised", "seconds"]
PICTURE_COLUMNS = ["Frechet", "patches", "precision", "coverage", "near-copies", "seconds"]
EPOCHS = 28  # of dcgan.py on colour pictures: its 34 take longer than ten minutes
PICTURE_IDEALS = {"Frechet": 1.0, "coverage": 1.0}
RESULTS = {  # what README says of a script
    "digits_gan": ("Frechet", "Frechet distance {:.1f}"),
    "dcgan": ("Frechet", "Frechet distance {:.1f}"),
    "dcgan_multigpu": ("Frechet", "Frechet distance {:.1f}"),
    "conditional_gan": ("as asked", "{:.0%} as asked"),
    "cycle_gan": ("recognised", "{:.0%} are still recognised"),
}


def train_classifier(pictures: Tensor, labels: Tensor, epochs: int = 12) -> nn.Sequential:
    """A convolutional network: pictures (n, channels, size, size) to features (n, 128) to logits.

    The size is a multiple of four.
    """
    torch.manual_seed(0)
    channels, size = pictures.shape[1:3]
    side = size // 4
    classifier = nn.Sequential(
        nn.Conv2d(channels, 16, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, kernel_size=3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Flatten(),
        nn.Linear(32 * side * side, 128),
        nn.ReLU(),
        nn.Linear(128, int(labels.max()) + 1),
    )
    optimizer = torch.optim.Adam(classifier.parameters(), 0.002)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, epochs)
    for _ in range(epochs):
        for chosen in torch.randperm(len(pictures)).split(128):
            optimizer.zero_grad()
            cross_entropy(classifier(pictures[chosen]), labels[chosen]).backward()
            optimizer.step()
        schedule.step()
    return classifier.eval().requires_grad_(False)


def frechet(a: Tensor, b: Tensor) -> float:
    """Frechet distance of features (n, d) and (m, d), as if normal (Heusel et al. 2017)."""
    a = a.double()
    b = b.double()
    product = a.T.cov() @ b.T.cov()
    root_trace = torch.linalg.eigvals(product).real.clamp(min=0).sqrt().sum()
    shift = (a.mean(dim=0) - b.mean(dim=0)).square().sum()
    return (shift + a.T.cov().trace() + b.T.cov().trace() - 2 * root_trace).item()


def patch_distance(a: Tensor, b: Tensor) -> float:
    """Sliced Wasserstein distance of the patches of pictures (n, ...) and (m, ...).

    Patches of 7 by 7 pixels are taken at full, half and quarter size, and the three distances
    averaged (Karras et al. 2018).
    """
    distances = []
    for _ in range(3):
        distances.append(common.sliced_wasserstein(patches(a), patches(b)))
        a = avg_pool2d(a, 2)
        b = avg_pool2d(b, 2)
    return mean(distances)


def patches(pictures: Tensor, most: int = 50_000) -> Tensor:
    """At most so many patches of 1,000 of the pictures, as rows (m, channels * 49)."""
    rows = (
        unfold(common.random_subset(pictures, 1000), kernel_size=7, stride=2)
        .transpose(1, 2)
        .flatten(0, 1)
    )
    return common.random_subset(rows, most)


# --- Digits ------------------------------------------------------------------------------------


class Bench:
    """The digits, a classifier of them, and what trains and measures each script."""

    def __init__(self, data_dir: Path, **settings: Any) -> None:
        self.data_dir = data_dir
        self.settings = settings
        self.digits, self.labels, _ = images.load_dataset("mnist", data_dir)
        self.test_digits, self.test_labels, _ = images.load_dataset("mnist", data_dir, train=False)
        self.classifier = train_classifier(self.digits, self.labels)
        self.features = self.classifier[:-1](self.digits)
        # Always the same halves: others may be half or twice as far apart
        order = torch.randperm(len(self.digits), generator=torch.Generator().manual_seed(0))
        half, other_half = order.tensor_split(2)
        self.unit = frechet(self.features[half], self.features[other_half])
        self.patch_unit = patch_distance(self.digits[half], self.digits[other_half])

    def learn(self, name: str, seed: int, limit: float) -> nn.Module:
        """The generator that a training ends with; the examples have `limit` seconds."""
        if name in textbook.EXAMPLES:
            return textbook.learn_digits(self.digits, seed, limit, name).generator
        if name == "dcgan_multigpu":
            return self.learn_by_torchrun(seed)
        script = importlib.import_module(name)
        random = common.random_generator("data", seed)
        data = script.real_samples(len(self.digits), random, data_dir=self.data_dir)
        arguments = data if isinstance(data, tuple) else (data,)
        training = script.train(*arguments, seed=seed, progress=False, **self.settings)
        print(training.verdict, flush=True)
        return training.generator

    def learn_by_torchrun(self, seed: int) -> nn.Module:
        """The generator of dcgan_multigpu.py on two processes, with one thread each."""
        with tempfile.TemporaryDirectory() as out:
            settings = self.settings | {"out": out, "data-dir": self.data_dir, "seed": seed}
            options = [f"--{name}={value}" for name, value in settings.items()]
            torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            script = str(measure.ROOT / "dcgan_multigpu.py")
            command = [*torchrun, "--nproc-per-node=2", script, "--quiet", *options]
            subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
            return cli.load_model(Path(out, "generator.pt"), dcgan_multigpu.LATENT_DIM)

    def evaluate(self, name: str, generator: nn.Module) -> Figures:
        """Figures of what `learn` gives."""
        if isinstance(generator, cycle_gan.Translators):
            return self.evaluate_translators(generator)
        requested = torch.arange(GENERATED) % CLASSES
        noise = torch.randn(GENERATED, dcgan.LATENT_DIM)
        if name == "conditional_gan":
            noise = conditional_gan.generator_input(requested)
        if name in textbook.EXAMPLES:
            noise = torch.randn(GENERATED, textbook.PICTURE_LATENT_DIM)
        generated = torch.cat([generator(block) for block in noise.split(images.BLOCK)])
        save_image(generated[:100], measure.RESULTS / f"{file_name(name)}.png", nrow=10, padding=0)

        classes = self.classifier(generated).argmax(dim=1)
        share = classes.bincount(minlength=CLASSES) / len(classes)
        real_share = self.labels.bincount(minlength=CLASSES) / len(self.labels)
        _, clear = images.nearest_class(generated[:2048], self.digits, self.labels)
        distance = frechet(self.classifier[:-1](generated), self.features)
        figures = {
            "KL": (share * (share.clamp(min=1e-9) / real_share).log()).sum().item(),
            "clear": clear.double().mean().item(),
            "Frechet": distance / self.unit,
            "patches": patch_distance(generated, self.digits) / self.patch_unit,
        }
        if name == "conditional_gan":
            right = (classes == requested).double()
            by_class = right.view(-1, CLASSES).mean(dim=0)
            figures["as asked"] = right.mean().item()
            figures["least class"] = by_class.min().item()
        return figures

    def evaluate_translators(self, translators: cycle_gan.Translators) -> Figures:
        """Figures of translations of test digits and their outlines."""
        digits = self.test_digits
        outlines = cycle_gan.outline(digits)
        from_outlines = translators.to_digit(outlines)
        return {
            "left as it is": l1_loss(outlines, digits).item(),
            "to outline": l1_loss(translators.to_outline(digits), outlines).item(),
            "to digit": l1_loss(from_outlines, digits).item(),
            "recognised": self.recognised(from_outlines),
        }

    def recognised(self, digits: Tensor) -> float:
        """The share of digits, like those of the test, that the classifier recognises."""
        right = self.classifier(digits).argmax(dim=1) == self.test_labels
        return right.double().mean().item()


def file_name(name: str) -> str:
    """The name of a script or an example, as that of a file."""
    return re.sub(r"\W+", "_", name.lower())


def measure_digits(options: argparse.Namespace) -> None:
    """Measure the scripts on digits, and write the results."""
    page = measure.RESULTS / "images.md"
    names = [name for name in ROWS if name in options.only]
    for name in names:
        measure.require_row(page, name)
    bench = Bench(options.data_dir, **options.settings)
    limit = EXAMPLE_SECONDS
    for name in names:
        runs = []
        for seed in range(options.seeds):
            start = time.perf_counter()
            generator = bench.learn(name, seed, limit)
            seconds = time.perf_counter() - start
            runs.append(bench.evaluate(name, generator) | {"seconds": seconds})
            print(name, seed, runs[-1], flush=True)
        if name == "dcgan":
            limit = measure.mean(runs, "seconds")
        columns = CYCLE_COLUMNS if name == "cycle_gan" else DIGIT_COLUMNS
        measure.write_row(page, [name, *measure.cells(runs, columns), str(len(runs))])
        if name in RESULTS:
            figure, text = RESULTS[name]
            result = text.format(measure.mean(runs, figure))
            measure.write_script(name, measure.mean(runs, "seconds"), result)
    if "fashion_classifier" in options.only:
        measure_clothes(options)
    recognised = bench.recognised(bench.test_digits)
    classifier = f"{recognised:.1%} of {len(bench.test_digits):,} test digits are recognised.\n"
    measure.write_page(page.name, classifier=classifier)


def measure_clothes(options: argparse.Namespace) -> None:
    """Run fashion_classifier.py on one thread, as it asks for, and write its accuracy."""
    accuracies = []
    seconds = []
    for seed in range(options.seeds):
        with tempfile.TemporaryDirectory() as out:
            settings = options.settings | {"out": out, "data-dir": options.data_dir, "seed": seed}
            start = time.perf_counter()
            fashion_classifier.main([f"--{name}={value}" for name, value in settings.items()])
            seconds.append(time.perf_counter() - start)
            metrics = json.loads(Path(out, "metrics.json").read_text())
            accuracies.append(metrics["test_accuracy"])
    result = f"{mean(accuracies):.0%} are right, after {metrics['samples']:,} pictures"
    measure.write_script("fashion_classifier", mean(seconds), result)
    text = f"Of test pictures {result} and {mean(seconds):.0f} seconds. Seeds: {options.seeds}.\n"
    measure.write_page("images.md", clothes=text)


# --- Colour pictures ---------------------------------------------------------------------------


def learn_pictures(pictures: Tensor, seed: int, limit: float, **settings: Any) -> textbook.Result:
    """What dcgan.py has learned by the end of the epoch in which `limit` seconds pass."""
    start = time.perf_counter()

    def stop_in_time(_: nn.Module) -> None:
        if time.perf_counter() - start > limit:
            raise KeyboardInterrupt

    with measure.after_each_epoch(stop_in_time):
        training = dcgan.train(pictures, seed=seed, progress=False, **settings)
    return textbook.Result(training.generator, time.perf_counter() - start)


class PictureBench:
    """A half of the pictures in a folder to learn from, and the other half to compare with."""

    def __init__(self, folder: Path) -> None:
        self.pictures, labels, self.names = images.load_folder(folder, 32)
        self.features = train_classifier(self.pictures, labels)[:-1]
        order = torch.randperm(len(self.pictures), generator=common.random_generator("halves"))
        self.training, self.test = self.pictures[order].tensor_split(2)

    def evaluate(self, generated: Tensor) -> Figures:
        """Figures of generated pictures, beside both halves."""
        features = self.features(generated)
        test_features = self.features(self.test)
        least = frechet(self.features(self.training), test_features)
        least_by_patches = patch_distance(self.training, self.test)
        standardize = common.Standardize(test_features)
        precision, coverage = common.precision_and_coverage(
            standardize(test_features), standardize(features)
        )
        copies = measure.near_copies(
            self.training.flatten(1), self.test.flatten(1), generated.flatten(1)
        )
        return {
            "Frechet": frechet(features, test_features) / least,
            "patches": patch_distance(generated, self.test) / least_by_patches,
            "precision": precision,
            "coverage": coverage,
            "near-copies": copies,
        }


def measure_pictures(options: argparse.Namespace) -> None:
    """Measure dcgan.py and PyTorch's example on colour pictures, and write the results."""
    bench = PictureBench(options.data)
    shown = [bench.training]
    runs: dict[str, list[Figures]] = {
        "training half": [bench.evaluate(bench.training)],
        "dcgan.py": [],
        "PyTorch's DCGAN": [],
    }
    for seed in range(options.seeds):
        settings = {"epochs": EPOCHS} | options.settings
        ours = learn_pictures(bench.training, seed, options.seconds, **settings)
        theirs = textbook.learn_pictures(bench.training, seed, ours.seconds)
        for name, result, latent_dim in (
            ("dcgan.py", ours, dcgan.LATENT_DIM),
            ("PyTorch's DCGAN", theirs, textbook.PICTURE_LATENT_DIM),
        ):
            draws = [
                result.generator(torch.randn(len(bench.test), latent_dim)) for _ in range(DRAWS)
            ]
            shown.append(draws[0])
            figures = [bench.evaluate(pictures) for pictures in draws]
            means = {figure: measure.mean(figures, figure) for figure in PICTURE_COLUMNS[:-1]}
            runs[name].append(means | {"seconds": result.seconds})
            print(name, seed, runs[name][-1], flush=True)
    grids = [make_grid(pictures[:64], nrow=8, pad_value=1) for pictures in shown[:3]]
    save_image(grids, measure.RESULTS / "pictures.png", nrow=3, padding=8, pad_value=1)
    count = f"{len(bench.pictures):,} pictures of {len(bench.names)} classes"
    measure.write_page(
        "pictures.md",
        data=f"{count}, 32 by 32 pixels.\n",
        figures=measure.runs_table("generated by", runs, PICTURE_COLUMNS, ["Frechet"]),
    )
    methods = {name: runs[name] for name in ("dcgan.py", "PyTorch's DCGAN")}
    measure.write_blocks(measure.README, pictures=measure.comparison(methods, PICTURE_IDEALS))


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=3)
    parser.add_argument(
        "--data-dir",
        metavar="DIR",
        type=Path,
        default=Path("data"),
        help="folder of the digits (%(default)s)",
    )
    parser.add_argument(
        "--only", nargs="+", choices=NAMES, default=NAMES, help="measure these alone"
    )
    parser.add_argument(
        "--data",
        metavar="FOLDER",
        type=Path,
        help="measure colour pictures in this folder, not digits",
    )
    parser.add_argument(
        "--seconds", type=float, default=600, help="of a training on them (%(default)s)"
    )
    options = parser.parse_args()
    if options.data:
        measure_pictures(options)
    else:
        measure_digits(options)


if __name__ == "__main__":
    main()
