"""How fast training and generating are, beside the textbook's loop: results/speed.md, speed.png.

python benchmarks/speed.py     an hour on 2 cores; nothing else should run beside it
"""

import argparse
import copy
import json
import math
import statistics
import subprocess
import sys
import tempfile
import time
import types
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

import matplotlib.figure
import measure
import textbook
import torch
from measure import GENERATED, OWN_SET, RESULTS, ROOT, SAMPLES, SHAPES
from torch import Tensor, nn

import common
import exp_curve_gan
import multiples_of_five_gan
import sine_gan

CURVES = {"exponential": exp_curve_gan, "sine": sine_gan}
BUDGETS = (5, 10, 20)  # seconds
LEVELS = (2.0, 1.3)  # of F

Moments = list[tuple[float, nn.Module]]  # seconds since the start, and the generator then


def median_seconds(function: Callable[[], object], repeats: int = 5) -> float:
    """Median wall time of a call."""
    taken = []
    for _ in range(repeats):
        start = time.perf_counter()
        function()
        taken.append(time.perf_counter() - start)
    return statistics.median(taken)


# --- An iteration, and its floor ---------------------------------------------------------------


def linear_layers(network: nn.Module) -> list[tuple[int, int]]:
    """Sizes (in, out) of a network's linear layers that have more than one output."""
    layers = [part for part in network.modules() if isinstance(part, nn.Linear)]
    return [(layer.in_features, layer.out_features) for layer in layers]


def floor_seconds(products: Iterable[tuple[int, int, int]]) -> float:
    """Time of bare products of matrices (n, inputs) and (inputs, outputs), on one thread."""
    pairs = [(torch.randn(n, a), torch.randn(a, b)) for n, a, b in products]

    def multiply() -> None:
        for left, right in pairs:
            torch.mm(left, right)

    torch.set_num_threads(1)
    return median_seconds(multiply, repeats=200)


def products_of_points(batch: int) -> list[tuple[int, int, int]]:
    """The matrix products that an iteration of a curve cannot do without.

    Of each layer of the generator: forward, and backward to weights and inputs. Of the
    discriminator's, on real and generated rows: forward, the slopes, and backward through both to
    weights and inputs; on generated rows again: forward and backward to inputs. Each network's
    first layer is spared one: nothing has to go back to what was fed in.
    """
    products = []
    for i, (a, b) in enumerate(linear_layers(exp_curve_gan.build_generator())):
        products += (3 if i else 2) * [(batch, a, b)]
    for i, (a, b) in enumerate(linear_layers(exp_curve_gan.build_discriminator())):
        products += (6 if i else 5) * [(2 * batch, a, b)] + 2 * [(batch, a, b)]
    return products


def products_of_integers(batch: int) -> list[tuple[int, int, int]]:
    """The same of the integers: of the single layers, to weights, and once more to the rows."""
    (g,) = linear_layers(multiples_of_five_gan.build_generator())
    (d,) = linear_layers(multiples_of_five_gan.build_discriminator())
    return 2 * [(batch, *g)] + 2 * [(2 * batch, *d)] + 2 * [(batch, *d)]


def our_iteration(
    script: types.ModuleType,
    data: Tensor,
    threads: int = 1,
    batch_size: int | None = None,
    repeats: int = 3,
) -> float:
    """Seconds an iteration from the second epoch to the fourth, evaluations included."""

    def once() -> float:
        with noting_moments() as moments:
            # past the decorator that keeps to one thread
            script.train.__wrapped__(data, epochs=4, batch_size=batch_size, progress=False)
        return (moments[-1][0] - moments[0][0]) / (3 * script.BATCHES_PER_EPOCH)

    torch.set_num_threads(threads)
    found = statistics.median(once() for _ in range(repeats))
    torch.set_num_threads(1)
    return found


def textbook_iteration(learn: Callable[[], textbook.Textbook]) -> float:
    """Seconds an iteration of the textbook's loop."""
    runs = [learn() for _ in range(3)]
    return statistics.median(run.seconds / run.iterations for run in runs)


