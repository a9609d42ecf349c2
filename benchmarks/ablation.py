"""What each change to the textbook's loop is worth, by taking it out: results/ablation.md.

python benchmarks/ablation.py     over 20 seeds, 25 minutes on 2 cores
"""

import argparse
from collections.abc import Callable, Iterable, Iterator

import measure
import torch
from measure import GENERATED, OWN_SET, RESULTS

CURVE, NOISY, CLUSTERS = "exponential", "noisy sine", "grid of 25, deviation 0.05"
SCATTERED = "5 scattered clusters, 1 to 20"
UNEQUAL = "50 values, five of them ten times as likely"
FEWER, FEWEST = 8, 3  # seeds of what is not the script's own: enough to see what happens to it

BY_LOT = """
def by_lot(rows, size):
    while True:
        yield rows[torch.randint(len(rows), (size,))]

"""

Changes = list[tuple[str, str]]  # text of the script, and what stands there without the change

POINTS_WITHOUT: dict[str, Changes] = {
    "nothing taken out": [],
    "standardised data": [
        (", max_std=MAX_STD", ""),
    ],
    "far points within reach": [("max_std=MAX_STD", "max_std=float('inf')")],
    "batches with each row as often as any other": [
        ("common.Batches(", "by_lot("),
        ("@common.torch_defaults(", BY_LOT + "@common.torch_defaults("),
    ],
    "even noise": [
        (
            "common.sobol_noise(batch_size, LATENT_DIM, device)",
            "iter(lambda: torch.randn(batch_size, LATENT_DIM), None)",
        )
    ],
    "noise made uniform": [("MAX_STD * torch.erf(noise / 2**0.5)", "noise")],
    "a start as wide as the data": [("nn.init.eye_(", "nn.init.zeros_(")],
    "waves in the generator": [("FourierFeatures(), hidden", "FourierFeatures([0, 0, 0]), hidden")],
    "waves in the discriminator": [
        ("FourierFeatures(), layers(7 * f", "FourierFeatures([0, 0, 0]), layers(7 * f")
    ],
    "noise on the discriminator's points": [("INSTANCE_NOISE = 0.5", "INSTANCE_NOISE = 0.0")],
    "a leaky discriminator": [("nn.LeakyReLU(0.1)", "nn.ReLU()")],
    "gradient penalty": [("apply_penalty = step % 4 == 0", "apply_penalty = False")],
    "no momentum (0.9 as usual)": [("BETAS = (0.0, ", "BETAS = (0.9, ")],
    "rates that fall": [("lr * training.stopping.lr_factor", "lr")],
    "averaged weights": [("EMA_DECAY = 0.99", "EMA_DECAY = 0.0")],
}
INTEGERS_WITHOUT: dict[str, Changes] = {
    "nothing taken out": [],
    "straight-through one-hot (softmax alone)": [("row + share - share.detach()", "share")],
    "a start with every integer": [("nn.init.eye_(", "nn.init.normal_(")],
    "penalty": [(" + PENALTY * slope", "")],
    "rates that fall": [("lr * training.stopping.lr_factor", "lr")],
    "averaged weights": [("EMA_DECAY = 0.995", "EMA_DECAY = 0.0")],
}


def learn_points(job: tuple[str, str, int]) -> dict[str, float]:
    """Train a shape without one of the changes, and judge the generator."""
    without, name, seed = job
    data = measure.training_points(name, seed)
    training = measure.variant("exp_curve_gan", POINTS_WITHOUT[without]).train(
        data, seed=seed, progress=False
    )
    found = measure.judge(name, data, training.generator(torch.randn(GENERATED, 2)))
    return found | {"warned": float(not training.converged)}


def learn_integers(job: tuple[str, str, int]) -> dict[str, float]:
    """The same for a set of integers."""
    without, name, seed = job
    data = measure.training_integers(name, seed)
    training = measure.variant("multiples_of_five_gan", INTEGERS_WITHOUT[without]).train(
        data, seed=seed, progress=False
    )
    found = measure.judge_integers(name, training.generator(torch.randn(GENERATED, 100)))
    return found | {"warned": float(not training.converged)}


def measure_rows(
    function: Callable[[tuple], dict[str, float]],
    without: Iterable[str],
    columns: list[tuple[str, int, list[str]]],
) -> Iterator[list[str]]:
    """A row a change taken out; `columns` are (data, seeds, keys of the figures to show)."""
    for change in without:
        row = [change]
        for data, seeds, keys in columns:
            jobs = [(change, data, seed) for seed in range(seeds)]
            found = list(measure.in_parallel(function, jobs))
            row += [measure.mean_and_worst(found, key) for key in keys]
        print(row, flush=True)
        yield row


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=20, help="(20)")
    seeds = parser.parse_args().seeds
    fewer, fewest = min(seeds, FEWER), min(seeds, FEWEST)

    points = measure.table(
        ["without", "exponential: excess", "off-curve", "warned"]
        + ["noisy sine: excess", "warned", "25 clusters: excess", "near", "lost", "warned"]
        + ["5 clusters, 1 to 20: excess", "lost", "warned"],
        measure_rows(
            learn_points,
            POINTS_WITHOUT,
            [
                (CURVE, seeds, ["excess", "off-curve", "warned"]),
                (NOISY, fewer, ["excess", "warned"]),
                (CLUSTERS, fewest, ["excess", "near", "lost", "warned"]),
                (SCATTERED, fewest, ["excess", "lost", "warned"]),
            ],
        ),
    )
    integers = measure.table(
        ["without", "20 integers: valid", "present", "KL", "warned"]
        + ["50 unequal integers: valid", "present", "KL", "warned"],
        measure_rows(
            learn_integers,
            INTEGERS_WITHOUT,
            [
                (OWN_SET, seeds, ["valid", "present", "KL", "warned"]),
                (UNEQUAL, fewest, ["valid", "present", "KL", "warned"]),
            ],
        ),
    )
    text = f"""# What each change is worth

Mean / worst over {seeds} seeds ({fewer} of the noisy sine, {fewest} of the clusters and of the
unequal integers); figures as in the tables of quality. Each row has one change taken out of an
otherwise unchanged script.

{points}
{integers}
{measure.circumstances("ablation.py")}"""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "ablation.md").write_text(text)


if __name__ == "__main__":
    main()
