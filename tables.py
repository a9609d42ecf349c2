"""What table_gan.py needs besides `common.py`: copy both along with the script.

A table is a DataFrame. Its cells are a tensor (n, columns) of numbers and of category indices; they
are encoded as rows (n, width), which a GAN learns.
"""

import argparse
import csv
import dataclasses
import io
import itertools
import json
import math
import re
import warnings
from collections.abc import Iterator, Mapping
from functools import cached_property, partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

import common
from common import GENERATED, REAL, Failure, Figure, InputError, Training

KINDS = ("number", "date", "category", "id")
MISSING = {
    "",
    *["na", "n/a", "n.a.", "#n/a", "<na>", "nan", "nat", "null", "none", "-", "--", ".", "?"],
}
CURRENCY, UNIT = "US[$]|[$€£¥₹]|USD|EUR|GBP|CHF", "[$€£¥₹%]|[A-Za-z/°]{1,5}"
SEPARATORS = [("", "."), (",", "."), ("", ","), (".", ","), ("'", "."), ("\u2019", ".")]
SEPARATORS += [(blank, point) for blank in (" ", "\u00a0", "\u202f") for point in ",."]
PLAIN = re.compile(r"-?(0|[1-9]\d*)([.,]\d+)?")
CODE = re.compile(r"\+?[\d_]+(E\d+)?")  # digits that are no number: 00417, +49301, 12_34, 1E5
DAYS = "%Y-%m-%d %d.%m.%Y %m/%d/%Y %d/%m/%Y %Y/%m/%d %Y%m%d %d-%m-%Y %d-%b-%Y %m/%d/%y %d.%m.%y"
LONG_DAYS = ["%d %b %Y", "%b %d, %Y", "%d %B %Y", "%B %d, %Y", "%Y-%m"]
CLOCKS = ["%H:%M:%S", "%H:%M:%S.000", "%H:%M", "%I:%M %p"]
TIMES = ["", *(a + clock + zone for clock in CLOCKS for a in " T" for zone in ("", "Z", "+00:00"))]
DATES = [day + time for time in TIMES for day in [*DAYS.split(), *LONG_DAYS]]
DATES += ["%H:%M:%S", "%H:%M"]
LEADING_ZERO = re.compile(r"(?<![:\d])0(?=\d(?:[/.:-]| [A-Z]))")  # of a day, a month or an hour

LATENT_DIM = 33  # numbers of noise; the last one chooses a condition
MAX_AUGMENTED = 4096  # rows of a table whose numbers are augmented
# Of augmented rows: the weight of their own numbers, the width of the Gaussian, the noise on codes
PULL, SPREAD, CODE_NOISE = 0.6, 1.1, 0.4
MAX_AUC = 0.75  # of a forest that separates generated rows from held-out ones
MIN_ROWS, MIN_KEPT = 200, 0.99  # of data; share of generated rows that keep a rule
ADVICE = "Try a higher --patience, or another --seed."
MAX_CLOSER = 0.75  # share of rows closer to a training row than the median held-out row


def check_packages() -> None:
    """Failure if pandas or scikit-learn is missing, before a training that would be lost."""
    if not (find_spec("pandas") and find_spec("sklearn")):
        raise Failure("tables need two more packages; pip install pandas scikit-learn")


