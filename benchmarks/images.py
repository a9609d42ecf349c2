"""How good the image scripts are, on real images: results/images.md, pictures.

python benchmarks/images.py --data-dir DIR                  two hours on 2 cores; needs scikit-learn
python benchmarks/images.py --data-dir DIR --only dcgan     measure this again
"""

import argparse
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from statistics import mean
from typing import Any

import matplotlib.figure
import measure
import textbook
import torch
from measure import RESULTS
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, l1_loss

import conditional_gan
import cycle_gan
import dcgan
import digits_gan
import fashion_classifier
import images as shared  # of the project; this file has the same name
from common import load_model, one_hot_encode

GENERATED = 10_000
CLASSES = 10

Figures = dict[str, float]


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of the predictions (n,) that are right."""
    return (predicted == labels).double().mean().item()


# --- An independent judge of digits ------------------------------------------------------------


class Judge(nn.Module):
    """A small convolutional classifier: images (n, 784) to features (n, 128) and logits (n, 10)."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Unflatten(1, (1, 28, 28)),
            nn.Conv2d(1, 16, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Conv2d(16, 32, 3, padding=1), nn.ReLU(), nn.MaxPool2d(2),
            nn.Flatten(), nn.Linear(32 * 7 * 7, 128), nn.ReLU(),
        )  # fmt: skip
        self.last = nn.Linear(128, CLASSES)

    def forward(self, images: Tensor) -> tuple[Tensor, Tensor]:
        features = self.features(images)
        return features, self.last(features)


def trained_judge(images: Tensor, labels: Tensor, epochs: int = 12) -> Judge:
    """A judge that has learned from labelled images."""
    torch.manual_seed(0)
    judge = Judge()
    optimizer = torch.optim.Adam(judge.parameters(), 0.002)
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0, epochs)
    for _ in range(epochs):
        for chosen in torch.randperm(len(images)).split(128):
            optimizer.zero_grad()
            cross_entropy(judge(images[chosen])[1], labels[chosen]).backward()
            optimizer.step()
        schedule.step()
    return judge.eval().requires_grad_(False)


def frechet(some: Tensor, others: Tensor) -> float:
    """Frechet distance of features (n, d) and (m, d), as if normal (Heusel et al. 2017)."""
    some, others = some.double(), others.double()
    product = some.T.cov() @ others.T.cov()
    common_part = torch.linalg.eigvals(product).real.clamp(min=0).sqrt().sum()
    shift = (some.mean(dim=0) - others.mean(dim=0)).square().sum()
    return (shift + some.T.cov().trace() + others.T.cov().trace() - 2 * common_part).item()


# --- What is measured --------------------------------------------------------------------------


def timed(train: Callable, *data: Tensor, seed: int) -> tuple[Any, float]:
    """A training, and the seconds that it took."""
    start = time.perf_counter()
    return train(*data, seed=seed, progress=False), time.perf_counter() - start


