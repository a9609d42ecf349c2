"""How the cells of a table are read and written: numbers, dates, categories.

`parse` finds out what a column of a DataFrame is, and turns it into cells: numbers, dates as
seconds since 1970, or the indices of categories. `to_frame` turns cells back; numbers and dates get
the form in which they came.
"""

import dataclasses
import itertools
import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, time
from decimal import Context, Decimal
from typing import Any, NamedTuple, Self

import numpy as np
import torch
from torch import Tensor

from common import InputError
from dates import DateStyle, WrongText, are_typos, find_dates, some_of, strip_zeros

with suppress(ImportError):  # tables.require_packages says so
    import pandas as pd

LARGEST = 1e37  # allowed absolute value: sums of larger ones may overflow float32
EXACT = 2**53  # float64 holds all whole numbers up to this one
FLOAT_DIGITS = 15  # digits of numbers that were calculated, and not rounded


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


def looks_random(cells: Tensor) -> Tensor:
    """Numbers (n,) from 0 to 1, made of the digits of cells (n,), the same for the same cells."""
    mantissa, _ = torch.frexp(cells)
    return (mantissa * 1e6 * math.pi).frac().abs()


def coarser(step: int) -> int:
    """The step, in units of one decimal less, of those numbers on a grid that do not need it."""
    return math.lcm(step, 10) // 10


@dataclasses.dataclass
class NumberStyle:
    """How the numbers of a column are written."""

    positive: str = "#"  # "#" are the digits: "$#" has a currency before them, "# km" a unit after
    negative: str = "-#"
    neutral: str = "#"  # of zero: it may have no sign where positive numbers have one
    group: str = ""  # between thousands
    point: str = "."
    zero: str = "0"  # before the point; "" if 0.5 is written as .5
    min_decimals: int = 0  # zeros after these are left out
    float_format: str | None = None  # Python's format of numbers that have powers of ten
    digits: int | None = None  # how many a number has at most, without zeros around them

    def write(self, number: float | Decimal) -> str:
        """A number as text."""
        absolute = abs(Decimal(str(number)))
        if self.digits:
            absolute = Context(prec=self.digits).plus(absolute)
        if self.float_format is None:
            whole, _, decimals = format(absolute, ",f").partition(".")
            decimals = strip_zeros(decimals, self.min_decimals)
        else:
            whole, _, decimals = format(float(absolute), self.float_format).partition(".")
        if decimals and whole == "0":
            whole = self.zero
        digits = whole.replace(",", self.group)
        if decimals:
            digits += self.point + decimals
        return self.template(number).replace("#", digits)

    def template(self, number: float | Decimal) -> str:
        """What stands around the digits of a number."""
        if number == 0:
            return self.neutral
        return self.negative if number < 0 else self.positive


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
    # The share of numbers that are rounded to no decimals, to at most 1, to at most 2, ...
    rounded: list[float] = dataclasses.field(default_factory=list)

    def nearest(self, cells: Tensor) -> Tensor:
        """The cells (n,) of numbers or dates that the column may hold, nearest to these (n,)."""
        numbers = self.grid.nearest(cells) if self.grid else cells
        # Each number chooses its decimals by its own digits, which look random
        chance = looks_random(cells)
        step = self.grid.step if self.grid else 1
        for decimals in reversed(range(len(self.rounded))):
            step = coarser(step)
            rounded = Grid(decimals, step=step).nearest(numbers)
            is_rounded = (chance < self.rounded[decimals]) & (rounded != 0)
            numbers = rounded.where(is_rounded, numbers)
        return numbers

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
# How cells are written that have no number and no date, in small letters
NAMES_OF_NOTHING = ["", "na", "n/a", "n.a.", "<na>", "nan", "-nan", "nat", "null", "none", "nil"]
MARKS_OF_NOTHING = ["-", "--", "?", ".", "..", "...", r"\n", "0000-00-00"]
ERRORS_OF_EXCEL = ["#n/a", "#na", "#null!", "#value!", "#div/0!", "#ref!", "#num!", "#name?"]
INFINITE = ["inf", "+inf", "-inf", "infinity", "+infinity", "-infinity"]
MISSING = {*NAMES_OF_NOTHING, *MARKS_OF_NOTHING, *ERRORS_OF_EXCEL, *INFINITE}
DECLARED = "as --types says"  # why columns are left out
COUNTING = "as it counts the rows"
DIFFERENT = "as nearly every text is different"
KEPT_AS = {COUNTING: "number", DIFFERENT: "category"}  # by --types, which keeps the column
MAX_CATEGORIES = 10  # so many numbers are still categories
MAX_DIFFERENT = 0.7  # share of texts that are different, or they are IDs