# --- Columns -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Column:
    """A column: what its cells mean, and how they are written.

    It is categorical if it has `categories`; they may be texts, or values of a DataFrame. Numbers
    with `decimals` are (first + k * step) / 10**decimals, k a whole number; dates are seconds since
    1970. A cell is that number, less `origin`.
    """

    name: str
    categories: list = dataclasses.field(default_factory=list)
    decimals: int | None = None  # None: any number
    first: int = 0
    step: int = 1
    origin: int = 0  # not 0 if float64 cannot hold the numbers
    text: bool = True  # whether numbers are written, in this style
    fewest: int = 0  # decimals, if zeros at the end are left out
    style: tuple[str, str, str, str] = ("", "", ".", "")  # prefix, thousands, decimals, suffix
    date: str = ""  # its format
    padded: bool = True  # whether days and months have two digits
    missing: str | float | None = None  # how a missing number is written
    repeated: bool = False  # whether there are no other numbers: they repeat, or begin months

    @cached_property
    def codes(self) -> Tensor:
        """The code vector of each category (categories, width), of norm 2; (0, 1) for numbers."""
        count = len(self.categories)
        one_hot = torch.eye(count, max(count, 1))
        random = torch.randn(count, 16, generator=common.stream("codes of categories"))
        # Hundreds of one-hot columns would outweigh the numbers
        return 2 * (one_hot if count <= 16 else nn.functional.normalize(random))

    def nearest(self, codes: Tensor) -> Tensor:
        """The index (n,) of the category whose code is nearest to each of these (n, width)."""
        return (codes @ self.codes.to(codes).T).argmax(dim=1)

    def on_grid(self, numbers: Tensor) -> Tensor:
        """Numbers (n,), each as the nearest one that the column may hold."""
        if self.decimals is None:
            return numbers
        unit, first = 10**self.decimals, self.first - self.origin
        return (((numbers * unit - first) / self.step).round() * self.step + first) / unit

    def values(self, cells: Tensor) -> list:
        """Cells (n,) as they are in the table."""
        if self.categories:
            return [self.categories[int(index)] for index in cells]
        return [self.missing if math.isnan(x) else self.value(x) for x in cells.tolist()]

    def value(self, number: float) -> Any:
        """A number as it is in the table."""
        if self.decimals is None:
            plain = f"{number:.{self.fewest}f}" if self.fewest else repr(number)
            return plain.replace(".", self.style[2]) if self.text else number
        units = round(number * 10**self.decimals) + self.origin
        if self.date and self.text:
            import pandas as pd

            written = pd.Timestamp(units, unit="s").strftime(self.date)
            return written if self.padded else LEADING_ZERO.sub("", written)
        if not self.text:
            return units / 10**self.decimals if self.decimals and not self.date else units
        prefix, group, point, suffix = self.style
        whole, rest = divmod(abs(units), 10**self.decimals)
        digits = f"{rest:0{self.decimals}d}" if self.decimals else ""
        digits = digits[: self.fewest] + digits[self.fewest :].rstrip("0")
        sign, grouped = "-" * (units < 0), f"{whole:,}".replace(",", group)
        return f"{sign}{prefix}{grouped}{point * bool(digits)}{digits}{suffix}"

    def hold(self, units: list[int]) -> np.ndarray:
        """Notes the grid of numbers, in units of the last decimal, and returns their cells."""
        self.first = min(units)
        self.step = math.gcd(*(each - self.first for each in units)) or 1
        self.origin = self.first if max(map(abs, units)) > 2**53 else 0
        return np.array([each - self.origin for each in units], float) / 10 ** (self.decimals or 0)


def parse_dates(column: Column, texts: list[str]) -> np.ndarray | None:
    """The cells of dates that all have one format, in seconds; else None."""
    import pandas as pd

    for column.date in DATES:
        if pd.isna(pd.to_datetime(texts[0], format=column.date, errors="coerce")):
            continue
        dates = pd.Series(pd.to_datetime(texts, format=column.date, errors="coerce", utc=True))
        if dates.isna().any() or (column.date == "%Y%m%d" and {*map(len, texts)} != {8}):
            continue
        written = dates.dt.strftime(column.date)
        column.padded = bool((written == texts).all())
        if column.padded or (written.str.replace(LEADING_ZERO, "", regex=True) == texts).all():
            column.decimals = 0
            column.repeated = bool(dates.dt.is_month_start.all() or dates.dt.is_month_end.all())
            return column.hold([round(date.timestamp()) for date in dates])
    column.date = ""
    return None


def parse_numbers(column: Column, texts: list[str]) -> np.ndarray | None:
    """The cells of numbers that are all written in one style; else None."""
    for group, point in SEPARATORS:
        digits = rf"[1-9]\d{{0,2}}(?:{re.escape(group)}\d{{3}})+|" if group else ""
        digits += r"0|[1-9]\d{0,2}" if group else r"0|[1-9]\d*"
        form = re.compile(
            rf"(-?)((?:{CURRENCY})? ?)({digits})(?:{re.escape(point)}(\d+))?"
            rf"([eE][-+]\d+)?( ?(?:{UNIT})?)"
        )
        found = [form.fullmatch(text) for text in texts]
        parts = [match.groups("") for match in found if match]
        affixes = {(prefix, suffix) for _, prefix, _, _, _, suffix in parts}
        if len(parts) < len(texts) or len(affixes) > 1:
            continue
        ((prefix, suffix),) = affixes
        column.style = prefix, group, point, suffix
        decimals = [len(part[3]) for part in parts]
        most, column.fewest = max(decimals), min(decimals)
        plain = [(sign + whole.replace(group, ""), rest) for sign, _, whole, rest, _, _ in parts]
        powers = [power for *_, power, _ in parts]
        if most > 9 or any(powers):
            column.fewest = most if most == column.fewest and not any(powers) else 0
            written = [f"{a}.{b or 0}{c}" for (a, b), c in zip(plain, powers, strict=True)]
            cells = np.array([float(number) for number in written])
            return cells if (np.abs(cells) <= common.LARGEST).all() else None
        column.decimals = most
        return column.hold([int(whole + rest.ljust(most, "0")) for whole, rest in plain])
    return None