class Bench:
    """Images to learn from and to test on, and the judge; a method for each row of the results."""

    def __init__(self, data_dir: Path) -> None:
        self.digits, self.test_digits, self.clothes, self.test_clothes = (
            shared.load_images(dataset, data_dir, train)
            for dataset in ("mnist", "fashion")
            for train in (True, False)
        )
        self.data_dir = data_dir
        images, labels = self.digits
        self.judge = trained_judge(images, labels)
        self.features, _ = self.judge(images)
        random = torch.Generator().manual_seed(0)
        halves = torch.randperm(len(images), generator=random).tensor_split(2)
        self.between_halves = frechet(*(self.features[half] for half in halves))
        self.due = labels.bincount(minlength=CLASSES) / len(labels)
        self.generated: Tensor | None = None  # the last images that were judged

    def judged(self, generate: Callable[[Tensor], Tensor], seconds: float) -> Figures:
        """Figures of what generates digits (n, 784), told the classes (n,) that are wanted."""
        wanted = torch.arange(GENERATED) % CLASSES
        with torch.no_grad():
            self.generated = torch.cat([generate(some) for some in wanted.split(250)])
        features, logits = self.judge(self.generated)
        seen = logits.argmax(dim=1)
        share = seen.bincount(minlength=CLASSES) / GENERATED
        _, plain = shared.nearest_class(self.generated[:2048], *self.digits)
        as_asked = (seen == wanted).double().view(-1, CLASSES).mean(dim=0)
        return {
            "rarest class": share.min().item(),
            "KL": (share * (share.clamp(min=1e-9) / self.due).log()).sum().item(),
            "top probability": logits.softmax(dim=1).amax(dim=1).mean().item(),
            "Frechet": frechet(features, self.features) / self.between_halves,
            "plain": plain.double().mean().item(),
            "as asked": as_asked.mean().item(),
            "least class": as_asked.min().item(),
            "seconds": seconds,
        }

    def not_asked(self, generator: nn.Module, seconds: float) -> Figures:
        """The same of a generator that cannot be told what is wanted."""
        found = self.judged(lambda wanted: generator(torch.randn(len(wanted), 64)), seconds)
        return {name: found[name] for name in found if name not in ("as asked", "least class")}

    def digits_gan(self, seed: int) -> Figures:
        training, seconds = timed(digits_gan.train, self.digits[0], seed=seed)
        return self.not_asked(training.generator, seconds)

    def textbook(self, seed: int) -> Figures:
        """The textbook's loop, for as long as digits_gan.py takes."""
        seconds = mean(figures["seconds"] for figures in measure.stored()["digits_gan"]["found"])
        learned = textbook.learn_digits(self.digits[0], seconds, seed=seed)
        return self.not_asked(learned.generator, learned.seconds)

    def dcgan(self, seed: int) -> Figures:
        training, seconds = timed(dcgan.train, self.digits[0], seed=seed)
        return self.not_asked(training.generator, seconds)

    def dcgan_two_processes(self, seed: int) -> Figures:
        """By torchrun, one thread each; and how many times faster than one, past the start."""
        with tempfile.TemporaryDirectory() as folder:
            seconds = {
                (processes, epochs): self.torchrun(folder, processes, epochs, seed)
                for processes in (1, 2)
                for epochs in (1, 4, dcgan.EPOCHS)[: processes + 1]
            }
            generator = load_model(Path(folder, "generator.pt"), dcgan.LATENT_DIM, dcgan.PIXELS)
        one, two = (seconds[processes, 4] - seconds[processes, 1] for processes in (1, 2))
        found = self.not_asked(generator, seconds[2, dcgan.EPOCHS])
        return found | {"times as fast": one / two}

    def torchrun(self, out: str, processes: int, epochs: int, seed: int) -> float:
        """The seconds that a run of dcgan.py takes."""
        start = time.perf_counter()
        command = "torch.distributed.run", "--standalone", "--nproc-per-node", str(processes)
        script = measure.ROOT / "dcgan.py", "--data-dir", self.data_dir, "--out", out, "--quiet"
        subprocess.run(
            [sys.executable, "-m", *command, *script, "--epochs", str(epochs), "--seed", str(seed)],
            env=os.environ | {"OMP_NUM_THREADS": "1"},
            check=True,
        )
        return time.perf_counter() - start

    def conditional_gan(self, seed: int) -> Figures:
        images, labels = self.digits
        rows = torch.cat([images, one_hot_encode(labels, CLASSES)], dim=1)
        training, seconds = timed(conditional_gan.train, rows, seed=seed)
        return self.judged(lambda some: training.generator(conditional_gan.asked(some)), seconds)

    def cycle_gan(self, seed: int) -> Figures:
        """On images never seen, against their true counterparts."""
        rows = cycle_gan.unpaired(self.digits[0])
        training, seconds = timed(cycle_gan.train, rows, seed=seed)
        to_digit, to_outline = training.generator.children()
        digits, labels = self.test_digits
        outlines = cycle_gan.outline(digits)
        return {
            "left as it is": l1_loss(outlines, digits).item(),
            "to outline": l1_loss(to_outline(digits), outlines).item(),
            "to digit": l1_loss(to_digit(outlines), digits).item(),
            "digit, there and back": l1_loss(to_digit(to_outline(digits)), digits).item(),
            "outline, there and back": l1_loss(to_outline(to_digit(outlines)), outlines).item(),
            "recognised": accuracy(self.judge(to_digit(outlines))[1].argmax(dim=1), labels),
            "seconds": seconds,
        }

    def fashion_classifier(self, seed: int) -> Figures:
        training, seconds = timed(fashion_classifier.train, *self.clothes, seed=seed)
        images, labels = self.test_clothes
        right = accuracy(training.classifier(images).argmax(dim=1), labels)
        return {"right": right, "seconds": seconds}

    def logistic_regression(self, seed: int) -> Figures:
        """On the same pixels; there is no luck in it."""
        images, labels = (part.numpy() for part in self.clothes)
        start = time.perf_counter()
        plain = LogisticRegression(max_iter=2000, random_state=seed).fit(images, labels)
        seconds = time.perf_counter() - start
        images, labels = (part.numpy() for part in self.test_clothes)
        return {"right": plain.score(images, labels), "seconds": seconds}


