"""How good the image scripts are, on real images: results/images.md, and pictures.

python benchmarks/image_quality.py --data-dir DIR                  two hours on 2 cores
python benchmarks/image_quality.py --data-dir DIR --only dcgan     this row, the others stay
"""

import datetime
import importlib
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
from matplotlib.image import imsave
from measure import Figures
from picture_quality import frechet, train_classifier
from torch import Tensor, nn
from torch.nn.functional import l1_loss

import conditional_gan
import cycle_gan
import dcgan
import images
from common import load_model, one_hot_encode

GENERATED, CLASSES = 10_000, 10
NAMES = ["digits_gan", "dcgan", "dcgan_two_processes", "conditional_gan", "cycle_gan", "textbook"]
SHORT = ["as asked", "least class", "Frechet"]  # for README
SHORT += ["left as it is", "to outline", "to digit", "recognised", "seconds"]


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
        rows = self.digits
        if name == "textbook":
            return textbook.learn_digits(rows, seed, limit).generator
        if name == "dcgan_two_processes":
            return self.learn_by_torchrun(seed)
        if name == "conditional_gan":
            rows = torch.cat([rows, one_hot_encode(self.labels, CLASSES)], dim=1)
        if name == "cycle_gan":
            rows = cycle_gan.unpaired_rows(rows)
        script = importlib.import_module(name)
        training = script.train(rows, seed=seed, progress=False, **self.settings)
        print(training.verdict, flush=True)
        return training.generator

    def learn_by_torchrun(self, seed: int) -> nn.Module:
        """The generator of dcgan.py on two processes, with one thread each."""
        with tempfile.TemporaryDirectory() as out:
            command: list[Any] = [sys.executable, "-m", "torch.distributed.run", "--standalone"]
            command += ["--nproc-per-node=2", measure.ROOT / "dcgan.py", "--quiet", f"--out={out}"]
            command += [f"--data-dir={self.data_dir}", f"--seed={seed}"]
            command += [f"--{name}={value}" for name, value in self.settings.items()]
            subprocess.run(command, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
            return load_model(Path(out, "generator.pt"), dcgan.LATENT_DIM)

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


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=3)
    add = parser.add_argument
    add("--data-dir", type=Path, default=Path("data"), help="folder of the images (%(default)s)")
    add("--only", nargs="+", choices=NAMES, default=NAMES, help="measure these alone")
    options = parser.parse_args()
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
    measure.write_blocks(page, classifier=classifier, source=measure.source())


if __name__ == "__main__":
    main()
