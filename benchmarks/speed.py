"""How fast the scripts train, beside the textbook's loop: results/speed.md, speed.png.

python benchmarks/speed.py     ten minutes; nothing else should run at the same time
"""

import copy
import math
import time
from statistics import mean, median
from typing import Any

import measure
import textbook
import torch
from matplotlib.figure import Figure
from measure import OWN_SET, SHAPES
from torch import Tensor, nn

import common
import exp_curve_gan
import sine_gan

CURVES = {"exponential": exp_curve_gan, "sine": sine_gan}
BUDGET = 5  # seconds
LEVELS = (2.0, 1.3)  # of F
HEADER = [f"s until F {level}" for level in LEVELS] + [f"F after {BUDGET} s", "s until it stops"]

Course = list[tuple[float, float]]  # seconds since the start, and F then


def our_course(name: str, seed: int, **settings: Any) -> Course:
    """F after each epoch of a training, and at the end."""
    kept: list[tuple[float, nn.Module]] = []
    evaluate, start = common.Training.evaluate, time.perf_counter()

    def evaluate_and_keep(training: common.Training, generator: nn.Module, *rest: Tensor) -> None:
        evaluate(training, generator, *rest)
        generator = nn.Sequential(copy.deepcopy(generator), training.restore)
        kept.append((time.perf_counter() - start, generator))

    changes = {"common.Training.evaluate": evaluate_and_keep}
    _, figures = measure.learn(name, seed, CURVES[name], changes, **settings)
    course = [(seconds, f_of(generator, name)) for seconds, generator in kept]
    return [*course, (figures["seconds"], figures["F"])]


def textbook_course(name: str, seed: int, limit: float) -> Course:
    """F in the textbook's loop, each time a tenth later."""
    course: Course = []

    def watch(seconds: float, generator: nn.Module) -> None:
        if not course or seconds > 1.1 * course[-1][0]:
            course.append((seconds, f_of(generator, name)))

    torch.set_num_threads(1)
    data, curve = measure.training_data(name, seed), SHAPES[name].curve
    generator, seconds, _ = textbook.learn_points(data, curve, seed, limit, watch)
    return [*course, (seconds, f_of(generator, name))]


@torch.no_grad()
def f_of(generator: nn.Module, name: str) -> float:
    """F of 100,000 generated points."""
    noise = torch.randn(measure.GENERATED, 2, generator=common.stream("noise"))
    return measure.f_of(name)(generator(noise))


def seconds_until(level: float, courses: list[Course]) -> str:
    """The mean time until F is at most `level`, and how many runs never reach it."""
    below = [[seconds for seconds, f in course if f <= level] for course in courses]
    reached = [min(times) for times in below if times]
    if not reached:
        return f"not in {max(course[-1][0] for course in courses):.0f} s"
    never = len(courses) - len(reached)
    return f"{mean(reached):.1f}" + (f"; {never} of {len(courses)} never" if never else "")


def row(loop: str, courses: list[Course], complete: list[Course], limit: float) -> list[str]:
    """A row of the table; the complete courses were run to the end or to the limit."""
    after = mean([f for s, f in course if s <= max(BUDGET, course[0][0])][-1] for course in courses)
    until = [seconds_until(level, complete) for level in LEVELS]
    ends = median(course[-1][0] for course in complete)
    stops = f"{ends:.{1 if ends < 10 else 0}f}" + (" (cut)" if ends >= limit else "")
    return [loop, *until, f"{after:.2f}", stops]


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=5)
    limit = "seconds of the textbook's first training, at most (%(default)s)"
    parser.add_argument("--limit", type=float, default=100, help=limit)
    options = parser.parse_args()
    rows, figure = [], Figure((10, 4), layout="constrained")
    our_course("sine", 0, epochs=1)  # not counted: torch imports many modules at its first step
    for name, axis in zip(CURVES, figure.subplots(1, 2), strict=True):
        ours, book = [], []
        for seed in range(options.seeds):  # both loops in turn
            ours.append(our_course(name, seed, **options.settings))
            book.append(textbook_course(name, seed, BUDGET if seed else options.limit))
        rows.append(row(f"{name}, ours", ours, ours, math.inf))
        rows.append(row(f"{name}, textbook", book, book[:1], options.limit))
        print(*rows[-2:], sep="\n", flush=True)
        for courses, colour in ((book, common.REAL), (ours, common.GENERATED)):
            for course in courses:
                axis.loglog(*zip(*course, strict=True), color=colour)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set(title=f"{name}: ours blue, textbook's grey", xlabel="seconds", ylabel="F")
    figure.savefig(measure.RESULTS / "speed.png", dpi=100)
    ours, book = [], []
    for seed in range(options.seeds):
        _, figures = measure.learn(OWN_SET, seed, **options.settings)
        ours.append(figures["seconds"])
        book.append(textbook.learn_integers(measure.training_data(OWN_SET, seed), seed).seconds)
    rows.append(["integers, ours", "", "", "", f"{median(ours):.1f}"])
    rows.append(["integers, textbook", "", "", "", f"{median(book):.1f}"])
    measure.write_page("speed.md", speed=measure.table(["loop", *HEADER], rows))


if __name__ == "__main__":
    main()
