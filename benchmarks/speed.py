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
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from measure import OWN_SET, SHAPES
from torch import Tensor, nn

import common
import exp_curve_gan
import sine_gan

CURVES = {"exponential": exp_curve_gan, "sine": sine_gan}
BUDGET = 5  # seconds
LEVELS = [2.0, 1.3]  # of F
HEADER = [
    "loop",
    *[f"s until F {level}" for level in LEVELS],
    f"F after {BUDGET} s",
    "s until it stops",
    "seeds",
]

Course = list[tuple[float, float]]  # seconds since the start, and F then


def our_course(name: str, seed: int, **settings: Any) -> Course:
    """F after each epoch of a training, and at the end."""
    generators: list[tuple[float, nn.Module]] = []  # and the seconds since the start

    def keep(generator: nn.Module) -> None:
        generators.append((time.perf_counter() - start, copy.deepcopy(generator)))

    with measure.after_each_epoch(keep):
        start = time.perf_counter()
        _, figures = measure.learn(name, seed, CURVES[name], **settings)
    course = [(seconds, f_of(generator, name)) for seconds, generator in generators]
    return [*course, (figures["seconds"], figures["F"])]


def textbook_course(name: str, seed: int, limit: float) -> Course:
    """F in the textbook's loop, each time a tenth later."""
    course: Course = []

    def watch(seconds: float, generator: nn.Module) -> None:
        if not course or seconds > 1.1 * course[-1][0]:
            course.append((seconds, f_of(generator, name)))

    torch.set_num_threads(1)
    data = measure.training_data(name, seed)
    result = textbook.learn_points(data, curve_of(name), seed, limit, watch)
    return [*course, (result.seconds, f_of(result.generator, name))]


def curve_of(name: str) -> Any:
    """The function that gives y for an x."""
    curve = SHAPES[name].curve
    if curve is None:
        raise ValueError(f"{name} is not a curve y = f(x)")
    return curve


@torch.no_grad()
def f_of(generator: nn.Module, name: str) -> float:
    """F of 100,000 generated points."""
    noise = torch.randn(measure.GENERATED, 2, generator=common.random_generator("noise"))
    points: Tensor = generator(noise)
    return measure.f_of(name, points)


def seconds_until(level: float, courses: list[Course]) -> str:
    """The mean time until F is at most `level`, and how many runs never reach it."""
    first_times = []
    for course in courses:
        times = [seconds for seconds, f in course if f <= level]
        if times:
            first_times.append(min(times))
    if not first_times:
        longest = max(course[-1][0] for course in courses)
        return f"not in {longest:.0f} s"
    never = len(courses) - len(first_times)
    if never:
        return f"{mean(first_times):.1f}; {never} of {len(courses)} never"
    return f"{mean(first_times):.1f}"


def f_after_budget(course: Course) -> float:
    """The last F within the budget, or the first one."""
    first_seconds, _ = course[0]
    within = [f for seconds, f in course if seconds <= max(BUDGET, first_seconds)]
    return within[-1]


def seconds_of(courses: list[Course], limit: float) -> str:
    """The median time until a training stops."""
    seconds = median(course[-1][0] for course in courses)
    digits = 1 if seconds < 10 else 0
    if seconds >= limit:
        return f"{seconds:.{digits}f} (cut)"
    return f"{seconds:.{digits}f}"


def row(loop: str, courses: list[Course], complete: list[Course], limit: float) -> list[object]:
    """A row of the table; the complete courses were run to the end or to the limit."""
    until = [seconds_until(level, complete) for level in LEVELS]
    after = mean(f_after_budget(course) for course in courses)
    return [loop, *until, f"{after:.2f}", seconds_of(complete, limit), len(courses)]


def plot_courses(axes: Axes, name: str, ours: list[Course], book: list[Course]) -> None:
    """Draws F over the seconds."""
    for courses, color in ((book, common.REAL), (ours, common.GENERATED)):
        for course in courses:
            seconds, f = zip(*course, strict=True)
            axes.loglog(seconds, f, color=color)
    axes.axhline(1, color="black", linewidth=0.8, linestyle=":")
    axes.set(title=f"{name}: ours blue, textbook's grey", xlabel="seconds", ylabel="F")


def measure_integers(seeds: int, **settings: Any) -> list[list[object]]:
    """The rows of the integers: the median time until a training stops."""
    ours = []
    book = []
    for seed in range(seeds):
        _, figures = measure.learn(OWN_SET, seed, **settings)
        ours.append(figures["seconds"])
        result = textbook.learn_integers(measure.training_data(OWN_SET, seed), seed)
        book.append(result.seconds)
    return [
        ["integers, ours", "", "", "", f"{median(ours):.1f}", seeds],
        ["integers, textbook", "", "", "", f"{median(book):.1f}", seeds],
    ]


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=5)
    parser.add_argument(
        "--limit",
        metavar="S",
        type=float,
        default=100,
        help="seconds of the textbook's first training, at most (%(default)s)",
    )
    options = parser.parse_args()
    rows = []
    figure = Figure((10, 4), layout="constrained")
    our_course("sine", 0, epochs=1)  # not counted: torch imports many modules at its first step
    for name, axes in zip(CURVES, figure.subplots(1, 2), strict=True):
        ours = []
        book = []
        for seed in range(options.seeds):  # both loops in turn
            ours.append(our_course(name, seed, **options.settings))
            limit = options.limit if seed == 0 else BUDGET
            book.append(textbook_course(name, seed, limit))
        rows.append(row(f"{name}, ours", ours, ours, math.inf))
        rows.append(row(f"{name}, textbook", book, book[:1], options.limit))
        print(*rows[-2:], sep="\n", flush=True)
        plot_courses(axes, name, ours, book)
    figure.savefig(measure.RESULTS / "speed.png", dpi=100)
    rows += measure_integers(options.seeds, **options.settings)
    measure.write_page("speed.md", speed=measure.table(HEADER, rows))


if __name__ == "__main__":
    main()
