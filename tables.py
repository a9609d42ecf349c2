"""What table_gan.py needs besides `common.py`: copy both along with the script.

A table is a DataFrame. Its cells are a tensor (n, columns) of numbers and of category indices; they
are encoded as rows (n, width), which a GAN learns.
"""

import argparse
import csv
import dataclasses
import functools
import io
import itertools
import json
import math
import re
import sys
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import common
from common import GENERATED, REAL, Failure, Figure, InputError, Training

with suppress(ImportError):  # see check_packages
    import pandas as pd

KINDS = ("number", "date", "category", "id")
MISSING = {"", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "nat", "null", "none", "-", "--", "?"}
LOOSE = re.compile(r"[-+(]?[\d.,_]+(E\d+)?\)?")  # a number, or a code of digits
SEPARATORS = [(group, point) for point in ".," for group in ("", *",.'\u2019 \u00a0\u202f")]
NUMBER = (  # with a currency or a unit
    r"((\()?-?(?:US[$]|[$€£¥₹]|USD|EUR|GBP|CHF)? ?-?)(?=\D?\d)"
    r"(0|[1-9]\d?\d?(?:{group}\d\d\d)*)?(?:{point}(\d+))?([eE][-+]\d+)?"
    r"( ?(?:[$€£¥₹%]|[A-Za-z/°]{{1,5}})?(?(2)\)))"
)
DAYS = [
    "%Y-%m-%d", "%d.%m.%Y", "%m/%d/%Y", "%d/%m/%Y", "%Y/%m/%d", "%Y%m%d", "%d-%m-%Y", "%d-%b-%Y",
    "%m/%d/%y", "%d.%m.%y", "%d/%m/%y", "%Y-%m", "%Y%m%d.0",
    "", "%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y",
]  # fmt: skip
TIME = re.compile(r"([T ]?)\d?\d:\d\d(:\d\d)?(\.\d+)?( [AP]M)?(Z|[+-]\d\d:?\d\d)?$")
# What may be left out of a date: nothing, zeros of a day, a month or an hour, microseconds
SHORT = ["", r"(?<![:\d])0(?=\d(?:[/.:-]| [A-Z]))", r"(?<=\.\d{3})000"]

LATENT_DIM = 33  # numbers of noise; the last one chooses a condition
MAX_AUGMENTED = 4096  # rows of a table whose numbers are augmented
# Augmented rows: the weight of their own numbers, the width of the Gaussian, the noise on codes
PULL, SPREAD, CODE_NOISE = 0.6, 1.1, 0.4
MAX_AUC = 0.75  # of a forest that separates generated rows from held-out ones
MIN_ROWS, MIN_KEPT = 200, 0.99  # of data; share of generated rows that keep a rule
MAX_CLOSER = 0.75  # share of rows closer to a training row than the median held-out row
MAX_DIFFERENT = 0.7  # share of texts that are different, or they are IDs


def check_packages() -> None:
    """Failure if pandas or scikit-learn is missing, before a training that would be lost."""
    if not (find_spec("pandas") and find_spec("sklearn")):
        raise Failure("tables need two more packages; pip install pandas scikit-learn")


# --- Columns -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Column:
    """A column: what its cells mean, and how they are written.

    It is categorical if it has `categories`: texts, or values of a DataFrame. Numbers with
    `decimals` are (first + k * step) / 10**decimals, k a whole number; dates are seconds since
    1970. A cell is that number, less `origin`.
    """

    name: str
    categories: list = dataclasses.field(default_factory=list)
    decimals: int | None = None  # None: any number
    first: int = 0
    step: int = 1
    origin: int = 0  # not 0 if float64 cannot hold the numbers
    spec: str = ""  # Python's format of numbers without `decimals`
    fewest: int = 99  # decimals, if zeros at the end are left out
    affixes: list[str] = dataclasses.field(default_factory=lambda: ["#", "-#"])  # also if negative
    group: str = ""  # between thousands
    point: str = "."
    zero: str = "0"  # before the point
    date: str = ""  # its format
    short: str = ""  # what is left out of a date
    missing: str | float | None = None  # how a missing number is written
    repeated: bool = False  # whether there are no other numbers: they repeat, or begin months

    @functools.cached_property
    def codes(self) -> Tensor:
        """The code vector of each category (categories, width), of norm 2; (0, 1) for numbers."""
        count = len(self.categories)
        one_hot = torch.eye(count, max(count, 1))
        random = torch.randn(count, 16, generator=common.stream("codes of categories"))
        # Hundreds of one-hot columns would outweigh the numbers
        return 2 * (one_hot if count <= 16 else nn.functional.normalize(random))

    def hold(self, units: list[int], decimals: int) -> Tensor:
        """Notes the grid of numbers, in units of the last decimal, and returns their cells."""
        self.decimals, self.first = decimals, min(units)
        self.step = math.gcd(*(each - self.first for each in units)) or 1
        self.origin = self.first if max(map(abs, units)) > 2**53 else 0
        cells = [each - self.origin for each in units]
        return torch.tensor(cells, dtype=torch.float64) / 10.0**decimals

    def values(self, cells: Tensor) -> list:
        """Cells (n,) as they are in the table: categories, or numbers and dates as texts."""
        if self.categories:
            return [self.categories[int(index)] for index in cells]
        return [self.missing if math.isnan(x) else self.write(x) for x in cells.tolist()]

    def write(self, cell: float) -> str:
        """A number or a date as text."""
        number: float | Decimal = cell
        spec = self.spec
        if self.decimals is not None:
            number = Decimal(round(cell * 10**self.decimals) + self.origin).scaleb(-self.decimals)
            spec = ",f"
        if self.date:
            moment = datetime(1970, 1, 1) + timedelta(seconds=float(number))
            return re.sub(self.short, "", moment.strftime(self.date))
        whole, _, rest = format(abs(number), spec).partition(".")
        rest = rest[: self.fewest] + rest[self.fewest :].rstrip("0")
        whole = self.zero if rest and whole == "0" else whole.replace(",", self.group)
        body = f"{whole}{self.point}{rest}" if rest else whole
        return self.affixes[number < 0].replace("#", body)


