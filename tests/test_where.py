"""Rows of one kind: `--where`, `sample(where=)`, and the same of a saved generator."""

import io
import pickle

import numpy as np
import pandas as pd
import pytest
from helpers import shorten

import table_gan
from common import Failure, InputError

ROWS = 200
RANDOM = np.random.default_rng(0)
AGES = RANDOM.integers(18, 91, ROWS)
FRAME = pd.DataFrame(
    {
        "age": AGES,
        "price": RANDOM.integers(100, 900_000, ROWS) / 100,
        "day": pd.Timestamp("2024-01-01") + pd.to_timedelta(RANDOM.integers(0, 366, ROWS), "D"),
        "city": RANDOM.choice(["Rome", "Paris", "Bonn|Köln"], ROWS),
        "rooms": RANDOM.integers(1, 7, ROWS),
        "member": RANDOM.random(ROWS) < 0.5,
        "income": np.where(RANDOM.random(ROWS) < 0.1, np.nan, RANDOM.normal(size=ROWS)),
    }
)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """A folder with a table of texts, and what a short training on it saves."""
    folder = tmp_path_factory.mktemp("where")
    texts = FRAME.assign(
        price=[f"${price:,.2f}" for price in FRAME.price],
        day=FRAME.day.dt.strftime("%d.%m.%Y"),
    )
    texts.to_csv(folder / "table.csv", index=False)
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten(monkeypatch, table_gan)
        data = ["--data", str(folder / "table.csv"), "--types", "rooms=category"]
        table_gan.main([*data, "--out", str(folder), "--epochs", "1", "--quiet"])
    return folder


@pytest.fixture
def generate(folder, capsys):
    """A function that generates rows with some conditions: a DataFrame of texts, and messages."""

    def generate(*conditions, status=0, n=40):
        options = [text for condition in conditions for text in ("--where", condition)]
        capsys.readouterr()
        ended = table_gan.main(["--out", str(folder), "--generate", str(n), *options])
        printed = capsys.readouterr()
        assert ended == status, printed.err
        if status:
            assert printed.err.count("\n") == 1
            return None, printed.err
        frame = pd.read_csv(io.StringIO(printed.out), dtype=str, keep_default_na=False)
        assert len(frame) == n
        return frame, printed.err

    return generate


def dollars(texts):
    return texts.str.lstrip("$").str.replace(",", "").astype(float)


def days(texts):
    return pd.to_datetime(texts, format="%d.%m.%Y")


CONDITIONS = {
    "age>60": lambda frame: frame.age.astype(int) > 60,
    "age >= 60": lambda frame: frame.age.astype(int) >= 60,
    "age<30": lambda frame: frame.age.astype(int) < 30,
    "age<=30": lambda frame: frame.age.astype(int) <= 30,
    "age=30..40": lambda frame: frame.age.astype(int).between(30, 40),
    "age=..40": lambda frame: frame.age.astype(int) <= 40,
    f"age={AGES[0]}": lambda frame: frame.age == str(AGES[0]),
    "age=18..20|80..": lambda frame: ~frame.age.astype(int).between(21, 79),
    "price>$4,500.50": lambda frame: dollars(frame.price) > 4500.5,
    "price=1000..2000": lambda frame: dollars(frame.price).between(1000, 2000),
    "day>=01.07.2024": lambda frame: days(frame.day) >= "2024-07-01",
    "day=2024-02-01..2024-02-29": lambda frame: days(frame.day).dt.month == 2,
    "city=Rome": lambda frame: frame.city == "Rome",
    "city=Rome|Paris": lambda frame: frame.city != "Bonn|Köln",
    "city=Bonn|Köln": lambda frame: frame.city == "Bonn|Köln",
    "rooms>4": lambda frame: frame.rooms.astype(int) > 4,
    "income=": lambda frame: frame.income == "",
    "income>0.5": lambda frame: frame.income.astype(float) > 0.5,
    "income=|0..": lambda frame: ~frame.income.str.startswith("-"),
}


@pytest.mark.parametrize("condition", CONDITIONS)
def test_all_rows_are_of_the_kind(condition, generate):
    frame, _ = generate(condition)
    assert CONDITIONS[condition](frame).all()


def test_conditions_hold_together_and_other_rows_are_counted(generate):
    frame, messages = generate("age>40", "age<70", "city=Rome", "income=")
    ages = frame.age.astype(int)
    assert ages.between(41, 69).all()
    assert set(frame.city) == {"Rome"}
    assert set(frame.income) == {""}
    assert messages.startswith("--where: ")
    assert "generated rows were of another kind" in messages


