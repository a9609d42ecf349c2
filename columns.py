"""How the cells of a table are read and written: numbers, dates, categories, CSV files.

`read_table` reads a CSV file as a DataFrame of texts. `parse` finds out what a column of a
DataFrame is, and turns it into cells: numbers, dates as seconds since 1970, or the indices of
categories. `to_frame` turns cells back; numbers and dates get the form in which they came.
"""

import codecs
import csv
import dataclasses
import functools
import io
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Mapping
from contextlib import suppress
from datetime import datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from common import Failure, InputError

with suppress(ImportError):  # tables.require_packages says so
    import pandas as pd

LARGEST = 1e37  # allowed absolute value: sums of larger ones may overflow float32
EXACT = 2**53  # float64 holds all whole numbers up to this one


# --- Columns -----------------------------------------------------------------------------------


@dataclasses.dataclass
class Grid:
    """The numbers that a column may hold: (first + k * step) / 10**decimals, for whole k.

    Cells are these numbers, less origin / 10**decimals where float64 could not hold them.
    """

    decimals: int
    first: int = 0
    step: int = 1
    origin: int = 0

    @classmethod
    def through(cls, units: list[int], decimals: int) -> Self:
        """The widest grid that has these numbers, given in units of the last decimal."""
        first = min(units)
        step = math.gcd(*[unit - first for unit in units]) or 1
        largest = max(abs(unit) for unit in units)
        origin = first if largest > EXACT else 0
        return cls(decimals, first, step, origin)

    def cells(self, units: list[int]) -> Tensor:
        """The cells (n,) of numbers given in units of the last decimal."""
        differences = [unit - self.origin for unit in units]
        return torch.tensor(differences, dtype=torch.float64) / 10.0**self.decimals

    def number(self, cell: float) -> Decimal:
        """The number that a cell stands for."""
        units = round(cell * 10**self.decimals) + self.origin
        return Decimal(units).scaleb(-self.decimals)

    def nearest(self, cells: Tensor) -> Tensor:
        """The cells (n,) on the grid that are nearest to these (n,)."""
        unit = 10.0**self.decimals
        first = self.first - self.origin
        steps = ((cells * unit - first) / self.step).round()
        return (steps * self.step + first) / unit


@dataclasses.dataclass
class NumberStyle:
    """How the numbers of a column are written."""

    positive: str = "#"  # "#" are the digits: "$#" has a currency before them, "# km" a unit after
    negative: str = "-#"
    group: str = ""  # between thousands
    point: str = "."
    zero: str = "0"  # before the point; "" if 0.5 is written as .5
    min_decimals: int | None = None  # zeros after these are left out; None: all are written
    float_format: str = ""  # Python's format of numbers that are on no grid

    def write(self, number: float | Decimal) -> str:
        """A number as text."""
        python_format = ",f" if isinstance(number, Decimal) else self.float_format
        whole, _, decimals = format(abs(number), python_format).partition(".")
        if self.min_decimals is not None:
            always = decimals[: self.min_decimals]
            decimals = always + decimals[self.min_decimals :].rstrip("0")
        if decimals and whole == "0":
            whole = self.zero
        digits = whole.replace(",", self.group)
        if decimals:
            digits += self.point + decimals
        template = self.negative if number < 0 else self.positive
        return template.replace("#", digits)


@dataclasses.dataclass
class DateStyle:
    """How the dates of a column are written."""

    format: str  # of strftime
    left_out: str = ""  # a regular expression of what strftime writes and the table does not

    def write(self, seconds: float | Decimal) -> str:
        """A date, in seconds since 1970, as text."""
        date = datetime(1970, 1, 1) + timedelta(seconds=float(seconds))
        return re.sub(self.left_out, "", date.strftime(self.format))


@dataclasses.dataclass
class Column:
    """A column: what its cells mean, and how they are written.

    It is categorical if it has `categories`: texts, or values of a DataFrame.
    """

    name: str
    categories: list = dataclasses.field(default_factory=list)
    grid: Grid | None = None  # of numbers and dates; None: any number
    style: NumberStyle = dataclasses.field(default_factory=NumberStyle)
    date: DateStyle | None = None
    missing: str | float | None = None  # how a missing number or date is written
    repeated: bool = False  # whether new numbers would be wrong: they repeat, or begin months

    def values(self, cells: Tensor) -> list:
        """Cells (n,) as they are in the table: categories, or numbers and dates as texts."""
        if self.categories:
            return [self.categories[int(index)] for index in cells]
        return [self.missing if math.isnan(cell) else self.write(cell) for cell in cells.tolist()]

    def write(self, cell: float) -> str:
        """A number or a date as text."""
        number = self.grid.number(cell) if self.grid else cell
        return self.date.write(number) if self.date else self.style.write(number)