def parse(series: "pd.Series", kind: str | None = None) -> Parsed | str:
    """What a column of a DataFrame is, and its cells (n,); or why it is an ID, to be left out.

    Numbers with up to 10 values are categories. Missing numbers are NaN, and are written as the
    most frequent mark. InputError if the texts are not of the `kind`, one of KINDS.
    """
    if kind == "id":
        return DECLARED
    texts = as_texts(series)
    present = series.notna() & ~texts.str.lower().isin(MISSING)
    indices, different_texts = pd.factorize(texts.where(present))  # -1 for missing ones
    different = list(different_texts)
    counts = np.bincount(indices[indices >= 0])
    parsed = None
    if different and kind != "category" and not isinstance(series.dtype, pd.CategoricalDtype):
        try:
            parsed = parse_texts(different, counts, kind)
        except WrongText as error:
            raise InputError(describe_wrong_text(texts, error)) from None

    reason = reason_to_leave_out(parsed, len(different), present)
    if kind is None and reason:
        return reason
    has_few_values = len(different) <= min(MAX_CATEGORIES, len(series) / 2)
    if parsed is None or (kind is None and has_few_values):
        return parse_categories(series)
    column, cells = parsed
    column.name = str(series.name)
    column.repeated = column.repeated or len(different) <= len(series) / 10
    if column.repeated:
        column.rounded = []
    if not present.all():
        mark = series[~present].mode(dropna=False).iloc[0]
        column.missing = math.nan if pd.isna(mark) else mark
    return column, torch.cat([cells, torch.tensor([math.nan])])[indices]


def as_texts(series: "pd.Series") -> "pd.Series":
    """The cells of a column as texts, without blanks around them; durations in seconds."""
    inferred = series.infer_objects()
    if pd.api.types.is_datetime64_any_dtype(inferred):
        series = inferred.dt.tz_localize(None).dt.as_unit("us")  # in local time, days have 24 hours
    if pd.api.types.is_timedelta64_dtype(inferred):
        series = inferred.dt.total_seconds()
    return series.astype(str).str.strip()


def parse_texts(texts: list[str], counts: np.ndarray, kind: str | None) -> Parsed | None:
    """Different texts, with their counts (n,), as dates or numbers; None if they are neither.

    WrongText for one that is not of the `kind`, or unlike nearly all others.
    """
    parsed = None
    if kind != "number":
        parsed = parse_dates(texts, counts, is_sure=kind == "date")
    if kind != "date" and parsed is None:
        parsed = parse_numbers(texts, counts, is_sure=kind == "number")
    return parsed


def describe_wrong_text(texts: "pd.Series", error: WrongText) -> str:
    """A wrong text as a message, with its line in the file, or its row."""
    label = texts.index[texts == error.text][0]
    place = f"line {label}" if texts.index.name == "line" else f"row {label}"
    name = str(texts.name)
    return f"{place}, column {name!r}: {error}; correct it, or --types {name}=category"


def reason_to_leave_out(parsed: Parsed | None, different: int, present: "pd.Series") -> str | None:
    """Why a column with so many different texts is an ID, where some may be missing; else None."""
    if parsed is None:
        is_id = different > max(9, MAX_DIFFERENT * present.sum())
        return DIFFERENT if is_id else None
    column, cells = parsed
    count = len(present)
    if column.date or different < max(10, count):
        return None
    counted = torch.arange(count).to(cells)
    counts_rows = cells.equal(counted) or cells.equal(counted + 1)
    return COUNTING if counts_rows else None


def parse_dates(texts: list[str], counts: np.ndarray, *, is_sure: bool = False) -> Parsed | None:
    """Texts that are dates, exact to the microsecond; None or WrongText as find_dates."""
    found = find_dates(texts, is_sure=is_sure)
    if found is None:
        return None
    dates = found.moments.dt
    lengths = [len(f"{microseconds:06}".rstrip("0")) for microseconds in dates.microsecond]
    decimals = max(lengths)
    units = dates.as_unit("us").astype("int64") // 10 ** (6 - decimals)
    grid = Grid.through(units.tolist(), decimals)
    column = Column("", grid=grid, date=found.style)
    are_days = bool((found.moments == dates.normalize()).all())
    column.repeated = are_days and bool(dates.is_month_start.all() or dates.is_month_end.all())
    column.rounded = rounded_shares(lengths, counts, grid.step)
    return column, grid.cells(units.tolist())


