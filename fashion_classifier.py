# /// script
# requires-python = ">=3.11"
# dependencies = ["torch>=2.7", "torchvision", "numpy", "matplotlib>=3.8", "tqdm"]
# ///
"""A classifier of clothes: ten categories of Fashion-MNIST, images of 28 by 28 pixels.

Like a GAN's discriminator it learns to judge images, but alone, and from labels that say what is
right. So its error says when to stop, which the losses of a GAN do not.

    python fashion_classifier.py                       train, save in outputs/fashion_classifier
    python fashion_classifier.py --predict shoe.png    what the saved classifier predicts
"""

import math
import sys
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
SHIFT = 1  # pixels: each time an image is seen, it has moved a little
SMOOTHING = 0.1  # share of each label that goes to all categories: it need not be too sure
GOOD = 0.8  # share of images classified correctly: logistic regression, on 1,000, comes to 0.79
VALIDATION = 1 / 6  # share of the labelled images that choose the best epoch, never learned from


class Epoch(NamedTuple):
    """What is noted of an epoch."""

    epoch: int
    training_loss: float  # with images shifted and labels smoothed, which makes it harder
    validation_loss: float
    validation_accuracy: float


class Training(common.Epochs):
    """A training that, when it has ended, has the best `classifier`."""

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
@common.stop_gently()
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
) -> Training:
    """Learn from images (n, 784) in 0..1 and their labels (n,) in 0..9.

    Raises ValueError for data of another shape, range or type, and for bad settings.
    """
    data, labels = images.check_images(data), torch.as_tensor(labels).detach().cpu()
    if len(common.one_hot_encode(labels, len(CATEGORIES))) != len(data):
        raise common.InputError(f"{len(data)} images need as many labels, not {len(labels)}")
    if len(data) < 2:
        raise common.InputError("one image is too few: one to learn from, one to validate on")
    training = Training(len(data), seed, epochs, patience, batch_size, progress)
    device = common.choose_device(device)
    data, labels = data.to(device), labels.long().to(device)
    count = math.ceil(VALIDATION * len(data))
    validation, learned = torch.randperm(len(data)).tensor_split([count])
    batch_size = batch_size or min(BATCH_SIZE, len(learned))
    batches = common.Batches(learned.to(device), batch_size)
    steps = math.ceil(len(learned) / batch_size)
    classifier = build_classifier().to(device)
    optimizer = Adam(classifier.parameters(), lr, fused=True)

    for epoch in training:
        classifier.train()
        total = torch.zeros((), device=device)
        for chosen in islice(batches, steps):
            logits = classifier(images.shifted(data[chosen], SHIFT))
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
    training.classifier = training.finish(classifier)
    accuracy = training.history[training.best_epoch - 1].validation_accuracy
    words = f"{accuracy:.1%} of {count:,} validation images are classified correctly"
    training.findings[words] = accuracy >= GOOD
    return training


@common.reporting
def main(argv: list[str] | None = None) -> int:
    """The command line; gives the exit status."""
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
    with common.results(options.out) as folder, common.stop_gently():
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
        training.findings[words] = accuracy >= GOOD
        training.figures |= {"test_accuracy": accuracy, "test_accuracy_by_category": of_each}
        common.save_model(folder, "classifier", training.classifier, PIXELS)
        common.save_history(folder, training)
        shown = training, *found, CATEGORIES
        common.save_picture(folder / "samples.png", images.plot_predictions, *shown)
    return common.conclude(training, options)


if __name__ == "__main__":
    sys.exit(main())
