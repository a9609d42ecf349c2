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
HEADER = ["script", "called: ms a step", "recorded: ms a step", "recorded: s", "epochs"]


def timed(name: str, data: tuple, **settings: Any) -> tuple[Any, float, float]:
    """A training on the GPU, its seconds, and the milliseconds of a step, with evaluations."""
    script, start = importlib.import_module(name), time.perf_counter()
    training = script.train(*data, device="cuda", progress=False, **settings)
    seconds = time.perf_counter() - start
    batches = -(-len(data[0]) * 5 // 6 // script.BATCH_SIZE)  # of the classifier
    steps = len(training.history) * getattr(script, "BATCHES_PER_EPOCH", batches)
    return training, seconds, 1000 * seconds / steps


def compare(name: str, data: tuple, **settings: Any) -> list[object]:
    """A row of the table: the steps of a script called, and recorded."""
    few = {"epochs": CALLED_EPOCHS} if name in IMAGES else {}
    with mock.patch("common.recorded", return_value=lambda step: step):
        _, _, called = timed(name, data, **few | settings)
    training, seconds, recorded = timed(name, data, **settings)
    quality = training.metrics.get("ratio") or training.metrics["validation_accuracy"]
    verdict = "Good" if training.converged else "WARNING"
    times = [f"{called:.2f}", f"{recorded:.2f}", f"{seconds:.1f}"]
    row = [name, *times, len(training.history), f"{quality:.2f}", verdict]
    print(*row, flush=True)
    return row


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=1)
    parser.add_argument("--data-dir", type=Path, help="with MNIST and FashionMNIST")
    options = parser.parse_args()
    where = {"data_dir": options.data_dir}
    torch.manual_seed(0)
    data = {name: (importlib.import_module(name).real_samples(2048),) for name in NUMBERS}
    if options.data_dir:
        for name in IMAGES:
            data[name] = (importlib.import_module(name).real_samples(9000, **where),)
        data["fashion_classifier"] = images.load_images("fashion", options.data_dir)
    timed("sine_gan", data["sine_gan"], epochs=2)  # torch's first step imports for seconds
    rows = [compare(name, given, **options.settings) for name, given in data.items()]
    (measure.RESULTS / "gpu.md").write_text(f"""\
# On a GPU

{torch.cuda.get_device_name()}. {measure.source()}
Training alone, with the evaluations: each step called (image GANs: {CALLED_EPOCHS} epochs), and
recorded as a CUDA graph and replayed (all epochs). Ratio: that of the verdict; of the classifier,
the accuracy.

{measure.table([*HEADER, "ratio", "verdict"], rows)}""")


if __name__ == "__main__":
    main()
