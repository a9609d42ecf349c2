"""How often the verdict on a table is wrong, for rows of known quality: results/verdict_tables.md.

python benchmarks/verdict_tables.py     half an hour on 2 cores
"""

import itertools
from collections import Counter
from collections.abc import Callable

import measure
import numpy as np
import torch
from pandas import DataFrame
from torch import Tensor, nn

import common
import tables

ROWS = (250, 1000)  # of data
COLUMNS = (1, 2, 4, 8, 12)
SAMPLES = 16384  # generated rows

Random = np.random.Generator
Truth = Callable[[Random, int, int], DataFrame]  # draws n rows of so many columns

# --- Tables whose distribution is known --------------------------------------------------------


def normals(random: Random, n: int, columns: int) -> DataFrame:
    """Normal numbers, each of which depends on the one before."""
    steps = random.normal(size=(n, columns))
    return named(steps[:, :1] + 0.7 * steps)


def curve(random: Random, n: int, columns: int) -> DataFrame:
    """Points on a curve."""
    t = random.uniform(size=n)
    waves = [np.sin(np.pi * i * t) for i in range(1, columns)]
    return named(np.stack([t, *waves], axis=1))


def ranges(random: Random, n: int, columns: int) -> DataFrame:
    """A category, and numbers in a range of each."""
    category = random.choice(3, n, p=[0.5, 0.3, 0.2])
    numbers = 10 * category[:, None] + random.uniform(size=(n, max(columns, 2)))
    return with_category(named(numbers), 0, category)


def mixed(random: Random, n: int, columns: int) -> DataFrame:
    """Normal numbers, and categories that depend on them: every second column."""
    frame = normals(random, n, columns)
    for i in range(1, columns, 2):
        noisy = frame.iloc[:, i] + random.normal(size=n)
        frame = with_category(frame, i, np.digitize(noisy, [-2, 0, 2, 3]))
    return frame


def gaps(random: Random, n: int, columns: int) -> DataFrame:
    """As `mixed`, and a number is zero in a third of all rows, and missing in a tenth."""
    frame = mixed(random, n, columns)
    chance = random.uniform(size=n)
    frame.loc[chance < 0.4, "x0"] = 0
    frame.loc[chance < 0.1, "x0"] = np.nan
    return frame


def named(numbers: np.ndarray) -> DataFrame:
    """Numbers (n, columns) as a table, with three decimals."""
    return DataFrame(numbers.round(3)).rename(columns="x{}".format)


def with_category(frame: DataFrame, i: int, category: np.ndarray) -> DataFrame:
    """A table with a category (n,) in place of column i."""
    return frame.assign(**{frame.columns[i]: [f"kind {k}" for k in category]})


TRUTHS: dict[str, Truth] = {
    "normals": normals,
    "curve": curve,
    "numbers in ranges of a category": ranges,
    "numbers and categories": mixed,
    "zeros and missing numbers": gaps,
}

# --- Generators --------------------------------------------------------------------------------


def resampled(frame: DataFrame, random: Random) -> DataFrame:
    """Rows of a table, drawn again."""
    return frame.sample(SAMPLES, replace=True, random_state=random)


def independent(frame: DataFrame, random: Random) -> DataFrame:
    """Rows of a table, each column of which is drawn again on its own."""
    drawn = {
        name: column.sample(SAMPLES, replace=True, random_state=random)
        for name, column in frame.items()
    }
    return DataFrame({name: column.to_numpy() for name, column in drawn.items()})


GENERATORS = ["the truth", "training rows again", "columns on their own"]


def generate(name: str, truth: Truth, train: DataFrame, columns: int, random: Random) -> DataFrame:
    """What a generator of that name has learned from training rows."""
    if name == "training rows again":
        return resampled(train, random)
    fresh = truth(random, SAMPLES, columns)
    return fresh if name == "the truth" else independent(fresh, random)


def cells_of(frame: DataFrame, columns: list[tables.Column]) -> Tensor:
    """The cells (n, columns) of rows with such columns."""
    cells = []
    for column in columns:
        values = frame[column.name]
        if column.categories:
            values = values.map(column.categories.index)
        cells.append(torch.tensor(values.to_numpy(float)))
    return torch.stack(cells, dim=1)