def parse_dates(column: Column, texts: list[str]) -> Tensor | None:
    """The cells of dates that all have one format, in seconds; else None."""
    clock = ""
    if match := TIME.search(texts[0]):
        start, seconds, fraction, half, zone = match.groups("")
        clock = f"{start}%{'I' if half else 'H'}:%M{seconds and ':%S'}{fraction and '.%f'}"
        clock += f"{half and ' %p'}{zone}"
    for day in DAYS:
        with suppress(ValueError):
            dates = pd.Series(pd.to_datetime(texts, format=day + clock, utc=True)).dt
            unit, decimals = ("us", 6) if dates.microsecond.any() else ("s", 0)
            cells = column.hold(dates.as_unit(unit).astype("int64").tolist(), decimals)
            column.date = day + clock
            for column.short in SHORT:
                if column.values(cells) == texts:
                    monthly = dates.is_month_start.all() or dates.is_month_end.all()
                    column.repeated = bool(monthly)
                    return cells
    column.date, column.decimals = "", None
    return None


def parse_numbers(column: Column, texts: list[str]) -> Tensor | None:
    """The cells of numbers that are all written in one style; else None."""
    for column.group, column.point in SEPARATORS:
        group, point = re.escape(column.group), re.escape(column.point)
        form = re.compile(NUMBER.format(group=group, point=point))
        matches = itertools.takewhile(bool, map(form.fullmatch, texts))
        parts = [match.groups("") for match in matches if match]
        if len(parts) < len(texts):
            continue
        before, _, wholes, rests, powers, after = zip(*parts, strict=True)
        affixes = [*map("{}#{}".format, before, after)]
        unsigned = {re.sub("[-()]", "", each) for each in affixes}
        negative = {*affixes} - unsigned
        if len(unsigned) > 1 or len(negative) > 1:
            return None
        column.affixes = [*unsigned, *(negative or {f"-{min(unsigned)}"})]
        column.zero = "0" if all(wholes) else ""
        fewest, most = min(map(len, rests)), max(map(len, rests))
        numbers = [
            f"{'-' * (affix in negative)}{whole.replace(column.group, '')}.{rest}{power}"
            for affix, whole, rest, power in zip(affixes, wholes, rests, powers, strict=True)
        ]
        units = [] if any(powers) else [int(Decimal(number).scaleb(most)) for number in numbers]
        if units and max(units) - min(units) <= 2**53:
            column.fewest = fewest
            return column.hold(units, most)
        cells = torch.tensor(list(map(float, numbers)), dtype=torch.float64)
        if cells.abs().max() > common.LARGEST:
            raise InputError(f"column {column.name!r} has numbers above {common.LARGEST:g}")
        for column.spec in (f".{most}f", f".{most}e", f".{most}E", "", ".15g"):
            if column.values(cells) == texts:
                break
        return cells if most or any(powers) else None
    return None