def iterations_table() -> str:
    """Milliseconds an iteration and microseconds a sample, and how near ours come to the floor."""
    points, integers = exp_curve_gan.real_samples(SAMPLES), measure.training_integers(OWN_SET)
    curve = SHAPES["exponential"].curve
    assert curve is not None
    rows = []
    for name, seconds, batch, products in (
        (
            "curves, textbook",
            textbook_iteration(lambda: textbook.learn_points(points, curve, limit=3)),
            128,
            None,
        ),
        (
            "curves, ours",
            our_iteration(exp_curve_gan, points),
            exp_curve_gan.BATCH_SIZE,
            products_of_points(exp_curve_gan.BATCH_SIZE),
        ),
        (
            "integers, textbook",
            textbook_iteration(lambda: textbook.learn_integers(integers, limit=1)),
            10,
            None,
        ),
        (
            "integers, ours",
            our_iteration(multiples_of_five_gan, integers),
            multiples_of_five_gan.BATCH_SIZE,
            products_of_integers(multiples_of_five_gan.BATCH_SIZE),
        ),
    ):
        row = [name, batch, f"{1e3 * seconds:.2f}", f"{1e6 * seconds / batch:.1f}"]
        if products is None:
            row += ["", ""]
        else:
            floor = floor_seconds(products)
            row += [f"{1e3 * floor:.2f}", f"{seconds / floor:.1f}"]
        rows.append(row)
    header = ["loop", "batch", "ms an iteration", "us a sample", "floor, ms", "times the floor"]
    return measure.table(header, rows)


# --- Distance against time ---------------------------------------------------------------------


@contextmanager
def noting_moments() -> Iterator[Moments]:
    """Note the time and the generator at each evaluation of a training; gives the list of them."""
    moments: Moments = []
    evaluate, start, aside = common.Training.evaluate, time.perf_counter(), 0.0

    def noted(training: common.Training, generator: nn.Module, *rest: Tensor) -> None:
        nonlocal aside
        evaluate(training, generator, *rest)
        now = time.perf_counter()
        whole = nn.Sequential(generator, training.unstandardize or nn.Identity())
        moments.append((now - start - aside, copy.deepcopy(whole)))
        aside += time.perf_counter() - now

    common.Training.evaluate = noted
    try:
        yield moments
    finally:
        common.Training.evaluate = evaluate


def our_run(name: str, seed: int, epochs: int | None = None) -> tuple[Moments, float, float]:
    """One training: its moments, its whole time, and F of the generator that it gives back."""
    data, script = measure.training_points(name, seed), CURVES[name]
    start = time.perf_counter()
    with noting_moments() as moments:
        training = script.train(data, seed=seed, progress=False, epochs=epochs or script.EPOCHS)
    return moments, time.perf_counter() - start, fidelity(name, training.generator)


def textbook_run(name: str, seed: int, limit: float) -> tuple[Moments, float, bool]:
    """One run of the textbook's loop: its moments, a tenth longer each, its time, its end."""
    curve, moments = SHAPES[name].curve, Moments()
    assert curve is not None

    def watch(seconds: float, generator: nn.Module) -> None:
        if not moments or seconds > 1.1 * moments[-1][0]:
            moments.append((seconds, copy.deepcopy(generator)))

    torch.set_num_threads(1)
    data = measure.training_points(name, seed)
    ended = textbook.learn_points(data, curve, seed=seed, limit=limit, watch=watch)
    moments.append((ended.seconds, ended.generator))
    return moments, ended.seconds, ended.stopped


@torch.no_grad()
def fidelity(name: str, generator: nn.Module) -> float:
    """F of 100,000 generated points."""
    points = copy.deepcopy(generator).eval()(torch.randn(GENERATED, 2))
    distance, typical, _ = measure.truth(name)
    return distance(points) / typical


def first_at_most(level: float, course: list[tuple[float, float]]) -> float:
    """The seconds of the first moment with such an F; infinite if there is none."""
    return next((seconds for seconds, found in course if found <= level), math.inf)


def last_by(budget: float, course: list[tuple[float, float]]) -> float:
    """F at the last moment within so many seconds."""
    return [found for seconds, found in course if seconds <= budget][-1]


def in_words(seconds: list[float], limit: float) -> str:
    """The mean time of the runs that came there, and how many never did."""
    came = [second for second in seconds if second < math.inf]
    if not came:
        return f"not in {limit:.0f} s"
    never = len(seconds) - len(came)
    return f"{statistics.mean(came):.1f}" + (f"; {never} of {len(seconds)} never" if never else "")


