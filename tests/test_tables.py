"""table_gan.py and tables.py with columns.py: a table comes back in the form in which it came."""

import io
import json
import pickle
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import seeded, shorten
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import QuantileTransformer
from torch import nn

import columns
import csvfile
import table_gan
import tables
from columns import Column
from tables import Decoder, Table, TableTraining

ROWS = 60
RANDOM = np.random.default_rng(0)
AGES = [str(age) for age in RANDOM.integers(18, 90, ROWS)]
NUMBERS = RANDOM.permutation(10**6)[:ROWS].tolist()
DATES = pd.Series(pd.to_datetime(RANDOM.integers(10**9, 2 * 10**9, ROWS), unit="s"))

# --- Columns -----------------------------------------------------------------------------------


def kind_of(texts, **types):
    """What texts are taken for: a column, and whether all come back as they are."""
    table = Table(pd.DataFrame({"x": texts, "age": AGES}), types)
    if table.ids:
        return "id"
    column = table.columns[0]
    decoded = Decoder(table.cells, table.columns)(table.rows)
    assert decoded.isnan().equal(table.cells.isnan())
    assert column.values(table.cells[:, 0]) == texts
    if column.categories:
        return "category"
    return "date" if column.date else "number"


FORMS = {
    "whole": (str, "number"),
    "thousands": ("{:,}".format, "number"),
    "powers of ten": ("{:.5e}".format, "number"),
    "negative": (lambda x: f"{x / 4 - 1000}", "number"),
    "money": (lambda x: f"-${x / 100:,.2f}", "number"),
    "money that may be negative": (lambda x: f"${'-' * (x % 2)}{x}", "number"),
    "per cent": (lambda x: f"{x / 100:.1f} %", "number"),
    "no zero before the point": (lambda x: f"{x / 1e6:.3f}"[1:], "number"),
    "decimal comma": (lambda x: f"{x / 100:,.2f}".translate({44: ".", 46: ","}), "number"),
    "brackets": (lambda x: f"({x:,})" if x % 2 else f"{x:,}", "number"),
    "tiny": (lambda x: repr(x * 1.1e-9), "number"),
    "beyond float64": (lambda x: str(10**20 + 7 * x), "number"),
    "some empty": (lambda x: "" if x % 3 else str(x), "number"),
    "some NA": (lambda x: "NA" if x % 3 else str(x), "number"),
    "some null": (lambda x: "null" if x % 3 else str(x), "number"),
    "zeros in front": (lambda x: f"{x % 50:05}", "category"),
    "phone numbers": (lambda x: f"+49{x % 30}", "category"),
    "codes with E": (lambda x: f"{x % 30}E5", "category"),
    "bands": (lambda x: f"${x % 3}_${x % 7}", "category"),
    "text with a time": (lambda x: f"{x % 9} to 5:00 %", "category"),
    "yes or no": (lambda x: "ny"[x % 2], "category"),
    "addresses": (lambda x: f"person{x}@example.org", "id"),
    "numbers of orders": ("{:06}".format, "id"),
}


@pytest.mark.parametrize("name", FORMS)
def test_a_column_comes_back_in_its_form(name):
    form, kind = FORMS[name]
    assert kind_of([form(x) for x in NUMBERS]) == kind


@pytest.mark.parametrize(
    "form",
    [
        "%Y-%m-%d",
        "%d.%m.%Y",
        "%m/%d/%Y",
        "%d/%m/%y",
        "%Y%m%d",
        "%Y%m%d.0",
        "%d %b %Y",
        "%Y-%m-%dT%H:%M:%SZ",
        "%Y-%m-%d %H:%M:%S.123+00:00",
        "%m/%d/%Y %I:%M %p",
        "%H:%M:%S",
    ],
)
def test_dates_come_back_in_their_form(form):
    assert kind_of(list(DATES.dt.strftime(form))) == "date"


def test_dates_without_zeros_and_numbers_that_count_up():
    assert kind_of([f"{day.month}/{day.day}/{day.year}" for day in DATES]) == "date"
    assert kind_of([str(1_000_000_001 + i) for i in range(ROWS)]) == "number"
    assert kind_of([f"{x}" for x in range(ROWS)]) == "id"
    assert kind_of(AGES, x="category") == "category"
    assert kind_of([f"{x}" for x in range(ROWS)], x="number") == "number"


