"""columns.py, dates.py and csvfile.py: what people's files hold, and how it is written back."""

import gzip
from datetime import time, timedelta
from decimal import Decimal

import numpy as np
import pandas as pd
import pytest
import torch

import columns
import csvfile
import table_gan
from columns import parse, to_frame
from common import InputError
from tables import Decoder, Table

ROWS = 300
RANDOM = np.random.default_rng(1)
NUMBERS = RANDOM.normal(100, 30, ROWS)
SECONDS = RANDOM.integers(10**9, 17 * 10**8, ROWS)
DATES = pd.Series(pd.to_datetime(SECONDS, unit="s").as_unit("us"))
EXACT_DATES = DATES + pd.to_timedelta(RANDOM.integers(1, 10**6, ROWS), unit="us")


def write(folder, content, encoding="utf-8"):
    path = folder / "table.csv"
    path.write_bytes(content if isinstance(content, bytes) else content.encode(encoding))
    return path


def kind_of(texts, kind=None):
    """What texts are taken for, and the share of them that comes back as it came."""
    parsed = parse(pd.Series(texts, name="x"), kind)
    if isinstance(parsed, str):
        return "left out", 0
    column, cells = parsed
    back = column.values(cells)
    share = np.mean([str(value) == text for value, text in zip(back, texts, strict=True)])
    if column.categories:
        return "category", share
    return "date" if column.date else "number", share


def generated(texts, n=2000):
    """Random values of a column as texts."""
    table = Table(pd.DataFrame({"x": texts}))
    noise = torch.randn(n, table.rows.shape[1])
    return to_frame(Decoder(table.cells, table.columns)(noise), table.columns)["x"]


# --- Dates -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        "%d-%b-%y",
        "%d-%b-%Y %H:%M",
        "%b-%y",
        "%B %d, %Y",
        "%A, %d %B %Y",
        "%a %b %d %H:%M:%S +0000 %Y",
        "%d.%m.%y",
        "%Y/%m/%d %H:%M:%S",
        "%Y-%m-%d %H:%M:%S UTC",
        "%Y-%m-%dT%H:%M:%S-0500",
        "%d.%m.%Y, %H:%M Uhr",
        "%d%b%Y:%H:%M:%S",
        "%Y-%m-%d_%H%M%S",
        "%Y-%j",
        "%I:%M%p",
        "%Y%m%d%H%M%S",
        "%Y%m",
        "%d%m%Y",
    ],
)
def test_dates_of_any_form_come_back_in_it(form):
    assert kind_of(list(DATES.dt.strftime(form))) == ("date", 1)


def without_zero(date):
    return f"{date.month}/{date.day}/{date.year} {date.hour % 12 or 12}:{date:%M%p}".lower()


ODD_DATES = {
    "capital letters": [text.upper() for text in DATES.dt.strftime("%d-%b-%y")],
    "an Oracle timestamp": [t.upper() for t in DATES.dt.strftime("%d-%b-%y %I.%M.%S.000000000 %p")],
    "small letters": [text.lower() for text in DATES.dt.strftime("%d %b %Y")],
    "no zeros in front": [without_zero(date) for date in DATES],
    "digits without a zero in front": [f"{date.month}{date:%d%Y}" for date in DATES],
    "milliseconds": [f"{date.isoformat(timespec='milliseconds')}Z" for date in EXACT_DATES],
    "a comma": [f"{date:%Y-%m-%d %H:%M:%S},{i:03}" for i, date in enumerate(DATES)],
    "no zeros at the end": [date.isoformat(" ").rstrip("0") for date in EXACT_DATES],
    "times with decimals": [date.time().isoformat() for date in EXACT_DATES],
}


@pytest.mark.parametrize("name", ODD_DATES)
def test_dates_that_strftime_does_not_write_come_back(name):
    assert kind_of(ODD_DATES[name]) == ("date", 1)


def test_whole_seconds_may_lack_decimals():
    texts = [date.isoformat() for date in EXACT_DATES]
    texts[::2] = [date.isoformat() for date in DATES[::2]]
    assert kind_of(texts) == ("date", 1)
    assert generated(texts).str.contains(".", regex=False).mean() == pytest.approx(0.5, abs=0.06)