Parsed = tuple[Column, Tensor]  # a column, and its cells (n,)


def to_json(columns: list[Column]) -> bytes:
    """Columns as JSON; categories of a DataFrame become texts."""
    fields = [dataclasses.asdict(column) for column in columns]
    return json.dumps(fields, default=str).encode()


def from_json(text: bytes) -> list[Column]:
    """The columns of `to_json`."""
    columns = []
    for fields in json.loads(text):
        fields["style"] = NumberStyle(**fields["style"])
        if fields["grid"]:
            fields["grid"] = Grid(**fields["grid"])
        if fields["date"]:
            fields["date"] = DateStyle(**fields["date"])
        columns.append(Column(**fields))
    return columns


# --- What a column is --------------------------------------------------------------------------

KINDS = ("number", "date", "category", "id")
MISSING = {"", "na", "n/a", "n.a.", "#n/a", "<na>", "nan", "nat", "null", "none", "-", "--", "?"}
MAX_CATEGORIES = 10  # so many numbers are still categories
MAX_DIFFERENT = 0.7  # share of texts that are different, or they are IDs


def parse(series: "pd.Series", kind: str | None = None) -> Parsed | None:
    """What a column of a DataFrame is, and its cells (n,); None if it is an ID, to be left out.

    Numbers with up to 10 values are categories. Missing numbers are NaN, and are written as the
    most frequent mark. InputError if the texts are not of the `kind`, one of KINDS.
    """
    texts = as_texts(series)
    present = series.notna() & ~texts.str.lower().isin(MISSING)
    indices, different_texts = pd.factorize(texts.where(present))  # -1 for missing ones
    different = list(different_texts)
    is_categorical = isinstance(series.dtype, pd.CategoricalDtype)
    parsed = None
    if different and not is_categorical and kind in (None, "number", "date"):
        parsed = parse_texts(str(series.name), different, kind)
        if parsed is None:
            require_no_typo(texts, different, kind)

    if kind == "id" or (kind is None and is_id(parsed, len(different), present)):
        return None
    has_few_values = len(different) <= min(MAX_CATEGORIES, len(series) / 2)
    if parsed is None or (kind is None and has_few_values):
        return parse_categories(series)
    column, cells = parsed
    column.repeated = column.repeated or len(different) <= len(series) / 10
    if not present.all():
        mark = series[~present].mode(dropna=False).iloc[0]
        column.missing = math.nan if pd.isna(mark) else mark
    return column, torch.cat([cells, torch.tensor([math.nan])])[indices]


def as_texts(series: "pd.Series") -> "pd.Series":
    """The cells of a column as texts, without blanks around them."""
    if pd.api.types.is_datetime64_any_dtype(series):
        series = series.dt.tz_localize(None).dt.as_unit("us")  # in local time, days have 24 hours
    return series.astype(str).str.strip()


def parse_texts(name: str, texts: list[str], kind: str | None) -> Parsed | None:
    """Texts, none of them missing, as dates or numbers; None if they are neither."""
    parsed = None
    if kind != "number":
        parsed = parse_dates(name, texts)
    if kind != "date" and parsed is None:
        parsed = parse_numbers(name, texts)
    return parsed


def is_id(parsed: Parsed | None, different: int, present: "pd.Series") -> bool:
    """Whether a column with so many different texts is an ID, where some may be missing.

    IDs are texts most of which are different, and whole numbers, all different, that lie so close
    that random ones would repeat.
    """
    if parsed is None:
        return different > max(9, MAX_DIFFERENT * present.sum())
    column, cells = parsed
    if column.date or column.grid is None or column.grid.decimals > 0:
        return False
    close = cells.max() - cells.min() < 3 * len(present)
    return bool(close) and different == len(present) >= 30


def parse_categories(series: "pd.Series") -> Parsed:
    """A column of categories; missing cells, if there are any, are the last one: None."""
    categorical = pd.Categorical(series).remove_unused_categories()
    categories = categorical.categories.tolist()
    indices = categorical.codes.astype(np.float64)  # -1 for missing ones
    if categorical.isna().any():
        indices[indices < 0] = len(categories)
        categories.append(None)
    return Column(str(series.name), categories), torch.from_numpy(indices)