def parse_categories(series: "pd.Series") -> Parsed:
    """A column of categories; missing cells, if there are any, are the last one: None."""
    try:
        categorical = pd.Categorical(series)
    except TypeError:  # lists
        categorical = pd.Categorical(series.astype(str))
    categorical = categorical.remove_unused_categories()
    categories = categorical.categories.tolist()
    indices = categorical.codes.astype(np.float64)  # -1 for missing ones
    if categorical.isna().any():
        indices[indices < 0] = len(categories)
        categories.append(None)
    return Column(str(series.name), categories), torch.from_numpy(indices)


# --- Numbers -----------------------------------------------------------------------------------

POINTS = [".", ","]
BLANKS = " \u00a0\u202f"
GROUPS = ["", ",", ".", "'", "\u2019", *BLANKS]  # between thousands
CURRENCIES = "€£¥₹₽₩₺₴₫₪฿"
MINUS = "\u2212\u2013-"  # a minus, a dash, a hyphen; as in [+-], the hyphen comes last
NUMBER = rf"""
    (?P<before>
        (?P<bracket> \( )?                              # (5) is -5
        [+{MINUS}]?
        (?: [A-Z]{{{{0,2}}}}[$] | [{CURRENCIES}] | USD | EUR | GBP | CHF )? [{BLANKS}]?
        [+{MINUS}]?
    )
    (?= \D?\d )                                         # there are digits before or after a point
    (?P<whole> 0 | [1-9]\d* | [1-9]\d?\d? (?: {{group}}\d\d\d )+ )?  # 0, but not 007
    (?: {{point}} (?P<decimals> \d* ) )?
    (?P<power> E[-+]\d+ | e[-+]?\d+ )?
    (?P<after> (?: [{BLANKS}]? [^\d\s.,:;_#()+{MINUS}]{{{{1,5}}}} )? (?(bracket) \) ) )  # a unit
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

    @property
    def needed_decimals(self) -> int:
        """How many decimals the number has, without zeros at the end."""
        decimals = len(self.decimals.rstrip("0"))
        if self.power:
            decimals -= int(self.power[1:])
        return max(decimals, 0)

    @property
    def digits(self) -> str:
        """The digits, and what separates thousands, without zeros around them."""
        return (self.whole + self.decimals).strip("0")


def parse_numbers(texts: list[str], counts: np.ndarray, *, is_sure: bool = False) -> Parsed | None:
    """Texts that are numbers, all written in one style; None if they are not, or codes.

    WrongText if nearly all are numbers, or all should be as `is_sure`, and for those above LARGEST.
    """
    style, found = find_number_style(texts, 0 if is_sure else 0.9)
    wrong = [text for text, number in zip(texts, found, strict=True) if number is None]
    numbers = [number for number in found if number is not None]
    if wrong:
        are_zip_codes = all(has_zero_in_front(text) for text in wrong)
        if is_sure or (are_typos(wrong, texts) and not are_zip_codes):
            raise WrongText(wrong[0], "a number", why_no_number(wrong[0], style))
        return None
    if not is_sure and are_codes(numbers, style):
        return None
    return number_column(texts, counts, numbers, style, is_sure)


def number_column(
    texts: list[str],
    counts: np.ndarray,
    numbers: list[NumberText],
    style: NumberStyle,
    is_sure: bool,
) -> Parsed | None:
    """Texts that are numbers in a style; None if they are whole, and of too large a range.

    They are exact if their range is one that float64 can hold.
    """
    literals = [python_literal(number, style) for number in numbers]
    cells = torch.tensor([float(literal) for literal in literals], dtype=torch.float64)
    largest = int(cells.abs().argmax())
    if cells[largest].abs() > LARGEST:
        raise WrongText(texts[largest], f"a number up to {LARGEST:g}")
    lengths = [number.needed_decimals for number in numbers]
    decimals = max(lengths)
    powers = sum(number.power != "" for number in numbers)
    column = Column("", style=style)
    if powers < len(numbers):
        units = [int(Decimal(literal).scaleb(decimals)) for literal in literals]
        if max(units) - min(units) <= EXACT:
            column.grid = Grid.through(units, decimals)
            cells = column.grid.cells(units)
    if column.grid is None and decimals == 0 and powers == 0 and not is_sure:
        return None

    style.min_decimals = min(len(number.decimals) for number in numbers)
    if powers:
        longest = max(len(number.decimals) for number in numbers)
        some = some_of(cells), some_of(texts)
        style.float_format = find_float_format(style, longest, *some)
    if decimals:
        set_precision(column, numbers, lengths, counts)
    return column, cells


def find_number_style(
    texts: list[str], least: float
) -> tuple[NumberStyle, list[NumberText | None]]:
    """The style in which most texts are numbers, and what these are; None for other texts.

    Only separators that fit at least this share of the texts are tried.
    """
    best = NumberStyle()
    found: list[NumberText | None] = [None] * len(texts)
    fewest = len(texts)
    some = some_of(texts)
    for point, group in itertools.product(POINTS, GROUPS):
        if match_all(some, group, point).count(None) > (1 - least) * len(some):
            continue
        numbers = match_all(texts, group, point)
        style = style_of([number for number in numbers if number], group, point)
        fitting = [number if number and fits(number, style) else None for number in numbers]
        wrong = sum(number is None for number in fitting)
        if wrong < fewest:
            best, found, fewest = style, fitting, wrong
        if wrong == 0:
            break
    return best, found


def match_all(texts: list[str], group: str, point: str) -> list[NumberText | None]:
    """The numbers that texts are; None for texts that are none with these separators."""
    pattern = NUMBER.format(group=re.escape(group), point=re.escape(point))
    fullmatch = re.compile(pattern, re.VERBOSE).fullmatch
    matches = [fullmatch(text) for text in texts]
    return [NumberText(*match.groups("")) if match else None for match in matches]


def style_of(numbers: list[NumberText], group: str, point: str) -> NumberStyle:
    """The style that most numbers have."""
    style = NumberStyle(group=group, point=point)
    counts = Counter(number.template for number in numbers)
    frequent = [template for template, _ in counts.most_common()]
    without_minus = [template for template in frequent if not is_negative(template)]
    with_minus = [template for template in frequent if is_negative(template)]
    if without_minus:
        style.positive = without_minus[0]
    elif with_minus:
        style.positive = without_sign(with_minus[0])
    bare = without_sign(style.positive)
    alike = [template for template in with_minus if without_sign(template) == bare]
    style.negative = alike[0] if alike else f"-{bare}"
    style.neutral = bare if bare in frequent else style.positive
    if not all(number.whole for number in numbers):
        style.zero = ""
    return style


def is_negative(template: str) -> bool:
    """Whether a template of NumberStyle has a minus, or brackets."""
    return re.search(f"[({MINUS}]", template) is not None


def without_sign(template: str) -> str:
    """A template of NumberStyle without a sign or brackets."""
    return re.sub(f"[()+{MINUS}]", "", template)


def fits(number: NumberText, style: NumberStyle) -> bool:
    """Whether a number is written in this style."""
    if number.template in (style.positive, style.negative):
        return True
    return number.template == style.neutral and not number.digits


def has_zero_in_front(text: str) -> bool:
    """Whether a text has digits alone, the first of them a zero, as a code may."""
    return re.fullmatch(r"0\d+", text) is not None


def why_no_number(text: str, style: NumberStyle) -> str:
    """What is wrong with a text as a number of a style, if that is not plain to see."""
    if has_zero_in_front(text):
        return ", which has a zero in front"
    if match_all([text], style.group, style.point) != [None]:
        return f", where others are written as {style.positive.replace('#', '5')!r}"
    return ""


def are_codes(numbers: list[NumberText], style: NumberStyle) -> bool:
    """Whether texts that could be numbers are phone numbers, versions or other codes."""
    if style.positive == "+#" and not any(is_negative(number.template) for number in numbers):
        return not any(number.decimals for number in numbers)  # phone numbers
    without_signs = sum(number.power[1:].isdecimal() for number in numbers)
    return without_signs > len(numbers) / 2 or are_versions(numbers)


def are_versions(numbers: list[NumberText]) -> bool:
    """Whether zeros at the end count, as in 2.10 beside 2.9: both have the same whole part.

    One such zero in a column of prices is none of this.
    """
    if len({len(number.decimals) for number in numbers}) == 1:
        return False
    decimals = [number.decimals for number in numbers if number.decimals[1:]]
    with_zero = [text for text in decimals if text.endswith("0")]
    if len(with_zero) <= len(decimals) / 20:
        return False
    shortest: dict[str, int] = {}  # number of decimals, by whole part
    for number in numbers:
        if number.decimals:
            length = len(number.decimals)
            shortest[number.whole] = min(length, shortest.get(number.whole, length))
    return any(
        number.decimals.endswith("0")
        and not number.decimals.startswith("0")
        and len(number.decimals) > shortest[number.whole]
        for number in numbers
    )


def python_literal(number: NumberText, style: NumberStyle) -> str:
    """A number as Python writes it."""
    sign = "-" if number.template == style.negative else ""
    whole = number.whole.replace(style.group, "")
    return f"{sign}{whole}.{number.decimals}{number.power}"


def find_float_format(
    style: NumberStyle, decimals: int, cells: Tensor, texts: list[str]
) -> str | None:
    """Python's format that writes most cells (n,) as the texts; None if no powers of ten do so."""

    def count_written(float_format: str | None) -> int:
        trial = dataclasses.replace(style, float_format=float_format)
        pairs = zip(cells.tolist(), texts, strict=True)
        return sum(trial.write(cell) == text for cell, text in pairs)

    return max([f".{decimals}e", f".{decimals}E", "", None], key=count_written)


