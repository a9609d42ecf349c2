"""rules.py, rulesearch.py: what holds in all rows of a table holds in rows decoded from noise."""

import io
import math
import warnings

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import seeded
from sklearn import datasets

import cli
import columns
import rulesearch
from columns import Column
from tables import Decoder, Table, TableTraining

ROWS = 400
RANDOM = np.random.default_rng(1)


def integers(low, high, rows=ROWS):
    return RANDOM.integers(low, high, rows)


def choices(values, rows=ROWS):
    return RANDOM.choice(values, rows)


def with_gaps(values, share=0.2):
    """Numbers, some of them missing."""
    return np.where(RANDOM.random(len(values)) < share, math.nan, values)


def decoded(frame, rows=3000):
    """The rules of a table, and rows decoded from noise: numbers, dates and texts."""
    table = Table(frame)
    assert not table.ids
    decoder = Decoder(table.cells, table.columns)
    cells = decoder(1.5 * torch.randn(rows, table.rows.shape[1], generator=seeded(0)))
    for rule in decoder.rules:
        assert rule.kept(table.cells).all(), rule.sentence
        assert rule.kept(cells).all(), rule.sentence
    sentences = [rule.sentence for rule in decoder.rules]
    return columns.to_frame(cells, table.columns, table.dtypes), sentences


def sentences_of(frame):
    table = Table(frame)
    return [rule.sentence for rule in rulesearch.find_rules(table.cells, table.columns)]


# --- Orders ------------------------------------------------------------------------------------


def test_several_columns_are_at_most_one():
    marks = pd.DataFrame({name: integers(20, 100) for name in ("maths", "art", "english")})
    marks["best"] = marks.max(axis=1)
    marks["least"] = marks.min(axis=1)
    rows, sentences = decoded(marks)
    assert "maths, art, english <= best" in sentences
    assert (rows.drop(columns="best").max(axis=1) <= rows.best).all()
    assert (rows.least <= rows.drop(columns="least").min(axis=1)).all()


def test_columns_on_different_steps_keep_their_order_and_their_steps():
    low = integers(2, 60) / 2
    mean = (low + RANDOM.random(ROWS) * 20).round(2)
    high = np.ceil(mean + RANDOM.random(ROWS) * 9)
    rows, sentences = decoded(pd.DataFrame({"high": high, "low": low, "mean": mean}))
    assert sentences == ["low <= mean", "mean <= high"]  # low <= high follows
    assert (rows.low <= rows["mean"]).all()
    assert (rows["mean"] <= rows.high).all()
    assert not (rows.low % 0.5).any()
    assert not (rows.high % 1).any()


def test_an_order_holds_where_values_are_missing():
    first = integers(0, 500)
    second = with_gaps(first + integers(0, 300))
    third = with_gaps(first + 300 + integers(0, 300))
    rows, _ = decoded(pd.DataFrame({"first": first, "second": second, "third": third}))
    assert rows.second.isna().any()
    assert not (rows["first"] > rows.second).any()
    assert not (rows["first"] > rows.third).any()
    assert not (rows.second > rows.third).any()


def test_dates_and_small_numbers_have_an_order():
    start = pd.Timestamp("2024-01-01") + pd.to_timedelta(integers(0, 300), "D")
    end = start + pd.to_timedelta(integers(0, 10**6), "s")
    people = integers(1, 9)
    frame = pd.DataFrame({"end": end, "start": start, "people": people})
    rows, _ = decoded(frame.assign(children=(people * RANDOM.random(ROWS)).astype(int)))
    assert (rows.start <= rows.end).all()
    assert (rows.start == rows.start.dt.floor("D")).all()
    assert (rows.children.astype(int) <= rows.people.astype(int)).all()


def test_ends_of_months_stay_what_they_are():
    ordered = pd.Timestamp("2023-01-01") + pd.to_timedelta(integers(0, 700), "D")
    due = (ordered + pd.to_timedelta(integers(5, 200), "D")) + pd.offsets.MonthEnd(0)
    rows, sentences = decoded(pd.DataFrame({"due": due, "ordered": ordered}))
    assert sentences == ["ordered <= due"]
    assert (rows.ordered <= rows.due).all()
    assert rows.due.dt.is_month_end.all()


