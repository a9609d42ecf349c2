"""How good the generators are, over seeds, shapes and sets of integers: results/quality.md.

python benchmarks/quality.py               # all of it, 5 minutes on 2 cores
python benchmarks/quality.py --seeds 20    # a longer look
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import measure
import torch
from measure import GENERATED, RESULTS, SAMPLES, SHAPES

import common
import multiples_of_five_gan
import sine_gan

# name: the allowed integers, and how often each one is due where they are not equally likely
SETS: dict[str, tuple[list[int], list[float] | None]] = {
    "20 multiples of five": (list(range(0, 100, 5)), None),
    "2 values": ([3, 77], None),
    "15 primes": ([2, 3, 5, 7, 11, 13, 17, 19, 23, 29, 31, 37, 41, 43, 47], None),
    "50 even values": (list(range(0, 100, 2)), None),
    "20 values, one to four times as likely": (list(range(0, 100, 5)), [1, 2, 3, 4] * 5),
    "50 values, five of them ten times as likely": (list(range(50)), ([10] + [1] * 9) * 5),
    "9 squares, each half as likely": ([i * i for i in range(1, 10)], [0.5**i for i in range(9)]),
}
LOWEST = ("inside", "coverage", "near", "clusters", "valid", "present")  # the worst is the lowest


def learn_points(job: tuple[str, int]) -> dict[str, float]:
    """Train on a shape drawn anew for the seed, and judge the generator against the truth."""
    name, seed = job
    shape = next(shape for shape in SHAPES if shape.name == name)
    torch.manual_seed(1000 + seed)
    data = shape.draw(SAMPLES)
    start = time.perf_counter()
    training = sine_gan.train(data, seed=seed, progress=False)
    seconds = time.perf_counter() - start
    points = training.generator(torch.randn(GENERATED, sine_gan.LATENT_DIM))
    found = measure.judge(shape, data, points)
    return found | {"told ratio": training.ratio, "seconds": seconds}


def learn_integers(job: tuple[str, int]) -> dict[str, float]:
    """The same for a set of integers."""
    name, seed = job
    values, weights = SETS[name]
    due = torch.tensor(weights or [1.0] * len(values), dtype=torch.float32)
    due /= due.sum()
    torch.manual_seed(1000 + seed)
    chosen = torch.multinomial(due, SAMPLES, replacement=True)
    data = common.one_hot_encode(torch.tensor(values)[chosen], multiples_of_five_gan.DEPTH)
    start = time.perf_counter()
    training = multiples_of_five_gan.train(data, seed=seed, progress=False)
    seconds = time.perf_counter() - start
    latents = torch.randn(GENERATED, multiples_of_five_gan.LATENT_DIM)
    integers = common.one_hot_decode(training.generator(latents))
    share = integers.bincount(minlength=multiples_of_five_gan.DEPTH)[values] / GENERATED
    kl = (share * (share.clamp(min=1e-9) / share.sum() / due).log()).sum() / share.sum()
    return {
        "valid": share.sum().item(),
        "present": (share >= due / 5).double().mean().item(),
        "KL": kl.item(),
        "told ratio": training.ratio,
        "seconds": seconds,
    }


def summarise(
    function: Callable[[tuple[str, int]], dict[str, float]], names: list[str], seeds: int
) -> str:
    """A table: mean and worst of every figure, a row a name."""
    jobs = [(name, seed) for name in names for seed in range(seeds)]
    found: dict[str, list[dict[str, float]]] = defaultdict(list)
    for (name, seed), figures in zip(jobs, measure.in_parallel(function, jobs), strict=True):
        print(f"{name}, seed {seed}:", {key: round(figure, 4) for key, figure in figures.items()})
        found[name].append(figures)
    keys = list(dict.fromkeys(key for name in names for key in found[name][0]))
    rows = []
    for name in names:
        row = [name]
        for key in keys:
            figures = [figures[key] for figures in found[name] if key in figures]
            if not figures:
                row.append("")
                continue
            worst = min(figures) if key in LOWEST else max(figures)
            row.append(f"{sum(figures) / len(figures):.4g} / {worst:.4g}")
        rows.append(row)
    return measure.table(["data", *keys], rows)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=3, help="of each script's own data (3)")
    parser.add_argument("--other-seeds", type=int, default=1, help="of every other kind (1)")
    parser.add_argument("--out", type=Path, default=RESULTS / "quality.md")
    options = parser.parse_args()
    own, other = [shape.name for shape in SHAPES[:2]], [shape.name for shape in SHAPES[2:]]
    integers = list(SETS)
    text = f"""# Quality

Mean / worst over seeds, {SAMPLES:,} rows drawn anew for each, {GENERATED:,} generated ones judged
against the truth that training never saw. F, excess, off-curve error, KL: 0 is best (1 for F);
shares of 1: inside the range, bins covered, near a cluster, valid, values present. "told ratio" is
what the training itself says of the result. Two trainings run side by side, which slows both.

{measure.circumstances("python benchmarks/quality.py")}
## The scripts' own data, {options.seeds} seeds

{summarise(learn_points, own, options.seeds)}
{summarise(learn_integers, integers[:1], options.seeds)}
## Other shapes and sets, {options.other_seeds} seeds, no setting changed

{summarise(learn_points, other, options.other_seeds)}
{summarise(learn_integers, integers[1:], options.other_seeds)}"""
    options.out.parent.mkdir(exist_ok=True)
    options.out.write_text(text)


if __name__ == "__main__":
    main()