@pytest.mark.parametrize(
    ("condition", "reason"),
    [
        ("city=Ulm", "'city' has no category 'Ulm'; it has Bonn|Köln, Paris, Rome"),
        ("rooms>9", "'rooms' has no category '>9'; it has 1, 2, 3, 4, 5, 6"),
        ("town=Ulm", "there is no column 'town'; there are age, price, day"),
        ("age", "--where needs NAME=VALUE, NAME>VALUE or NAME=LOW..HIGH, not age"),
        ("age=old", f"'age' has numbers from {AGES.min()} to {AGES.max()}; cannot read 'old'"),
        ("age=", "no value of 'age' is missing"),
        ("age>90", f"'age' has numbers from {AGES.min()} to {AGES.max()}, and none in '>90'"),
        ("age=40..30", "none in '40..30'"),
        ("day=soon", "'day' has dates from"),
        ("day>2031-01-01", "'day' has dates from"),
    ],
)
def test_a_wrong_condition_is_one_line(condition, reason, generate):
    _, message = generate(condition, status=2)
    assert reason in message


def test_rows_that_are_too_rare_are_refused(generate, monkeypatch):
    monkeypatch.setattr("sampling.MOST_TRIED", 8192)
    _, message = generate("age<30", "age>80", status=1)
    assert "--where: only 0 of 8,192 generated rows are of that kind" in message


def test_a_saved_generator_gives_what_its_training_gives(folder):
    saved = table_gan.load(folder)
    rows = saved.sample(300)
    kinds = {name: rows[name].dtype.kind for name in rows}
    assert kinds["age"] == "i"
    assert kinds["price"] == kinds["income"] == "f"
    assert kinds["day"] == "M"
    assert rows.income.isna().any()
    assert set(rows.city) == set(FRAME.city)
    assert rows.age.between(AGES.min(), AGES.max()).all()
    assert rows.day.between(FRAME.day.min(), FRAME.day.max()).all()
    assert (rows.price * 100).sub((rows.price * 100).round()).abs().max() < 1e-6
    assert saved.sample(300).equals(rows)
    assert not saved.sample(300, seed=1).equals(rows)
    with pytest.raises(Failure, match="train first"):
        table_gan.load(folder / "nothing")


@pytest.fixture(scope="module")
def training():
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten(monkeypatch, table_gan)
        return table_gan.train(FRAME, types={"rooms": "category"}, epochs=1, progress=False)


@pytest.mark.parametrize(
    ("name", "wanted", "fulfilled"),
    [
        ("age", (30, 40), lambda ages: ages.between(30, 40)),
        ("age", (None, 40), lambda ages: ages <= 40),
        ("age", ">60", lambda ages: ages > 60),
        ("age", [AGES[0], (80, None)], lambda ages: (ages == AGES[0]) | (ages >= 80)),
        ("day", (pd.Timestamp("2024-03-01"), None), lambda days: days >= "2024-03-01"),
        ("day", "2024-02-01..2024-02-29", lambda days: days.dt.month == 2),
        ("city", ["Rome", "Paris"], lambda cities: cities.isin(["Rome", "Paris"])),
        ("rooms", 3, lambda rooms: rooms == 3),
        ("rooms", (2, 3), lambda rooms: rooms.between(2, 3)),
        ("member", True, lambda members: members),
        ("income", None, lambda incomes: incomes.isna()),
        ("income", np.nan, lambda incomes: incomes.isna()),
        ("income", [None, ">0"], lambda incomes: ~(incomes <= 0)),
    ],
)
def test_conditions_in_python(name, wanted, fulfilled, training):
    rows = training.sample(30, where={name: wanted})
    assert len(rows) == 30
    assert rows.dtypes.equals(FRAME.dtypes)
    assert fulfilled(rows[name]).all()


def test_a_pickled_training_gives_the_same_rows(training):
    loaded = pickle.loads(pickle.dumps(training))
    where = {"age": ">30", "city": "Rome"}
    assert loaded.sample(30, where).equals(training.sample(30, where))


def test_a_wrong_condition_in_python_is_an_error_of_the_user(training):
    with pytest.raises(InputError, match="cannot read '1 to x'"):
        training.sample(5, where={"age": (1, "x")})
    with pytest.raises(InputError, match="no value of 'day' is missing"):
        training.sample(5, where={"day": None})


def test_integers_beyond_float64_are_compared_exactly(tmp_path, monkeypatch):
    shorten(monkeypatch, table_gan)
    first = 10**17
    numbers = first + 3 * RANDOM.permutation(10**6)[:60]
    frame = pd.DataFrame({"number": [str(number) for number in numbers]})
    path = tmp_path / "table.csv"
    frame.to_csv(path, index=False)
    out = ["--out", str(tmp_path), "--quiet"]
    assert table_gan.main(["--data", str(path), "--epochs", "1", *out]) == 0
    middle = int(np.median(numbers))
    rows = table_gan.load(tmp_path).sample(50, where={"number": (middle, None)})
    assert (rows.number >= middle).all()
    assert set((rows.number - first) % 3) == {0}