def parse(series: Any, kind: str | None = None) -> tuple[Column, np.ndarray] | None:
    """What a column of a DataFrame is, and its cells (n,); None if it is an ID, to be left out.

    Numbers with up to 10 values are categories. IDs are texts of which nine in ten are different,
    and whole numbers, all different, that lie so close that random ones would repeat. ValueError
    if texts are not of the `kind`.
    """
    import pandas as pd

    series = series.infer_objects()
    column, n, types = Column(str(series.name)), len(series), pd.api.types
    column.text = types.is_object_dtype(series) or isinstance(series.dtype, pd.StringDtype)
    present = series.notna()
    texts = series.astype(str).str.strip() if column.text else series
    if column.text:
        present &= ~texts.str.lower().isin(MISSING)
    indices, different = pd.factorize(texts[present])
    cells = None
    if kind in ("category", "id") or not len(different):
        pass
    elif column.text:
        if kind != "number":
            cells = parse_dates(column, list(different))
        if kind != "date" and cells is None:
            cells = parse_numbers(column, list(different))
        if cells is None:
            name_the_wrong(column.name, texts[present], list(different), kind)
    elif types.is_datetime64_any_dtype(series):
        cells = hold_dates(column, different)
    elif types.is_numeric_dtype(series) and not types.is_bool_dtype(series):
        if kind != "number" and types.is_integer_dtype(series):  # may be 20250131
            cells = parse_dates(column, [str(number) for number in different])
        column.text = cells is not None
        cells = hold_numbers(column, np.asarray(different)) if cells is None else cells
    if kind in ("number", "date") and cells is None and not column.text:
        raise InputError(f"column {column.name!r} holds {series.dtype}, no {kind}s")
    if kind is None and not column.date:
        close = cells is not None and column.decimals == 0 and np.ptp(cells) < 3 * n
        all_different = len(different) == n >= 30 and close
        if all_different or (cells is None and column.text and len(different) > max(9, 0.9 * n)):
            kind = "id"
    if kind == "id":
        return None
    if cells is None or (kind is None and len(different) <= min(10, n / 2)):
        found = pd.Categorical(series).remove_unused_categories()
        gap = found.codes < 0
        categories = [*found.categories.tolist(), *[None] * int(gap.any())]
        found = np.where(gap, len(found.categories), found.codes).astype(float)
        return Column(column.name, categories, text=column.text), found
    if not present.all():
        token = series[~present].mode(dropna=False).iloc[0]
        column.missing = math.nan if pd.isna(token) else token
    column.repeated |= len(different) <= n / 10
    found = np.full(n, np.nan)
    found[present.to_numpy()] = cells[indices]
    return column, found


def hold_numbers(column: Column, numbers: np.ndarray) -> np.ndarray:
    """The cells of numbers (n,) of a DataFrame."""
    if numbers.dtype.kind in "iu":
        column.decimals = 0
        return column.hold(numbers.tolist())
    if not (np.abs(numbers) <= common.LARGEST).all():
        raise InputError(f"column {column.name!r} must hold numbers up to {common.LARGEST:g}")
    cells = numbers.astype(float)
    decimals = next((d for d in range(7) if np.array_equal(numbers.round(d), numbers)), None)
    if decimals is None or np.abs(cells).max() * 10**decimals > 2**53:
        return cells
    column.decimals = decimals
    return column.hold([round(x * 10**decimals) for x in cells.tolist()])


