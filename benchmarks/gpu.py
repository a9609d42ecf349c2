"""What a CUDA GPU gains by replaying recorded steps: results/gpu.md.

python benchmarks/gpu.py --data-dir DIR     eight minutes at most; without DIR, no images

First the tests that need a GPU, then each script with its defaults, then large data.
"""

import re
import subprocess
import sys
import tempfile
import time
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest import mock

import measure
import torch

import common
import conditional_gan
import cycle_gan
import dcgan
import digits_gan
import exp_curve_gan
import fashion_classifier
import images
import multiples_of_five_gan
import sine_gan
import table_gan
import wgan

NUMBERS = [exp_curve_gan, sine_gan, multiples_of_five_gan, wgan, table_gan]
IMAGES = [digits_gan, dcgan, conditional_gan, cycle_gan]
CALLED_EPOCHS = 4  # of image GANs without graphs: a whole training takes minutes


def timed(script: ModuleType, data: tuple, **settings: Any) -> tuple[Any, float, float]:
    """A training on the GPU, its seconds, and the milliseconds of a step, with evaluations."""
    start = time.perf_counter()
    training = script.train(*data, device="cuda", progress=False, **settings)
    seconds = time.perf_counter() - start
    batches = -(-len(data[0]) * 5 // 6 // fashion_classifier.BATCH_SIZE)  # of the classifier
    steps = len(training.history) * getattr(script, "BATCHES_PER_EPOCH", batches)
    return training, seconds, 1000 * seconds / steps


def compare(script: ModuleType, data: tuple) -> list[object]:
    """A row of the table: the steps of a script called, and recorded."""
    few = {"epochs": CALLED_EPOCHS} if script in IMAGES else {}
    with mock.patch("common.recorded", return_value=lambda step: step):
        called = timed(script, data, **few)[2]
    training, seconds, recorded = timed(script, data)
    quality = training.metrics.get("ratio") or training.metrics["validation_accuracy"]
    verdict = "Good" if training.converged else "WARNING"
    times = [f"{called:.2f}", f"{recorded:.2f}", f"{seconds:.1f}"]
    return [script.__name__, *times, len(training.history), f"{quality:.2f}", verdict]


def generate(rows: int) -> list[str]:
    """A row of the table of `sine_gan.py --generate`: seconds, and the largest memory."""
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(measure.ROOT / "sine_gan.py"), "--quiet", "--out", folder]
        start_quietly = partial(subprocess.Popen, stdout=subprocess.DEVNULL)
        start_quietly([*command, "--epochs", "2"]).wait()
        start, child = time.perf_counter(), start_quietly([*command, "--generate", str(rows)])
        peak = "0"
        while child.poll() is None:
            status = Path(f"/proc/{child.pid}/status").read_text()
            peak = (re.findall(r"VmHWM:\s+(\d+)", status) or [peak])[0]
            time.sleep(0.1)
    return [f"{rows:,}", f"{time.perf_counter() - start:.0f}", f"{int(peak) / 1024:,.0f}"]


def main() -> None:
    """Test, measure, and write the results."""
    parser = measure.parser(__doc__, seeds=1)
    parser.add_argument("--data-dir", type=Path, help="with MNIST and FashionMNIST")
    folder = parser.parse_args().data_dir
    command = [sys.executable, "-m", "pytest", "-q", "-k", "cuda or recorded or gpu"]
    tests = subprocess.run(
        command, cwd=measure.ROOT, stdout=subprocess.PIPE, text=True, check=False
    )
    print(tests.stdout, flush=True)

    random = common.stream("data")
    data: dict[ModuleType, tuple] = {each: (each.real_samples(2048, random),) for each in NUMBERS}
    if folder:
        own = {"dataset": "mnist", "data_dir": folder}
        data |= {each: (each.real_samples(9000, random, **own),) for each in IMAGES}
        data[fashion_classifier] = images.load_images("fashion", folder)
    timed(sine_gan, data[sine_gan], epochs=2)  # torch's first step imports for seconds
    rows = []
    for script, given in data.items():
        rows.append(compare(script, given))
        print(*rows[-1], flush=True)
    times = ["called: ms a step", "recorded: ms a step", "recorded: s", "epochs"]
    large = (sine_gan.real_samples(2_000_000),)
    torch.cuda.reset_peak_memory_stats()
    _, seconds, step = timed(sine_gan, large, batch_size=65536)
    memory = torch.cuda.max_memory_allocated() / 2**20
    (measure.RESULTS / "gpu.md").write_text(f"""\
# On a GPU

{torch.cuda.get_device_name()}. {measure.source()}
Tests of the GPU: {tests.stdout.splitlines()[-1]}

Training alone, with the evaluations: each step called (image GANs: {CALLED_EPOCHS} epochs), and
recorded as a CUDA graph and replayed (all epochs). Ratio: that of the verdict; of the classifier,
the accuracy.

{measure.table(["script", *times, "ratio", "verdict"], rows)}
`sine_gan.py` with `--batch-size 65536` on two million points: {seconds:.0f} s, {step:.1f} ms a
step, {memory:,.0f} MB on the GPU. `--generate`, the whole command:

{measure.table(["rows", "s", "MB"], map(generate, (1_000_000, 10_000_000)))}""")


if __name__ == "__main__":
    main()
