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

import images

NUMBERS = ["exp_curve_gan", "sine_gan", "multiples_of_five_gan", "wgan", "table_gan"]
IMAGES = ["digits_gan", "dcgan", "conditional_gan", "cycle_gan"]
CALLED_EPOCHS = 4  # of image GANs without graphs: a whole training takes minutes
HEADER = ["script", "called: ms an epoch", "recorded: ms an epoch", "epochs", "seconds"]
HEADER += ["ratio", "verdict"]


def timed(name: str, data: tuple, **settings: Any) -> tuple[Any, float]:
    """A training on the GPU, and the milliseconds of an epoch with its evaluation."""
    script, start = importlib.import_module(name), time.perf_counter()
    training = script.train(*data, device="cuda", progress=False, **settings)
    return training, 1000 * (time.perf_counter() - start) / len(training.history)


def compare(name: str, data: tuple, **settings: Any) -> list[object]:
    """A row of the table: the steps of a script called, and recorded."""
    few = {"epochs": CALLED_EPOCHS} if name in IMAGES else {}
    with mock.patch("common.recorded", return_value=lambda step: step):
        _, called = timed(name, data, **few | settings)
    training, recorded = timed(name, data, **settings)
    quality = training.metrics.get("ratio") or training.metrics["validation_accuracy"]
    verdict = "Good" if training.converged else "WARNING"
    epochs = len(training.history)
    times = [f"{called:.0f}", f"{recorded:.0f}", epochs, f"{recorded * epochs / 1000:.1f}"]
    print(name, *times, f"{quality:.2f}", verdict, flush=True)
    return [name, *times, f"{quality:.2f}", verdict]


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=1)
    parser.add_argument("--data-dir", type=Path, help="with MNIST and FashionMNIST")
    options = parser.parse_args()
    torch.manual_seed(0)
    data = {name: (importlib.import_module(name).real_samples(2048),) for name in NUMBERS}
    if folder := options.data_dir:
        for name in IMAGES:
            data[name] = (importlib.import_module(name).real_samples(9000, data_dir=folder),)
        data["fashion_classifier"] = images.load_images("fashion", folder)
    timed("sine_gan", data["sine_gan"], epochs=2)  # torch's first step imports for seconds
    rows = [compare(name, given, **options.settings) for name, given in data.items()]
    (measure.RESULTS / "gpu.md").write_text(f"""\
# On a GPU

{torch.cuda.get_device_name()}. {measure.source()}
Each step called (image GANs: {CALLED_EPOCHS} epochs), and recorded as a CUDA graph and replayed.
Epochs are with their evaluations; seconds: the training of recorded steps. Ratio: that of the
verdict; of the classifier, the accuracy.

{measure.table(HEADER, rows)}""")


if __name__ == "__main__":
    main()