def test_generated_values_keep_steps_digits_and_formats():
    frame = pd.DataFrame(
        {
            "step": [f"{500 * x}" for x in NUMBERS],
            "big": [f"{10**17 + 3 * x}" for x in NUMBERS],
            "day": DATES.dt.strftime("%Y%m%d"),
            "same": "7",
        }
    )
    table = Table(frame)
    cells = Decoder(table.cells, table.columns)(torch.randn(500, table.rows.shape[1]))
    generated = columns.to_frame(cells, table.columns)
    assert not (generated.step.astype(int) % 500).any()
    assert {(int(x) - 10**17) % 3 for x in generated.big} == {0}
    days = pd.to_datetime(generated.day, format="%Y%m%d")
    assert days.between(DATES.min().floor("D"), DATES.max()).all()
    assert set(generated.same) == {"7"}


def test_a_frame_comes_back_with_its_dtypes(monkeypatch):
    shorten(monkeypatch, table_gan)
    frame = pd.DataFrame(
        {
            "int": NUMBERS,
            "float": RANDOM.normal(size=ROWS),
            "bool": RANDOM.random(ROWS) > 0.5,
            "date": DATES,
            "zone": DATES.dt.tz_localize("UTC"),
            "level": pd.Categorical(RANDOM.choice(list("ab"), ROWS), list("abc")),
            "maybe": pd.array([None if x % 4 == 0 else x for x in NUMBERS], "Int64"),
            "text": RANDOM.choice(["x", "y", None], ROWS),
            "gap": [np.nan, 1.5] * (ROWS // 2),
        }
    )
    training = table_gan.train(frame, epochs=1, progress=False)
    generated = training.sample(200)
    assert generated.dtypes.equals(frame.dtypes)
    assert list(generated.level.cat.categories) == list("abc")
    assert generated.maybe.isna().any()
    chosen = training.sample(20, where={"bool": True, "level": "a"})
    assert (chosen["bool"] & (chosen.level == "a")).all()
    assert pickle.loads(pickle.dumps(training)).sample(200).equals(generated)


def test_rules_of_all_rows_are_kept():
    frame = pd.DataFrame(
        {
            "city": [f"c{x % 9}" for x in NUMBERS],
            "state": [f"s{x % 9 // 3}" for x in NUMBERS],
            "net": NUMBERS,
            "tax": NUMBERS[::-1],
            "total": np.add(NUMBERS, NUMBERS[::-1]),
            "high": np.maximum(NUMBERS, RANDOM.permutation(NUMBERS)) + 5,
        }
    )
    table = Table(frame)
    decoder = Decoder(table.cells, table.columns)
    sentences = {rule.sentence for rule in decoder.rules}
    assert sentences >= {"city decides state", "total = net + tax", "net <= high"}
    rows = decoder(torch.randn(300, table.rows.shape[1]))
    assert all(rule.kept(rows).all() for rule in decoder.rules)
    independent = torch.randn(ROWS, 2).double()
    assert not tables.find_rules(independent, [Column("a"), Column("b")])


# --- Files -------------------------------------------------------------------------------------


def write(folder, text, encoding="utf-8"):
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


TEXT = 'size,town,rooms\n51.5,Ulm,2\n80.0,"Bonn, am Rhein",3\n20.5,,1\n75.0,Köln,3\n'
FILES = {
    "UTF-8 with a mark": (TEXT, "utf-8-sig"),
    "UTF-16": (TEXT, "utf-16"),
    "Latin-1": (TEXT, "latin-1"),
    "blank lines, of Windows": (TEXT.replace("\n", "\r\n\r\n"), "utf-8"),
    "a comma at the end": (TEXT.replace("\n", ",\n"), "utf-8"),
    "tabs": (TEXT.replace(",", "\t").replace("\t am", ", am"), "utf-8"),
    "bars": (TEXT.replace(",", "|").replace("| am", ", am"), "utf-8"),
    "semicolons": (TEXT.replace(",", ";").replace("; am", ", am"), "utf-8"),
}


@pytest.mark.parametrize("name", FILES)
def test_separators_and_encodings_are_found_out(name, tmp_path):
    text, encoding = FILES[name]
    frame = csvfile.read_table(write(tmp_path, text, encoding))
    assert list(frame) == ["size", "town", "rooms"]
    assert frame.town.tolist() == ["Ulm", "Bonn, am Rhein", "", "Köln"]
    assert frame.rooms.tolist() == ["2", "3", "1", "3"]


@pytest.mark.parametrize(
    ("text", "hint"),
    [
        ("", "expected a header with a name for each column, and rows"),
        ("1,2\n3,4\n", "expected a header with a name for each column, and rows"),
        ("a,b\n1,2\n3,4,5\n", "line 3: expected 2 cells, found 3"),
        ("a\n" + "\n".join([*AGES[:40], "?x", ""]), "line 42, column 'a': expected a number"),
        ("a,b\n1.5,u\n0.5\n", "line 3: expected 2 cells, found 1"),
        ("a,a\n1,2\n3,4\n", "two columns have the name 'a'"),
        ('a,b\n"13" wide",5\n', "line 2: a quote inside quotes must be doubled"),
        ("a\n" + "".join(f"x{i}\n" for i in range(30)), "different: a"),
    ],
)
def test_a_wrong_table_is_one_line(text, hint, run, tmp_path):
    assert hint in run(table_gan, "--data", write(tmp_path, text), status=2).err


@pytest.fixture
def fraud(tmp_path):
    """A file with an ID, and one row in ten of another kind."""
    lines = ["id,$_cost{$,price,fraud"]
    for i, x in enumerate(NUMBERS * 2):
        lines.append(f"{1 + i},$_{x % 9}_$,{x / 4:.2f},{'yes' if x % 10 == 0 else 'no'}")
    return write(tmp_path, "\n".join(lines) + "\n")


def test_from_a_file_to_rows_of_one_kind(fraud, run, tmp_path, monkeypatch):
    shorten(monkeypatch, table_gan)
    printed = run(table_gan, "--data", fraud, "--epochs", 1, "--animate")
    left_out = "left out, as it counts the rows: id; to keep it, --types id=number\n"
    assert printed.err == left_out  # and pictures could be drawn
    assert json.loads((tmp_path / "metrics.json").read_text())["ids"] == ["id"]
    printed = run(table_gan, "--generate", 50, "--where", "fraud=yes")
    frame = pd.read_csv(io.StringIO(printed.out), dtype=str)
    assert list(frame) == ["$_cost{$", "price", "fraud"]
    assert (len(frame), set(frame.fraud)) == (50, {"yes"})
    assert frame.price.str.fullmatch(r"\d+\.(00|25|50|75)").all()
    for where, reason in (
        ("fraud=perhaps", "'fraud' has no category 'perhaps'; it has no, yes"),
        ("frau=yes", "there is no column 'frau'"),
        ("fraud", "--where needs NAME=VALUE"),
    ):
        assert reason in run(table_gan, "--generate", 5, "--where", where, status=2).err


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        (["--where", "fraud=yes"], "give --generate too"),
        (["--generate", 5], "leave it out"),
        (["--types", "x=number"], "--types: there is no column 'x'"),
        (["--types", "price=words"], "--types: there is no kind 'words'"),
    ],
)
def test_options_that_do_not_fit_the_table_are_refused(options, reason, fraud, run):
    assert reason in run(table_gan, "--data", fraud, *options, status=2).err


