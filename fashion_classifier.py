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

import math
import sys
from contextlib import suppress
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

import common
import images

PIXELS = 28 * 28
CATEGORIES = ("T-shirt/top", "trouser", "pullover", "dress", "coat",
              "sandal", "shirt", "sneaker", "bag", "ankle boot")  # fmt: skip

EPOCHS, PATIENCE = 100, 10
BATCH_SIZE = 64
LEARNING_RATE = 0.001
SHIFT = 1  # pixels, at random, of each image in each epoch
SMOOTHING = 0.1  # label smoothing
GOOD = 0.8  # share of images classified correctly: logistic regression, on 1,000, comes to 0.79
VALIDATION = 1 / 6  # share of the labelled images, to choose the epoch


class Epoch(NamedTuple):
    """What is noted of an epoch."""

    epoch: int
    training_loss: float  # with images shifted and labels smoothed, which makes it harder
    validation_loss: float
    validation_accuracy: float


class Training(common.Outcome):
    """A finished training of the classifier."""

    history: list[Epoch]
    classifier: nn.Module  # on the CPU, in eval mode


def build_classifier() -> nn.Module:
    """Images (n, 784) in 0..1 to logits (n, 10), one for each category."""
    return nn.Sequential(
        nn.Linear(PIXELS, 256), nn.ReLU(),
        nn.Linear(256, 128), nn.ReLU(),
        nn.Linear(128, 64), nn.ReLU(),
        nn.Linear(64, len(CATEGORIES)),
    )  # fmt: skip


@common.torch_defaults(threads=1)
def train(
    data: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = True,
    epochs: int = EPOCHS,
    patience: int = PATIENCE,
    batch_size: int | None = None,
    lr: float = LEARNING_RATE,
) -> Training:  # fmt: skip
    """Learn from images (n, 784) in 0..1 and their labels (n,) in 0..9.

    Raises ValueError for data of another shape, range or type, and for bad settings.
    """
    data, labels = images.check_images(data), images.check_labels(labels, len(CATEGORIES))
    if len(labels) != len(data):
        raise common.InputError(f"{len(data)} images need as many labels, not {len(labels)}")
    if len(data) < 2:
        raise common.InputError("at least two images are needed")
    training = Training(
        len(data), seed=seed, epochs=epochs, patience=patience, batch_size=batch_size,
        progress=progress,
    )  # fmt: skip
    device = common.choose_device(device)
    data, labels = data.to(device), labels.to(device)
    count = math.ceil(VALIDATION * len(data))
    validation, learned = torch.randperm(len(data)).tensor_split([count])
    batch_size = batch_size or min(BATCH_SIZE, len(learned))
    batches = common.Batches(learned.to(device), batch_size)
    steps = math.ceil(len(learned) / batch_size)
    classifier = build_classifier().to(device)
    optimizer = Adam(classifier.parameters(), lr, fused=True)

    with suppress(KeyboardInterrupt):  # Ctrl-C: keep the best classifier so far
        for epoch in training.epochs():
            classifier.train()
            total = torch.zeros((), device=device)
            for chosen in islice(batches, steps):
                logits = classifier(images.random_shift(data[chosen], SHIFT))
                loss = cross_entropy(logits, labels[chosen], label_smoothing=SMOOTHING)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
                total += loss.detach()

            classifier.eval()
            with torch.no_grad():
                logits = classifier(data[validation])
            error = cross_entropy(logits, labels[validation]).item()
            accuracy = (logits.argmax(dim=1) == labels[validation]).float().mean().item()
            training.note(Epoch(epoch, total.item() / steps, error, accuracy), error, classifier)
    training.classifier = training.load_best(classifier)
    accuracy = training.history[training.kept_epoch - 1].validation_accuracy
    words = f"{accuracy:.1%} of {count:,} validation images are classified correctly"
    training.check(accuracy >= GOOD, words)
    return training


@common.command
def main(argv: list[str] | None = None) -> int:
    """Command line; returns the exit status."""
    parser = common.Parser(__file__, __doc__, train, gan=False)
    images.add_options(parser, gan=False)
    parser.add_argument("--predict", metavar="FILE", nargs="+", type=Path,
        help=f"no training: what the saved classifier predicts, as CSV; {images.OWN}")  # fmt: skip
    options = parser.parse_args(argv)

    if options.predict:
        classifier = common.load_model(options.out / "classifier.pt", PIXELS, len(CATEGORIES))
        print("image,category,probability")
        for path in options.predict:
            probability, category = classifier(images.read_image(path)).softmax(dim=1).max(dim=1)
            print(f"{path},{CATEGORIES[category]},{probability.item():.3f}")
        return 0

    settings = common.training_settings(options)
    data = images.load_images("fashion", options.data_dir)
    test, labels = images.load_images("fashion", options.data_dir, train=False)
    with common.output_folder(options.out) as folder:
        training = train(*data, **settings)
        predicted = training.classifier(test).argmax(dim=1)
        accuracy = (predicted == labels).float().mean().item()
        count = len(CATEGORIES)
        confusions = (count * labels + predicted).bincount(minlength=count**2).view(count, count)
        shares = confusions / confusions.sum(dim=1, keepdim=True).clamp(min=1)
        found = test, labels, predicted, shares
        of_each = dict(zip(CATEGORIES, shares.diag().tolist(), strict=True))
        each = ", ".join(f"{name} {share:.0%}" for name, share in of_each.items())
        words = f"{accuracy:.1%} of {len(labels):,} test images are classified correctly: {each}"
        training.check(accuracy >= GOOD, words)
        training.metrics |= {"test_accuracy": accuracy, "test_accuracy_by_category": of_each}
        common.save_model(folder, "classifier", training.classifier, PIXELS)
        common.save_history(folder, training)
        shown = training, *found, CATEGORIES
        common.save_picture(folder / "samples.png", images.plot_predictions, *shown)
    return common.report(training, options)


if __name__ == "__main__":
    sys.exit(main())