def judge(case: tuple[str, int, int, str], seed: int) -> list[str]:
    """The checks of the verdict that fail, as if a training had ended with rows of a generator."""
    kind, rows, count, name = case
    torch.set_num_threads(1)
    random = np.random.default_rng([seed, rows, count])
    data = TRUTHS[kind](random, rows, count)
    table = tables.Table(data)
    training = tables.TableTraining(table, seed=seed, epochs=1, patience=1, progress=False)
    train = data[~training.held_out.numpy()]
    rows = generate(name, TRUTHS[kind], train, count, random)
    cells = cells_of(rows, table.columns)
    encoded = encode(table, cells)
    # In place of noise, a network that changes nothing gets the rows
    training.evaluate(nn.Identity(), encoded[:2048], 0.0, 0.0)
    common.Training.finish(training, nn.Identity(), encoded, **tables.LIMITS)
    training.data = table.cells
    training.samples = cells
    training.check_cells(tables.find_rules(table.cells, table.columns))
    return [check.name for check in training.checks if not check.passed]


def encode(table: tables.Table, cells: Tensor) -> Tensor:
    """Cells (n, columns) as rows (n, width), as a generator for a table makes them."""
    known = table.cells
    columns, flagged = table.with_flags(cells)
    rows = tables.encode_like(table.with_flags(known)[1], flagged, columns)
    numbers = [i for i, column in enumerate(table.columns) if not column.categories]
    for i, position in zip(numbers, table.conditions.numeric, strict=True):
        rows[:, position] = random_scores(known[:, i], cells[:, i])
    return rows


def random_scores(known: Tensor, values: Tensor) -> Tensor:
    """Normal scores (n,) of values (n,), at random between the ranks of known ones (m,) around.

    Missing ones have any score.
    """
    ordered = known[~known.isnan()].sort().values
    low = torch.searchsorted(ordered, values.contiguous())
    high = torch.searchsorted(ordered, values.contiguous(), right=True)
    width = (high - low).clamp(min=1)  # of equal numbers, or between two
    place = (low + high) / 2 + width * (torch.rand(len(values)) - 0.5)
    scores = torch.special.ndtri((place / len(ordered)).clamp(1e-4, 1 - 1e-4))
    return scores.where(~values.isnan(), torch.randn_like(scores))


# --- Results -----------------------------------------------------------------------------------


def share_warned(runs: dict[tuple, list], kind: str, name: str, rows: int) -> str:
    """How many of the tables of a kind, as one generator makes them, get a WARNING."""
    warned = []
    for (case_kind, case_rows, _, case_name), failed in runs.items():
        if (case_kind, case_rows, case_name) == (kind, rows, name):
            warned += [len(checks) > 0 for checks in failed]
    return f"{np.mean(warned):.1%} of {len(warned)}"


def failed_checks(runs: dict[tuple, list], kind: str, name: str) -> str:
    """The checks that fail, and how often."""
    counts: Counter[str] = Counter()
    for (case_kind, *_, case_name), failed in runs.items():
        if (case_kind, case_name) == (kind, name):
            counts.update(itertools.chain.from_iterable(failed))
    return ", ".join(f"{check} {count}" for check, count in counts.most_common())


def main() -> None:
    """Judge, and write the results."""
    options = measure.parser(__doc__, seeds=5, epochs=False).parse_args()
    counts = {}
    for case in itertools.product(TRUTHS, ROWS, COLUMNS, GENERATORS):
        counts[case] = 5 * options.seeds if case[-1] == "the truth" else options.seeds
    runs = measure.over_seeds(judge, counts)
    lines = []
    for name, kind in itertools.product(GENERATORS, TRUTHS):
        shares = [share_warned(runs, kind, name, rows) for rows in ROWS]
        lines.append([name, kind, *shares, failed_checks(runs, kind, name)])
    header = ["rows", "table", *[f"WARNING, {rows:,} rows" for rows in ROWS], "checks that fail"]
    measure.write_page("verdict_tables.md", verdicts=measure.table(header, lines))


if __name__ == "__main__":
    main()
