"""How good the image scripts are, on real images: results/images.md, digits.png, clothes.png.

python benchmarks/images.py --data-dir DIR     half an hour on 2 cores; needs scikit-learn
"""

import argparse
import time
from pathlib import Path

import matplotlib.figure
import measure
import torch
from measure import RESULTS
from sklearn.linear_model import LogisticRegression
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

import digits_gan
import fashion_classifier
import images as shared  # of the project; this file has the same name

GENERATED = 10_000
CLASSES = 10

Labelled = tuple[Tensor, Tensor]  # images (n, 784) in 0..1, labels (n,)


# --- The classifier ----------------------------------------------------------------------------


def accuracy(predicted: Tensor, labels: Tensor) -> float:
    """Share of the predictions (n,) that are right."""
    return (predicted == labels).double().mean().item()


def classifier_table(learned: Labelled, test: Labelled, seeds: int) -> str:
    """Our classifier over seeds, and logistic regression on the same pixels."""
    found = []
    for seed in range(seeds):
        start = time.perf_counter()
        classifier = fashion_classifier.train(*learned, seed=seed, progress=False).classifier
        seconds = time.perf_counter() - start
        right = accuracy(classifier(test[0]).argmax(dim=1), test[1])
        found.append({"right": right, "seconds": seconds})
        print("classifier", seed, found[-1], flush=True)
    start = time.perf_counter()
    plain = LogisticRegression(max_iter=2000).fit(*(part.numpy() for part in learned))
    seconds = time.perf_counter() - start
    right = plain.score(*(part.numpy() for part in test))
    rows = [
        ["fashion_classifier.py", *(mean_and_worst(found, key) for key in ("right", "seconds"))],
        ["logistic regression", f"{right:.3f}", f"{seconds:.1f}"],
    ]
    return measure.table(["", "test images right", "seconds"], rows)


def mean_and_worst(found: list[dict[str, float]], key: str) -> str:
    """A cell: the mean and the worst of a figure."""
    figures = [figures[key] for figures in found]
    worst = min(figures) if key in HIGH_IS_GOOD else max(figures)
    return f"{sum(figures) / len(figures):.3g} / {worst:.3g}"


HIGH_IS_GOOD = ("right", "rarest class", "top probability", "plain")


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


# --- The GAN -----------------------------------------------------------------------------------


def digits_table(learned: Labelled, test: Labelled, seeds: int) -> tuple[str, float]:
    """The GAN on digits over seeds, as the judge sees it; and how good the judge is."""
    images, labels = learned
    judge = trained_judge(images, labels)
    real_features, _ = judge(images)
    halves = torch.randperm(len(images), generator=torch.Generator().manual_seed(0)).tensor_split(2)
    between_halves = frechet(*(real_features[half] for half in halves))
    due = labels.bincount(minlength=CLASSES) / len(labels)
    found = []
    for seed in range(seeds):
        start = time.perf_counter()
        training = digits_gan.train(images, seed=seed, progress=False)
        seconds = time.perf_counter() - start
        latents = torch.randn(GENERATED, digits_gan.LATENT_DIM)
        generated = torch.cat([training.generator(block) for block in latents.split(256)])
        features, logits = judge(generated)
        share = logits.argmax(dim=1).bincount(minlength=CLASSES) / GENERATED
        _, plain = shared.recognise(generated[:2048], images, labels)
        found.append(
            {
                "rarest class": share.min().item(),
                "KL": (share * (share.clamp(min=1e-9) / due).log()).sum().item(),
                "top probability": logits.softmax(dim=1).amax(dim=1).mean().item(),
                "Frechet, halves = 1": frechet(features, real_features) / between_halves,
                "plain": plain.double().mean().item(),
                "ratio": training.ratio,
                "seconds": seconds,
            }
        )
        print("digits", seed, found[-1], flush=True)
        if seed == 0:
            save_picture(RESULTS / "digits.png", images, generated)
    rows = [["digits_gan.py", *(mean_and_worst(found, key) for key in found[0])]]
    judged = accuracy(judge(test[0])[1].argmax(dim=1), test[1])
    return measure.table(["", *found[0]], rows), judged


def save_picture(path: Path, real: Tensor, generated: Tensor) -> None:
    """Real and generated images, a hundred each."""
    figure = matplotlib.figure.Figure(figsize=(10, 5.2), layout="constrained")
    for axis, (title, images) in zip(
        figure.subplots(1, 2), {"real": real, "generated": generated}.items(), strict=True
    ):
        axis.imshow(shared.image_grid(images[:100], 10), cmap="gray", vmin=0, vmax=1)
        axis.set_title(title)
        axis.set_axis_off()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    shared.add_options(parser, gan=False)
    parser.add_argument("--seeds", type=int, default=5, help="(%(default)s)")
    options = parser.parse_args()
    digits, test_digits, clothes, test_clothes = (
        shared.load_images(dataset, options.data_dir, train)
        for dataset in ("mnist", "fashion")
        for train in (True, False)
    )
    RESULTS.mkdir(exist_ok=True)
    classifier = classifier_table(clothes, test_clothes, options.seeds)
    gan, judged = digits_table(digits, test_digits, options.seeds)
    generated = digits_gan.train(clothes[0], progress=False).generator(
        torch.randn(100, digits_gan.LATENT_DIM)
    )
    save_picture(RESULTS / "clothes.png", clothes[0], generated)
    source = measure.circumstances("images.py")
    text = f"""# Images

Clothes, learned from {len(clothes[0]):,} images; mean / worst over {options.seeds} seeds:

{classifier}
Digits, learned from {len(digits[0]):,} images; of {GENERATED:,} generated ones, mean / worst over
{options.seeds} seeds:

{gan}
{source}
The judge of the digits is a small convolutional network, trained on the real ones; of
{len(test_digits[0]):,} other real ones it knows {judged:.1%}. KL: of the classes it sees, from
those of the real images. Frechet: between generated and real features of its last hidden layer, in
units of that between two halves of the real ones. Plain and ratio: what digits_gan.py itself says,
the share plainly of one class and the distance in units of that of fresh real images.

![Real and generated digits](digits.png)

The same script on {len(clothes[0]):,} images of clothes, seed 0:

![Real and generated clothes](clothes.png)
"""
    (RESULTS / "images.md").write_text(text)


if __name__ == "__main__":
    main()