LIKE_NUMBER = re.compile(r"[-+(]?[\d.,_]+(E\d+)?\)?")  # a number, or a code of digits


def require_no_typo(texts: "pd.Series", different: list[str], kind: str | None) -> None:
    """InputError for the first text that is no number, if nearly all are, or if `kind` is given.

    The message has its line in the file, or its row.
    """
    wrong = [text for text in different if not LIKE_NUMBER.fullmatch(text)]
    few_are_wrong = 0 < len(wrong) <= len(different) / 20
    if kind is None and not few_are_wrong:
        return
    text = wrong[0] if wrong else different[0]
    label = texts.index[texts == text][0]
    place = f"line {label}" if texts.index.name == "line" else f"row {label!r}"
    reason = f"expected a {kind or 'number'}, found {text[:40]!r}"
    remedy = f"--types {texts.name}=category"
    raise InputError(f"{place}, column {str(texts.name)!r}: {reason}; or {remedy}")


# --- Numbers -----------------------------------------------------------------------------------

POINTS = [".", ","]
GROUPS = ["", ",", ".", "'", "\u2019", " ", "\u00a0", "\u202f"]  # between thousands
NUMBER = r"""
    (?P<before>
        (?P<bracket> \( )?                              # (5) is -5
        -? (?: US[$] | [$€£¥₹] | USD | EUR | GBP | CHF )? [ ]? -?
    )
    (?= \D?\d )                                         # there are digits before or after a point
    (?P<whole> 0 | [1-9]\d?\d? (?: {group}\d\d\d )* )?  # 0, but not 007
    (?: {point} (?P<decimals> \d+ ) )?
    (?P<power> [eE][-+]\d+ )?
    (?P<after> [ ]? (?: [$€£¥₹%] | [A-Za-z/°]{{1,5}} )? (?(bracket) \) ) )
"""


class NumberText(NamedTuple):
    """The groups of NUMBER in a text; empty where there is nothing."""

    before: str
    bracket: str
    whole: str
    decimals: str
    power: str
    after: str

    @property
    def template(self) -> str:
        """The text with "#" in place of the digits, as in NumberStyle."""
        return f"{self.before}#{self.after}"


def parse_numbers(name: str, texts: list[str]) -> Parsed | None:
    """Texts that are numbers, all written in one style; else None.

    They are exact if they have no powers of ten and a range that float64 can hold; whole numbers
    with a larger range are taken for codes. InputError for numbers above LARGEST.
    """
    separated = find_separators(texts)
    if separated is None:
        return None
    group, point, numbers = separated
    style = find_style(numbers, group, point)
    if style is None:
        return None
    literals = [python_literal(number, style) for number in numbers]
    decimals = max(len(number.decimals) for number in numbers)
    has_powers = any(number.power for number in numbers)

    if not has_powers:
        units = [int(Decimal(literal).scaleb(decimals)) for literal in literals]
        if max(units) - min(units) <= EXACT:
            style.min_decimals = min(len(number.decimals) for number in numbers)
            grid = Grid.through(units, decimals)
            return Column(name, grid=grid, style=style), grid.cells(units)
    cells = torch.tensor([float(literal) for literal in literals], dtype=torch.float64)
    if cells.abs().max() > LARGEST:
        raise InputError(f"column {name!r} has numbers above {LARGEST:g}")
    if not has_powers and decimals == 0:
        return None
    style.float_format = find_float_format(style, decimals, cells, texts)
    return Column(name, style=style), cells


def find_separators(texts: list[str]) -> tuple[str, str, list[NumberText]] | None:
    """The separator of thousands and the point with which all texts are numbers, and the numbers.

    None if the texts are not numbers with any of them.
    """
    for point in POINTS:
        for group in GROUPS:
            pattern = NUMBER.format(group=re.escape(group), point=re.escape(point))
            numbers = match_all(re.compile(pattern, re.VERBOSE), texts)
            if numbers is not None:
                return group, point, numbers
    return None


def match_all(pattern: re.Pattern, texts: list[str]) -> list[NumberText] | None:
    """The numbers in texts; None if one of them does not match."""
    numbers = []
    for text in texts:
        match = pattern.fullmatch(text)
        if match is None:
            return None
        numbers.append(NumberText(*match.groups("")))
    return numbers