def test_small_numbers_in_texts_may_be_missing():
    rooms = integers(1, 8)
    beds = (rooms * RANDOM.random(ROWS)).astype(int).astype(str)
    beds[RANDOM.random(ROWS) < 0.1] = "NA"
    rows, sentences = decoded(pd.DataFrame({"rooms": rooms.astype(str), "beds": beds}))
    assert sentences == ["beds <= rooms"]
    assert (rows.beds == "NA").any()
    rows = rows[rows.beds != "NA"].astype(int)
    assert (rows.beds <= rows.rooms).all()


def test_columns_below_a_sum_are_lowered():
    frame = pd.DataFrame({"net": integers(50, 900), "tax": integers(5, 90)})
    frame["total"] = frame.net + frame.tax
    frame["paid"] = (frame.total * RANDOM.random(ROWS)).astype(int)
    frame["first_rate"] = (frame.paid * RANDOM.random(ROWS)).astype(int)
    rows, _ = decoded(frame)
    assert (rows.net + rows.tax == rows.total).all()
    assert (rows.paid <= rows.total).all()
    assert (rows.first_rate <= rows.paid).all()


# --- Sums --------------------------------------------------------------------------------------


def test_parts_of_either_sign_add_up():
    frame = pd.DataFrame({name: integers(0, 500) / 100 for name in ("a", "b", "c", "d")})
    frame["price"] = (frame.sum(axis=1) + 20).round(2)
    frame["discount"] = integers(0, 4)
    frame["total"] = (frame.price - frame.discount).round(2)
    rows, _ = decoded(frame)
    parts = rows[["a", "b", "c", "d"]].sum(axis=1) + 20
    assert (parts - rows.price).abs().max() < 1e-9
    assert (rows.price - rows.discount.astype(int) - rows.total).abs().max() < 1e-9


def test_parts_add_up_to_a_constant_and_stay_in_their_range():
    shares = RANDOM.dirichlet([2, 1, 1, 0.5], ROWS)
    tenths = (shares * 1000).round()
    tenths[:, 0] += 1000 - tenths.sum(axis=1)
    frame = pd.DataFrame(tenths / 10, columns=["coal", "gas", "wind", "sun"])
    rows, sentences = decoded(frame)
    assert "coal + gas + wind + sun = 100" in sentences
    assert (rows.sum(axis=1) - 100).abs().max() < 1e-9
    assert (rows >= frame.min()).all(axis=None)
    assert (rows <= frame.max()).all(axis=None)


@pytest.mark.parametrize("longest", [6, 60])  # few numbers are taken for categories
def test_days_lie_between_dates(longest):
    arrival = pd.Timestamp("2023-01-01") + pd.to_timedelta(integers(0, 300), "D")
    nights = integers(1, longest)
    departure = arrival + pd.to_timedelta(nights, "D")
    frame = pd.DataFrame({"arrival": arrival, "departure": departure, "nights": nights})
    rows, sentences = decoded(frame)
    assert "departure = arrival + nights days" in sentences
    assert ((rows.departure - rows.arrival).dt.days == rows.nights.astype(int)).all()


def test_a_mean_and_a_unit_are_kept():
    frame = pd.DataFrame(
        {"a": integers(0, 999), "b": integers(0, 999), "celsius": integers(-9, 40)}
    )
    frame["middle"] = (frame.a + frame.b) / 2
    frame["fahrenheit"] = (frame.celsius * 1.8 + 32).round(1)
    rows, sentences = decoded(frame)
    assert "fahrenheit = 1.8 celsius + 32" in sentences
    assert ((rows.a + rows.b) / 2 == rows.middle).all()


def test_one_of_many_columns_is_one():
    kind = integers(0, 90, 2000)
    frame = pd.DataFrame({f"k{k}": (kind == k).astype(int) for k in range(90)})
    rows, _ = decoded(frame, rows=500)
    assert (rows.astype(int).sum(axis=1) == 1).all()