def distance_table(seeds: int, textbook_seeds: int, limit: float) -> tuple[str, dict]:
    """Seconds until F is low, F by budget, both loops in turn; and the courses for the picture."""
    rows, courses = [], {}
    for name in CURVES:
        ours, book, whole, book_whole, budgets = [], [], [], [], {b: [] for b in BUDGETS}
        for seed in range(seeds):
            moments, seconds, _ = our_run(name, seed)
            whole.append(seconds)
            ours.append([(t, fidelity(name, generator)) for t, generator in moments])
            for budget in BUDGETS:
                epochs = max(1, int(budget / seconds * CURVES[name].EPOCHS))
                budgets[budget].append(our_run(name, seed, epochs)[2])
            long = seed < textbook_seeds
            moments, seconds, stopped = textbook_run(name, seed, limit if long else max(BUDGETS))
            book.append([(t, fidelity(name, generator)) for t, generator in moments])
            if long:
                book_whole.append(f"{seconds:.0f}" + ("" if stopped else " (cut)"))
            print(name, seed, ours[-1][-1], whole[-1], book[-1][-1], stopped, flush=True)
        courses[name] = ours, book
        rows.append(
            [f"{name}, ours", *(in_words([first_at_most(x, c) for c in ours], 0) for x in LEVELS)]
            + [f"{statistics.mean(budgets[budget]):.2f}" for budget in BUDGETS]
            + [f"{statistics.median(whole):.1f}"]
        )
        long_ones = book[:textbook_seeds]
        rows.append(
            [f"{name}, textbook"]
            + [in_words([first_at_most(x, c) for c in long_ones], limit) for x in LEVELS]
            + [f"{statistics.mean(last_by(budget, c) for c in book):.2f}" for budget in BUDGETS]
            + [", ".join(book_whole)]
        )
    header = ["loop", *(f"s until F {level}" for level in LEVELS)]
    header += [*(f"F after {budget} s" for budget in BUDGETS), "s until it stops"]
    return measure.table(header, rows), courses


def integers_table(seeds: int) -> str:
    """Whole runs on the integers, both loops in turn."""
    ours, book = [], []
    for seed in range(seeds):
        data = measure.training_integers(OWN_SET, seed)
        start = time.perf_counter()
        training = multiples_of_five_gan.train(data, seed=seed, progress=False)
        ours.append((time.perf_counter() - start, training.generator))
        ended = textbook.learn_integers(data, seed=seed)
        book.append((ended.seconds, ended.generator))
    rows = []
    for loop, runs in (("integers, ours", ours), ("integers, textbook", book)):
        judged = [judge_integers(generator) for _, generator in runs]
        rows.append(
            [loop, *(measure.mean_and_worst(judged, key) for key in judged[0])]
            + [f"{statistics.median(seconds for seconds, _ in runs):.1f}"]
        )
    return measure.table(["loop", "valid", "present", "KL", "s until it stops"], rows)


@torch.no_grad()
def judge_integers(generator: nn.Module) -> dict[str, float]:
    """Shares valid and present, and KL, of 100,000 generated integers."""
    rows = generator(torch.randn(GENERATED, multiples_of_five_gan.LATENT_DIM))
    return measure.judge_integers(OWN_SET, rows)


def short_table(distances: str, integers: str) -> str:
    """The columns that say most of both tables, below each other."""
    rows = []
    for line in distances.splitlines()[2:]:
        loop, two, one, after, *_, whole = line.strip("| ").split(" | ")
        rows.append([loop, two, one, after, whole])
    for line in integers.splitlines()[2:]:
        loop, *_, whole = line.strip("| ").split(" | ")
        rows.append([loop, "", "", "", whole])
    header = ["loop", "s until F 2.0", "s until F 1.3", "F after 5 s", "s until it stops"]
    return measure.table(header, rows)


def save_picture(path: Path, courses: dict) -> None:
    """F against seconds of every run, ours and the textbook's."""
    figure = matplotlib.figure.Figure(figsize=(10, 4), layout="constrained")
    for axis, (name, (ours, book)) in zip(figure.subplots(1, 2), courses.items(), strict=True):
        for label, runs, colour in (("textbook", book, "#9a9a9a"), ("ours", ours, "#0b4f8a")):
            for i, course in enumerate(runs):
                axis.loglog(*zip(*course, strict=True), color=colour, label=None if i else label)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set(title=name, xlabel="seconds", ylabel="F (1: as good as a training set)")
        axis.legend()
    figure.savefig(path, dpi=100)


