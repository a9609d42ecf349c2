"""How fast the scripts train, beside the textbook's loop: results/speed.md, speed.png.

python benchmarks/speed.py     ten minutes; nothing else should run at the same time
"""

import copy
import math
import time
from collections import defaultdict
from pathlib import Path
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

Moments = list[tuple[float, nn.Module]]  # seconds since the start, and the generator then
Course = list[tuple[float, float]]  # the same seconds, and F


def our_course(name: str, seed: int, **settings: Any) -> Course:
    """F after each epoch of a training, and at the end."""
    data = measure.training_data(name, seed)
    moments: Moments = []
    evaluate, noting = common.Training.evaluate, 0.0

    def noted(training: common.Training, generator: nn.Module, *rest: Tensor) -> None:
        nonlocal noting
        evaluate(training, generator, *rest)
        now = time.perf_counter()
        whole = nn.Sequential(generator, training.restore)
        moments.append((now - start - noting, copy.deepcopy(whole)))
        noting += time.perf_counter() - now

    start = time.perf_counter()
    with mock.patch.object(common.Training, "evaluate", noted):
        training = CURVES[name].train(data, seed=seed, progress=False, **settings)
    moments.append((time.perf_counter() - start - noting, training.generator))
    return measured(name, moments)


def textbook_course(name: str, seed: int, limit: float) -> tuple[Course, bool]:
    """F in the textbook's loop, each time a tenth later, and whether it stopped by itself."""
    moments: Moments = []

    def watch(seconds: float, generator: nn.Module) -> None:
        if not moments or seconds > 1.1 * moments[-1][0]:
            moments.append((seconds, copy.deepcopy(generator)))

    torch.set_num_threads(1)
    data = measure.training_data(name, seed)
    result = textbook.learn_points(data, SHAPES[name].curve, seed, limit, watch)
    moments.append((result.seconds, result.generator))
    return measured(name, moments), result.stopped


@torch.no_grad()
def measured(name: str, moments: Moments) -> Course:
    """F of 100,000 generated points at each moment."""
    distance, typical = measure.truth(name)
    noise = torch.randn(measure.GENERATED, 2)
    return [(seconds, distance(each.eval()(noise)) / typical) for seconds, each in moments]


def seconds_until(level: float, courses: list[Course]) -> str:
    """The mean time until F is at most `level`, and how many runs never reach it."""
    first = [next((s for s, f in course if f <= level), math.inf) for course in courses]
    reached = [seconds for seconds in first if seconds < math.inf]
    if not reached:
        return f"not in {max(course[-1][0] for course in courses):.0f} s"
    never = len(first) - len(reached)
    return f"{mean(reached):.1f}" + (f"; {never} of {len(first)} never" if never else "")


def row(loop: str, courses: list[Course], complete: int, cut: bool = False) -> list[str]:
    """A row of the table; the first `complete` courses were run to the end."""
    ends = median(course[-1][0] for course in courses[:complete])
    after = mean([f for s, f in course if s <= max(BUDGET, course[0][0])][-1] for course in courses)
    until = [seconds_until(level, courses[:complete]) for level in LEVELS]
    return [loop, *until, f"{after:.2f}", f"{ends:.{1 if ends < 10 else 0}f}" + " (cut)" * cut]


def save_picture(path: Path, courses: dict[str, list[Course]]) -> None:
    """Draw F over the seconds of every run."""
    figure = Figure(figsize=(10, 4), layout="constrained")
    for axis, name in zip(figure.subplots(1, 2), CURVES, strict=True):
        for loop, colour in (("textbook", "#9a9a9a"), ("ours", "#0b4f8a")):
            for i, course in enumerate(courses[f"{name}, {loop}"]):
                axis.loglog(*zip(*course, strict=True), color=colour, label=None if i else loop)
        axis.axhline(1, color="black", linewidth=0.8, linestyle=":")
        axis.set(title=name, xlabel="seconds", ylabel="F (1: as good as a training set)")
        axis.legend()
    figure.savefig(path, dpi=100)


def main() -> None:
    """Measure, and write the results."""
    parser = measure.parser(__doc__, seeds=5)
    add = parser.add_argument
    add("--textbook-seeds", type=int, default=1, help="of the textbook's complete runs (1)")
    add("--limit", type=float, default=100, help="their time limit in seconds (100)")
    options = parser.parse_args()
    courses: dict[str, list[Course]] = defaultdict(list)
    rows = []
    our_course("sine", 0, epochs=1)  # not counted: torch imports many modules at its first step
    for name in CURVES:
        ours, book, cut = f"{name}, ours", f"{name}, textbook", False
        for seed in range(options.seeds):  # both loops in turn
            courses[ours].append(our_course(name, seed, **options.settings))
            complete = seed < options.textbook_seeds
            course, stopped = textbook_course(name, seed, options.limit if complete else BUDGET)
            courses[book].append(course)
            cut |= complete and not stopped
        rows.append(row(ours, courses[ours], options.seeds))
        rows.append(row(book, courses[book], options.textbook_seeds, cut))
        print(*rows[-2:], sep="\n", flush=True)
    seconds: dict[str, list[float]] = defaultdict(list)
    for seed in range(options.seeds):
        figures = measure.learn(multiples_of_five_gan, OWN_SET, seed, **options.settings)[1]
        seconds["ours"].append(figures["seconds"])
        result = textbook.learn_integers(measure.training_data(OWN_SET, seed), seed)
        seconds["textbook"].append(result.seconds)
    rows += [[f"integers, {x}", "", "", "", f"{median(seconds[x]):.1f}"] for x in seconds]
    table = measure.table(["loop", *HEADER], rows)
    for page in (measure.README, measure.RESULTS / "speed.md"):
        measure.write_blocks(page, speed=f"{table}\n{measure.source()}")
    save_picture(measure.RESULTS / "speed.png", courses)


if __name__ == "__main__":
    main()