# --- Learning ----------------------------------------------------------------------------------


def test_real_samples_are_measures_of_three_species():
    rows = table_gan.real_samples(5000, seeded(0))
    for i, mean in enumerate(table_gan.MEANS):
        measures = rows[rows[:, 3] == i, :3]
        assert ((measures.mean(dim=0) - mean).abs() < 0.2 * table_gan.DEVIATIONS[i]).all()
        assert len(measures) / 5000 == pytest.approx(table_gan.SHARES[i].item(), abs=0.03)


def test_numbers_become_normal_scores():
    rows = torch.randn(1000, 2, dtype=torch.float64).exp()
    normal = QuantileTransformer(n_quantiles=1000, output_distribution="normal")
    expected = torch.from_numpy(normal.fit_transform(rows))
    encoded = tables.encode(rows, [Column("a"), Column("b")]).double()
    assert (encoded - expected)[expected.abs() < 2].abs().max() < 0.01


def test_each_of_many_categories_comes_back():
    cells = torch.arange(1000.0).unsqueeze(1)
    many = [Column("kind", [str(i) for i in range(1000)])]
    encoded = tables.encode(cells, many)
    conditions = tables.Conditions(many, torch.ones(1000))
    snapped = conditions.snap(encoded + 0.05 * torch.randn_like(encoded))
    assert Decoder(cells, many)(snapped).equal(cells)


