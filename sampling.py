"""Rows of a generator of tables, all or those of one kind (`where`), and a saved generator.

Copy this file along with tables.py.
"""

import math
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from datetime import datetime
from decimal import Decimal
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

import cli
import common
from columns import MISSING, Column, NumberStyle, from_json
from common import Failure, InputError
from rules import category_numbers

with suppress(ImportError):  # tables.require_packages says so
    import pandas as pd

LATENT_DIM = 33  # numbers of noise; the last one chooses a condition


# --- Generated rows ----------------------------------------------------------------------------

MOST_TRIED = 1_000_000  # rows generated to find some of a kind


def generate(
    generator: nn.Module,
    columns: list[Column],
    n: int,
    where: Sequence[tuple[Any, Any]] = (),
    seed: int = 0,
) -> Iterator[Tensor]:
    """Blocks of `n` generated rows (rows, columns) in all; only those that fulfil all of `where`.

    `where` has names of columns and what is wanted of them, see TableTraining.sample. The number of
    rows of another kind is printed. InputError if there can be none, Failure if they are too rare.
    """
    buffers = dict(generator.named_buffers())
    wanted = [find_wanted(columns, buffers["1.limits"], *pair) for pair in where]
    upper = buffers["0.conditions.upper"].double()
    told = choose_told(columns, wanted, upper, buffers["1.missing"])
    random = common.random_generator("samples", seed)
    count = 0
    tried = 0
    while count < n:
        if tried >= MOST_TRIED and count < 1000:
            raise Failure(f"--where: only {count} of {tried:,} generated rows are of that kind")
        noise = torch.randn(cli.BLOCK, LATENT_DIM, generator=random)
        if told is not None:
            noise[:, -1] = noise_of(told, upper, random)
        with torch.no_grad():
            rows = generator(noise)
        for each in wanted:
            rows = rows[each.fulfilled(rows[:, each.column])]
        yield rows[: n - count]
        count += len(rows)
        tried += len(noise)
    if count < tried:
        others = f"{tried - count:,} of {tried:,} generated rows"
        print(f"--where: {others} were of another kind, and are left out", file=sys.stderr)


def choose_told(
    columns: list[Column], wanted: "list[Wanted]", upper: Tensor, missing: Tensor
) -> Tensor | None:
    """The conditions, any of which the generator is told; None if there are none.

    These are the rarest ones of a column. Rows that do not fulfil the others are to be dropped.
    `missing` (columns,) has the conditions that numbers are missing.
    """
    shares = upper.diff(prepend=upper.new_zeros(1))
    counts = torch.tensor([len(column.categories) for column in columns])
    first = counts.cumsum(dim=0) - counts  # condition of each column
    choices = []
    for each in wanted:
        if each.categories:
            choices.append(first[each.column] + torch.tensor(each.categories))
        elif each.missing and not each.ranges:
            choices.append(missing[[each.column]])
    return min(choices, key=lambda conditions: shares[conditions].sum(), default=None)


def noise_of(conditions: Tensor, upper: Tensor, random: torch.Generator) -> Tensor:
    """Noise (rows,) by which Conditions.choose chooses one of some conditions."""
    shares = upper.diff(prepend=upper.new_zeros(1))[conditions]
    ends = shares.cumsum(dim=0)
    places = ends[-1] * torch.rand(cli.BLOCK, dtype=torch.float64, generator=random)
    chosen = torch.searchsorted(ends, places).clamp(max=len(conditions) - 1)
    return torch.special.ndtri(upper[conditions[chosen]] - (ends[chosen] - places)).float()


# --- Rows of one kind --------------------------------------------------------------------------

OPERATORS = (">=", "<=", ">", "<", "=")


class Wanted(NamedTuple):
    """What is wanted of a column: one of some categories, a number in a range, or a missing one."""

    column: int
    categories: list[int]
    ranges: list[tuple[float, float]]  # of cells, both ends included
    missing: bool

    def fulfilled(self, cells: Tensor) -> Tensor:
        """Whether cells (n,) of the column are as wanted."""
        if self.categories:
            return torch.isin(cells, torch.tensor(self.categories).to(cells))
        fulfilled = cells.isnan() & self.missing
        for low, high in self.ranges:
            fulfilled |= (low <= cells) & (cells <= high)
        return fulfilled


