"""How a GAN fails, brought about on purpose in sine_gan.py: results/failures.md, failures.png.

python benchmarks/failures.py     a minute on 2 cores
"""

import measure
import torch
from matplotlib.figure import Figure
from measure import RESULTS

import common

# Text of the script, and what stands there instead
NO_PENALTY = ("apply_penalty = step % 4 == 0", "apply_penalty = False")
NARROW_START = ("nn.init.eye_(", "nn.init.zeros_(")
NO_AVERAGING = ("EMA_DECAY = 0.99", "EMA_DECAY = 0.0")
SATURATING = (
    "randn_like(fakes)), ones)",
    "randn_like(fakes)), 1 - ones).neg()",
)
COARSE_EYES = ("FourierFeatures(), layers(7 * f", "FourierFeatures([0, 0, 0]), layers(7 * f")
MOMENTUM = ("BETAS = (0.0, ", "BETAS = (0.9, ")


def rates(generator: str, discriminator: str) -> tuple[str, str]:
    """Other learning rates."""
    return ('["lr"] = rate, 1.5 * rate', f'["lr"] = {generator}, {discriminator}')


FAILURES: dict[str, list[tuple[str, str]]] = {
    "as it is": [],
    "collapse": [
        NO_PENALTY,
        NARROW_START,
        NO_AVERAGING,
        MOMENTUM,
        COARSE_EYES,
        rates("3 * rate", "0.01 * rate"),
    ],
    "vanishing gradients": [NO_PENALTY, NARROW_START, SATURATING, rates("rate", "20 * rate")],
    "oscillation": [NO_PENALTY, NO_AVERAGING, MOMENTUM, COARSE_EYES, rates("lr", "lr")],
}


def main() -> None:
    """Train, and write the results."""
    figure = Figure(figsize=(10, 10), layout="constrained")
    rows = []
    for axes, (name, changes) in zip(figure.subplots(4, 3), FAILURES.items(), strict=True):
        script = measure.variant("sine_gan", changes)
        data = script.real_samples(2048, generator=torch.Generator().manual_seed(0))
        training = script.train(data, progress=False)
        points = training.generator(
            torch.randn(2048, 2, generator=torch.Generator().manual_seed(1))
        )
        dots = [axes[0].scatter(*data.T.numpy(), s=2, color=common.REAL, label="real")]
        limits = axes[0].axis()
        style = {"s": 2, "color": common.GENERATED, "label": "generated"}
        dots.append(axes[0].scatter(*points.T.numpy(), **style))
        axes[0].set(title=name, xlabel="x", ylabel="y")
        axes[0].axis(limits)
        epochs = [row.epoch for row in training.history]
        for key, colour in (("discriminator", common.REAL), ("generator", common.GENERATED)):
            losses = [getattr(row, f"{key}_loss") for row in training.history]
            axes[1].plot(epochs, losses, color=colour, label=key)
        axes[1].set(xlabel="epoch", ylabel="loss")
        distances = [row.distance for row in training.history]
        axes[2].plot(epochs, distances, color=common.GENERATED)
        axes[2].set(xlabel="epoch", ylabel="distance", yscale="log", ylim=(0.03, 10))
        last = training.history[-1]
        rows.append(
            [
                name,
                f"{last.discriminator_loss:z.2f}",
                f"{last.generator_loss:z.2f}",
                f"{training.ratio:.1f}",
                f"{training.precision:.0%}",
                f"{training.coverage:.0%}",
                "good" if training.converged else "WARNING",
            ]
        )
        print(*rows[-1], sep=" | ", flush=True)
        if name == "as it is":
            figure.legend(handles=dots, loc="outside upper left", markerscale=3, ncols=2)
            axes[1].legend()
    figure.savefig(RESULTS / "failures.png", dpi=100)
    head = [
        "",
        "last loss, discriminator",
        "generator",
        "ratio",
        "precision",
        "coverage",
        "verdict",
    ]
    (RESULTS / "failures.md").write_text(f"""# How a GAN fails, and how to see it

Brought about on purpose in `sine_gan.py`, by undoing some of what its recipe does.

![Points, losses and distance](failures.png)

- **Mode collapse.** The generator, much faster than the discriminator, sends all its points where
  they last fooled it. The losses look perfect; the distance and the coverage do not.
- **Vanishing gradients.** The discriminator is sure of everything, and with the textbook's first
  loss, log(1 - D), the generator has no slope left to learn from. Its loss stands still at zero.
- **Oscillation.** At constant rates, with momentum, the two chase each other. Losses and distance
  jump from epoch to epoch, and it is luck which epoch comes last.

{measure.table(head, rows)}
{measure.circumstances("failures.py")}""")


if __name__ == "__main__":
    main()
