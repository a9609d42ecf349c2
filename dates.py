"""Dates in texts: which dates they are, and how they are written.

A form of dates is a format of strftime, and what strftime does not know: small letters, no zeros in
front, any number of decimals of seconds.
"""

import calendar
import dataclasses
import itertools
import re
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any, NamedTuple

import numpy as np

with suppress(ImportError):  # tables.require_packages says so
    import pandas as pd

MAX_WRONG = 0.05  # share of different texts that may be typos


# --- How dates are written ---------------------------------------------------------------------

LETTERS: dict[str, Callable[[str], str]] = {  # how dates with names, AM and PM are written
    "as strftime": str,
    "upper": str.upper,
    "lower": str.lower,
    "am, pm": lambda text: text.replace("AM", "am").replace("PM", "pm"),
}


@dataclasses.dataclass
class DateStyle:
    """How the dates of a column are written."""

    format: str  # of strftime; it may have ".%f" or ",%f" for the decimals of seconds
    zone: str = ""  # what is written for %z, as +02:00; all dates are in this zone
    letters: str = "as strftime"
    unpadded: Sequence[str] = ()  # parts of the format without a zero in front, as "%d"
    min_decimals: int = 6  # of seconds, between these
    max_decimals: int = 6
    whole_seconds: bool = False  # whether these are written without decimals

    def write(self, seconds: float | Decimal) -> str:
        """A date, in seconds since 1970, as text."""
        return self.write_moment(datetime(1970, 1, 1) + timedelta(seconds=float(seconds)))

    def write_moment(self, moment: datetime) -> str:
        """A date as text."""
        form = self.format.replace("%z", self.zone)
        form = form.replace("%Y", f"{moment.year:04}")  # strftime leaves zeros in front out
        for part in self.unpadded:
            form = form.replace(part, str(int(moment.strftime(part))))
        if "%f" in form:
            form = self.write_decimals(form, moment.microsecond)
        return LETTERS[self.letters](moment.strftime(form))

    def write_decimals(self, form: str, microseconds: int) -> str:
        """A format of strftime with the decimals of seconds."""
        if self.whole_seconds and microseconds == 0:
            return re.sub("[.,]%f", "", form)
        decimals = f"{microseconds:06}000"[: self.max_decimals]
        return form.replace("%f", strip_zeros(decimals, self.min_decimals))


def strip_zeros(decimals: str, least: int) -> str:
    """Decimals without the zeros at their end, but at least so many."""
    return decimals.rstrip("0").ljust(least, "0")


# --- Wrong texts -------------------------------------------------------------------------------


class WrongText(Exception):
    """A text that is not what is wanted, where nearly all are, or all should be."""

    def __init__(self, text: str, wanted: str, hint: str = "") -> None:
        super().__init__(f"expected {wanted}, found {text[:40]!r}{hint}")
        self.text = text


def are_typos(wrong: list[str], texts: list[str]) -> bool:
    """Whether so few of different texts are wrong that they are typos."""
    return 0 < len(wrong) <= MAX_WRONG * len(texts)


# --- Forms of dates ----------------------------------------------------------------------------

TIME = re.compile(
    r"""
    (?<! \d )
    \d?\d (?: : | (?P<point> \. ) ) \d\d
    (?P<seconds> (?(point) \. | : ) \d\d )?
    (?P<decimals> [.,]\d+ )?
    (?P<half> [ \u202f]? [AP]M )?
    (?(point) (?<= M ) )        # 5.03 PM is a time, 5.03 is none
    (?P<zone> (?-i: Z ) | [ ]?[+-]\d\d:?\d\d )?
    (?! \w | : )""",
    re.VERBOSE | re.IGNORECASE,
)
NAMES = {
    "%b": list(calendar.month_abbr),
    "%B": list(calendar.month_name),
    "%a": list(calendar.day_abbr),
    "%A": list(calendar.day_name),
}
DIGITS = {  # how many a part of a format has
    "%Y": [4],
    "%y": [2],
    "%m": [1, 2],
    "%d": [1, 2],
    "%j": [3],
    "%H": [1, 2],
    "%M": [2],
    "%S": [2],
    "%Y%m%d": [8],
    "%H%M": [4],
    "%H%M%S": [6],
}
WITH_NAME = ["%d %Y", "%Y %d", "%d %y", "%y %d", "%Y", "%y", "%d"]  # with the name of a month
DAY_FIRST = ["%d %m %Y", "%m %d %Y", "%d %m %y", "%m %d %y"]
MONTH_FIRST = ["%m %d %Y", "%d %m %Y", "%m %d %y", "%d %m %y"]
YEAR_FIRST = ["%Y %m %d", "%y %m %d", "%Y %m", "%m %Y", "%m %y", "%Y %j", "%Y%m%d"]
CLOCKS = ["", " %H %M", " %H %M %S", " %H%M", " %H%M%S"]  # without colons
DIGITS_ALONE = {  # by their number
    6: ["%Y%m", "%y%m%d", "%m%d%y", "%d%m%y"],
    8: ["%Y%m%d", "%m%d%Y", "%d%m%Y"],
    10: ["%Y%m%d%H"],
    12: ["%Y%m%d%H%M"],
    14: ["%Y%m%d%H%M%S"],
}
UNPADDED = [[], ["%d", "%m", "%H", "%I"], ["%H", "%I"], ["%d", "%m"], ["%d"], ["%m"], ["%y"]]