def find_wanted(columns: list[Column], limits: Tensor, name: Any, value: Any) -> Wanted:
    """What `value`, or one of a list of them, is in the column with this name.

    `limits` (2, columns) are the lowest and the highest cells. InputError if there is no such
    column, or if it has no such value.
    """
    names = [column.name for column in columns]
    if str(name) not in names:
        listed = ", ".join(names[:10])
        raise InputError(f"--where: there is no column {str(name)!r}; there are {listed}")
    i = names.index(str(name))
    column = columns[i]
    values = value if isinstance(value, list) else [value]
    exact = [str(category) for category in column.categories]
    if isinstance(value, str) and "|" in value and value not in exact:
        values = value.split("|")
    wanted = Wanted(i, [], [], missing=any(is_missing(one) for one in values))
    for one in values:
        if column.categories:
            wanted.categories.extend(find_categories(column, one))
        elif not is_missing(one):
            wanted.ranges.append(find_range(column, limits[:, i].tolist(), one))
    if wanted.missing and not column.categories and column.missing is None:
        raise InputError(f"--where: no value of {column.name!r} is missing")
    return wanted


def is_missing(value: Any) -> bool:
    """Whether a value that is wanted stands for a missing one."""
    return pd.api.types.is_scalar(value) and (pd.isna(value) or value == "")


def find_categories(column: Column, value: Any) -> list[int]:
    """The indices of the categories that are the value, or numbers in a range."""
    texts = [str(category) for category in column.categories]
    if str(value) in texts:
        return [texts.index(str(value))]
    found = []
    if is_missing(value):
        found = [i for i, text in enumerate(texts) if text.lower() in MISSING]
    kind, numbers = category_numbers(column)
    if kind == "number" and numbers is not None and not is_missing(value):
        with suppress(ValueError, ArithmeticError):
            low, high = parse_range(Column(column.name), value)
            found = ((low <= numbers) & (numbers <= high)).nonzero().flatten().tolist()
    if not found:
        listed = ", ".join(texts[:10])
        reason = f"{column.name!r} has no category {str(value)!r}; it has {listed}"
        raise InputError(f"--where: {reason}")
    return found


def find_range(column: Column, limits: list[float], value: Any) -> tuple[float, float]:
    """The range of cells that a value, or a range in the form of the column, stands for."""
    lowest, highest = limits
    wanted = " to ".join(map(str, value)) if isinstance(value, tuple) else str(value)
    kind = "dates" if column.date else "numbers"
    reason = f"{column.name!r} has {kind} from {column.write(lowest)} to {column.write(highest)}"
    try:
        low, high = parse_range(column, value)
    except (ValueError, ArithmeticError, TypeError):
        raise InputError(f"--where: {reason}; cannot read {wanted!r}") from None
    if not (low <= high and low <= highest and high >= lowest):  # not ">", false for NaN
        raise InputError(f"--where: {reason}, and none in {wanted!r}")
    return low, high


def parse_range(column: Column, value: Any) -> tuple[float, float]:
    """The lowest and the highest cell of a range: (30, 40), "30..40", ">30", or one value.

    ValueError or ArithmeticError if a value cannot be read.
    """
    operator = ""
    if isinstance(value, str):
        operator = next((sign for sign in OPERATORS if value.startswith(sign)), "")
        value = value.removeprefix(operator).strip()
        if ".." in value and not operator:
            value = tuple(value.split(".."))
    if isinstance(value, tuple):
        low, high = value
        below = -math.inf if is_missing(low) else parse_range(column, low)[0]
        above = math.inf if is_missing(high) else parse_range(column, high)[1]
        return below, above

    cell = read_cell(column, value)
    # Cells may be off by an error of rounding
    tolerance = 0.25 / 10**column.grid.decimals if column.grid else 1e-12 * abs(cell)
    return {
        ">": (cell + tolerance, math.inf),
        ">=": (cell - tolerance, math.inf),
        "<": (-math.inf, cell - tolerance),
        "<=": (-math.inf, cell + tolerance),
    }.get(operator, (cell - tolerance, cell + tolerance))