# --- Animating ---------------------------------------------------------------------------------


def draw_film(script: types.ModuleType, data: Tensor, training: common.Training) -> bytes:
    """The GIF of a training, as `--animate` draws it."""
    if script is not multiples_of_five_gan:
        return common.animate_points(data, training.snapshots)
    film = {i: (row, script.shares(rows)) for i, (row, rows) in training.snapshots.items()}
    return common.animate_points(script.shares(data), film)


def animating_table(repeats: int = 5) -> str:
    """What `--animate` adds to a training: medians of both, in turn."""
    rows = []
    for script in (exp_curve_gan, sine_gan, multiples_of_five_gan):
        data, training, drawing = script.real_samples(SAMPLES), [], []
        for _ in range(repeats):
            start = time.perf_counter()
            trained = script.train(data, progress=False)
            training.append(time.perf_counter() - start)
            gif = draw_film(script, data, trained)
            drawing.append(time.perf_counter() - start - training[-1])
        plain, film = statistics.median(training), statistics.median(drawing)
        cells = [f"{plain:.1f}", f"{film:.1f}", f"{film / plain:.0%}", f"{len(gif) / 1e6:.2f}"]
        rows.append([f"{script.__name__}.py", *cells])
    header = ["script", "seconds of training", "of `--animate`", "more", "MB of the GIF"]
    return measure.table(header, rows)


# --- The whole command, growth, generating -----------------------------------------------------

WHOLE_COMMAND = """
import time
start = time.perf_counter()
import functools, sys
import common, exp_curve_gan
import torch._dynamo  # by Adam and by torch.export, whether one would or not
from matplotlib.figure import Figure

spent = {"imports": time.perf_counter() - start, "training": 0, "saving": 0, "plotting": 0}

def timed(name, function):
    @functools.wraps(function)
    def wrapper(*args, **kwargs):
        before = time.perf_counter()
        try:
            return function(*args, **kwargs)
        finally:
            spent[name] += time.perf_counter() - before
    return wrapper

exp_curve_gan.train = timed("training", exp_curve_gan.train)
common.save_model = timed("saving", common.save_model)
common.plot_points = timed("plotting", common.plot_points)
Figure.savefig = timed("plotting", Figure.savefig)
exp_curve_gan.main(["--quiet", "--device", "cpu", "--out", sys.argv[1]])
"""
TRAIN_ON = """
import sys, torch
import sine_gan
data = torch.rand(int(sys.argv[1]), 2)
sine_gan.train(data, epochs=1, progress=False)
"""
COMPUTE = """
import sys, time, torch
from common import CHUNK
generator = torch.jit.load(sys.argv[1], map_location="cpu")
start = time.perf_counter()
with torch.no_grad():
    for _ in range(0, int(sys.argv[2]), CHUNK):
        generator(torch.randn(CHUNK, 2))
spent = {"seconds": time.perf_counter() - start}
"""
WRITE = """
import os, sys, time
import exp_curve_gan
standard_output, sys.stdout = sys.stdout, open(os.devnull, "w")
start = time.perf_counter()
exp_curve_gan.main(["--generate", sys.argv[2], "--out", sys.argv[1]])
spent = {"seconds": time.perf_counter() - start}
sys.stdout = standard_output
"""
REPORT = """
import json, re
# as getrusage would count the memory of the parent, too
peak = re.search(r"VmHWM:\\s+(\\d+)", open("/proc/self/status").read())
print(json.dumps({**globals().get("spent", {}), "MB": int(peak[1]) / 1024}))
"""


def in_its_own_process(code: str, *arguments: object) -> dict[str, float]:
    """Run code in a fresh Python; gives what it spent, and its peak memory."""
    command = [sys.executable, "-W", "ignore", "-c", code + REPORT, *map(str, arguments)]
    ended = subprocess.run(command, cwd=ROOT, check=True, capture_output=True, text=True)
    return json.loads(ended.stdout.splitlines()[-1])


