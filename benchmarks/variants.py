"""What a Wasserstein GAN is for, on a ring of eight clusters: results/variants.md, wgan.png.

python benchmarks/variants.py     three minutes on 2 cores; needs scipy
"""

import argparse
import time
import types

import matplotlib.figure
import measure
import torch
from measure import GENERATED, RESULTS
from scipy.stats import spearmanr

import common
import sine_gan
import wgan

RING = "ring of 8, deviation 0.05"  # wgan.py's own data
LOSSES = {wgan: "discriminator_loss", sine_gan: "generator_loss"}  # the one to go by
Training = common.Training


def course(script: types.ModuleType, training: Training) -> tuple[list[float], list[float]]:
    """Of each epoch: what the loss says (a critic's is less, the further the points), distance."""
    sign = -1 if script is wgan else 1
    losses = [sign * getattr(row, LOSSES[script]) for row in training.history]
    return losses, [row.distance for row in training.history]


def learn(script: types.ModuleType, seed: int) -> tuple[dict[str, float], Training]:
    """Train on the ring; the figures of the table."""
    data = measure.training_points(RING, seed)
    start = time.perf_counter()
    training = script.train(data, seed=seed, progress=False)
    seconds = time.perf_counter() - start
    found = measure.judge(RING, data, training.generator(torch.randn(GENERATED, 2)))
    losses, distances = course(script, training)
    falling = 1 + next(i for i, far in enumerate(distances) if far <= 1.1 * min(distances))
    correlation = spearmanr(losses[:falling], distances[:falling]).statistic
    return {
        "clusters found": 8 - found["lost"],
        "near": found["near"],
        "excess": found["excess"],
        "correlation": correlation,
        "seconds": seconds,
    }, training


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=10, help="(%(default)s)")
    seeds = parser.parse_args().seeds
    figure = matplotlib.figure.Figure(figsize=(10, 4), layout="constrained")
    for axis, script in zip(figure.subplots(1, 2), LOSSES, strict=True):
        found = []
        for seed in range(seeds):
            figures, training = learn(script, seed)
            found.append(figures)
            print(script.__name__, seed, figures, flush=True)
        measure.store("wgan" if script is wgan else "ring_by_sine_gan", found, "variants.py")
        losses, distances = course(script, training)
        words = "the critic's estimate" if script is wgan else "the generator's loss"
        epochs = range(1, len(losses) + 1)
        lines = axis.plot(epochs, losses, color=common.GENERATED, label=words)
        axis.set(title=f"{script.__name__}.py", xlabel="epoch", ylabel=words)
        other = axis.twinx()
        lines += other.plot(epochs, distances, color=common.REAL, label="distance")
        other.set(ylabel="distance", ylim=(0, None))
        axis.legend(handles=lines)
    figure.savefig(RESULTS / "wgan.png", dpi=100)
    text = f"""# Variants

On a ring of eight clusters, mean / worst over {seeds} seeds: clusters found, points within four
deviations of one, excess as in the tables of quality, and Spearman's correlation of the loss with
the measured distance, over the epochs until this is within a tenth of its lowest.

{measure.stored_table(["wgan", "ring_by_sine_gan"])}
![The losses and the distances of the last seed](wgan.png)
"""
    (RESULTS / "variants.md").write_text(text)


if __name__ == "__main__":
    main()