def set_precision(
    column: Column, numbers: list[NumberText], lengths: list[int], counts: np.ndarray
) -> None:
    """Lets a column have numbers with as many digits, or decimals, as these with `lengths`."""
    digits = [len(number.digits.replace(column.style.group, "")) for number in numbers]
    longest = max(lengths)
    lengths = [
        longest if count >= FLOAT_DIGITS else length
        for count, length in zip(digits, lengths, strict=True)
    ]
    rounded = rounded_shares(lengths, counts, column.grid.step if column.grid else 1)
    most = min(max(digits), FLOAT_DIGITS)
    have_most = sum(count >= most for count in digits)
    if have_most < 0.85 * len(digits):
        column.rounded = rounded
    elif max(digits) <= FLOAT_DIGITS and (rounded or column.grid is None):
        column.style.digits = max(digits)


def rounded_shares(lengths: list[int], counts: np.ndarray, step: int) -> list[float]:
    """The share of numbers to round to no decimals, to at most 1, to at most 2, ...

    With it they have as many decimals as those with these `lengths` and counts (n,). Some do not
    need the last decimal by chance: a tenth of them, if the step between numbers is one unit of it.
    """
    if len(set(lengths)) == 1:
        return []
    # A number that comes again comes out as it is: two of the 1,000 quantiles of a Decoder may be
    # equal, with nothing between them
    weights = np.minimum(counts, max(counts.sum() / 1000, 1))
    shares = np.bincount(lengths, weights).cumsum() / weights.sum()
    rounded = shares.copy()
    for decimals in reversed(range(len(shares) - 1)):
        by_chance = math.gcd(step, 10) / 10
        more = shares[decimals] - by_chance * shares[decimals + 1]
        rounded[decimals] = max(more / (1 - by_chance), 0)
        step = coarser(step)
    has_too_few = (rounded[:-1] < 0.05).all()
    return [] if has_too_few else rounded[:-1].tolist()


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


