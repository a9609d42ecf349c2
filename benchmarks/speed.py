"""How fast the scripts train, beside the textbook's loop: results/speed.md, speed.png.

python benchmarks/speed.py     ten minutes; nothing else should run at the same time
"""

import math
import time
from statistics import mean, median
from typing import Any
from unittest import mock

import measure
import textbook
import torch
from matplotlib.figure import Figure
from measure import OWN_SET, SHAPES
from torch import Tensor, nn

import common
import exp_curve_gan
import multiples_of_five_gan
import sine_gan

CURVES = {"exponential": exp_curve_gan, "sine": sine_gan}
BUDGET = 5  # seconds
LEVELS = (2.0, 1.3)  # of F
HEADER = [f"s until F {level}" for level in LEVELS] + [f"F after {BUDGET} s", "s until it stops"]

Course = list[tuple[float, float]]  # seconds since the start, and F then


def our_course(name: str, seed: int, **settings: Any) -> Course:
    """F after each epoch of a training, and at the end; the time to measure it does not count."""
    course: Course = []
    data, evaluate = measure.training_data(name, seed), common.Training.evaluate

    def evaluate_and_note(training: common.Training, generator: nn.Module, *rest: Tensor) -> None:
        nonlocal start
        evaluate(training, generator, *rest)
        now = time.perf_counter()
        course.append((now - start, f_of(nn.Sequential(generator, training.restore), name)))
        start += time.perf_counter() - now

    start = time.perf_counter()
    with mock.patch.object(common.Training, "evaluate", evaluate_and_note):
        training = CURVES[name].train(data, seed=seed, progress=False, **settings)
    return [*course, (time.perf_counter() - start, f_of(training.generator, name))]


def textbook_course(name: str, seed: int, limit: float) -> Course:
    """F in the textbook's loop, each time a tenth later."""
    course: Course = []

    def watch(seconds: float, generator: nn.Module) -> None:
        if not course or seconds > 1.1 * course[-1][0]:
            course.append((seconds, f_of(generator, name)))

    torch.set_num_threads(1)
    data = measure.training_data(name, seed)
    result = textbook.learn_points(data, SHAPES[name].curve, seed, limit, watch)
    return [*course, (result.seconds, f_of(result.generator, name))]


@torch.no_grad()
def f_of(generator: nn.Module, name: str) -> float:
    """F of 100,000 generated points."""
    noise = torch.randn(measure.GENERATED, 2, generator=common.stream("noise"))
    return measure.f_of(name)(generator(noise))


def seconds_until(level: float, courses: list[Course]) -> str:
    """The mean time until F is at most `level`, and how many runs never reach it."""
    first = [next((s for s, f in course if f <= level), math.inf) for course in courses]
    reached = [seconds for seconds in first if seconds < math.inf]
    if not reached:
        return f"not in {max(course[-1][0] for course in courses):.0f} s"
    never = len(first) - len(reached)
    return f"{mean(reached):.1f}" + (f"; {never} of {len(first)} never" if never else "")


def row(loop: str, courses: list[Course], complete: int, limit: float) -> list[str]:
    """A row of the table; the first `complete` courses were run to the end or to the limit."""
    after = mean([f for s, f in course if s <= max(BUDGET, course[0][0])][-1] for course in courses)
    courses = courses[:complete]
    until = [seconds_until(level, courses) for level in LEVELS]
    ends = median(course[-1][0] for course in courses)
    stops = f"{ends:.{1 if ends < 10 else 0}f}" + (" (cut)" if ends >= limit else "")
    return [loop, *until, f"{after:.2f}", stops]


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=5)
    add = parser.add_argument
    add("--textbook-seeds", type=int, default=1, help="of the textbook's complete runs (1)")
    add("--limit", type=float, default=100, help="their time limit in seconds (100)")
    options = parser.parse_args()
    limit, complete, settings = options.limit, options.textbook_seeds, options.settings
    rows, figure = [], Figure((10, 4), layout="constrained")
    our_course("sine", 0, epochs=1)  # not counted: torch imports many modules at its first step
    for name, axis in zip(CURVES, figure.subplots(1, 2), strict=True):
        ours, book = [], []
        for seed in range(options.seeds):  # both loops in turn
            ours.append(our_course(name, seed, **settings))
            book.append(textbook_course(name, seed, limit if seed < complete else BUDGET))
        rows.append(row(f"{name}, ours", ours, options.seeds, math.inf))
        rows.append(row(f"{name}, textbook", book, complete, limit))
        print(*rows[-2:], sep="\n", flush=True)
        for course in book:
            axis.loglog(*zip(*course, strict=True), color=common.REAL)
        for course in ours:
            axis.loglog(*zip(*course, strict=True), color=common.GENERATED)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set(title=f"{name}: ours blue, textbook's grey", xlabel="seconds", ylabel="F")
    seconds: dict[str, list[float]] = {"ours": [], "textbook": []}
    for seed in range(options.seeds):
        _, figures = measure.learn(multiples_of_five_gan, OWN_SET, seed, **settings)
        result = textbook.learn_integers(measure.training_data(OWN_SET, seed), seed)
        seconds["ours"].append(figures["seconds"])
        seconds["textbook"].append(result.seconds)
    rows += [[f"integers, {loop}", "", "", "", f"{median(s):.1f}"] for loop, s in seconds.items()]
    table = measure.table(["loop", *HEADER], rows)
    page = measure.RESULTS / "speed.md"
    measure.write_blocks(page, speed=f"{table}\n{measure.source()}")
    figure.savefig(measure.RESULTS / "speed.png", dpi=100)


if __name__ == "__main__":
    main()