def hold_dates(column: Column, dates: Any) -> np.ndarray:
    """The cells of dates (n,) of a DataFrame, in seconds."""
    dates = dates.tz_localize(None).as_unit("ns")  # days have 24 hours in local time
    column.repeated = bool(dates.is_month_start.all() or dates.is_month_end.all())
    units = dates.astype("int64").tolist()
    column.date, column.decimals = "dtype", 9
    while column.decimals and not any(each % 10 for each in units):
        units, column.decimals = [each // 10 for each in units], column.decimals - 1
    return column.hold(units)


def name_the_wrong(name: str, texts: Any, different: list[str], kind: str | None) -> None:
    """ValueError for the first text that is no number, if nearly all are, or if `kind` is given."""
    wrong = [text for text in different if not PLAIN.fullmatch(text)]
    few = len(wrong) <= len(different) / 20 and not all(map(CODE.fullmatch, wrong))
    if kind or (few and len(different) > 10):
        first = (wrong or different)[0]
        label = texts.index[texts == first][0]
        place = f"line {label}" if texts.index.name == "line" else f"row {label!r}"
        reason = f"expected a {kind or 'number'}, found {first[:40]!r}"
        raise InputError(f"{place}, column {name!r}: {reason}; or --types {name}=category")


def add_options(parser: argparse.ArgumentParser) -> None:
    """Adds the options of tables."""
    add, kinds = parser.add_argument, f"what columns are: {', '.join(KINDS)}"
    add("--data", metavar="FILE", type=Path, help="train on a table in a CSV file")
    add("--types", metavar="NAME=KIND,...", default="", help=kinds)
    add("--categories", metavar="NAME,...", default="", help="categorical columns")
    rows = "generate only rows with this category; may be repeated"
    add("--where", metavar="NAME=VALUE", action="append", default=[], help=rows)


def chosen_types(options: argparse.Namespace) -> dict[str, str]:
    """The kinds of columns by name, of --types and --categories."""
    pairs = (pair.strip().rpartition("=") for pair in options.types.split(",") if pair)
    named = {name: "category" for name in options.categories.split(",") if name}
    return {name: kind for name, _, kind in pairs} | named


class Table:
    """A DataFrame, or rows of numbers (n, columns), as cells (n, columns), without its IDs.

    `types` has the kinds of some columns, the others are found out; ValueError if they do not fit.
    """

    def __init__(self, data: Any, types: Mapping[str, str] | None = None) -> None:
        import pandas as pd

        if not isinstance(data, pd.DataFrame):
            data = pd.DataFrame(common.as_rows(data).numpy()).rename(columns="x{}".format)
            types = dict.fromkeys(data.columns, "number")
        self.columns, self.ids, cells, kept = [], [], [], []
        for name, kind in (types := types or {}).items():
            if name not in data.columns or kind not in KINDS:
                reason = f"column {name!r}" if name not in data.columns else f"kind {kind!r}"
                raise InputError(f"--types: there is no {reason}; kinds are {', '.join(KINDS)}")
        for name in data.columns:
            if not isinstance(data.get(name), pd.Series):
                raise InputError(f"two columns have the name {name!r}")
            parsed = parse(data[name], types.get(name))
            if parsed is None:
                self.ids.append(str(name))
            else:
                kept.append(name)
                self.columns.append(parsed[0])
                cells.append(torch.from_numpy(parsed[1]))
        if not cells or not len(data):
            raise InputError("there is nothing to learn: no rows, or IDs alone")
        self.dtypes, self.cells = data.dtypes[kept], torch.stack(cells, dim=1)

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


def to_frame(cells: Tensor, columns: list[Column], dtypes: Any = None) -> Any:
    """Cells (n, columns) as a DataFrame, with the names and dtypes of a Series."""
    import pandas as pd

    dtypes = pd.Series({c.name: object for c in columns}) if dtypes is None else dtypes
    found = []
    for column, values, dtype in zip(columns, cells.T, dtypes, strict=True):
        series = pd.Series(column.values(values), dtype=object)
        if column.date and not column.text:
            series = pd.to_datetime(series * 10 ** (9 - (column.decimals or 0)))
            zone, summer = getattr(dtype, "tz", None), np.ones(len(series), bool)
            series = series.dt.tz_localize(zone, ambiguous=summer, nonexistent="shift_forward")
        found.append(series.astype(dtype))
    return pd.concat(found, axis=1, keys=dtypes.index)


def find_separator(lines: list[str]) -> tuple[str, bool]:
    """What separates the columns in lines, and whether the first column has no name."""
    unnamed = []
    for separator in (",", ";", "\t", "|", r"\s+"):
        blanks = separator == r"\s+"
        split = map(str.split, lines) if blanks else csv.reader(lines, delimiter=separator)
        header, *rows = split
        sizes = {len(row) for row in rows}
        if sizes <= {len(header)} != {1}:
            return separator, False
        if {len(header) + 1} == sizes != {2} and any(row[-1] for row in rows):
            unnamed.append(separator)
    most = max(",;\t|", key=lines[0].count)
    return (unnamed[0], True) if unnamed else (most, False)


def read_table(path: Path) -> Any:
    """A CSV file with a header as a DataFrame of texts, with its lines as index; errors name them.

    Commas, semicolons, tabs, bars or blanks separate the columns.
    """
    import pandas as pd

    text = common.read_text(path)
    lines = [line for line in text.splitlines()[:200] if line.strip()]
    separator, unnamed = find_separator(lines or [""])
    if unnamed:  # R writes the names of rows so
        text = f'"row"{separator if len(separator) == 1 else " "}{text}'
    names = next(csv.reader([text.partition("\n")[0]], delimiter=separator[-1:]), [])
    if twice := {name for name in names if name and names.count(name) > 1}:
        raise InputError(f"{path}: two columns have the name {min(twice)!r}")
    options: dict = {"sep": separator, "dtype": str, "keep_default_na": False}
    options |= {"skip_blank_lines": False, "index_col": False, "skipinitialspace": True}
    try:
        with warnings.catch_warnings(action="error", category=pd.errors.ParserWarning):
            frame = pd.read_csv(io.StringIO(text), **options).fillna("")
    except (ValueError, pd.errors.ParserWarning) as error:  # pandas' own errors are ValueErrors
        raise InputError(f"cannot read {path}: {str(error).strip()}") from None
    frame.index = pd.RangeIndex(2, len(frame) + 2, name="line")
    frame = frame.apply(lambda cells: cells.str.strip()).rename(columns=str.strip)
    empty = [name for name in frame if "Unnamed: " in name and (frame[name] == "").all()]
    frame = frame.drop(columns=empty)  # separators at the ends of lines
    frame = frame[(frame != "").any(axis=1)]  # without blank lines
    numbers = pd.to_numeric(pd.Series(frame.columns), errors="coerce").notna()
    repeated = numbers.any() and any((frame[name] == name).any() for name in frame)
    if frame.empty or numbers.all() or repeated:
        raise InputError(f"{path}: expected a header with a name for each column, and rows")
    quoted = frame.apply(lambda cells: cells.str.endswith('"')).any(axis=1)
    if quoted.any() and '""' not in text:
        raise InputError(f"{path}, line {quoted.idxmax()}: a quote inside quotes must be doubled")
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
        scores, present = torch.randn(len(values), generator=random), ~values.isnan()
        values = values[present]
        mixed = torch.randperm(len(values), generator=random)  # breaks ties at random
        ranks = mixed[values[mixed].argsort()].argsort()
        scores[present] = torch.special.ndtri((ranks.double() + 0.5) / len(values)).float()
        parts.append(scores.unsqueeze(1))
    return torch.cat(parts, dim=1)


def split(rows: Tensor, columns: list[Column]) -> list[Tensor]:
    """Encoded rows (n, width), column by column."""
    return list(rows.split([column.codes.shape[1] for column in columns], dim=1))


def snap(rows: Tensor, columns: list[Column]) -> Tensor:
    """Encoded rows (n, width), each generated code replaced by the nearest code of a category."""
    parts = split(rows, columns)
    for i, column in enumerate(columns):
        if column.categories:
            parts[i] = column.codes.to(rows)[column.nearest(parts[i])]
    return torch.cat(parts, dim=1)


class Decoder(nn.Module):
    """Inverse of `encode`, (n, width) to (n, columns): numbers lie between quantiles of the data.

    Rules that all rows of the data keep are applied.
    """

    def __init__(self, cells: Tensor, columns: list[Column]) -> None:
        super().__init__()
        self.columns, quantiles, places = columns, [], []
        # One quantile per four rows (20 to 1,000), so that numbers are interpolated, not copied
        count = min(max(len(cells) // 4, min(len(cells), 20)), 1000)
        for values in cells.T:
            values = values[~values.isnan()].sort().values
            chosen = torch.linspace(0, len(values) - 1, count).round().long()
            edges = values.diff().argsort(descending=True)[:4]  # few numbers are to lie in gaps
            edges = torch.cat([edges, edges + 1, chosen[-1:].repeat(8)])[:8]
            chosen = torch.cat([chosen, edges]).sort().values
            places.append(chosen.double() / max(len(values) - 1, 1))
            quantiles.append(values[chosen])
        self.places, self.quantiles = (nn.Buffer(torch.stack(x)) for x in (places, quantiles))
        self.rules = find_rules(cells, columns)

    def forward(self, rows: Tensor) -> Tensor:
        cells, parts = [], split(rows, with_flags(self.columns, self.quantiles.T)[0])
        flags = iter(parts[len(self.columns) :])
        numbers_of = zip(parts, self.places, self.quantiles, self.columns, strict=False)
        for part, places, numbers, column in numbers_of:
            if column.categories:
                cells.append(column.nearest(part).to(numbers))
                continue
            place = torch.special.ndtr(part[:, 0].double())
            after = torch.searchsorted(places, place).clamp(1, len(places) - 1)
            low, high = places[after - 1], places[after]
            share = ((place - low) / (high - low).clamp(min=1e-12)).clamp(0, 1)
            share = share.round() if column.repeated else share
            values = column.on_grid(numbers[after - 1].lerp(numbers[after], share))
            if column.missing is not None:
                is_missing = next(flags).argmax(dim=1) == 1
                values = values.masked_fill(is_missing, math.nan)
            cells.append(values)
        for rule in self.rules:
            cells[rule.target] = rule.apply(cells)
        return torch.stack(cells, dim=1)


def comparable(cells: Tensor, columns: list[Column], real: Tensor) -> Tensor:
    """Cells (n, columns) for distances (n, width): numbers standardised by real ones, codes."""
    cells, real = (x.where(~x.isnan(), real.nanmean(dim=0)) for x in (cells, real))
    scaled = common.Standardize(real)(cells)
    pairs = zip(scaled.T, cells.T, columns, strict=True)
    parts = [c.codes[x.long()] if c.categories else z.unsqueeze(1) for z, x, c in pairs]
    return torch.cat(parts, dim=1)


@dataclasses.dataclass
class Rule:
    """What all rows keep: a category decides the target, or it is a sum, or at least as large."""

    target: int
    sources: list[int]
    values: Tensor | None = None  # the target, for each category of the source

    def apply(self, cells: list[Tensor]) -> Tensor:
        """The target (n,) as the rule wants it; missing cells stay missing."""
        target, first, *more = (cells[i] for i in [self.target, *self.sources])
        if self.values is not None:
            return self.values.to(target)[first.long()]
        if more:
            total = first + more[0] + 0 * target
            return torch.where(total.isnan(), target, total)
        return torch.where(first > target, first, target)

    def kept(self, cells: Tensor) -> Tensor:
        """Whether rows (n, columns) keep it (n,)."""
        target = cells[:, self.target]
        return torch.isclose(self.apply(list(cells.T)), target, rtol=1e-9, equal_nan=True)

    def words(self, columns: list[Column]) -> str:
        """The rule in words."""
        target, first, *more = (columns[i].name for i in [self.target, *self.sources])
        if self.values is not None:
            return f"{first} decides {target}"
        return f"{target} = {first} + {more[0]}" if more else f"{first} <= {target}"


def grid(column: Column) -> tuple:
    """What two columns have in common if a number of one could be one of the other."""
    return column.date, column.decimals, column.step, column.origin, column.first % column.step


def find_rules(cells: Tensor, columns: list[Column]) -> list[Rule]:
    """The rules that all rows (n, columns) keep, and that ten of them would break by chance.

    Sums are looked for among the first 30 columns of numbers.
    """
    rules, some = [], cells[torch.linspace(0, len(cells) - 1, min(len(cells), 200)).long()]
    numeric = [i for i, column in enumerate(columns) if not column.categories]
    for i, j in itertools.permutations(range(len(columns)), 2):
        if columns[i].categories:
            index = cells[:, i].long()
            values = torch.zeros(len(columns[i].categories)).to(cells)
            rules.append(Rule(j, [i], values.index_put((index,), cells[:, j])))
    for i, j in itertools.combinations(numeric[:30], 2):
        total = (some[:, i] + some[:, j]).unsqueeze(1).expand_as(some)
        equal = torch.isclose(total, some, rtol=1e-9, equal_nan=True).all(dim=0)
        rules += [Rule(k, [i, j]) for k in equal.nonzero().flatten().tolist() if k not in (i, j)]
    pairs = [
        (i, j) for i, j in itertools.permutations(numeric, 2)
        if grid(columns[i]) == grid(columns[j])
    ]  # fmt: skip
    pairs.sort(key=lambda pair: (some[:, pair[1]].nanmean() - some[:, pair[0]].nanmean()).item())
    rules += [Rule(j, [i]) for i, j in pairs]
    found: dict[int, Rule] = {}
    shuffled = cells[torch.randperm(len(cells), generator=common.stream("rules"))]
    for rule in rules:
        if rule.target in found or (rule.values is not None and rule.sources[0] in found):
            continue
        if rule.kept(some).all() and rule.kept(cells).all():
            mixed = cells.clone()
            mixed[:, rule.target] = shuffled[:, rule.target]
            if (~rule.kept(mixed)).sum() >= 10:
                found[rule.target] = rule
    return sorted(found.values(), key=lambda rule: cells[:, rule.target].nanmean().item())


# --- Conditions and batches --------------------------------------------------------------------


class Conditions(nn.Module):
    """Each category of each column, as a condition for the generator (Xu et al. 2019).

    Normal noise (n,) chooses conditions: a random column, and a category as often as in the data.
    """

    def __init__(self, columns: list[Column], counts: list[Tensor]) -> None:
        """With the counts of the categories, for each column that has some."""
        super().__init__()
        blocks = [column.codes if column.categories else torch.zeros(0, 1) for column in columns]
        codes, fixed = torch.block_diag(*blocks), torch.block_diag(*map(torch.ones_like, blocks))
        if not counts:  # one condition, which fixes nothing
            codes, counts = torch.zeros(1, codes.shape[1]), [torch.ones(1)]
            fixed = codes
        shares = torch.cat([count.double() / count.sum() / len(counts) for count in counts])
        self.codes = nn.Buffer(codes)  # (conditions, width): encoded rows, zero but for a category
        self.fixed = nn.Buffer(fixed.bool())  # (conditions, width): where they are not
        self.inputs = nn.Buffer(codes[:, fixed.any(dim=0)])  # (conditions, codes), for networks
        self.upper = nn.Buffer(shares.cumsum(dim=0))  # (conditions,)

    def choose(self, noise: Tensor) -> Tensor:
        """The indices (n,) of the conditions that normal noise (n,) chooses."""
        chosen = torch.searchsorted(self.upper, torch.special.ndtr(noise.double()))
        return chosen.clamp(max=len(self.upper) - 1)


def count_categories(cells: Tensor, columns: list[Column]) -> list[Tensor]:
    """How often each category occurs in cells (n, columns), for each column that has some."""
    pairs = [(x, c.categories) for x, c in zip(cells.T, columns, strict=True) if c.categories]
    return [values.long().bincount(minlength=len(names)) for values, names in pairs]


def augmented_batches(
    rows: Tensor, cells: Tensor, columns: list[Column], conditions: Conditions, size: int
) -> Iterator[tuple[Tensor, Tensor]]:
    """Endless batches (size, width) around encoded rows, with the indices (size,) of conditions.

    A rare category is drawn more often than it occurs. Numbers come from a Gaussian fitted to a
    row's neighbours of the same category (Chapelle et al. 2000), as a small table would be
    memorised; codes of categories get noise.
    """
    device, n = rows.device, len(rows)
    is_numeric = torch.tensor([not each.categories for each in columns for _ in each.codes.T])
    numeric = is_numeric.nonzero().flatten().to(device)
    categorical = [i for i, column in enumerate(columns) if column.categories]
    counts = count_categories(cells, columns) or [torch.tensor([n])]
    indices = cells[:, categorical].long() if categorical else torch.zeros(n, 1).long()
    owners = torch.cat([torch.full_like(count, i) for i, count in enumerate(counts)]).to(device)
    weights = torch.cat([count.log1p() / count.log1p().sum() for count in counts]).to(device)
    by_category, indices = indices.argsort(dim=0).T.flatten().to(device), indices.to(device)
    count = torch.cat(counts).to(device)
    start, upper = count.cumsum(dim=0) - count, weights.double().cumsum(dim=0) / len(counts)
    numbers, neighbours = rows[:, numeric], torch.arange(n, device=device).unsqueeze(1)
    if n <= MAX_AUGMENTED:
        nearest = min(max(20, 3 * len(numeric) // 2), 100, n)
        neighbours = torch.cdist(rows, rows).topk(nearest, largest=False).indices
    ranges = []  # of the numbers of each condition
    for values, each in zip(indices.T, counts, strict=True):
        index = values.unsqueeze(1).expand(numbers.shape)
        empty = torch.zeros(len(each), numbers.shape[1], device=device)
        ends = [
            empty.scatter_reduce(0, index, numbers, end, include_self=False)
            for end in ("amin", "amax")
        ]
        ranges.append(torch.stack(ends))
    lowest, highest = torch.cat(ranges, dim=1)
    for noise in common.sobol_noise(size, 2, device):  # evenly spread over categories and rows
        which, place = torch.special.ndtr(noise.double()).T.contiguous()
        chosen = torch.searchsorted(upper, which).clamp(max=len(upper) - 1)
        row = by_category[start[chosen] + (place * count[chosen]).long()]
        near, owner = numbers[neighbours[row]], owners[chosen]
        same = indices[neighbours[row], owner.unsqueeze(1)] == indices[row, owner].unsqueeze(1)
        share = same / same.sum(dim=1, keepdim=True)
        mean = torch.einsum("nk,nkw->nw", share, near)
        weight = SPREAD * share.sqrt() * torch.randn_like(share)
        moves = torch.einsum("nk,nkw->nw", weight, near - mean.unsqueeze(1))
        batch = rows[row] + CODE_NOISE * torch.randn_like(rows[row])
        moved = mean + PULL * (numbers[row] - mean) + moves
        moved = lowest[chosen] + (moved - lowest[chosen]).abs()  # reflected into the range
        batch[:, numeric] = highest[chosen] - (highest[chosen] - moved).abs()
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
    samples = training.samples = decoder(training.samples)
    training.data = cells
    for epoch, (row, some) in training.snapshots.items():
        training.snapshots[epoch] = row, decoder(some)
    training.generator = nn.Sequential(training.generator, decoder).eval()
    about = json.dumps([dataclasses.asdict(column) for column in columns], default=str).encode()
    training.generator.register_buffer("columns", torch.tensor(list(about), dtype=torch.uint8))
    names = [f"{each.name} {category}" for each in columns for category in each.categories]
    if names:
        counts = torch.tensor([len(column.categories) for column in columns])
        first = counts.cumsum(dim=0) - counts  # index of a column's first category in `names`
        some = counts > 0
        real, generated = (
            (first + x.nan_to_num())[:, some].long().flatten() for x in (cells, samples)
        )
        training.check_missing(real, generated, names)
    for rule in decoder.rules:
        if (share := rule.kept(samples).double().mean().item()) < MIN_KEPT:
            training.check(False, f"{rule.words(columns)} in only {share:.0%} of generated rows")
    if held_out.sum() >= 10:
        some = cells[~held_out], cells[held_out], samples
        share = share_closer_than_holdout(*(comparable(x, columns, cells) for x in some))
        auc = two_sample_auc(cells[held_out], samples)
        words = f"{share:.0%} are closer to a training row than the median held-out row"
        training.check(share <= MAX_CLOSER, f"{words} (50% is right)")
        words = f"a forest separates them from held-out rows with AUC {auc:.2f} (0.5: it cannot)"
        training.check(auc <= MAX_AUC, words)
        training.metrics |= {"copied": share, "auc": auc}
    many = [column.name for column in columns if len(column.categories) > len(cells) / 10]
    if len(cells) >= MIN_ROWS:
        training.advice = (
            f"Is {many[0]} an ID, a number or a date? See --types." if many else ADVICE
        )
    training.sample = partial(sample_frame, training.generator, table)


def plot_table(table: Table, training: Training) -> Figure:
    """Plots up to 6 columns, real and generated, and correlations."""
    import pandas as pd

    cells, columns = table.cells, table.columns
    across = 2 if len(columns) <= 4 else 3
    panels = [str(i) if i < len(columns) else "." for i in range(2 * across)]
    top = [[*panels[:across], "real"], [*panels[across:], "generated"]]
    figure, axes = common.plot_history(training, top)
    for i, column in enumerate(columns[:6]):
        axis, names = axes[str(i)], list(map(str, column.categories))
        values = [rows[:, i][~rows[:, i].isnan()].numpy() for rows in (cells, training.samples)]
        if column.date:
            start = np.datetime64(0, "s") + round(column.origin / 10 ** (column.decimals or 0))
            values = [start + np.rint(seconds).astype("timedelta64[s]") for seconds in values]
            axis.tick_params(axis="x", rotation=20)
        bins = np.arange(len(names) + 1) - 0.5 if names else 20
        axis.hist(values, bins, density=True, color=[REAL, GENERATED])
        axis.set_title(column.name[:20])
        if names:
            labels = [name[:9] for name in names[:8]]
            axis.set_xticks(range(len(labels)), labels, rotation=20)
    axes["0"].legend(["real", "generated"])
    for name, rows in (("real", cells), ("generated", training.samples)):
        correlations = pd.DataFrame(rows.numpy()).corr().to_numpy()
        figure.colorbar(axes[name].imshow(correlations, "RdBu", vmin=-1, vmax=1))
        axes[name].set_title(f"correlations, {name}")
    return figure


# --- Samples -----------------------------------------------------------------------------------


def sample(
    generator: nn.Module, columns: list[Column], n: int,
    where: Mapping[str, object] | None = None, seed: int = 0,
) -> Iterator[Tensor]:  # fmt: skip
    """Blocks of `n` generated rows (rows, columns) in all; only those with the categories `where`.

    ValueError if there is no such category; Failure if too few of many rows are of that kind.
    """
    random, wanted = common.stream("samples", seed), []
    (upper,) = (x for name, x in generator.named_buffers() if name.endswith("upper"))
    shares = upper.diff(prepend=torch.zeros_like(upper[:1]))
    for name, value in (where or {}).items():
        i = next((i for i, column in enumerate(columns) if column.name == str(name)), None)
        known = [] if i is None else columns[i].categories
        places = [j for j, each in enumerate(known) if each == value or str(each) == str(value)]
        if i is None or not places:
            choices = f"of {', '.join(map(str, known[:10]))}" if known else "in any such column"
            raise InputError(f"--where: {name!r} has no category {value!r} {choices}")
        before = sum(len(column.categories) for column in columns[:i])
        wanted.append((i, places[0], before + places[0]))
    found = tried = 0
    while found < n:
        noise = torch.randn(common.CHUNK, LATENT_DIM, generator=random)
        if wanted:
            rarest = min((index for _, _, index in wanted), key=shares.__getitem__)
            place = torch.rand(len(noise), dtype=torch.float64, generator=random)
            noise[:, -1] = torch.special.ndtri(upper[rarest] - shares[rarest] * place)
        with torch.no_grad():
            rows = generator(noise)
        for i, category, _ in wanted:
            rows = rows[rows[:, i] == category]
        yield rows[: n - found]
        found, tried = found + len(rows), tried + len(noise)
        if tried >= 1_000_000 > 1000 * found:
            raise Failure(f"--where: only {found} of {tried:,} generated rows are of that kind")


def sample_frame(
    generator: nn.Module, table: Table, n: int, where: Mapping[str, object] | None = None,
    *, seed: int = 0,
) -> Any:  # fmt: skip
    """`n` generated rows as a DataFrame; only those with the categories `where`, by column."""
    blocks = sample(generator, table.columns, common.check_count("n", n), where, seed)
    return to_frame(torch.cat(list(blocks)), table.columns, table.dtypes)


def use_generator(options: argparse.Namespace) -> int:
    """Serves --generate and --interpolate; returns the exit status."""
    generator = common.load_model(options.out / "generator.pt", LATENT_DIM)
    about = bytes(dict(generator.named_buffers())["columns"])
    columns = [Column(**column) for column in json.loads(about)]
    if options.generate:
        pairs = (pair.partition("=") for pair in options.where)
        where = {name.strip(): value.strip() for name, _, value in pairs}
        blocks = sample(generator, columns, options.generate, where, options.seed)
        for i, cells in enumerate(blocks):
            frame = to_frame(cells, columns)
            print(frame.to_csv(index=False, header=i == 0, lineterminator="\n"), end="")
    if options.interpolate:
        common.save_walk(generator, LATENT_DIM, options, [column.name for column in columns])
    return 0