def test_parts_of_a_sum_keep_their_order():
    low = integers(0, 900)
    high = low + 2 * integers(0, 300)
    frame = pd.DataFrame({"low": low, "middle": (low + high) // 2, "high": high})
    frame["men"] = integers(0, 900)
    frame["women"] = frame.men + integers(0, 300)
    frame["people"] = frame.men + frame.women
    rows, _ = decoded(frame)
    assert (rows.low <= rows.middle).all()
    assert (rows.middle * 2 == rows.low + rows.high).all()
    assert (rows.men <= rows.women).all()
    assert (rows.men + rows.women == rows.people).all()


@pytest.mark.parametrize(
    "values",
    [("0", "1"), ("no", "yes"), (False, True), ("", "x"), (None, True), ("NA", "yes"), ("", "1")],
)
def test_exactly_one_of_several_columns_is_one(values):
    kind = RANDOM.choice(4, ROWS, p=[0.5, 0.3, 0.15, 0.05])
    frame = pd.DataFrame({f"k{k}": [values[int(x == k)] for x in kind] for k in range(4)})
    rows, _ = decoded(frame)
    counts = (rows == values[1]).sum(axis=1)
    assert (counts == 1).all()


def test_sums_hold_where_parts_are_missing():
    frame = pd.DataFrame({"a": with_gaps(integers(0, 900)), "b": with_gaps(integers(0, 90))})
    frame["total"] = frame.a + frame.b
    rows, _ = decoded(frame)
    complete = rows.dropna()
    assert (complete.a + complete.b == complete.total).all()
    assert (rows.total.isna() == (rows.a.isna() | rows.b.isna())).all()


# --- Rounded sums ------------------------------------------------------------------------------

MONEY = RANDOM.gamma(2, 100, ROWS).round(2)
MARKS = RANDOM.integers(0, 101, (ROWS, 3))
UNITS = RANDOM.gamma(2, 30_000, (ROWS, 3)).round()


def parts_and(total, parts):
    """A table of three parts and a total."""
    return pd.DataFrame(parts, columns=["a", "b", "c"]).assign(total=total)


def invoices(factor):
    return pd.DataFrame({"net": MONEY, "other": (MONEY * factor).round(2), "n": integers(0, 99)})


ROUNDED = [  # tables, a rule of each, and how far its columns may differ
    (invoices(0.19), "other = 0.19 net, rounded", lambda t: 0.19 * t.net - t.other, 0.005),
    (invoices(1.0837), "other = 1.0837 net, rounded", lambda t: 1.0837 * t.net - t.other, 0.005),
    (
        pd.DataFrame({"minutes": integers(5, 600)}).assign(
            hours=lambda t: (t.minutes / 60).round(2)
        ),
        "minutes = 60 hours, rounded",
        lambda t: t.minutes / 60 - t.hours,
        0.005,
    ),
    (
        parts_and(MARKS.mean(axis=1).round(1), MARKS),
        "3 total = a + b + c, rounded",
        lambda t: (t.a + t.b + t.c) / 3 - t.total,
        0.05,
    ),
    (
        parts_and((UNITS.sum(axis=1) / 1000).round(), UNITS),
        "1000 total = a + b + c, rounded",
        lambda t: (t.a + t.b + t.c) / 1000 - t.total,
        0.5,
    ),
    (
        parts_and((UNITS.sum(axis=1) / 1000).round(), (UNITS / 1000).round()),
        "total = a + b + c, rounded",
        lambda t: t.a + t.b + t.c - t.total,
        1,
    ),
]


@pytest.mark.parametrize(("frame", "sentence", "difference", "largest"), ROUNDED)
def test_sums_hold_but_for_rounding(frame, sentence, difference, largest):
    assert difference(frame).abs().max() <= largest + 1e-9
    rows, sentences = decoded(frame)
    assert sentence in sentences
    assert difference(rows).abs().max() <= largest + 1e-9


@pytest.mark.parametrize("decimals", [0, 1])
def test_rounded_shares_add_up_as_often_as_in_the_data(decimals):
    shares = 100 * RANDOM.dirichlet([3, 2, 1, 0.6], ROWS)
    frame = pd.DataFrame(shares.round(decimals), columns=["coal", "gas", "wind", "sun"])
    rows, sentences = decoded(frame)
    assert sentences == ["coal + gas + wind + sun = 100, rounded"]
    totals = frame.sum(axis=1).round(1)
    new_totals = rows.sum(axis=1).round(1)
    assert new_totals.between(totals.min(), totals.max()).all()
    assert abs((new_totals == 100).mean() - (totals == 100).mean()) < 0.1


def test_a_rounded_sum_beside_an_exact_one():
    frame = invoices(0.19).rename(columns={"other": "vat"})
    frame["gross"] = (frame.net + frame.vat).round(2)
    rows, sentences = decoded(frame)
    assert {"gross = 1.19 net, rounded", "gross = net + vat"} <= set(sentences)
    assert (0.19 * rows.net - rows.vat).abs().max() < 0.00501
    assert (rows.net + rows.vat - rows.gross).abs().max() < 1e-6


def test_a_chain_of_rounded_sums():
    frame = invoices(0.2).rename(columns={"other": "tax"})
    frame["total"] = (frame.net + frame.tax).round(2)
    frame["tip"] = (0.1 * frame.total).round(1)
    rows, _ = decoded(frame)
    assert (0.2 * rows.net - rows.tax).abs().max() < 0.00501
    assert (rows.net + rows.tax - rows.total).abs().max() < 1e-6
    assert (0.1 * rows.total - rows.tip).abs().max() < 0.0501


def test_the_day_of_a_time():
    opened = pd.Timestamp("2023-01-01") + pd.to_timedelta(integers(0, 300 * 86_400), "s")
    rows, _ = decoded(pd.DataFrame({"opened": opened, "day": opened.floor("D")}))
    assert (rows.opened.dt.floor("D") == rows.day).mean() > 0.99


@pytest.mark.parametrize("rows", [30, 100, 1000])
def test_chance_and_noise_are_no_rounded_sums(rows):
    for _ in range(10):
        frame = pd.DataFrame({f"n{i}": integers(0, 3**i, rows) for i in range(1, 6)})
        for i in range(4):
            frame[f"d{i}"] = RANDOM.normal(0, i + 1, rows).round(1)
        assert sentences_of(frame) == []
        causes = RANDOM.normal(0, 20, (rows, 2))
        alike = causes @ RANDOM.normal(0, 1, (2, 8)) + RANDOM.normal(0, 0.5, (rows, 8))
        frame = pd.DataFrame(alike.round()).add_prefix("alike")
        assert not [text for text in sentences_of(frame) if "rounded" in text]


def test_a_few_days_between_dates_are_no_rounding():
    start = pd.Timestamp("2023-01-01") + pd.to_timedelta(integers(0, 300), "D")
    end = start + pd.to_timedelta(integers(0, 3), "D")
    assert sentences_of(pd.DataFrame({"start": start, "end": end})) == ["start <= end"]


@pytest.mark.parametrize("name", ["breast_cancer", "diabetes", "wine"])
def test_measured_columns_are_no_rounded_sums(name):
    frame = getattr(datasets, f"load_{name}")(as_frame=True).frame
    assert not [text for text in sentences_of(frame) if "rounded" in text]


# --- Missing values and categories -------------------------------------------------------------


def test_a_category_decides_whether_a_value_is_missing():
    married = choices(["yes", "no", "no"])
    age = np.where(married == "yes", integers(18, 90), math.nan)
    since = with_gaps(np.where(married == "yes", integers(1960, 2024), math.nan))
    frame = pd.DataFrame({"spouse_age": age, "since": since, "married": married})
    rows, sentences = decoded(frame)
    assert "married decides spouse_age missing" in sentences
    assert (rows.spouse_age.isna() == (rows.married == "no")).all()
    assert rows.since[rows.married == "no"].isna().all()
    assert rows.since[rows.married == "yes"].notna().any()


def test_a_number_decides_a_category_and_whether_a_value_is_missing():
    age = integers(5, 80)
    income = np.where(age >= 16, integers(10, 99) * 100, math.nan)
    group = np.select([age < 13, age < 20, age < 65], ["child", "teen", "adult"], "old")
    rows, _ = decoded(pd.DataFrame({"income": income, "group": group, "age": age}))
    assert (rows.income.isna() == (rows.age < 16)).all()
    expected = np.select(
        [rows.age < 13, rows.age < 20, rows.age < 65], ["child", "teen", "adult"], "old"
    )
    assert (rows.group == expected).all()


def test_values_are_missing_together():
    frame = pd.DataFrame({"x": with_gaps(integers(0, 999)), "other": integers(0, 999)})
    frame["y"] = np.where(frame.x.isna(), math.nan, integers(0, 999))
    rows, _ = decoded(frame)
    assert rows.x.isna().any()
    assert (rows.x.isna() == rows.y.isna()).all()


SIZES = {"shirt": ["S", "M", "L"], "shoe": ["40", "41", "42"], "hat": ["M", "L"], "bag": ["-"]}
NUMBERS = {"adult": range(36, 48), "child": range(20, 36)}


@pytest.mark.parametrize("sizes", [SIZES, NUMBERS])
def test_sizes_that_exist_only_for_some_products(sizes):
    product = choices(list(sizes))
    size = [choices(list(sizes[name]), 1)[0] for name in product]
    frame = pd.DataFrame({"product": product, "size": size, "price": integers(5, 99)})
    rows, _ = decoded(frame)
    pairs = set(zip(rows["product"], rows["size"], strict=True))
    assert pairs <= set(zip(product, size, strict=True))
    assert len(pairs) > 0.9 * len(set(zip(product, size, strict=True)))


def test_towns_states_and_countries():
    town = integers(0, 30)
    frame = pd.DataFrame({"country": town // 15, "state": town // 5, "town": town})
    frame = frame.astype(str)
    frame["code"] = "t" + frame.town
    rows, _ = decoded(frame)
    assert (rows.code == "t" + rows.town).all()
    assert (rows.state == (rows.town.astype(int) // 5).astype(str)).all()
    assert (rows.country == (rows.town.astype(int) // 15).astype(str)).all()


@pytest.mark.parametrize("numbers", [True, False])
def test_a_date_decides_its_parts(numbers):
    opened = pd.Series(pd.Timestamp("1990-01-01") + pd.to_timedelta(integers(0, 9000), "D"))
    frame = pd.DataFrame({"year": opened.dt.year, "quarter": opened.dt.quarter, "opened": opened})
    frame["month"] = opened.dt.month if numbers else opened.dt.strftime("%b")
    frame["weekday"] = opened.dt.day_of_week if numbers else opened.dt.day_name()
    rows, sentences = decoded(frame)
    assert "the month of opened decides month" in sentences
    assert (rows.year == rows.opened.dt.year).all()
    assert (rows.quarter.astype(int) == rows.opened.dt.quarter).all()
    expected = rows.opened.dt.month if numbers else rows.opened.dt.strftime("%b")
    assert (rows.month == expected).all()
    expected = rows.opened.dt.day_of_week if numbers else rows.opened.dt.day_name()
    assert (rows.weekday == expected).all()


def test_a_missing_date_has_no_parts():
    opened = pd.Series(pd.Timestamp("2017-01-01") + pd.to_timedelta(integers(0, 1461), "D"))
    opened[RANDOM.random(ROWS) < 0.1] = pd.NaT
    frame = pd.DataFrame({"opened": opened, "year": opened.dt.year, "m": opened.dt.strftime("%b")})
    rows, _ = decoded(frame)
    assert rows.opened.isna().any()
    assert (rows.year.isna() == rows.opened.isna()).all()
    assert (rows.m.isna() == rows.opened.isna()).all()
    dated = rows.dropna()
    assert (dated.year == dated.opened.dt.year).all()
    assert (dated.m == dated.opened.dt.strftime("%b")).all()


# --- Chance ------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [30, 300])
def test_independent_columns_have_no_rules(rows):
    for _ in range(5):
        frame = pd.DataFrame({f"n{i}": RANDOM.normal(i / 3, 1, rows) for i in range(6)})
        for i, share in enumerate((0.5, 0.1, 0.02)):
            frame[f"c{i}"] = choices(list("abcdefghij"[: 2 + 3 * i]), rows)
            frame[f"rare{i}"] = RANDOM.random(rows) < share
            frame[f"gap{i}"] = with_gaps(RANDOM.normal(size=rows), share)
        sentences = sentences_of(frame)
        assert [text for text in sentences if not text.endswith(" is missing")] == []


def test_many_columns_have_no_rules_by_chance():
    cells = torch.randn(100, 300, generator=seeded(0)).double()
    cells[:, 150:] = (cells[:, 150:] > 1).double()
    numbers = [Column(f"n{i}") for i in range(150)]
    answers = [Column(f"c{i}", ["no", "yes"]) for i in range(150)]
    assert rulesearch.find_rules(cells, [*numbers, *answers]) == []


# --- Verdict and saved files -------------------------------------------------------------------


def test_the_verdict_names_a_rule_that_is_broken_and_its_share():
    frame = pd.DataFrame({"net": integers(0, 900), "tax": integers(0, 90)})
    table = Table(frame.assign(total=frame.sum(axis=1)))
    training = TableTraining(table, seed=0, epochs=1, patience=1, progress=False)
    training.samples = table.cells.clone()
    training.samples[:100, 2] += 1
    training.check_rules(rulesearch.find_rules(table.cells, table.columns))
    assert "WARNING: a rule of the data is broken: total = net + tax." in training.verdict
    assert "75%  at least 99%" in training.verdict


@pytest.mark.parametrize(("wrong", "named"), [(0, False), (1, True), (4, True), (20, False)])
def test_rows_that_keep_a_sum_from_being_a_rule_are_named(wrong, named):
    frame = pd.DataFrame({"net": integers(0, 900), "tax": integers(0, 90)})
    frame["total"] = frame.sum(axis=1)
    frame.loc[100 : 99 + wrong, "total"] += 10
    table = Table(frame)
    broken = rulesearch.find_broken_sums(table.cells, table.columns)
    assert broken == [("total = net + tax", list(range(100, 100 + wrong)))] * named
    training = TableTraining(table, seed=0, epochs=1, patience=1, progress=False)
    training.samples = table.cells
    training.note_broken_sums()
    training.check_rules(rulesearch.find_rules(table.cells, table.columns))
    assert ("not kept, as it is wrong in row 101" in training.verdict) == named
    assert ("rules kept: total = net + tax" in training.verdict) == (wrong == 0)


def test_saved_generators_keep_the_rules():
    kind = choices(["a", "b"])
    frame = pd.DataFrame({"kind": kind, "low": with_gaps(integers(0, 99)), "x": integers(0, 9)})
    frame["high"] = frame.low.fillna(50) + integers(0, 99)
    frame["size"] = [choices(["S", "M"] if name == "a" else ["M", "L"], 1)[0] for name in kind]
    frame["grade"] = np.where(frame.high < 80, "low", "high")
    frame["sum"] = frame.high + frame.x
    frame["share"] = (frame["sum"] / 7).round(1)
    frame["day"] = pd.Timestamp("2023-01-01") + pd.to_timedelta(integers(0, 700), "D")
    frame["month"] = frame.day.dt.month
    table = Table(frame)
    decoder = Decoder(table.cells, table.columns)
    sentences = [rule.sentence for rule in decoder.rules]
    assert {"the month of day decides month", "sum = 7 share, rounded"} <= set(sentences)
    assert len(decoder.rules) >= 7
    files = cli.model_files("decoder", decoder, table.rows.shape[1])
    noise = torch.randn(999, table.rows.shape[1], generator=seeded(0))
    with warnings.catch_warnings(action="ignore"):
        script = torch.jit.load(io.BytesIO(files["decoder.pt"]))
        program = torch.export.load(io.BytesIO(files["decoder.pt2"])).module()
    for saved in (script, program):
        assert saved(noise).nan_to_num(-1).allclose(decoder(noise).nan_to_num(-1))


def test_few_raised_numbers_are_equal_to_their_bound():
    random = np.random.default_rng(0)
    bid = random.normal(100, 10, 500).round(1)
    ask = (bid + random.integers(1, 9, 500) / 10).round(1)
    closed = np.where(random.random(500) < 0.2, ask + 1, np.nan)
    table = Table(pd.DataFrame({"bid": bid, "ask": ask, "closed": closed}))
    rows = torch.randn(2000, table.rows.shape[1])
    first, second, third = Decoder(table.cells, table.columns)(rows).T
    assert (first <= second).all()
    assert (first == second).double().mean() < 0.02
    assert not (third < second).any()