def parse(series: Any, kind: str | None = None) -> tuple[Column, Tensor] | None:
    """What a column of a DataFrame is, and its cells (n,); None if it is an ID, to be left out.

    Numbers with up to 10 values are categories. IDs are texts most of which are different, and
    whole numbers, all different, that lie so close that random ones would repeat. Missing numbers
    come back as the most frequent mark. ValueError if texts are not of the `kind`.
    """
    column, n, texts, cells = Column(str(series.name)), len(series), series, None
    if pd.api.types.is_datetime64_any_dtype(series):  # days have 24 hours in local time
        texts = series.dt.tz_localize(None).dt.as_unit("us")
    texts = texts.astype(str).str.strip()
    present = series.notna() & ~texts.str.lower().isin(MISSING)
    indices, names = pd.factorize(texts.where(present))  # -1 for missing ones
    different = list(names)
    if different and kind not in ("category", "id") and not hasattr(series, "cat"):
        if kind != "number":
            cells = parse_dates(column, different)
        if kind != "date" and cells is None:
            cells = parse_numbers(column, different)
        if cells is None:
            name_the_wrong(column.name, texts, different, kind)
    if kind is None and not column.date:
        close = cells is not None and column.decimals == 0 and cells.max() - cells.min() < 3 * n
        many = cells is None and len(different) > max(9, MAX_DIFFERENT * present.sum())
        kind = "id" if many or (close and len(different) == n >= 30) else None
    if kind == "id":
        return None
    if cells is None or (kind is None and len(different) <= min(10, n / 2)):
        found = pd.Categorical(series).remove_unused_categories()
        categories = found.categories.tolist() + [None] * bool(found.isna().any())
        last_if_missing = found.codes % float(len(categories))
        return Column(column.name, categories), torch.from_numpy(last_if_missing)
    column.repeated = column.repeated or len(different) <= n / 10
    if not present.all():
        token = series[~present].mode(dropna=False).iloc[0]
        column.missing = math.nan if pd.isna(token) else token
    return column, torch.cat([cells, torch.tensor([math.nan])])[indices]


def name_the_wrong(name: str, texts: Any, different: list[str], kind: str | None) -> None:
    """ValueError for the first text that is no number, if nearly all are, or if `kind` is given."""
    wrong = [text for text in different if not LOOSE.fullmatch(text)]
    if kind or 0 < len(wrong) <= len(different) / 20:
        first = (wrong or different)[0]
        label = texts.index[texts == first][0]
        place = f"line {label}" if texts.index.name == "line" else f"row {label!r}"
        reason = f"expected a {kind or 'number'}, found {first[:40]!r}"
        raise InputError(f"{place}, column {name!r}: {reason}; or --types {name}=category")


def parse_options(parser: argparse.ArgumentParser, argv: list[str] | None) -> argparse.Namespace:
    """The options, with those of tables; `types` has the kinds of columns by name."""
    add, kinds = parser.add_argument, f"what columns are: {', '.join(KINDS)}"
    add("--data", metavar="FILE", type=Path, help="train on a table in a CSV file")
    add("--types", metavar="NAME=KIND,...", default="", help=kinds)
    add("--categories", metavar="NAME,...", default="", help="categorical columns")
    rows = "generate only rows with this category; may be repeated"
    add("--where", metavar="NAME=VALUE", action="append", default=[], help=rows)
    options = parser.parse_args(argv)
    check_packages()
    if options.where and not options.generate:
        raise InputError("--where chooses rows to generate; give --generate too")
    if options.data and (options.generate or options.interpolate):
        raise InputError("--data is for training; leave it out to use the saved generator")
    categories = [f"{name}=category" for name in options.categories.split(",") if name.strip()]
    pairs = (pair.rpartition("=") for pair in [*options.types.split(","), *categories] if pair)
    options.types = {name.strip(): kind.strip() for name, _, kind in pairs}
    return options


class Table:
    """A DataFrame, or rows of numbers (n, columns), as cells (n, columns), without its IDs.

    It has encoded `rows` (n, width), and the `indices` (n, m) of the `conditions` they fulfil.
    `types` has the kinds of some columns, the others are found out; ValueError if they do not fit.
    """

    def __init__(self, data: Any, types: Mapping[str, str] | None = None) -> None:
        check_packages()
        types = dict(types or {})
        if not isinstance(data, pd.DataFrame):
            data = pd.DataFrame(common.as_rows(data).numpy()).rename(columns="x{}".format)
            types = dict.fromkeys(data.columns, "number") | types
        for name, kind in types.items():
            if name not in data.columns or kind not in KINDS:
                reason = f"column {name!r}" if name not in data.columns else f"kind {kind!r}"
                raise InputError(f"--types: there is no {reason}; kinds are {', '.join(KINDS)}")
        if not data.columns.is_unique:
            name = data.columns[data.columns.duplicated()][0]
            raise InputError(f"two columns have the name {name!r}")
        found = {name: parse(data[name], types.get(name)) for name in data}
        learned = {name: column for name, column in found.items() if column}
        self.ids = [str(name) for name in found if name not in learned]
        if not learned or not len(data):
            raise InputError("there is nothing to learn: no rows, or IDs alone")
        if self.ids:
            print(f"IDs, left out: {', '.join(self.ids)}", file=sys.stderr)
        inner = data.infer_objects()
        self.dtypes = {name: (inner[name].dtype, data[name].dtype) for name in learned}
        self.columns = [column for column, _ in learned.values()]
        self.cells = torch.stack([cells for _, cells in learned.values()], dim=1)
        encoded, cells = with_flags(self.columns, self.cells)
        self.rows, self.indices = encode(cells, encoded), condition_indices(cells, encoded)
        self.conditions = Conditions(encoded, self.indices.flatten().bincount())

    def __str__(self) -> str:
        """What each column was taken for."""
        lines = [f"{name[:24]:24}  ID, left out" for name in self.ids]
        for column, values in zip(self.columns, self.cells.T, strict=True):
            count = len(column.categories)
            kind = f"category of {count}" if count else "date" if column.date else "number"
            if column.missing is not None:
                kind += f", {values.isnan().double().mean():.0%} missing"
            examples = " | ".join(dict.fromkeys(map(str, column.values(values[:3]))))
            lines.append(f"{column.name[:24]:24}  {kind:24}  {examples}"[:100])
        return "\n".join(lines)


