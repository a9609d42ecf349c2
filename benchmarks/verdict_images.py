"""How often the verdict on images is wrong, for faults of known size: results/verdict_images.md.

python benchmarks/verdict_images.py --data FOLDER ...     an hour on 2 cores; needs pandas

Without --data, it judges MNIST, of --data-dir.
"""

import functools
import itertools
from collections.abc import Callable
from pathlib import Path
from typing import Any

import measure
import pandas
import torch
from torch import Tensor, nn
from torch.nn.functional import conv2d, pad

import common
import images

ROWS, SAMPLES, SIZE = (500, 950), 4096, 32
GOOD = ("fresh images", "resampled images")
SMALL_FAULTS = ("a class missing", "300 images repeated")  # too small to count for 500 rows


@functools.cache
def load(data: Path) -> tuple[Tensor, Tensor]:
    """Pictures and labels (n,) of MNIST or of a folder."""
    found = images.load_folder(data, SIZE) if data.name != "MNIST" else None
    return (found or images.load_dataset("mnist", data.parent))[:2]


def blur(pictures: Tensor, sigma: float) -> Tensor:
    """Pictures blurred by a Gaussian of `sigma` pixels."""
    bell = torch.exp(-torch.arange(-3.0, 4).square() / (2 * sigma**2))
    planes = pad(pictures.flatten(0, 1).unsqueeze(1), (3,) * 4, mode="replicate")
    return conv2d(planes, bell.outer(bell)[None, None] / bell.sum() ** 2).view_as(pictures)


FAULTS: dict[str, Callable[[Tensor], Tensor]] = {  # done to fresh pictures
    "blurred by 0.7 pixels": lambda pictures: blur(pictures, 0.7),
    "blurred by 1 pixel": lambda pictures: blur(pictures, 1),
    "noise of 0.05": lambda pictures: (pictures + 0.05 * torch.randn_like(pictures)).clamp(0, 1),
    "contrast of 0.9": lambda pictures: 0.9 * pictures,
    "brighter by 0.1": lambda pictures: (pictures + 0.1).clamp(max=1),
}
REPEATED = {"resampled images": SAMPLES, "100 images repeated": 100, "300 images repeated": 300}
NAMES = [*GOOD, *FAULTS, "half of the classes", "100 images repeated", *SMALL_FAULTS]


def judge(case: tuple[Path, int, str, int]) -> tuple[float, float, float, bool]:
    """Ratio, precision, coverage, and whether a training with such samples is called good."""
    data, rows, name, seed = case
    torch.set_num_threads(1)
    torch.manual_seed(1000 * seed + rows)
    pictures, labels = load(data)
    real, fresh = torch.randperm(len(pictures)).split([rows, len(pictures) - rows])
    if name in REPEATED:
        fresh = real[torch.randint(min(REPEATED[name], rows), (SAMPLES,))]
    classes = torch.randperm(int(labels.max()) + 1)  # in random order
    lost = {"half of the classes": len(classes) // 2, "a class missing": 1}.get(name, 0)
    kept = fresh[classes[labels[fresh]] >= lost][:SAMPLES]
    samples = FAULTS.get(name, torch.clone)(pictures[kept])
    features = functools.partial(images.image_features, shape=pictures.shape[1:])
    settings: dict[str, Any] = {"epochs": 1, "patience": 1, "batch_size": None, "progress": False}
    real_rows = pictures[real].flatten(1)
    training = common.Training(real_rows, seed=seed, features=features, **settings)
    training.evaluate(nn.Identity(), samples, *torch.zeros(2))
    training.finish(nn.Identity(), samples, **images.LIMITS)
    return training.ratio, training.precision, training.coverage, training.converged


def main() -> None:
    """Judge, and write the results."""
    parser = measure.parser(__doc__, seeds=20)
    add = parser.add_argument
    add("--data-dir", type=Path, default=Path("data"), help="with MNIST (%(default)s)")
    add("--data", nargs="+", type=Path, default=[], help="folders of pictures, by class")
    options = parser.parse_args()
    sets = [options.data_dir / "MNIST", *options.data]
    cases = [
        (data, rows, name, seed)
        for data, rows, name in itertools.product(sets, ROWS, NAMES)
        for seed in range(options.seeds * (5 if name == "fresh images" else 1))
    ]
    found = pandas.DataFrame(cases, columns=["data", "rows", "name", "seed"])
    figures = list(measure.in_parallel(judge, cases))
    found[["ratio", "precision", "coverage", "good"]] = figures
    found["wrong"] = found.good != found.name.isin(GOOD)
    lines = []
    for (data, *key), group in found.groupby(["data", "rows", "name"], sort=False):
        low, middle, high = group.ratio.quantile([0.05, 0.5, 0.95])
        medians = [f"{group[name].median():.3f}" for name in ("precision", "coverage")]
        spread = f"{middle:.2f} ({low:.2f} to {high:.2f})"
        lines.append([data.name, *key, spread, *medians, f"{group.wrong.mean():.0%}"])
    header = ["data", "rows", "samples", "ratio, 5 % to 95 %", "precision", "coverage", "wrong"]
    right, fault = found[found.name.isin(GOOD)], found[~found.name.isin([*GOOD, *SMALL_FAULTS])]
    summary = f"""\
- False WARNING: {right.wrong.sum()} of {len(right)}, {right.wrong.mean():.1%}
- False Good: {fault.wrong.sum()} of {len(fault)}, {fault.wrong.mean():.1%}, without small faults
"""
    page = f"""\
# How often the verdict on images is wrong

Real images that the verdict has not seen, with and without faults, judged as if generated. Not
counted, as they are too small to be seen in 500 images: {" and ".join(SMALL_FAULTS)}.

{summary}
{measure.table(header, lines)}
{measure.source()}"""
    (measure.RESULTS / "verdict_images.md").write_text(page)


if __name__ == "__main__":
    main()
