"""What each change to the textbook's loop is worth, by taking it out: results/ablation.md.

python benchmarks/ablation.py     over 20 seeds, 25 minutes on 2 cores
"""

import argparse

import measure
import torch
from measure import GENERATED, RESULTS, SAMPLES, SHAPES

CURVE = next(shape for shape in SHAPES if shape.name == "sine")
CLUSTERS = next(shape for shape in SHAPES if shape.name == "grid of 25, deviation 0.05")
CLUSTER_SEEDS = 2  # enough to see what happens to them
INTEGERS = "20 multiples of five"

Changes = list[tuple[str, str]]  # text of the script, and what stands there without the change

POINTS_WITHOUT: dict[str, Changes] = {
    "nothing taken out": [],
    "standardised data": [
        ("Standardize(course.real)(course.real)", "course.real"),
        ("Restore(course.real)", "nn.Identity()"),
    ],
    "noise made uniform": [("3**0.5 * torch.erf(noise / 2**0.5)", "noise")],
    "a start as wide as the data": [("nn.init.eye_(", "nn.init.zeros_(")],
    "waves in the generator": [
        ("FourierFeatures(), layers(7 * L", "FourierFeatures([0, 0, 0]), layers(7 * L")
    ],
    "waves in the discriminator": [
        ("FourierFeatures(), layers(7 * f", "FourierFeatures([0, 0, 0]), layers(7 * f")
    ],
    "gradient penalty": [(" + penalty * common.gradient_penalty(scores, rows)", "")],
    "a penalty that falls (0.03 throughout)": [(") ** left", ") ** 0.5")],
    "no momentum (0.9 as usual)": [("BETAS = (0.0, ", "BETAS = (0.9, ")],
    "rates that fall": [("rate * left", "rate")],
    "averaged weights": [("AVERAGING = 0.005", "AVERAGING = 1.0")],
}
INTEGERS_WITHOUT: dict[str, Changes] = {
    "nothing taken out": [],
    "straight-through one-hot (softmax alone)": [("row + share - share.detach()", "share")],
    "a start with every integer": [("nn.init.eye_(", "nn.init.normal_(")],
    "penalty": [(" + PENALTY * slope", "")],
    "rates that fall": [("lr * (1 - (epoch - 1) / epochs)", "lr")],
    "averaged weights": [("AVERAGING = 0.005", "AVERAGING = 1.0")],
}


def learn_points(job: tuple[str, int, int]) -> dict[str, float]:
    """Train a shape without one of the changes, and judge the generator."""
    without, number, seed = job
    shape = SHAPES[number]
    torch.manual_seed(1000 + seed)
    data = shape.draw(SAMPLES)
    training = measure.variant("sine_gan", POINTS_WITHOUT[without]).train(
        data, seed=seed, progress=False
    )
    found = measure.judge(shape, data, training.generator(torch.randn(GENERATED, 2)))
    return found | {"warned": float(not training.converged)}


def learn_integers(job: tuple[str, int]) -> dict[str, float]:
    """The same for the integers."""
    without, seed = job
    torch.manual_seed(1000 + seed)
    data = measure.draw_integers(INTEGERS)
    training = measure.variant("multiples_of_five_gan", INTEGERS_WITHOUT[without]).train(
        data, seed=seed, progress=False
    )
    found = measure.judge_integers(INTEGERS, training.generator(torch.randn(GENERATED, 100)))
    return found | {"warned": float(not training.converged)}


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="(20)")
    seeds = range(parser.parse_args().seeds)

    rows = []
    for without in POINTS_WITHOUT:
        row = [without]
        for number, keys in (
            (SHAPES.index(CURVE), ["excess", "off-curve", "warned"]),
            (SHAPES.index(CLUSTERS), ["excess", "near", "clusters", "warned"]),
        ):
            few = seeds[:CLUSTER_SEEDS] if SHAPES[number] is CLUSTERS else seeds
            jobs = [(without, number, seed) for seed in few]
            found = list(measure.in_parallel(learn_points, jobs))
            row += [measure.mean_and_worst(found, key) for key in keys]
        rows.append(row)
        print(row, flush=True)
    header = ["without", "sine: excess", "off-curve", "warned"]
    header += ["25 clusters: excess", "near", "found", "warned"]
    points = measure.table(header, rows)

    rows = []
    for without in INTEGERS_WITHOUT:
        jobs = [(without, seed) for seed in seeds]
        found = list(measure.in_parallel(learn_integers, jobs))
        keys = ["valid", "present", "KL", "warned"]
        rows.append([without, *(measure.mean_and_worst(found, key) for key in keys)])
        print(rows[-1], flush=True)
    integers = measure.table(["without", "integers: valid", "present", "KL", "warned"], rows)

    tables = f"""Mean / worst over {len(seeds)} seeds ({CLUSTER_SEEDS} of the clusters); figures
as in the table of quality.

{points}
{integers}
{measure.circumstances("ablation.py")}"""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ablation.md").write_text(f"# What each change is worth\n\n{tables}")
    measure.write_into_readme("ablation", tables)


if __name__ == "__main__":
    main()
