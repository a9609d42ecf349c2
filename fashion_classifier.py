# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A classifier of clothes: ten categories of Fashion-MNIST, pictures of 28 by 28 pixels.

Like a GAN's discriminator it learns to judge pictures, but from labels. Its validation loss tells
when to stop; the losses of a GAN do not.

    python fashion_classifier.py                       train, save in outputs/fashion_classifier
    python fashion_classifier.py --predict shoe.png    what the saved classifier predicts
"""

import math
import sys
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from tqdm import tqdm

import cli
import common
import images
from common import Check, EarlyStopping, Figure, InputError, one_hot_encode

CATEGORIES = [
    "T-shirt/top",
    "trouser",
    "pullover",
    "dress",
    "coat",
    "sandal",
    "shirt",
    "sneaker",
    "bag",
    "ankle boot",
]
SHAPE = (1, 28, 28)  # of a picture
SHIFT = 1  # pixels by which pictures are randomly shifted
SMOOTHING = 0.1  # of labels
GOOD_ACCURACY = 0.8  # logistic regression on 1,000 pictures reaches 0.79


def real_samples(
    n: int,
    generator: torch.Generator | None = None,
    data_dir: Path | str = "data",
    train: bool = True,
) -> tuple[Tensor, Tensor]:
    """At most `n` different pictures (n, 1, 28, 28), 0 black to 1 white, and their labels (n,).

    Labels are indices into CATEGORIES. Without `train`, the pictures are those for testing.
    """
    pictures, labels, _ = images.load_dataset("fashion", data_dir, train)
    order = torch.randperm(len(pictures), generator=generator)[:n]
    return pictures[order], labels[order]


def build_classifier() -> nn.Module:
    """Pictures (n, 1, 28, 28) in 0..1 to logits (n, 10), one for each category."""
    return nn.Sequential(
        nn.Flatten(),
        nn.Linear(28 * 28, 256),
        nn.ReLU(),
        nn.Linear(256, 128),
        nn.ReLU(),
        nn.Linear(128, 64),
        nn.ReLU(),
        nn.Linear(64, len(CATEGORIES)),
    )


class Epoch(NamedTuple):
    """One row of the history."""

    epoch: int
    training_loss: float  # of shifted pictures and smoothed labels, so higher than that of others
    validation_loss: float
    validation_accuracy: float


@dataclass
class Result:
    """What `train` returns."""

    classifier: nn.Module  # that of the kept epoch, on the CPU, in eval mode
    history: list[Epoch]
    stopping: EarlyStopping
    metrics: dict[str, Any]
    checks: list[Check] = field(default_factory=list)  # one: of the accuracy measured last

    @property
    def interrupted(self) -> bool:
        """Whether Ctrl-C or a signal ended the training."""
        return not self.stopping.stopped

    def judge(self, pictures: Tensor, labels: Tensor, name: str) -> Tensor:
        """Predict categories (n,) of labelled pictures, and set the verdict accordingly."""
        predicted = self.classifier(pictures).argmax(dim=1)
        accuracy = (predicted == labels).float().mean().item()
        self.metrics[f"{name}_accuracy"] = accuracy
        check = Check(
            f"accuracy on {len(labels):,} {name} pictures",
            accuracy >= GOOD_ACCURACY,
            f"{accuracy:.1%}",
            f"at least {GOOD_ACCURACY:.0%}",
            "too many pictures are classified wrongly.",
            "Try more --epochs, or another --lr.",
        )
        self.checks = [check]
        return predicted

    @property
    def converged(self) -> bool:
        """Whether the accuracy that was measured last is good."""
        return all(check.passed for check in self.checks)

    @property
    def verdict(self) -> str:
        """The verdict: a sentence, then a line for the check."""
        return common.write_verdict(self.checks, "pictures are classified well.")


@common.isolated
def train(
    pictures: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    device: str | torch.device = "auto",
    epochs: int = 100,
    patience: int = 10,
    batch_size: int = 64,
    lr: float = 0.001,
    progress: bool = True,
) -> Result:
    """Learn from pictures (n, 1, 28, 28) in 0..1 and their labels (n,) in 0..9.

    A sixth of them is for validation. InputError for other data, or less than two pictures.
    """
    device = common.choose_device(device)
    pictures = images.as_pictures(pictures, channels=[1], sizes=[28])
    labels = images.as_labels(labels, len(pictures), len(CATEGORIES))
    if len(pictures) < 2:
        raise InputError("at least two pictures are needed: one to learn from, one to validate")
    torch.manual_seed(common.random_generator("training", seed).initial_seed())
    order = torch.randperm(len(pictures))
    validation, training = order.tensor_split([math.ceil(len(pictures) / 6)])
    validation_pictures = pictures[validation].to(device)
    validation_labels = labels[validation].to(device)
    training_pictures = pictures[training].to(device)
    training_labels = labels[training].to(device)

    common.require_count("batch_size", batch_size)
    batch_size = min(batch_size, len(training))
    batches = common.Batches(torch.arange(len(training), device=device), batch_size)
    batches_per_epoch = math.ceil(len(training) / batch_size)
    classifier = build_classifier().to(device)
    optimizer = Adam(classifier.parameters(), lr, fused=True)
    stopping = EarlyStopping(epochs, patience)
    history: list[Epoch] = []

    # A function, so that a GPU can record it, and replay it without Python
    @common.cuda_graph(device, optimizer)
    def step(chosen: Tensor) -> Tensor:
        shown = images.random_shift(training_pictures[chosen], SHIFT)
        loss = cross_entropy(classifier(shown), training_labels[chosen], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best classifier so far
        for epoch in tqdm(range(1, epochs + 1), unit="epoch", leave=False, disable=not progress):
            total = torch.zeros((), device=device)
            for _ in range(batches_per_epoch):
                total += step(next(batches))
            training_loss = total.item() / batches_per_epoch
            with torch.no_grad():
                logits = classifier(validation_pictures)
            error = cross_entropy(logits, validation_labels).item()
            accuracy = (logits.argmax(dim=1) == validation_labels).float().mean().item()
            history.append(Epoch(epoch, training_loss, error, accuracy))
            stopping.update(error, classifier)
            if stopping.stopped:
                break
    kept = stopping.load_best(classifier)
    result = Result(kept, history, stopping, {"samples": len(pictures), "seed": seed})
    result.judge(validation_pictures.cpu(), validation_labels.cpu(), "validation")
    return result


def confusion_matrix(labels: Tensor, predicted: Tensor) -> Tensor:
    """Shares (10, 10): how often pictures of a category (row) are taken for another (column)."""
    real = one_hot_encode(labels, len(CATEGORIES))
    counts = real.T @ one_hot_encode(predicted, len(CATEGORIES))
    return counts / counts.sum(dim=1, keepdim=True).clamp(min=1)


def plot(result: Result, pictures: Tensor, predicted: Tensor, confusion: Tensor) -> Figure:
    """Plots 25 pictures with predictions (n,), the confusion matrix (10, 10), and the losses."""
    figure = Figure(figsize=(10, 7), dpi=120, layout="constrained")
    panels: Any = figure.subfigures(1, 2)
    left, right = panels
    examples = zip(left.subplots(5, 5).flat, pictures, predicted, strict=False)
    for axes, picture, category in examples:
        axes.imshow(picture[0].numpy(), cmap="gray_r")
        axes.set_title(CATEGORIES[category], fontsize=6)
        axes.set_axis_off()
    matrix, losses = right.subplots(2, 1, height_ratios=[3, 1])
    matrix.imshow(confusion.numpy(), cmap="Blues", vmin=0, vmax=2)  # no blue hides the numbers
    for i, j in torch.nonzero(confusion >= 0.005).tolist():
        matrix.text(j, i, f"{100 * confusion[i, j]:.0f}", ha="center", va="center", fontsize=7)
    matrix.set(title="% of each category (row) predicted as (column)")
    matrix.set_xticks(range(len(CATEGORIES)), CATEGORIES, rotation=90)
    matrix.set_yticks(range(len(CATEGORIES)), CATEGORIES)
    epochs, training_losses, validation_losses, _ = zip(*result.history, strict=True)
    losses.plot(epochs, training_losses, label="training loss")
    losses.plot(epochs, validation_losses, label="validation loss")
    losses.legend(title="by epoch")
    return figure


def predict(files: list[Path], folder: Path) -> int:
    """Prints what the classifier saved in a folder predicts for files; returns the exit status."""
    classifier = cli.load_model(folder / "classifier.pt", SHAPE)
    print("image,category,probability")
    for path in files:
        probabilities = classifier(images.read_grey(path)).softmax(dim=1)
        probability, category = probabilities[0].max(dim=0)
        print(f"{path},{CATEGORIES[category]},{probability:.3f}")
    return 0


@cli.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = cli.Parser(__file__, __doc__, train, gan=False)
    images.add_data_options(parser, ["fashion"])
    help_text = "do not train: classify pictures, light on black; others are inverted"
    parser.add_argument("--predict", metavar="FILE", nargs="+", type=Path, help=help_text)
    options = parser.parse_args(argv)
    torch.set_num_threads(1)  # faster for a network as small as this
    if options.predict:
        return predict(options.predict, options.out)

    random = common.random_generator("data", options.seed)
    pictures, labels = real_samples(60_000, random, options.data_dir)
    test_pictures, test_labels = real_samples(10_000, random, options.data_dir, train=False)
    result = train(pictures, labels, **parser.settings(options))
    predicted = result.judge(test_pictures, test_labels, "test")
    confusion = confusion_matrix(test_labels, predicted)
    accuracies = confusion.diag().tolist()
    result.metrics["test_accuracy_by_category"] = dict(zip(CATEGORIES, accuracies, strict=True))
    cli.save(options, result, SHAPE, classifier=result.classifier)
    figure = plot(result, test_pictures, predicted, confusion)
    cli.save_picture(options, "samples.png", figure)
    return cli.report(options, result)


if __name__ == "__main__":
    sys.exit(main())