def test_batches_are_new_rows_that_keep_to_their_condition():
    """One row in 40 is of a kind, with numbers of its own."""
    kind = torch.arange(400) % 40 == 0
    numbers = torch.randn(400, 1) + 9 * kind[:, None] + 0.3 * torch.randn(400, 2)
    table = Table(pd.DataFrame(numbers, columns=["a", "b"]).assign(kind=kind.numpy()))
    batches = tables.AugmentedBatches(table.rows, table.indices, table.conditions, 100)
    rows, chosen = map(torch.cat, zip(*islice(batches, 50), strict=True))
    rare = chosen == 1
    assert 0.2 < rare.double().mean() < 0.5  # drawn more often than it occurs
    codes = table.conditions.codes[1, 2:]
    assert rows[rare, 2:].equal(codes.expand(int(rare.sum()), -1))
    assert rows[rare, 0].min() > table.rows[~kind, 0].max()
    assert torch.cdist(rows[:, :2], table.rows[:, :2]).amin(dim=1).quantile(0.1) > 0.01
    assert torch.allclose(rows[~rare, :2].T.cov(), table.rows[~kind, :2].T.cov(), atol=0.2)


def test_auc_is_that_of_the_best_classifier():
    real, generated = torch.randn(2, 500, 1)
    assert 0.45 < tables.two_sample_auc(real, generated) < 0.55
    best = roc_auc_score([0] * 500 + [1] * 500, torch.cat([real, generated + 1.5]))
    assert tables.two_sample_auc(real, generated + 1.5) == pytest.approx(best, abs=0.05)


@pytest.fixture
def judge():
    """A function that judges encoded samples of a table with four numbers and a category."""
    table = Table(pd.DataFrame(torch.randn(500, 4)).assign(kind=["x", "y"] * 250))

    def judge(make_samples):
        training = TableTraining(table, seed=0, epochs=1, patience=1, progress=False)
        training.samples = make_samples(table.rows.clone(), training.held_out)
        training.generator = nn.Identity()
        training.judge()
        return training

    return judge


def test_fresh_rows_are_good(judge):
    def fresh(rows, _):
        rows[:, :4] = torch.randn(500, 4)
        return rows

    training = judge(fresh)
    assert training.converged
    assert training.metrics["copied"] == pytest.approx(0.5, abs=0.1)


def test_copies_are_noticed(judge):
    training = judge(lambda rows, held_out: rows[~held_out] + 0.01)
    assert not training.converged
    assert "WARNING: too many samples are near-copies" in training.verdict


def test_a_missing_category_and_equal_columns_are_noticed(judge):
    def other(*_):
        rows = torch.randn(500, 1).repeat(1, 6)
        rows[:, 4:] = torch.tensor([2, 0])
        return rows

    training = judge(other)
    assert not training.converged
    assert "kind y" in training.verdict
    assert training.metrics["auc"] > tables.MAX_AUC


def test_nothing_on_the_device_is_float64():
    """An Apple GPU has none; all but `upper`, which stays on the CPU, is on the device."""
    table = tables.Table(table_gan.real_samples(60, seeded(0)).double())
    assert all(buffer.dtype != torch.float64 for buffer in table.conditions.buffers())
    batches = tables.AugmentedBatches(table.rows, table.indices, table.conditions, 8)
    rows, _ = next(batches)
    assert rows.dtype == torch.float32
    on_device = [value for name, value in vars(batches).items() if name != "upper"]
    tensors = [value for value in on_device if isinstance(value, torch.Tensor)]
    assert all(tensor.dtype != torch.float64 for tensor in tensors)
    assert batches.upper.device.type == "cpu"


@pytest.mark.parametrize("rows", [[[1.0, 2.0]], [[3.0, 3.0]] * 50, [[0.0]] * 50])
def test_the_smallest_and_oddest_tables_work(rows, monkeypatch):
    shorten(monkeypatch, table_gan)
    training = table_gan.train(rows, epochs=1, progress=False)
    generated = training.generator(torch.randn(9, table_gan.LATENT_DIM))
    assert set(generated.flatten().tolist()) <= {0, 1, 2, 3}
    assert tables.plot_table(training).png()
    assert tables.animate_table(training)