def to_frame(cells: Tensor, columns: list[Column], dtypes: Mapping | None = None) -> Any:
    """Cells (n, columns) as a DataFrame of texts, or with names and dtypes, applied in turn."""
    dtypes, found = dtypes or {column.name: () for column in columns}, []
    for column, values, kinds in zip(columns, cells.T, dtypes.values(), strict=True):
        series = pd.Series(column.values(values), dtype=object)
        if kinds and isinstance(kinds[0], pd.DatetimeTZDtype):
            dates, summer = pd.to_datetime(series).dt, np.ones(len(series), bool)  # if ambiguous
            series = dates.tz_localize(kinds[0].tz, summer, "shift_forward")
        for kind in kinds:
            series = series.astype(kind)
        found.append(series)
    return pd.concat(found, axis=1, keys=dtypes)


def split_lines(text: str, separator: str, most: int | None = None) -> dict[int, list[str]]:
    """The cells of the first lines of a text that are not blank, by the number of the line."""
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines = {}
    try:
        for row in itertools.islice(reader, most):
            cells = [cell for cell in map(str.strip, row) if cell or separator != " "]
            if any(cells):
                lines[reader.line_num] = cells
    except csv.Error as error:
        reason = f"a quote inside quotes must be doubled ({error})"
        raise InputError(f"line {reader.line_num}: {reason}") from None
    return lines


def regularity(text: str, separator: str) -> float:
    """The share of lines that have the most frequent number of cells; 0 if the header has one."""
    with suppress(ValueError):
        header, *rows = split_lines(text, separator, 200).values()
        return (len(header) > 1) * max(Counter(map(len, rows)).values()) / len(rows)
    return 0


def read_table(path: Path) -> Any:
    """A CSV file with a header as a DataFrame of texts, with its lines as index; errors name them.

    Commas, semicolons, tabs, bars or blanks separate the columns.
    """
    text = common.read_text(path)
    lines = split_lines(text, max(",;\t| ", key=functools.partial(regularity, text)))
    names, *rows = lines.values() or [[]]
    if {*map(len, rows)} == {len(names) + 1}:  # R writes the names of rows so
        names = ["row", *names] if any(row[-1] for row in rows) else [*names, ""]
    numbers = [*lines][1:]
    for line, row in zip(numbers, rows, strict=True):
        if len(row) != len(names):
            raise InputError(f"{path}, line {line}: expected {len(names)} cells, found {len(row)}")
    frame = pd.DataFrame(rows, pd.Index(numbers, name="line"), names, str)
    empty = (frame == "").all() & (frame.columns == "")  # separators at the ends of lines
    frame = frame.loc[:, ~empty.to_numpy()].rename(columns={"": "row"})
    loose = [name for name in frame if LOOSE.fullmatch(name)]
    is_data = len(loose) == frame.shape[1] or (frame == frame.columns)[loose].any(axis=None)
    if frame.empty or is_data:
        raise InputError(f"{path}: expected a header with a name for each column, and rows")
    return frame


# --- Encoded rows ------------------------------------------------------------------------------


def with_flags(columns: list[Column], cells: Tensor) -> tuple[list[Column], Tensor]:
    """The columns (n, columns), and after them whether the numbers of some are missing."""
    some = [i for i, column in enumerate(columns) if column.missing is not None]
    flags = [Column(f"{columns[i].name} missing", ["no", "yes"]) for i in some]
    return [*columns, *flags], torch.cat([cells, cells[:, some].isnan().to(cells)], dim=1)


