"""What a CUDA GPU gains by replaying recorded steps: results/gpu.md.

python benchmarks/gpu.py --data-dir DIR     eight minutes at most; without DIR, no images
"""

import importlib
import time
from pathlib import Path
from typing import Any
from unittest import mock

import measure
import torch

import common

NUMBERS = ["exp_curve_gan", "sine_gan", "multiples_of_five_gan", "wgan", "table_gan"]
IMAGE_GANS = ["digits_gan", "dcgan", "conditional_gan", "cycle_gan"]
IMAGES = [*IMAGE_GANS, "fashion_classifier"]
CALLED_EPOCHS = 4  # of image GANs without graphs: a whole training takes minutes
HEADER = [
    "script",
    "called: ms an epoch",
    "recorded: ms an epoch",
    "epochs",
    "seconds",
    "ratio",
    "verdict",
]


def timed(name: str, data: Any, **settings: Any) -> tuple[Any, float]:
    """A training on the GPU, and the milliseconds of an epoch with its evaluation."""
    script = importlib.import_module(name)
    arguments = data if isinstance(data, tuple) else (data,)  # pictures and labels
    start = time.perf_counter()
    training = script.train(*arguments, device="cuda", progress=False, **settings)
    seconds = time.perf_counter() - start
    return training, 1000 * seconds / len(training.history)


def timed_as_called(name: str, data: Any, **settings: Any) -> float:
    """The milliseconds of an epoch if no step is recorded."""
    with mock.patch.object(common, "cuda_graph") as decorator:
        decorator.side_effect = lambda *_: lambda step: step
        _, milliseconds = timed(name, data, **settings)
    if not decorator.called:
        raise RuntimeError(f"{name} does not record its steps by common.cuda_graph")
    return milliseconds


def compare(name: str, data: Any, **settings: Any) -> list[object]:
    """A row of the table: the steps of a script called, and recorded."""
    called_settings = {"epochs": CALLED_EPOCHS} if name in IMAGE_GANS else {}
    called = timed_as_called(name, data, **called_settings | settings)
    training, recorded = timed(name, data, **settings)
    epochs = len(training.history)
    quality = "validation_accuracy" if name == "fashion_classifier" else "ratio"
    row = [
        name,
        f"{called:.0f}",
        f"{recorded:.0f}",
        epochs,
        f"{recorded * epochs / 1000:.1f}",
        f"{training.metrics[quality]:.2f}",
        "Good" if training.converged else "WARNING",
    ]
    print(*row, flush=True)
    return row


def load_data(data_dir: Path | None) -> dict[str, Any]:
    """What each script learns, by its name: 2,048 rows, or 9,000 pictures."""
    random = common.random_generator("data")
    data = {}
    for name in NUMBERS:
        data[name] = importlib.import_module(name).real_samples(2048, random)
    for name in IMAGES if data_dir else []:
        data[name] = importlib.import_module(name).real_samples(9000, random, data_dir=data_dir)
    return data


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__)
    parser.add_argument("--data-dir", metavar="DIR", type=Path, help="with MNIST and FashionMNIST")
    options = parser.parse_args()
    data = load_data(options.data_dir)
    timed("sine_gan", data["sine_gan"], epochs=2)  # torch's first step imports for seconds
    rows = [compare(name, data[name], **options.settings) for name in data]
    (measure.RESULTS / "gpu.md").write_text(f"""\
# On a GPU

{torch.cuda.get_device_name()}. {measure.source()}
Each step called (image GANs: {CALLED_EPOCHS} epochs), and recorded as a CUDA graph and replayed.
One seed. Epochs are with their evaluations; seconds: the training of recorded steps. Ratio: that of
the verdict; of the classifier, the accuracy.

{measure.table(HEADER, rows)}""")


if __name__ == "__main__":
    main()