def test_summer_time_is_one_of_two_zones():
    local = DATES.dt.tz_localize("UTC").dt.tz_convert("Europe/Berlin")
    texts = [date.isoformat() for date in local]
    column, cells = parse(pd.Series(texts))
    assert (pd.to_datetime(column.values(cells), utc=True) == local).all()


def test_generated_digits_are_dates():
    days = pd.to_datetime(generated(list(DATES.dt.strftime("%Y%m%d%H%M%S"))), format="%Y%m%d%H%M%S")
    assert days.between(DATES.min(), DATES.max()).all()


@pytest.mark.parametrize(
    ("texts", "kind"),
    [
        (list(map(str, SECONDS)), "number"),
        (list(map(str, RANDOM.integers(10**5, 10**6, ROWS))), "number"),
        (list(map(str, range(1700, 1700 + ROWS))), "number"),
        ([f"{x}-{y}" for x, y in RANDOM.integers(0, 40, (ROWS, 2))], "left out"),
        ([f"{x}:{y}" for x, y in RANDOM.integers(0, 8, (ROWS, 2))], "category"),
        ([f"{x}.{y}.{z}.1" for x, y, z in RANDOM.integers(0, 99, (ROWS, 3))], "left out"),
        (list(DATES.dt.strftime("%A")), "category"),
    ],
)
def test_what_is_no_date_stays_what_it_is(texts, kind):
    assert kind_of(texts)[0] == kind


# --- Numbers -----------------------------------------------------------------------------------


ODD_NUMBERS = {
    "signs": [f"{x - 100:+.2f}" for x in NUMBERS],
    "signs and units": [f"{x - 100:+.1f} %" if x - 100 else "0.0 %" for x in NUMBERS],
    "zero without a sign": [f"{x:+}" if x else "0" for x in RANDOM.integers(-40, 40, ROWS)],
    "a real minus": [f"{x - 100:.2f}".replace("-", "\u2212") for x in NUMBERS],
    "no decimals after the point": [f"{x:.0f}.5" if x > 100 else f"{x:.1f}" for x in NUMBERS],
    "powers of ten as Python writes them": [repr(x**-9) for x in NUMBERS.tolist()],
    "powers of ten as C writes them": [f"{x**-9:.3g}" for x in NUMBERS],
    "marks for missing": [r"\N" if x > 100 else f"{x:.1f}" for x in NUMBERS],
    "points for missing": ["." if x > 100 else f"{x:.1f}" for x in NUMBERS],
    "infinite ones": ["-inf" if x > 100 else f"{x:.1f}" for x in NUMBERS],
    "16 digits": [str(4 * 10**15 + 7 * int(x)) for x in SECONDS],
    "money of Brazil": [f"R$ {x:.2f}".replace(".", ",") for x in NUMBERS],
    "money of Poland": [f"{x:.2f}\u00a0zł".replace(".", ",") for x in NUMBERS],
    "ranks": [str(rank) for rank in RANDOM.permutation(ROWS) + 1],
}


@pytest.mark.parametrize("name", ODD_NUMBERS)
def test_numbers_come_back_as_they_came(name):
    kind, share = kind_of(ODD_NUMBERS[name])
    assert kind == "number"
    assert share > 0.98  # all but a zero with a sign


def test_powers_of_ten_as_r_writes_them_change_nothing_else():
    thousands = [f"{1000 * x}" for x in RANDOM.integers(50, 99, ROWS)]
    new = generated([*thousands, "1e+05", "1e+05"])
    assert new.str.fullmatch(r"\d+000").all()
    decimals = [f"{x:.1f}" for x in NUMBERS]
    assert generated([*decimals, "1e3"]).str.fullmatch(r"\d+(\.\d)?").all()


def decimals_of(texts):
    return pd.Series(texts).str.partition(".")[2].str.len()