# --- Writing -----------------------------------------------------------------------------------

TABLES = {
    "digits": ["digits_gan", "textbook", "dcgan", "dcgan_two_processes", "conditional_gan"],
    "cycle": ["cycle_gan"],
    "clothes": ["fashion_classifier", "logistic_regression"],
}


def save_picture(path: Path, generated: Tensor) -> None:
    """A hundred generated images."""
    figure = matplotlib.figure.Figure(figsize=(5, 5))
    axis = figure.add_axes((0, 0, 1, 1))
    axis.imshow(shared.image_grid(generated[:100], 10), cmap="gray", vmin=0, vmax=1)
    axis.set_axis_off()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure, and write the results."""
    names = [name for rows in TABLES.values() for name in rows]
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared.add_options(parser, gan=False)
    parser.add_argument("--seeds", type=int, default=5, help="(%(default)s)")
    parser.add_argument("--only", nargs="+", choices=names, default=names, help="some of these")
    options = parser.parse_args()
    bench = Bench(options.data_dir)
    for name in options.only:
        bench.generated, found = None, []
        for seed in range(options.seeds):
            found.append(getattr(bench, name)(seed))
            print(name, seed, found[-1], flush=True)
            if seed == 0 and bench.generated is not None:
                save_picture(RESULTS / f"{name}.png", bench.generated)
        measure.store(name, found, "images.py")
    drawn = [name for name in TABLES["digits"] if (RESULTS / f"{name}.png").exists()]
    test, labels = bench.test_digits
    right = accuracy(bench.judge(test)[1].argmax(dim=1), labels)
    text = f"""# Images

Mean / worst over the seeds. Digits, learned from {len(bench.digits[0]):,} images; of {GENERATED:,}
generated ones:

{measure.stored_table(TABLES["digits"])}
The judge of the digits is a small convolutional network, trained on the real ones; of {len(test):,}
other real ones it knows {right:.1%}. KL: of the classes it sees, from those of the real images.
Frechet: between generated and real features of its last hidden layer, in units of that between two
halves of the real ones. Plain: the share plainly of one class, as digits_gan.py itself says. As
asked: the share that is what conditional_gan.py was asked for; least class: this in the class that
is worst. The textbook's loop has as long as digits_gan.py takes.

A hundred each of {" and ".join(drawn)}, seed 0:

{" ".join(f"![{name}]({name}.png)" for name in drawn)}

Digits and outlines, {len(test):,} of each, never seen in training; how far each pixel is, on
average, from the true counterpart, and how many of the digits made of outlines the judge knows:

{measure.stored_table(TABLES["cycle"])}
Clothes, learned from {len(bench.clothes[0]):,} images; the share that is right of
{len(bench.test_clothes[0]):,} test images:

{measure.stored_table(TABLES["clothes"])}"""
    (RESULTS / "images.md").write_text(text)


if __name__ == "__main__":
    main()