OBJECTS: dict[str, Callable[[str], Any]] = {  # what pandas infers, and how it is made of a text
    "decimal": Decimal,
    "date": date.fromisoformat,
    "time": time.fromisoformat,
    "integer": int,
    "floating": float,
    "mixed-integer-float": float,
}


def dtypes_of(series: "pd.Series", column: Column) -> tuple:
    """What texts of a column are converted to, one after the other; see `convert`."""
    objects = pd.api.types.infer_dtype(series, skipna=True)
    if series.dtype.kind == "O" and objects in OBJECTS and not column.categories:
        return objects, series.dtype
    return series.infer_objects().dtype, series.dtype


def convert(texts: "pd.Series", dtypes: tuple) -> "pd.Series":
    """Texts converted to dtypes, or what OBJECTS names, one after the other."""
    first, last = dtypes
    if isinstance(first, str):
        make = OBJECTS[first]
        objects = [None if pd.isna(text) else make(text) for text in texts]
        return pd.Series(objects, dtype=last)
    series = texts
    if isinstance(first, pd.DatetimeTZDtype):
        summer = np.ones(len(series), dtype=bool)  # of an hour that comes twice, the first
        dates = pd.to_datetime(series).dt
        series = dates.tz_localize(first.tz, ambiguous=summer, nonexistent="shift_forward")
    if pd.api.types.is_timedelta64_dtype(first):
        series = pd.to_timedelta(series.astype(float), unit="s")
    return series.astype(first).astype(last)