@pytest.mark.parametrize(
    ("texts", "decimals"),
    [
        ([repr(round(x, 2) + 0.1 + 0.2 * (i % 4 == 0)) for i, x in enumerate(NUMBERS.tolist())], 2),
        ([f"{x:.2f}" if i % 3 else f"{x:.0f}" for i, x in enumerate(NUMBERS)], 0),
        ([*(f"{x:.0f}" for x in NUMBERS), "23.5"], 0),
        ([repr(round(x, 2)) for x in NUMBERS.tolist()], 1),
        ([repr(round(4 * x) / 4) for x in NUMBERS.tolist()], 1),
    ],
)
def test_decimals_are_as_frequent_as_they_were(texts, decimals):
    real = (decimals_of(texts) <= decimals).mean()
    new = (decimals_of(generated(texts)) <= decimals).mean()
    assert new == pytest.approx(real, abs=0.04)


def test_significant_digits_are_as_many_as_they_were():
    texts = [f"{float(f'{x:.3g}'):f}".rstrip("0") for x in np.exp(NUMBERS / 20 - 8)]
    digits = generated(texts).str.replace(".", "").str.strip("0").str.len()
    assert digits.max() == 3


def test_versions_are_texts_and_one_zero_too_many_is_none():
    versions = [f"{x}.{y}" for x, y in RANDOM.integers(0, 12, (ROWS, 2))]
    assert kind_of(versions) == ("category", 1)
    assert kind_of(versions, "number")[0] == "number"
    assert kind_of([*(repr(round(x, 2)) for x in NUMBERS.tolist()), "2.50"])[0] == "number"


def test_codes_stay_texts():
    phones = [f"+49{x}" for x in SECONDS]
    assert kind_of(phones)[0] == "left out"
    assert kind_of(phones, "number") == ("number", 1)
    assert kind_of([f"{x % 30}e5" for x in SECONDS]) == ("category", 1)
    assert kind_of([str(x * 10**9) for x in SECONDS])[0] == "left out"
    assert kind_of([str(x * 10**9) for x in SECONDS], "number")[0] == "number"


# --- Wrong texts, and what is left out ----------------------------------------------------------


def with_wrong(texts, wrong):
    return [*texts[:5], wrong, *texts[6:]]


@pytest.mark.parametrize(
    ("texts", "wrong", "message"),
    [
        (DATES.dt.strftime("%Y-%m-%d"), "2016-13-45", "expected a date, found '2016-13-45'"),
        (DATES.dt.strftime("%d-%b-%y"), "04-OKT-23", "expected a date, found '04-OKT-23'"),
        ([f"{x:.2f}" for x in NUMBERS], "12,5", "expected a number, found '12,5'"),
        ([f"${x:.2f}" for x in NUMBERS], "free", "expected a number, found 'free'"),
        ([f"{x:.2f} kg" for x in NUMBERS], "9 g", "'9 g', where others are written as '5 kg'"),
    ],
)
def test_a_typo_ends_in_its_line(texts, wrong, message, tmp_path):
    rows = [f'"{text}"\n' for text in with_wrong(list(texts), wrong)]
    with pytest.raises(InputError) as caught:
        Table(csvfile.read_table(write(tmp_path, "x\n" + "".join(rows))))
    assert str(caught.value).startswith("line 7, column 'x': ")
    assert message in str(caught.value)
    assert str(caught.value).endswith("or --types x=category")


@pytest.mark.parametrize(
    ("texts", "kind", "message"),
    [
        (["04559", "12345"] * 9, "number", "'04559', which has a zero in front"),
        (["5", "5%", "6"] * 9, "number", "'5%', where others are written as '5'"),
        (["a", "b"] * 9, "number", "expected a number, found 'a'"),
        (["1", "2"] * 9, "date", "expected a date, found '1'"),
    ],
)
def test_types_are_refused_with_the_true_reason(texts, kind, message):
    with pytest.raises(InputError, match=message):
        Table(pd.DataFrame({"x": texts}), {"x": kind})