def find_style(numbers: list[NumberText], group: str, point: str) -> NumberStyle | None:
    """The style of numbers; None if they have several, as $5 and €5."""
    templates = {number.template for number in numbers}
    positive = {re.sub("[-()]", "", template) for template in templates}
    negative = templates - positive
    if len(positive) > 1 or len(negative) > 1:
        return None
    style = NumberStyle(positive.pop(), group=group, point=point)
    style.negative = negative.pop() if negative else f"-{style.positive}"
    if not all(number.whole for number in numbers):
        style.zero = ""
    return style


def python_literal(number: NumberText, style: NumberStyle) -> str:
    """A number as Python writes it."""
    sign = "-" if number.template == style.negative else ""
    whole = number.whole.replace(style.group, "")
    return f"{sign}{whole}.{number.decimals}{number.power}"


def find_float_format(style: NumberStyle, decimals: int, cells: Tensor, texts: list[str]) -> str:
    """Python's format that writes the cells (n,) as the texts, or else nearly so."""
    for float_format in (f".{decimals}f", f".{decimals}e", f".{decimals}E", ""):
        trial = dataclasses.replace(style, float_format=float_format)
        pairs = zip(cells.tolist(), texts, strict=True)
        if all(trial.write(cell) == text for cell, text in pairs):
            return float_format
    return ".15g"


# --- Dates -------------------------------------------------------------------------------------

DAYS = [  # formats of strftime
    "%Y-%m-%d",
    "%d.%m.%Y",
    "%m/%d/%Y",
    "%d/%m/%Y",
    "%Y/%m/%d",
    "%Y%m%d",
    "%d-%m-%Y",
    "%d-%b-%Y",
    "%m/%d/%y",
    "%d.%m.%y",
    "%d/%m/%y",
    "%Y-%m",
    "%Y%m%d.0",
    "",  # a time of day alone
    "%d %b %Y",
    "%b %d, %Y",
    "%d %B %Y",
    "%B %d, %Y",
]
TIME = re.compile(
    r"""
    (?P<separator> [T ]? )
    \d?\d:\d\d
    (?P<seconds> :\d\d )?
    (?P<fraction> \.\d+ )?
    (?P<half> [ ] [AP]M )?
    (?P<zone> Z | [+-]\d\d:?\d\d )?
    $""",
    re.VERBOSE,
)
LEFT_OUT = [  # of what strftime writes, as regular expressions
    "",
    r"(?<![:\d])0(?=\d(?:[/.:-]| [A-Z]))",  # a zero before a day, a month or an hour
    r"(?<=\.\d{3})000",  # microseconds
]


def parse_dates(name: str, texts: list[str]) -> Parsed | None:
    """Texts that are dates, all in one format, to the second or the microsecond; else None."""
    time = time_format(texts[0])
    for day in DAYS:
        with suppress(ValueError):  # another format
            parsed = parse_dates_in(day + time, name, texts)
            if parsed:
                return parsed
    return None


def time_format(text: str) -> str:
    """The format of the time of day at the end of a date, such as "T%H:%M:%SZ"; "" without one."""
    time = TIME.search(text)
    if time is None:
        return ""
    hour = "%I" if time["half"] else "%H"
    seconds = ":%S" if time["seconds"] else ""
    fraction = ".%f" if time["fraction"] else ""
    half = " %p" if time["half"] else ""
    zone = time["zone"] or ""
    return f"{time['separator']}{hour}:%M{seconds}{fraction}{half}{zone}"


def parse_dates_in(date_format: str, name: str, texts: list[str]) -> Parsed | None:
    """Texts that are dates in a format of strftime; None or ValueError if they are not."""
    dates = pd.Series(pd.to_datetime(texts, format=date_format, utc=True)).dt
    unit, decimals = ("us", 6) if dates.microsecond.any() else ("s", 0)
    units = dates.as_unit(unit).astype("int64").tolist()
    grid = Grid.through(units, decimals)
    cells = grid.cells(units)
    monthly = bool(dates.is_month_start.all() or dates.is_month_end.all())
    for left_out in LEFT_OUT:
        style = DateStyle(date_format, left_out)
        column = Column(name, grid=grid, date=style, repeated=monthly)
        if column.values(cells) == texts:
            return column, cells
    return None


# --- DataFrames --------------------------------------------------------------------------------


def to_frame(cells: Tensor, columns: list[Column], dtypes: Mapping | None = None) -> "pd.DataFrame":
    """Cells (n, columns) as a DataFrame of texts.

    With `dtypes`, tuples by the name of the column, it is converted to these, one after the other.
    """
    names = list(dtypes) if dtypes else [column.name for column in columns]
    series = []
    for name, column, values in zip(names, columns, cells.T, strict=True):
        texts = pd.Series(column.values(values), dtype=object)
        series.append(convert(texts, dtypes[name]) if dtypes else texts)
    return pd.concat(series, axis=1, keys=names)