def whole_command_table(folder: Path) -> str:
    """Where the time of `python exp_curve_gan.py` goes, and its memory beside bare imports."""
    runs = []
    for _ in range(3):
        start = time.perf_counter()
        run = in_its_own_process(WHOLE_COMMAND, folder)
        runs.append({"start to exit": time.perf_counter() - start, **run})
    parts = [statistics.median(run[key] for run in runs) for key in runs[0]]
    bare = in_its_own_process("import torch, matplotlib")["MB"]
    header = ["", *runs[0], "MB of `import torch, matplotlib`"]
    cells = ["seconds", *(f"{part:.1f}" for part in parts[:-1]), f"{parts[-1]:.0f}", f"{bare:.0f}"]
    return measure.table(header, [cells])


def growth_tables() -> str:
    """Iterations by size of the data, of the batch, and by threads."""
    rows = []
    for n in (2_000, 20_000, 200_000, 2_000_000):
        seconds = our_iteration(sine_gan, sine_gan.real_samples(n))
        megabytes = in_its_own_process(TRAIN_ON, n)["MB"]
        rows.append([f"{n:,}", f"{1e3 * seconds:.2f}", f"{megabytes:.0f}", f"{8 * n / 2**20:.1f}"])
    sizes = measure.table(["points", "ms an iteration", "peak MB", "MB of the data"], rows)
    rows = []
    data = sine_gan.real_samples(20_000)
    for batch in (64, 256, 1024, 4096, 16_384):
        repeats = 3 if batch <= 1024 else 1  # more takes long, and varies little
        each = [our_iteration(sine_gan, data, threads, batch, repeats) for threads in (1, 2)]
        rows.append(
            [f"{batch:,}", *(f"{1e3 * s:.2f}" for s in each), f"{1e6 * each[0] / batch:.1f}"]
        )
    header = ["batch", "ms an iteration, 1 thread", "2 threads", "us a sample, 1 thread"]
    return f"{sizes}\n{measure.table(header, rows)}"


def generating_table(folder: Path) -> str:
    """Points a second from the saved file, computed alone, and written as CSV by --generate."""
    lines = []
    for what, code, place in (
        ("computed", COMPUTE, folder / "generator.pt"),
        ("`--generate`", WRITE, folder),
    ):
        few, many = (in_its_own_process(code, place, n) for n in (100_000, 10_000_000))
        speed = f"{10 / many['seconds']:.2f}"
        lines.append(
            [what, f"{many['seconds']:.1f}", speed, f"{few['MB']:.0f}", f"{many['MB']:.0f}"]
        )
    header = ["10 million points", "seconds", "million a second", "peak MB", "peak MB of 100,000"]
    return measure.table([*header[:3], *header[:2:-1]], lines)


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    add = parser.add_argument
    add("--seeds", type=int, default=5, help="of each curve (5)")
    add("--textbook-seeds", type=int, default=2, help="of these, run to the textbook's end (2)")
    add("--limit", type=float, default=400, help="seconds after which that is cut (400)")
    options = parser.parse_args()
    iterations = iterations_table()
    print(iterations, flush=True)
    with tempfile.TemporaryDirectory() as folder:
        whole_command = whole_command_table(Path(folder))
        print(whole_command, flush=True)
        generating = generating_table(Path(folder))
        print(generating, flush=True)
    animating = animating_table()
    print(animating, flush=True)
    growth = growth_tables()
    print(growth, flush=True)
    integers = integers_table(options.seeds)
    print(integers, flush=True)
    distances, courses = distance_table(options.seeds, options.textbook_seeds, options.limit)
    source = measure.circumstances("speed.py")
    text = f"""# Speed

One process at a time; ours on one thread. F is the distance to the truth, in units of a typical
training set's: 1 is as good as data.

{source}
## Seconds to a distance

Means over {options.seeds} seeds. The textbook's loop was run until it stopped by itself, or for
{options.limit:.0f} s, with {options.textbook_seeds} of them. Seconds until F is 2.0 or 1.3: moments
of a default run. F after 5, 10, 20 s: ours with as many epochs as take that long.

{distances}
Integers, mean / worst; seconds: median.

{integers}
![F against seconds](speed.png)

## An iteration

Floor: the time of an iteration's bare matrix products.

{iterations}
## The whole command

`python exp_curve_gan.py`, medians of 3.

{whole_command}
## Animating

{animating}
## Growth

{growth}
## Generating

{generating}"""
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "speed.md").write_text(text)
    save_picture(RESULTS / "speed.png", courses)
    measure.write_into_readme("speed", f"{short_table(distances, integers)}\n{source}")


if __name__ == "__main__":
    main()