def test_only_ids_are_left_out_and_a_line_says_how_to_keep_them(capsys):
    frame = pd.DataFrame(
        {
            "nr": range(1, ROWS + 1),
            "e mail": [f"person{x}@example.org" for x in range(ROWS)],
            "year": range(1700, 1700 + ROWS),
            "score": RANDOM.permutation(ROWS),
            "code": [f"c{x % 9}" for x in SECONDS],
        }
    )
    table = Table(frame, {"code": "id"})
    assert [column.name for column in table.columns] == ["year", "score"]
    lines = capsys.readouterr().err.splitlines()
    assert lines == [
        "left out, as it counts the rows: nr; to keep it, --types nr=number",
        "left out, as nearly every text is different: e mail; to keep it, "
        "--types 'e mail=category'",
        "left out, as --types says: code",
    ]
    assert not Table(frame, {"nr": "number", "e mail": "category"}).ids


def test_the_list_of_columns_has_a_heading_and_shows_empty_cells():
    frame = pd.DataFrame({"kind": ["", "a"] * 20, "gap": [None, "b"] * 20})
    heading, kind, gap = str(Table(frame)).splitlines()
    assert heading.split() == ["column", "taken", "for", "for", "example"]
    assert kind.split("  ")[-1].strip() == "(empty) | a"
    assert gap.split("  ")[-1].strip() == "(empty) | b"


# --- DataFrames --------------------------------------------------------------------------------


def test_objects_come_back_as_such():
    frame = pd.DataFrame(
        {
            "decimal": [Decimal(f"{x:.2f}") for x in NUMBERS],
            "date": [date.date() if date.day > 9 else None for date in DATES],
            "time": [date.time() for date in DATES],
            "whole": pd.Series([int(x) if x > 90 else None for x in NUMBERS], dtype=object),
            "zone": pd.Series([d.tz_localize("UTC").to_pydatetime() for d in DATES], dtype=object),
            "duration": [timedelta(seconds=int(x)) for x in NUMBERS],
            "tags": [["a"] if x > 100 else [] for x in NUMBERS],
        }
    )
    table = Table(frame)
    cells = Decoder(table.cells, table.columns)(torch.randn(50, table.rows.shape[1]))
    back = to_frame(cells, table.columns, table.dtypes)
    assert back.dtypes.equals(frame.dtypes)
    assert all(isinstance(x, Decimal) and x == round(x, 2) for x in back.decimal)
    assert {type(x) for x in back.date} == {type(x) for x in frame.date}
    assert all(isinstance(x, time) for x in back.time)
    assert {type(x) for x in back.whole} == {int, type(None)}
    assert back.zone[0].utcoffset() == timedelta(0)
    assert set(back.tags) == {"['a']", "[]"}


def test_infinite_numbers_are_learned_as_missing_ones():
    frame = pd.DataFrame({"x": np.where(NUMBERS > 110, np.inf, NUMBERS), "y": NUMBERS})
    table = Table(frame)
    back = to_frame(table.cells, table.columns, table.dtypes)
    assert np.allclose(back.x, frame.x)
    cells = Decoder(table.cells, table.columns)(torch.randn(500, table.rows.shape[1]))
    new = to_frame(cells, table.columns, table.dtypes)
    assert set(np.isinf(new.x)) == {True, False}
    assert not new.x.isna().any()


# --- Files -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "header", "cell"),
    [
        ("day;price, EUR;m2\n1.2.2024;1,5;2,5\n2.2.2024;3,5;4,5\n", "day|price, EUR|m2", "3,5"),
        ("a, x;b\n1,5;2\n3,5;4\n", "a, x|b", "4"),
        ("a;b\n1,5;2,5\n3,5;4,5\n", "a|b", "4,5"),
        ("age;pay\n59;67,753\n18;80,789\n", "age|pay", "80,789"),
        (
            "a,day and time\n1,2020-01-01 10:00\n2,2020-01-02 9:00\n",
            "a|day and time",
            "2020-01-02 9:00",
        ),
        ("a\ttown, state\n1\tUlm, BW\n2\tBonn, NW\n", "a|town, state", "Bonn, NW"),
    ],
)
def test_all_separators_are_weighed(text, header, cell, tmp_path):
    frame = csvfile.read_table(write(tmp_path, text))
    assert "|".join(frame) == header
    assert frame.iloc[1, 1] == cell