def convert(texts: "pd.Series", dtypes: tuple) -> "pd.Series":
    """Texts converted to dtypes, one after the other."""
    series = texts
    if isinstance(dtypes[0], pd.DatetimeTZDtype):
        summer = np.ones(len(series), dtype=bool)  # of an hour that comes twice, the first
        dates = pd.to_datetime(series).dt
        series = dates.tz_localize(dtypes[0].tz, ambiguous=summer, nonexistent="shift_forward")
    for dtype in dtypes:
        series = series.astype(dtype)
    return series


# --- CSV files ---------------------------------------------------------------------------------

SEPARATORS = ",;\t| "  # of columns


def read_table(path: Path) -> "pd.DataFrame":
    """A CSV file with a header as a DataFrame of texts, with its lines as index; errors name them.

    Commas, semicolons, tabs, bars or blanks separate the columns. Failure if the file cannot be
    read, InputError if it is no table.
    """
    text = read_text(path)
    separator = max(SEPARATORS, key=functools.partial(regularity, text))
    lines = split_lines(text, separator)
    header, *rows = lines.values() if lines else [[]]
    header = complete_header(header, rows)
    line_numbers = list(lines)[1:]
    for line, row in zip(line_numbers, rows, strict=True):
        if len(row) != len(header):
            cells = f"expected {len(header)} cells, found {len(row)}"
            raise InputError(f"{path}, line {line}: {cells}")
    index = pd.Index(line_numbers, name="line")
    frame = without_empty_columns(pd.DataFrame(rows, index, header, dtype=str))
    require_header(path, frame)
    return frame


def read_text(path: Path) -> str:
    """The text of a file in UTF-8, UTF-16 or Windows-1252; Failure if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None
    is_utf16 = content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE))
    try:
        return content.decode("utf-16" if is_utf16 else "utf-8-sig")
    except UnicodeDecodeError:
        if is_utf16:
            raise Failure(f"cannot read {path}: it is not text") from None
        return content.decode("cp1252", errors="replace")


def split_lines(text: str, separator: str, count: int | None = None) -> dict[int, list[str]]:
    """The cells of lines that are not blank, by the number of the line; of the first `count` rows.

    InputError if a quote is wrong.
    """
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator, strict=True)
    lines = {}
    try:
        for row in itertools.islice(reader, count):
            cells = [cell.strip() for cell in row]
            if separator == " ":  # several blanks separate as one does
                cells = [cell for cell in cells if cell]
            if any(cells):
                lines[reader.line_num] = cells
    except csv.Error as error:
        reason = f"a quote inside quotes must be doubled ({error})"
        raise InputError(f"line {reader.line_num}: {reason}") from None
    return lines


def regularity(text: str, separator: str) -> float:
    """The share of lines that have the most frequent number of cells; 0 if the header has one."""
    try:
        lines = list(split_lines(text, separator, 200).values())
    except InputError:
        return 0
    if len(lines) < 2 or len(lines[0]) == 1:
        return 0
    lengths = Counter(len(row) for row in lines[1:])
    return max(lengths.values()) / (len(lines) - 1)


def complete_header(header: list[str], rows: list[list[str]]) -> list[str]:
    """The header, with a name more if all rows have a cell more."""
    if {len(row) for row in rows} != {len(header) + 1}:
        return header
    if any(row[-1] for row in rows):
        return ["row", *header]  # R writes the names of rows so
    return [*header, ""]  # a separator at the end of each line but the first


def without_empty_columns(frame: "pd.DataFrame") -> "pd.DataFrame":
    """All columns but those with neither a name nor cells: lines may end with separators.

    A column that has cells but no name is called "row".
    """
    empty = (frame == "").all() & (frame.columns == "")
    return frame.loc[:, ~empty.to_numpy()].rename(columns={"": "row"})


def require_header(path: Path, frame: "pd.DataFrame") -> None:
    """InputError if a table has no rows, or if its header is a row of data.

    That is so if all names are numbers, or if one is a number that stands below it as well.
    """
    numbers = [name for name in frame if LIKE_NUMBER.fullmatch(name)]
    comes_again = (frame == frame.columns)[numbers].any(axis=None)
    if frame.empty or len(numbers) == frame.shape[1] or comes_again:
        raise InputError(f"{path}: expected a header with a name for each column, and rows")
