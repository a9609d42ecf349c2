# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A classifier of clothes: ten categories of Fashion-MNIST, images of 28 by 28 pixels.

The trade of a GAN's discriminator, learned alone: from pixels to a judgement. What a GAN lacks is
here, too: labels that say what is right, and so an error that tells when to stop.

    python fashion_classifier.py                       train, save in outputs/fashion_classifier
    python fashion_classifier.py --predict shoe.png    what the saved classifier takes it for
"""

import argparse
import math
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.optim import Adam

import common

PIXELS = 28 * 28
CATEGORIES = ("T-shirt/top", "trouser", "pullover", "dress", "coat",
              "sandal", "shirt", "sneaker", "bag", "ankle boot")  # fmt: skip

EPOCHS, PATIENCE = 100, 10
BATCH_SIZE = 64
LEARNING_RATE = 0.001
SHIFT = 1  # pixels: each time an image is seen, it has moved a little
SMOOTHING = 0.1  # share of each label that goes to all categories: it need not be too sure
VALIDATION = 1 / 6  # share of the labelled images that choose the best epoch, never learned from


@dataclass(frozen=True)
class Epoch(common.Row):
    """What is noted of an epoch."""

    training_loss: float  # with images shifted and labels smoothed, which makes it harder
    validation_loss: float
    validation_accuracy: float


@dataclass(frozen=True)
class Training(common.Outcome):
    """What a training gives back."""

    history: list[Epoch]
    classifier: nn.Module  # the best one, on the CPU, in eval mode


def build_classifier() -> nn.Module:
    """Images (n, 784) in 0..1 to logits (n, 10), one for each category."""
    return nn.Sequential(
        nn.Linear(PIXELS, 256), nn.ReLU(),
        nn.Linear(256, 128), nn.ReLU(),
        nn.Linear(128, 64), nn.ReLU(),
        nn.Linear(64, len(CATEGORIES)),
    )  # fmt: skip


@common.on_one_thread
def train(
    images: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    device: str | torch.device = "cpu",
    progress: bool = True,
    epochs: int = EPOCHS,
    patience: int = PATIENCE,
    batch_size: int | None = None,
    lr: float = LEARNING_RATE,
) -> Training:
    """Learn from images (n, 784) in 0..1 and their labels (n,) in 0..9.

    Raises ValueError for data of another shape, range or type, and for bad settings.
    """
    common.check_images(images, PIXELS)
    common.check_labels(labels, len(images), len(CATEGORIES))
    common.check_settings(len(images), seed, epochs, batch_size, lr)
    if len(images) < 2:
        raise ValueError("one image is too few: one to learn from, one to validate on")
    device = common.choose_device(device)
    torch.manual_seed(seed)
    images, labels = images.to(device), labels.to(device)
    count = math.ceil(VALIDATION * len(images))
    validation, learned = torch.randperm(len(images)).tensor_split([count])
    batch_size = batch_size or min(BATCH_SIZE, len(learned))
    batches = common.Batches(learned.to(device), batch_size)
    steps = math.ceil(len(learned) / batch_size)
    classifier = build_classifier().to(device)
    optimizer = Adam(classifier.parameters(), lr, fused=True)
    course = common.Epochs[Epoch](epochs, common.EarlyStop(patience), progress)

    for epoch in course:
        classifier.train()
        total = torch.zeros((), device=device)
        for chosen in islice(batches, steps):
            logits = classifier(common.shifted(images[chosen], SHIFT))
            loss = cross_entropy(logits, labels[chosen], label_smoothing=SMOOTHING)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.detach()

        classifier.eval()
        with torch.no_grad():
            logits = classifier(images[validation])
        error = cross_entropy(logits, labels[validation]).item()
        accuracy = (logits.argmax(dim=1) == labels[validation]).float().mean().item()
        course.note(Epoch(epoch, total.item() / steps, error, accuracy), error, classifier)
    return Training(classifier=course.best_model(), **course.outcome())


def learn(options: argparse.Namespace) -> int:
    """Train, test on images never seen, and save."""
    settings = common.training_settings(options)
    images, labels = common.load_images("fashion", options.data_dir)
    test_images, test_labels = common.load_images("fashion", options.data_dir, train=False)
    with common.reserved(options.out), common.stop_gently():
        training = train(images, labels, **settings)
        predicted = training.classifier(test_images).argmax(dim=1)
        models = common.model_files("classifier", training.classifier, test_images[:256])
        picture = common.plot_predictions(
            test_images, test_labels, predicted, CATEGORIES, training.history
        )
        facts = common.describe_predictions(test_labels, predicted, CATEGORIES)
        facts |= {"samples": len(images), "seed": options.seed}
        print(common.save_results(options.out, training, facts, models, picture))
        status = common.exit_status()
    if options.show:
        common.show_picture(options.out / "samples.png")
    return status


def predict(options: argparse.Namespace) -> int:
    """Print what the saved classifier takes image files for, as CSV."""
    classifier = common.load_torchscript(options.out / "classifier.pt", PIXELS, len(CATEGORIES))
    print("image,category,probability")
    for path in options.predict:
        probability, category = classifier(common.read_image(path)).softmax(dim=1).max(dim=1)
        print(f"{path},{CATEGORIES[category]},{probability.item():.3f}")
    return 0


def main(argv: Sequence[str] | None = None) -> int:
    """The command line; gives the exit status."""
    script = "fashion_classifier"
    parser = common.training_parser(f"{script}.py", __doc__, Path("outputs", script), train)
    common.add_data_dir(parser)
    parser.add_argument("--predict", metavar="FILE", nargs="+", type=Path,
        help="no training: what the saved classifier takes images for, as CSV")  # fmt: skip
    options = parser.parse_args(argv)
    return common.reporting(script, lambda: (predict if options.predict else learn)(options))


if __name__ == "__main__":
    sys.exit(main())