HEADERS = {
    "0,1,2\n1.5,2.5,0\n0,3.5,1\n": ["0", "1", "2"],
    "0\n1.5\n2.5\n": ["0"],
    ",0,1\n0,2.5,a\n1,3.5,b\n": ["row", "0", "1"],
    "shop,2023,2024\na,783,640\nb,640,771\n": ["shop", "2023", "2024"],
    ",row,col\n0,11,12\n1,14,12\n": ["column 1", "row", "col"],
    ",,x\na,0,1\nb,1,2\n": ["row", "column 2", "x"],
    ",count,25%,50%\na,5,1,2\nb,6,2,3\n": ["row", "count", "25%", "50%"],
}


@pytest.mark.parametrize("text", HEADERS)
def test_headers_with_numbers_and_without_names(text, tmp_path):
    frame = csvfile.read_table(write(tmp_path, text))
    assert list(frame) == HEADERS[text]
    assert len(frame) == 2


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (
            "n/a,2.5\n1.5,3.5\n",
            "expected a header with a name for each column, and rows; 2.5 is no",
        ),
        ("Ulm,2019,2021\nBonn,2020,2021\n", "and rows; 2019 is no name"),
        ("Ulm,$5.20\nBonn,$6.10\n", "and rows; $5.20 is no name"),
        (gzip.compress(b"a,b\n1,2\n3,4\n" * 9, mtime=0), "table.csv is not text"),
        (np.arange(9.0).tobytes(), "table.csv is not text"),
    ],
)
def test_data_in_place_of_a_header_and_binary_files_are_refused(content, reason, run, tmp_path):
    assert reason in run(table_gan, "--data", write(tmp_path, content), status=2).err


CITIES = "город,x\nМосква,5\nОмск,7\n"


@pytest.mark.parametrize("encoding", ["cp1251", "koi8-r", "utf-16-le"])
def test_other_encodings(encoding, tmp_path, capsys):
    frame = csvfile.read_table(write(tmp_path, CITIES, encoding), encoding)
    assert frame["город"].tolist() == ["Москва", "Омск"]
    assert not capsys.readouterr().err


def test_a_guess_of_the_encoding_is_told(tmp_path, capsys):
    csvfile.read_table(write(tmp_path, CITIES, "cp1251"))
    line = "table.csv: not UTF-8; read as cp1252, else give --encoding\n"
    assert capsys.readouterr().err.endswith(line)


def test_wrong_encodings_are_refused(run, tmp_path):
    path = write(tmp_path, CITIES)
    for encoding, reason in (
        ("klingon", "--encoding: there is no encoding 'klingon'"),
        ("hex", "--encoding: there is no encoding 'hex'"),
        ("ascii", "table.csv is not text in ascii"),
    ):
        assert reason in run(table_gan, "--data", path, "--encoding", encoding, status=2).err


def test_names_of_missing_values_are_in_small_letters():
    assert all(mark == mark.lower() for mark in columns.MISSING)


def test_excel_names_the_separator_and_one_column_may_have_decimal_commas(tmp_path):
    file = tmp_path / "table.csv"
    file.write_text("sep=;\na;b\n1,5;2\n2,5;3\n")
    assert csvfile.read_table(file).to_numpy().tolist() == [["1,5", "2"], ["2,5", "3"]]
    file.write_text("x\n50,25\n53,00\n")
    assert csvfile.read_table(file).x.tolist() == ["50,25", "53,00"]


def test_thousands_may_be_separated_in_some_numbers_alone():
    texts = [f"{x:,}" if x % 2 else str(x) for x in range(10_000, 90_000, 333)]
    column, cells = parse(pd.Series(texts))
    assert cells.tolist() == list(range(10_000, 90_000, 333))


def test_times_of_a_first_day_are_not_taken_for_months():
    times = [f"{7 * i % 24:02}:{11 * i % 60:02}:{13 * i % 60:02}" for i in range(300)]
    assert not set(generated(times)) <= set(times)