def encode(cells: Tensor, columns: list[Column]) -> Tensor:
    """Cells (n, columns) as rows (n, width): codes of categories, normal scores of numbers.

    The normal score of a number is the quantile of the normal distribution at its rank; those of
    missing numbers are random.
    """
    parts, random = [], common.stream("ranks of equal numbers")
    for values, column in zip(cells.T, columns, strict=True):
        if column.categories:
            parts.append(column.codes[values.long()])
            continue
        scores, present = torch.randn(len(values), generator=random), (~values.isnan()).argwhere()
        mixed = present[torch.randperm(len(present), generator=random), 0]  # breaks ties at random
        places = (torch.arange(len(mixed)).double() + 0.5) / len(mixed)
        scores[mixed[values[mixed].argsort()]] = torch.special.ndtri(places).float()
        parts.append(scores.unsqueeze(1))
    return torch.cat(parts, dim=1)


class Decoder(nn.Module):
    """Inverse of `encode`, (n, width) to (n, columns): numbers lie between quantiles of the data.

    Rules that all rows of the data keep are applied.
    """

    def __init__(self, cells: Tensor, columns: list[Column]) -> None:
        super().__init__()
        self.columns = columns
        self.widths = [column.codes.shape[1] for column in with_flags(columns, cells)[0]]
        # One quantile per four rows (20 to 1,000), so that numbers are interpolated, not copied
        count = max(2, min(len(cells), 20), min(len(cells) // 4, 1000))
        places = torch.linspace(0, 1, count).to(cells)
        quantiles = [values.nanquantile(places, interpolation="nearest") for values in cells.T]
        self.quantiles = nn.Buffer(torch.stack(quantiles))
        self.rules = find_rules(cells, columns)

    def forward(self, rows: Tensor) -> Tensor:
        cells, parts = [], rows.split(self.widths, dim=1)
        flags = iter(parts[len(self.columns) :])
        for part, quantiles, column in zip(parts, self.quantiles, self.columns, strict=False):
            if column.categories:
                cells.append((part @ column.codes.to(part).T).argmax(dim=1).to(quantiles))
                continue
            place = torch.special.ndtr(part[:, 0].double()) * (len(quantiles) - 1)
            low = place.long().clamp(max=len(quantiles) - 2)
            share = (place - low).round() if column.repeated else place - low
            values = quantiles[low].lerp(quantiles[low + 1], share)
            if column.decimals is not None:  # to the nearest one that the column may hold
                unit, first, step = 10.0**column.decimals, column.first - column.origin, column.step
                values = (((values * unit - first) / step).round() * step + first) / unit
            if column.missing is not None:
                values = values.masked_fill(next(flags).argmax(dim=1) == 1, math.nan)
            cells.append(values)
        for rule in self.rules * 2:  # one may depend on another
            cells[rule.columns[0]] = rule.apply(*(cells[i] for i in rule.columns))
        return torch.stack(cells, dim=1)


class Rule(NamedTuple):
    """What all rows keep."""

    words: str
    columns: list[int]  # the target, and what it depends on
    apply: Callable[..., Tensor]  # cells (n,) of each of these to the right target (n,)
    exact: bool = True  # whether the target has no choice

    def kept(self, cells: Tensor) -> Tensor:
        """Whether rows (n, columns) keep it (n,)."""
        target, *others = (cells[:, i] for i in self.columns)
        return torch.isclose(self.apply(target, *others), target, rtol=1e-9, equal_nan=True)


def decided(values: Tensor, _: Tensor, indices: Tensor) -> Tensor:
    """The value for each category."""
    return values.to(indices)[indices.long()]


def summed(target: Tensor, some: Tensor, more: Tensor) -> Tensor:
    """The sum; a missing target stays missing."""
    return target.where((target + some + more).isnan(), some + more)


def at_least(target: Tensor, least: Tensor) -> Tensor:
    """The target, or `least` if that is larger."""
    return least.where(least > target, target)


def candidates(cells: Tensor, columns: list[Column]) -> Iterator[Rule]:
    """Rules that rows (n, columns) may keep; sums only of the first 30 columns of numbers.

    A missing target stays missing, unless a category decides it.
    """
    names, means = [column.name for column in columns], cells.nanmean(dim=0).tolist()
    numeric = [i for i, column in enumerate(columns) if not column.categories]
    for i, j in itertools.permutations(range(len(columns)), 2):
        if columns[i].categories:
            values = torch.zeros(len(columns[i].categories)).to(cells)
            values[cells[:, i].long()] = cells[:, j]
            words = f"{names[i]} decides {names[j]}"
            yield Rule(words, [j, i], functools.partial(decided, values))
    for i, j in itertools.combinations(numeric[:30], 2):
        total = (cells[:50, i] + cells[:50, j]).unsqueeze(1).expand(-1, cells.shape[1])
        equal = torch.isclose(total, cells[:50], rtol=1e-9, equal_nan=True).all(dim=0)
        for k in {*equal.nonzero().flatten().tolist()} - {i, j}:
            words = f"{names[k]} = {names[i]} + {names[j]}"
            yield Rule(words, [k, i, j], summed)
    grids = [(c.date, c.decimals, c.step, c.origin, c.first % c.step) for c in columns]
    for i, j in sorted(itertools.permutations(numeric, 2), key=lambda x: means[x[1]] - means[x[0]]):
        if grids[i] == grids[j]:  # a number of one may be one of the other
            words = f"{names[i]} <= {names[j]}"
            yield Rule(words, [j, i], at_least, exact=False)


def find_rules(cells: Tensor, columns: list[Column]) -> list[Rule]:
    """The rules that all rows (n, columns) keep, and that ten of them would break by chance."""
    found: dict[int, Rule] = {}
    shuffled = cells[torch.randperm(len(cells), generator=common.stream("rules"))]
    for rule in candidates(cells, columns):
        target, *sources = rule.columns
        in_turn = rule.exact and found.keys() & {*sources}
        if target not in found and not in_turn and rule.kept(cells[:200]).all():
            mixed = cells.clone()
            mixed[:, target] = shuffled[:, target]
            if rule.kept(cells).all() and (~rule.kept(mixed)).sum() >= 10:
                found[target] = rule
    return sorted(found.values(), key=lambda rule: cells[:, rule.columns[0]].nanmean().item())


# --- Conditions and batches --------------------------------------------------------------------


class Conditions(nn.Module):
    """Each category of each column, as a condition for the generator (Xu et al. 2019)."""

    def __init__(self, columns: list[Column], counts: Tensor) -> None:
        """With the counts of all categories, column by column."""
        super().__init__()
        blocks = [column.codes for column in columns]
        codes, fixed = torch.block_diag(*blocks), torch.block_diag(*map(torch.ones_like, blocks))
        if not len(codes):  # one condition, which fixes nothing
            codes = fixed = torch.zeros(1, codes.shape[1])
        self.sizes = [len(block) for block in blocks if len(block)] or [1]  # categories per column
        self.numeric = (fixed == 0).all(dim=0).argwhere()[:, 0]  # where rows have numbers
        self.codes = nn.Buffer(codes)  # (conditions, width): encoded rows, zero but for a category
        self.fixed = nn.Buffer(fixed.bool())  # (conditions, width): where they are not
        self.inputs = nn.Buffer(codes[:, fixed.any(dim=0)])  # (conditions, codes), for networks
        self.upper = nn.Buffer((counts.double() / counts.sum()).cumsum(dim=0))  # (conditions,)

    def choose(self, noise: Tensor) -> Tensor:
        """The indices (n,) of the conditions that normal noise (n,) chooses.

        They are of a random column, and each as often as its category in the data.
        """
        chosen = torch.searchsorted(self.upper, torch.special.ndtr(noise.double()))
        return chosen.clamp(max=len(self.upper) - 1)

    def snap(self, rows: Tensor) -> Tensor:
        """Encoded rows (n, width), each generated code replaced by the nearest of a category."""
        for codes in self.codes.split(self.sizes):
            nearest = codes[(rows @ codes.T).argmax(dim=1)]
            rows = torch.where(codes.any(dim=0), nearest, rows)
        return rows


def condition_indices(cells: Tensor, columns: list[Column]) -> Tensor:
    """The indices (n, m) of the conditions that cells (n, columns) fulfil, m at least 1."""
    counts = torch.tensor([len(column.categories) for column in columns])
    found = (cells + counts.cumsum(dim=0) - counts)[:, counts > 0].long()
    return found if counts.any() else torch.zeros(len(cells), 1, dtype=torch.int64)


def augmented_batches(
    table: Table, chosen_rows: Tensor, size: int, device: torch.device
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (size, width) around chosen rows, with the indices (size,) of conditions.

    A rare category is drawn more often than it occurs. Numbers come from a Gaussian fitted to a
    row's neighbours of the same category (Chapelle et al. 2000), as a small table would be
    memorised; codes of categories get noise.
    """
    rows, indices = table.rows[chosen_rows], table.indices[chosen_rows]
    conditions, n, fulfilled = table.conditions, len(rows), indices.T.flatten()
    numeric, scores = conditions.numeric, rows[:, conditions.numeric]
    count = fulfilled.bincount(minlength=len(conditions.codes))
    weights = (count.log1p() / count)[indices].double()
    upper = (weights / weights.sum(dim=0)).T.flatten().cumsum(dim=0) / indices.shape[1]
    sorted_scores = scores[fulfilled.argsort() % n]  # by condition
    ends = (torch.segment_reduce(sorted_scores, each, lengths=count) for each in ("min", "max"))
    parts = rows, indices, fulfilled, scores, numeric, upper, *ends
    rows, indices, fulfilled, scores, numeric, upper, low, high = (x.to(device) for x in parts)
    neighbours = torch.arange(n, device=device).unsqueeze(1)
    if n <= MAX_AUGMENTED:
        nearest = min(max(20, 3 * scores.shape[1] // 2), 100, n)
        neighbours = torch.cdist(rows, rows).topk(nearest, largest=False).indices
    while True:
        even = torch.arange(size, device=device) + torch.rand(size, device=device)
        drawn = torch.searchsorted(upper, even.double() / size).clamp(max=len(upper) - 1)
        row, chosen = drawn % n, fulfilled[drawn]
        near, owner = scores[neighbours[row]], (drawn // n).unsqueeze(1)
        same = indices[neighbours[row], owner] == chosen.unsqueeze(1)
        share = same / same.sum(dim=1, keepdim=True)
        mean = torch.einsum("nk,nkw->nw", share, near)
        weight = SPREAD * share.sqrt() * torch.randn_like(share)
        moves = torch.einsum("nk,nkw->nw", weight, near - mean.unsqueeze(1))
        batch = rows[row] + CODE_NOISE * torch.randn_like(rows[row])
        moved = mean + PULL * (scores[row] - mean) + moves
        moved = low[chosen] + (moved - low[chosen]).abs()  # reflected into the range
        batch[:, numeric] = high[chosen] - (high[chosen] - moved).abs()
        yield torch.where(conditions.fixed[chosen], conditions.codes[chosen], batch), chosen


# --- Verdict -----------------------------------------------------------------------------------


def hold_out(n: int, seed: int) -> Tensor:
    """Mask (n,) of the rows that networks are not trained on: an eighth, at least 10 or half."""
    order = torch.randperm(n, generator=common.stream("held-out rows", seed))
    return order < min(max(n // 8, 10), n // 2, 2048)


def two_sample_auc(real: Tensor, generated: Tensor) -> float:
    """ROC AUC of a forest, generated rows (n, features) against real ones (Lopez-Paz 2017)."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    some = real[:2000], generated[: min(2000, 10 * len(real))]
    rows = torch.cat(some).nan_to_num(nan=-1e30)
    is_real = np.repeat([True, False], [len(rows) for rows in some])
    forest = RandomForestClassifier(min_samples_leaf=3, class_weight="balanced", random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return cross_val_score(forest, rows, is_real, scoring="roc_auc", cv=folds).mean()


def share_closer_than_holdout(train: Tensor, held_out: Tensor, generated: Tensor) -> float:
    """Share of generated rows (n, features) closer to a training row than the median held-out."""
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=1).fit(train)
    real, distances = (nearest.kneighbors(rows[:2000])[0] for rows in (held_out, generated))
    return float((1 + np.sign(np.median(real) - distances)).mean() / 2)  # equal ones count half


def judge(training: Training, table: Table, held_out: Tensor) -> None:
    """Decode the samples; check categories, rules, near-copies, and the AUC of a forest."""
    cells, columns, decoder = table.cells, table.columns, Decoder(table.cells, table.columns)
    rows, fakes = table.rows, training.samples
    training.data, training.samples = cells, (samples := decoder(fakes))
    for epoch, (row, some) in training.snapshots.items():
        training.snapshots[epoch] = row, decoder(some)
    generator = training.generator = nn.Sequential(training.generator, decoder).eval()
    about = json.dumps([dataclasses.asdict(column) for column in columns], default=str).encode()
    generator.register_buffer("columns", torch.tensor(list(about), dtype=torch.uint8))
    if names := [f"{column.name} {each}" for column in columns for each in column.categories]:
        real, generated = (condition_indices(x, columns).flatten() for x in (cells, samples))
        training.check_missing(real, generated, names)
    for rule in decoder.rules:
        if (share := rule.kept(samples).double().mean().item()) < MIN_KEPT:
            training.check(False, f"{rule.words} in only {share:.0%} of generated rows")
    if held_out.sum() >= 10:
        share = share_closer_than_holdout(rows[~held_out], rows[held_out], fakes)
        auc = two_sample_auc(cells[held_out], samples)
        words = f"{share:.0%} are closer to a training row than the median held-out row"
        training.check(share <= MAX_CLOSER, f"{words} (50% is right)")
        words = f"a forest separates them from held-out rows with AUC {auc:.2f} (0.5: it cannot)"
        training.check(auc <= MAX_AUC, words)
        training.metrics |= {"copied": share, "auc": auc}
    training.metrics["ids"] = table.ids
    if len(cells) >= MIN_ROWS:
        many = [column.name for column in columns if len(column.categories) > len(cells) / 10]
        question = f"Is {many[0]} an ID, a number or a date? See --types." if many else ""
        training.advice = question or "Try more --epochs, a higher --patience, or another --seed."

    def sample(n: int, where: Mapping[Any, object] | None = None, *, seed: int = 0) -> Any:
        """`n` generated rows as a DataFrame with the columns and dtypes of the data, without IDs.

        With `where={column: category, ...}`, all rows have these categories. ValueError if there
        is no such category, Failure if rows of that kind are too rare. Another `seed`, other rows.
        """
        blocks = generate(generator, columns, common.check_count("n", n), where, seed)
        return to_frame(torch.cat(list(blocks)), columns, table.dtypes)

    training.sample = sample


def plot_table(table: Table, training: Training) -> Figure:
    """Plots up to 6 columns, real and generated, and correlations."""
    both, columns = {"real": table.cells, "generated": training.samples}, table.columns
    across = 2 if len(columns) <= 4 else 3
    panels = [str(i) if i < len(columns) else "." for i in range(2 * across)]
    top = [[*panels[:across], "real"], [*panels[across:], "generated"]]
    figure, axes = common.plot_history(training, top)
    for i, column in enumerate(columns[:6]):
        axis, names = axes[str(i)], [str(name)[:9] for name in column.categories]
        values = [cells[:, i][~cells[:, i].isnan()].numpy() for cells in both.values()]
        if column.date:
            values = [seconds.astype("datetime64[s]") for seconds in values]
        bins = np.arange(len(names) + 1) - 0.5 if names else 20
        axis.hist(values, bins, density=True, color=[REAL, GENERATED], label=[*both])
        axis.set_title(column.name[:20])
        if names:
            axis.set_xticks(range(len(names[:8])), names[:8])
        axis.tick_params("x", rotation=20 * bool(names or column.date))
    axes["0"].legend()
    ticks, labels = range(len(columns)), [column.name[:9] for column in columns]
    for name, cells in both.items():
        shown = axes[name].imshow(pd.DataFrame(cells.numpy()).corr(), "RdBu", vmin=-1, vmax=1)
        figure.colorbar(shown)
        axes[name].set_title(f"correlations, {name}")
        axes[name].set_xticks(ticks, labels, rotation=90, fontsize=6)
        axes[name].set_yticks(ticks, labels, fontsize=6)
    return figure


# --- Samples -----------------------------------------------------------------------------------


def generate(
    generator: nn.Module, columns: list[Column], n: int,
    where: Mapping[Any, object] | None = None, seed: int = 0,
) -> Iterator[Tensor]:  # fmt: skip
    """Blocks of `n` generated rows (rows, columns) in all; only those with the categories `where`.

    ValueError if there is no such category; Failure if too few of many rows are of that kind.
    """
    names = [(column.name, str(x)) for column in columns for x in column.categories]
    chosen = []
    for name, value in ((str(name), str(value)) for name, value in (where or {}).items()):
        known = [category for column, category in names if column == name]
        if value not in known:
            reason = f"{name!r} has no category {value!r}; it has {', '.join(known[:10])}"
            others = ", ".join(dict.fromkeys(column for column, _ in names)) or "none"
            missing = f"there is no categorical column {name!r}, but {others}"
            raise InputError(f"--where: {reason if known else missing}")
        chosen.append(names.index((name, value)))
    (upper,) = (x for name, x in generator.named_buffers() if name.endswith("upper"))
    shares, random = upper.diff(prepend=torch.zeros_like(upper[:1])), common.stream("samples", seed)
    found = tried = 0
    while found < n:
        noise = torch.randn(common.CHUNK, LATENT_DIM, generator=random)
        if chosen:
            rarest = min(chosen, key=shares.__getitem__)
            place = torch.rand(len(noise), dtype=torch.float64, generator=random)
            noise[:, -1] = torch.special.ndtri(upper[rarest] - shares[rarest] * place)
        with torch.no_grad():
            rows = generator(noise)
        for index in chosen:
            rows = rows[(condition_indices(rows, columns) == index).any(dim=1)]
        yield rows[: n - found]
        found, tried = found + len(rows), tried + len(noise)
        if tried >= 1_000_000 > 1000 * found:
            raise Failure(f"--where: only {found} of {tried:,} generated rows are of that kind")


def use_generator(options: argparse.Namespace) -> int:
    """Serves --generate and --interpolate; returns the exit status."""
    generator = common.load_model(options.out / "generator.pt", LATENT_DIM)
    about = bytes(dict(generator.named_buffers())["columns"])
    columns = [Column(**column) for column in json.loads(about)]
    if options.generate:
        pairs = [[part.strip() for part in pair.split("=", 1)] for pair in options.where]
        if wrong := [pair for pair in pairs if len(pair) < 2]:
            raise InputError(f"--where needs NAME=VALUE, not {wrong[0][0]}")
        where = dict(pairs)
        blocks = generate(generator, columns, options.generate, where, options.seed)
        for i, cells in enumerate(blocks):
            frame = to_frame(cells, columns)
            print(frame.to_csv(index=False, header=i == 0, lineterminator="\n"), end="")
    if options.interpolate:
        common.save_walk(generator, LATENT_DIM, options, [column.name for column in columns])
    return 0
