"""CSV files as people have them: `read_table` gives a DataFrame of texts.

The encoding, the separator and the header are found out.
"""

import codecs
import csv
import io
import itertools
import re
import sys
from collections import Counter
from contextlib import suppress
from pathlib import Path

from common import Failure, InputError

with suppress(ImportError):  # tables.require_packages says so
    import pandas as pd


def read_table(path: Path, encoding: str | None = None) -> "pd.DataFrame":
    """A CSV file with a header as a DataFrame of texts, with its lines as index; errors name them.

    Commas, semicolons, tabs, bars or blanks separate the columns. Failure if the file cannot be
    read, InputError if it is no table, or not in the encoding.
    """
    text = read_text(path, encoding)
    named = re.match(r"sep=(.)\s", text)  # Excel writes such a line
    separator = named[1] if named else find_separator(text)
    lines = split_lines(text, separator)
    if named:
        del lines[1]
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
    frame.columns = pd.Index(name_all(list(frame.columns)))
    return frame


# --- Encodings ---------------------------------------------------------------------------------

NOT_IN_TEXT = re.compile(r"[\x00-\x08\x0e-\x19]")  # control characters


def read_text(path: Path, encoding: str | None = None) -> str:
    """The text of a file; by default in UTF-8 or UTF-16, else it is taken for Windows-1252.

    Failure if it cannot be read, InputError if it is no text in this encoding.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None
    assumed = None
    if encoding:
        text = decode(path, content, encoding)
    elif content.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        text = decode(path, content, "utf-16")
    else:
        try:
            text = content.decode("utf-8-sig")
        except UnicodeDecodeError:
            assumed = "cp1252"
            text = content.decode(assumed, errors="replace")
    text = text.replace("\x1a", "")  # DOS ends files so
    if NOT_IN_TEXT.search(text):
        raise InputError(f"{path} is not text")
    if assumed:
        print(f"{path}: not UTF-8; read as {assumed}, else give --encoding", file=sys.stderr)
    return text


def decode(path: Path, content: bytes, encoding: str) -> str:
    """The text that bytes are in an encoding; InputError if they are not, or if there is none."""
    try:
        return content.decode(encoding).removeprefix("\ufeff")
    except LookupError:
        raise InputError(f"--encoding: there is no encoding {encoding!r}") from None
    except UnicodeError:
        raise InputError(f"{path} is not text in {encoding}") from None


# --- Lines and cells ---------------------------------------------------------------------------

SEPARATORS = {  # of columns, each with those that are rarer in texts and numbers
    ",": ";\t|",
    ";": "\t|",
    "\t": "",
    "|": "\t",
    " ": ",;\t|",
}


def find_separator(text: str) -> str:
    """The separator that fits a text best; one that is not in it, if its header has one cell."""
    fits = {separator: fit(text, separator) for separator in SEPARATORS}
    if not any(fits.values()) and '"' not in text:
        return next((separator for separator in SEPARATORS if separator not in text), ",")
    return max(fits, key=lambda separator: fits[separator])


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


def fit(text: str, separator: str) -> float:
    """How well a separator fits a text, from 0 to 1; 0 if the header has one cell.

    It is the share of lines with as many cells as the header, or one more, times the share of
    cells without a separator that is rarer.
    """
    try:
        lines = list(split_lines(text, separator, 200).values())
    except InputError:
        return 0
    if len(lines) < 2 or len(lines[0]) == 1:
        return 0
    header, *rows = lines
    lengths = Counter(len(row) for row in rows)
    length, count = lengths.most_common(1)[0]
    share = count / len(rows)
    if length not in (len(header), len(header) + 1):
        share /= 2
    cells = list(itertools.chain(*rows))
    rarer = set(SEPARATORS[separator])
    whole = sum(rarer.isdisjoint(cell) for cell in cells)
    return share * whole / len(cells)


# --- Headers -----------------------------------------------------------------------------------

NUMBER_IN_HEADER = re.compile(r"[-+(]?[$€£]?\d[\d.,]*(e[-+]?\d+)?\)?", re.IGNORECASE)
YEARS = range(1500, 2200)


def complete_header(header: list[str], rows: list[list[str]]) -> list[str]:
    """The header, with a name more if all rows have a cell more."""
    if {len(row) for row in rows} != {len(header) + 1}:
        return header
    if any(row[-1] for row in rows):
        return ["", *header]  # R writes the names of rows so
    return [*header, ""]  # a separator at the end of each line but the first


def without_empty_columns(frame: "pd.DataFrame") -> "pd.DataFrame":
    """All columns but those with neither a name nor cells: lines may end with separators."""
    empty = (frame == "").all() & (frame.columns == "")
    return frame.loc[:, ~empty.to_numpy()]


def require_header(path: Path, frame: "pd.DataFrame") -> None:
    """InputError if a table has no rows, or if its header is a row of data: if it has numbers.

    It may have numbers that count from 0, as pandas writes columns without names, or years.
    """
    numbers = [name for name in frame if NUMBER_IN_HEADER.fullmatch(name)]
    counted = [str(i) for i in range(len(numbers))]
    are_years = is_row_of_years(numbers) and len(numbers) < frame.shape[1]
    if are_years:
        comes_again = (frame == frame.columns)[numbers].any(axis=None)
        are_years = not comes_again
    wanted = f"{path}: expected a header with a name for each column, and rows"
    if frame.empty:
        raise InputError(wanted)
    if numbers != counted and not are_years:
        raise InputError(f"{wanted}; {numbers[0]} is no name")


def is_row_of_years(names: list[str]) -> bool:
    """Whether names are years, one after the other."""
    if not all(name.isdecimal() and int(name) in YEARS for name in names):
        return False
    return names == sorted(set(names)) or names == sorted(set(names), reverse=True)


def name_all(header: list[str]) -> list[str]:
    """The names of columns; the first one without a name is called "row", others by their place."""
    names: list[str] = []
    for place, name in enumerate(header, start=1):
        if not name:
            name = "row" if "row" not in [*header, *names] else f"column {place}"
        names.append(name)
    return names