def some_of(values: Any) -> Any:
    """Up to a hundred of a list, a tensor or a series, from all parts of it."""
    return values[:: len(values) // 100 + 1]


class Dates(NamedTuple):
    """Texts as dates, in local time, and how they are written."""

    style: DateStyle
    moments: "pd.Series"


def find_dates(texts: list[str], *, is_sure: bool = False) -> Dates | None:
    """Texts that are dates, all in one form; None if they are something else.

    WrongText if nearly all are dates, or all should be as `is_sure`.
    """
    dates = None
    if all(text.removesuffix(".0").isdecimal() for text in texts):
        dates = find_digits(texts, is_sure)
    else:
        date_format, moments = find_format(texts, is_sure)
        wrong = list(itertools.compress(texts, moments.isna()))
        if not wrong:
            dates = find_style(texts, date_format, moments)
        elif is_sure or are_typos(wrong, texts):
            raise WrongText(wrong[0], "a date")
    if is_sure and dates is None:
        raise WrongText(texts[0], "a date")
    return dates


def find_digits(texts: list[str], is_sure: bool) -> Dates | None:
    """Texts of digits alone that are dates; None if they may as well be numbers.

    Then most numbers between them would be dates, too.
    """
    digits = [text.removesuffix(".0") for text in texts]
    length = max(len(text) for text in digits)
    length += length % 2  # an odd one lacks a zero in front
    padded = [text.zfill(length) for text in digits]
    for date_format in DIGITS_ALONE.get(length, []):
        if to_dates(some_of(padded), date_format).isna().any():
            continue
        dates = to_dates(padded, date_format)
        if dates.isna().any():
            continue
        numbers = [int(text) for text in digits]
        between = np.linspace(min(numbers), max(numbers), 1000).astype(np.int64)
        dates_between = to_dates([str(x).zfill(length) for x in between], date_format)
        if is_sure or dates_between.isna().mean() > 0.5:
            end = ".0" if texts[0].endswith(".0") else ""
            return find_style(texts, date_format + end, dates)
    return None


def find_format(texts: list[str], is_sure: bool) -> tuple[str, "pd.Series"]:
    """The format of strftime with which most texts are dates, and these; NaT for other texts."""
    examples = [*texts[:10], max(texts, key=len), min(texts, key=len)]
    formats = [form for text in examples for form in date_formats(text)]
    some = some_of(texts)
    wanted = 1 if is_sure else 0.9 * len(some)
    best = ""
    found = pd.Series(pd.NaT, range(len(texts)))
    for date_format in dict.fromkeys(formats):
        if to_dates(some, date_format).count() < wanted:
            continue
        dates = to_dates(texts, date_format)
        if dates.count() > found.count():
            best, found = date_format, dates
        if found.count() == len(texts):
            break
    return best, found


def date_formats(text: str) -> Iterator[str]:
    """The formats of strftime that a text may have, the likeliest first."""
    if re.fullmatch(r"\D*|[-+]?\d+([.,]\d*)?", text):  # no digits, or a number
        return
    form = TIME.sub(time_format, text.replace("%", "%%"), count=1)
    has_time = "%M" in form
    form = re.sub(r"[^\W\d_]+", name_format, form)
    has_month = "%b" in form.lower()
    digits = re.findall(r"\d+", form)
    if has_time and not digits and not has_month:
        yield form
    orders = DAY_FIRST + YEAR_FIRST
    if has_month:
        orders = WITH_NAME
    elif "/" in text:
        orders = MONTH_FIRST + YEAR_FIRST
    for order, clock in itertools.product(orders, [""] if has_time else CLOCKS):
        parts = f"{order} {clock}".split()
        if len(parts) == len(digits) and all(
            len(run) in DIGITS[part] for run, part in zip(digits, parts, strict=True)
        ):
            yield fill(form, parts)


def fill(form: str, parts: list[str]) -> str:
    """A form with parts of a format in place of its digits."""
    remaining = iter(parts)
    return re.sub(r"\d+", lambda _: next(remaining), form)


def time_format(time: re.Match) -> str:
    """The format of a match of TIME."""
    parts = ["%I" if time["half"] else "%H", "%M"]
    if time["seconds"]:
        parts.append("%S")
    form = ("." if time["point"] else ":").join(parts)
    if time["decimals"]:
        form += f"{time['decimals'][0]}%f"
    if time["half"]:
        form += f"{time['half'][:-2]}%p"
    if time["zone"]:
        form += " %z" if time["zone"].startswith(" ") else "%z"
    return form


def name_format(word: re.Match) -> str:
    """The format of a word that may be the name of a month or of a day of the week."""
    for form, names in NAMES.items():
        if word[0].title() in names:
            return form
    return word[0]


def to_dates(texts: list[str], date_format: str) -> "pd.Series":
    """Dates in a format of strftime, in UTC; NaT for other texts."""
    if "%f" in date_format:
        mark = date_format[date_format.index("%f") - 1]
        texts = [TIME.sub(lambda time: with_decimals(time, mark), text) for text in texts]
    dates = pd.to_datetime(texts, format=date_format, errors="coerce", utc=True)
    series = pd.Series(dates.as_unit("us"))
    for i in np.flatnonzero(series.isna()):  # for pandas before 3, years end in 2262
        with suppress(ValueError):
            moment = datetime.strptime(texts[i], date_format)
            series[i] = moment.astimezone(UTC) if moment.tzinfo else moment.replace(tzinfo=UTC)
    return series


def with_decimals(time: re.Match, mark: str) -> str:
    """A match of TIME, with a zero as decimal of its seconds if it has no decimals."""
    if time["decimals"] or not time["seconds"]:
        return time[0]
    end = time.end("seconds") - time.start()
    return f"{time[0][:end]}{mark}0{time[0][end:]}"


def find_style(texts: list[str], date_format: str, moments: "pd.Series") -> Dates | None:
    """Texts that are dates in a format of strftime; None if most are not written so."""
    style = DateStyle(date_format)
    if "%z" in date_format or "%f" in date_format:
        set_clock(style, texts)
    zone = datetime.strptime(style.zone or "Z", "%z").tzinfo
    local = moments.dt.tz_convert(zone).dt.tz_localize(None)
    style, share = best_style(style, some_of(local), some_of(texts))
    # In a country with summer time, only about a half has the most frequent zone
    return Dates(style, local) if share > 0.3 else None


def set_clock(style: DateStyle, texts: list[str]) -> None:
    """Sets the most frequent zone of dates, and how many decimals their seconds have."""
    times = [time for time in map(TIME.search, texts) if time]
    zones = Counter((time["zone"] or "").strip() for time in times)
    style.zone = zones.most_common(1)[0][0]
    lengths = {len(time["decimals"] or "") - 1 for time in times}
    style.whole_seconds = -1 in lengths
    lengths.discard(-1)
    if lengths:
        style.min_decimals = min(lengths)
        style.max_decimals = max(lengths)


def best_style(style: DateStyle, moments: "pd.Series", texts: list[str]) -> tuple[DateStyle, float]:
    """The variant of a style that writes most dates as the texts, and the share of these.

    Nanoseconds do not count.
    """
    best = style
    best_share = 0.0
    for letters, unpadded in itertools.product(LETTERS, UNPADDED):
        trial = dataclasses.replace(style, letters=letters, unpadded=unpadded)
        written = [trial.write_moment(moment) for moment in moments]
        same = [
            to_microseconds(a) == to_microseconds(b) for a, b in zip(written, texts, strict=True)
        ]
        share = sum(same) / len(texts)
        if share > best_share:
            best, best_share = trial, share
        if share == 1:
            break
    return best, best_share


def to_microseconds(text: str) -> str:
    """A text without the digits of a second that follow those of microseconds."""
    return re.sub(r"([.,]\d{6})\d+", r"\1", text)