def read_cell(column: Column, value: Any) -> float:
    """The cell for a number or a date, which may be a text in the form of the column."""
    if column.date:
        number = Decimal(str(read_date(column.date.format, value)))
    elif isinstance(value, str):
        number = read_number(column.style, value)
    else:
        number = Decimal(str(value))
    if column.grid:
        number -= Decimal(column.grid.origin).scaleb(-column.grid.decimals)
    return float(number)


def read_date(date_format: str, value: Any) -> float:
    """A date, or a text in this format or another one that pandas reads, in seconds since 1970."""
    date = None
    if isinstance(value, str):
        with suppress(ValueError):
            date = datetime.strptime(value, date_format)
    if date is None:
        date = pd.Timestamp(value).to_pydatetime()
    return (date.replace(tzinfo=None) - datetime(1970, 1, 1)).total_seconds()


def read_number(style: NumberStyle, text: str) -> Decimal:
    """The number that a text in this style is, or one without its unit."""
    sign = 1
    before, _, after = style.negative.partition("#")
    if text.startswith(before) and text.endswith(after):
        sign = -1
    else:
        before, _, after = style.positive.partition("#")
    digits = text.removeprefix(before).removesuffix(after)
    if style.group:
        digits = digits.replace(style.group, "")
    return sign * Decimal(digits.replace(style.point, ".").strip())


def split_condition(text: str, columns: list[Column]) -> tuple[str, str]:
    """The name and the value of NAME=VALUE, or of NAME>VALUE with the operator.

    InputError if there is neither.
    """
    names = sorted((column.name for column in columns), key=len, reverse=True)
    known = [name for name in names if text.startswith(name)]
    for name in [*known, re.split("[<>=]", text)[0]]:
        rest = text.removeprefix(name).strip()
        if rest.startswith(OPERATORS):
            return name.strip(), rest.removeprefix("=").strip()
    raise InputError(f"--where needs NAME=VALUE, NAME>VALUE or NAME=LOW..HIGH, not {text}")


# --- Saved generators --------------------------------------------------------------------------


class SavedTable:
    """A generator saved in a folder, which gives rows as DataFrames: `sample`.

    Failure if there is none, or if it is damaged.
    """

    def __init__(self, folder: Path) -> None:
        self.generator = cli.load_model(folder / "generator.pt", LATENT_DIM)
        buffers = dict(self.generator.named_buffers())
        if "columns" not in buffers:
            raise Failure(f"the generator in {folder} is not of a table; give another folder")
        self.columns = from_json(bytes(buffers["columns"]))

    def sample(
        self, n: int, where: Mapping[Any, Any] | None = None, *, seed: int = 0
    ) -> "pd.DataFrame":
        """`n` generated rows as a DataFrame, as TableTraining.sample.

        Whole numbers that are never missing are integers, other numbers floats, dates datetimes,
        and categories what they were: numbers, truth values or texts. The file does not tell more.
        """
        common.require_count("n", n)
        blocks = generate(self.generator, self.columns, n, list((where or {}).items()), seed)
        cells = torch.cat(list(blocks))
        series = [self.series(i, cells[:, i]) for i in range(len(self.columns))]
        return pd.concat(series, axis=1, keys=[column.name for column in self.columns])

    def series(self, i: int, cells: Tensor) -> "pd.Series":
        """The cells (n,) of column i as values."""
        column = self.columns[i]
        if column.categories:
            return pd.Series(column.values(cells))
        grid = column.grid
        origin = grid.origin if grid else 0
        if grid and grid.decimals == 0 and column.missing is None:
            numbers = pd.Series([int(cell) + origin for cell in cells.tolist()])
        else:
            numbers = pd.Series(cells.numpy() + origin / 10.0 ** (grid.decimals if grid else 0))
        if not column.date:
            return numbers
        microseconds = (1e6 * numbers.fillna(0)).round().astype("int64")
        return microseconds.astype("datetime64[us]").where(numbers.notna())
