# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A classifier of clothes: ten categories of Fashion-MNIST, images of 28 by 28 pixels.

Like a GAN's discriminator it learns to judge images, but from labels. Its validation loss tells
when to stop; the losses of a GAN do not.

    python fashion_classifier.py                       train, save in outputs/fashion_classifier
    python fashion_classifier.py --predict shoe.png    what the saved classifier predicts
"""

import sys
from collections import namedtuple
from contextlib import suppress
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam
from tqdm import tqdm

import common
import images
from common import Figure, InputError

PIXELS = 28 * 28
CATEGORIES = ["T-shirt/top", "trouser", "pullover", "dress", "coat",
              "sandal", "shirt", "sneaker", "bag", "ankle boot"]  # fmt: skip
EPOCHS, PATIENCE, BATCH_SIZE, LEARNING_RATE = 100, 10, 64, 0.001
SHIFT, SMOOTHING = 1, 0.1  # pixels by which images are randomly shifted; label smoothing
GOOD = 0.8  # accuracy: logistic regression on 1,000 images reaches 0.79
# The training loss is of shifted images and smoothed labels, so higher than that of plain ones
Epoch = namedtuple("Epoch", ["epoch", "training_loss", "validation_loss", "validation_accuracy"])


@dataclass
class Training:
    """What `train` returns."""

    classifier: nn.Module  # of the kept epoch, on the CPU, in eval mode
    history: list[Epoch]
    stopping: common.EarlyStopping
    interrupted: bool  # by Ctrl-C or a signal
    metrics: dict
    converged: bool = False  # whether the last accuracy is good
    verdict: str = ""

    def predict(self, data: Tensor, labels: Tensor, kind: str) -> Tensor:
        """Predicts categories (n,) of images (n, PIXELS), and sets the verdict by their labels."""
        predicted = self.classifier(data).argmax(dim=1)
        accuracy = (predicted == labels).float().mean().item()
        self.metrics[f"{kind}_accuracy"], self.converged = accuracy, accuracy >= GOOD
        words = f"{accuracy:.1%} of {len(data):,} {kind} images are classified correctly."
        self.verdict = ("Good: " if self.converged else "WARNING, not converged: ") + words
        return predicted


def build_classifier() -> nn.Module:
    """Images (n, PIXELS) in 0..1 to logits (n, 10), one for each category."""
    return nn.Sequential(
        nn.Linear(PIXELS, 256), nn.ReLU(), nn.Linear(256, 128), nn.ReLU(),
        nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, len(CATEGORIES)),
    )  # fmt: skip


@common.torch_defaults(threads=1)
def train(
    data: Tensor, labels: Tensor, *, seed: int = 0, device: str | torch.device = "cpu",
    progress: bool = True, epochs: int = EPOCHS, patience: int = PATIENCE,
    batch_size: int | None = None, lr: float = LEARNING_RATE,
) -> Training:  # fmt: skip
    """Learn from images (n, PIXELS) in 0..1 and their labels (n,) in 0..9; or ValueError."""
    data, labels = images.check_images(data), torch.as_tensor(labels).cpu()
    known = torch.isin(labels, torch.arange(len(CATEGORIES))).all()
    if len(data) < 2 or labels.shape != data.shape[:1] or not known:
        raise InputError("labels must be integers from 0 to 9, one for each of at least two images")
    batch_size = common.check_count("batch_size", batch_size or min(BATCH_SIZE, len(data)))
    if batch_size > len(data):
        raise InputError(f"batch_size {batch_size} is larger than the data, {len(data)} images")
    stopping, device = common.EarlyStopping(epochs, patience), common.choose_device(device)
    torch.manual_seed(common.stream("training", seed).initial_seed())
    data, labels, order = data.to(device), labels.long().to(device), torch.randperm(len(data))
    validation, train_rows = order.tensor_split([(len(data) + 5) // 6])  # a sixth to validate
    batches = common.Batches(train_rows.to(device), batch_size)
    classifier = build_classifier().to(device)
    optimizer = Adam(classifier.parameters(), lr, fused=True, capturable=device.type == "cuda")
    history, stopped = [], False

    @common.recorded(device)  # as a CUDA graph, on a GPU
    def step(chosen: Tensor) -> Tensor:
        logits = classifier(images.random_shift(data[chosen], SHIFT))
        loss = cross_entropy(logits, labels[chosen], label_smoothing=SMOOTHING)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        return loss.detach()

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best classifier so far
        for epoch in tqdm(range(1, epochs + 1), unit="epoch", leave=False, disable=not progress):
            losses = []
            for _, chosen in zip(range(0, len(train_rows), batch_size), batches, strict=False):
                losses.append(step(chosen).clone())  # a recorded step reuses its tensor
            with torch.no_grad():
                logits = classifier(data[validation])
            error = cross_entropy(logits, labels[validation]).item()
            accuracy = (logits.argmax(dim=1) == labels[validation]).float().mean().item()
            history.append(Epoch(epoch, torch.stack(losses).mean().item(), error, accuracy))
            if stopped := stopping.update(error, classifier):
                break
    classifier, metrics = stopping.load_best(classifier), {"samples": len(data), "seed": seed}
    training = Training(classifier, history, stopping, not stopped, metrics)
    training.predict(data[validation].cpu(), labels[validation].cpu(), "validation")
    return training


def plot_predictions(training: Training, test: Tensor, predicted: Tensor, rates: Tensor) -> Figure:
    """Plots 25 images (n, PIXELS), predictions (n,), losses, and the confusion matrix (10, 10)."""
    figure = Figure(figsize=(10, 7), dpi=120, layout="constrained")
    left, right = figure.subfigures(1, 2, squeeze=False)[0]
    for axes, image, category in zip(left.subplots(5, 5).flat, test, predicted, strict=False):
        axes.imshow(image.view(28, 28).numpy(), cmap="gray_r")
        axes.set_title(CATEGORIES[category], fontsize=6)
        axes.set_axis_off()
    matrix, losses = right.subplots(2, 1, height_ratios=[3, 1])
    matrix.imshow(rates.numpy(), cmap="Blues", vmin=0, vmax=2)  # no blue hides the numbers
    for i, j in torch.nonzero(rates >= 0.005).tolist():
        matrix.text(j, i, f"{100 * rates[i, j]:.0f}", ha="center", va="center", fontsize=7)
    matrix.set(title="% of each category (row) predicted as (column)")
    matrix.set_xticks(range(len(CATEGORIES)), CATEGORIES, rotation=90)
    matrix.set_yticks(range(len(CATEGORIES)), CATEGORIES)
    for name in ("training_loss", "validation_loss"):
        losses.plot([getattr(row, name) for row in training.history], label=name)
    losses.legend(title="by epoch")
    return figure


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train, gan=False)
    images.add_options(parser, gan=False, files="--predict")
    options = parser.parse_args(argv)
    if options.predict:
        classifier = common.load_model(options.out / "classifier.pt", PIXELS, len(CATEGORIES))
        print("image,category,probability")
        for path in options.predict:
            probability, category = classifier(images.read_image(path)).softmax(dim=1).max(dim=1)
            print(f"{path},{CATEGORIES[category]},{probability.item():.3f}")
        return 0

    data = images.load_images("fashion", options.data_dir)
    test, labels = images.load_images("fashion", options.data_dir, train=False)
    with common.output_folder(options.out) as folder:
        training = train(*data, **parser.settings(options))
        predicted = training.predict(test, labels, "test")
        real, guess = (common.one_hot_encode(x, len(CATEGORIES)) for x in (labels, predicted))
        rates = nn.functional.normalize(real.T @ guess, p=1, dim=1)  # confusion matrix
        by_category = dict(zip(CATEGORIES, rates.diag().tolist(), strict=True))
        training.metrics["test_accuracy_by_category"] = by_category
        common.save(folder, training, PIXELS, classifier=training.classifier)
        figure = plot_predictions, training, test, predicted, rates
        common.save_picture(folder / "samples.png", *figure)
    return common.report(training, options)


if __name__ == "__main__":
    sys.exit(main())
