"""table_gan.py and tables.py: a table comes back in the form in which it came."""

import io
import itertools
import json

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import capped, new_training, seeded
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import QuantileTransformer

import table_gan
import tables
from tables import Column, Table

N = 60
RANDOM = np.random.default_rng(0)
AGES = [str(age) for age in RANDOM.integers(18, 90, N)]


def file(folder, text, encoding="utf-8"):
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def kind_of(texts, **types):
    """What texts are taken for: a column, and whether all come back as they are."""
    table = Table(pd.DataFrame({"x": texts, "age": AGES}), types)
    if table.ids:
        return "id"
    column, decoded = table.columns[0], tables.Decoder(table.cells, table.columns)(table.rows)
    assert decoded.isnan().equal(table.cells.isnan())
    assert column.values(table.cells[:, 0]) == texts
    return "category" if column.categories else "date" if column.date else "number"


NUMBERS = RANDOM.permutation(10**6)[:N].tolist()
DATES = pd.Series(pd.to_datetime(RANDOM.integers(10**9, 2 * 10**9, N), unit="s"))


@pytest.mark.parametrize(
    ("form", "kind"),
    [
        (str, "number"), ("{:,}".format, "number"), ("{:.5e}".format, "number"),
        (lambda x: f"{x / 4 - 1000}", "number"), (lambda x: f"-${x / 100:,.2f}", "number"),
        (lambda x: f"{x / 100:.1f} %", "number"), (lambda x: f"{x / 1e6:.3f}"[1:], "number"),
        (lambda x: f"{x / 100:,.2f}".translate({44: ".", 46: ","}), "number"),
        (lambda x: f"({x:,})" if x % 2 else f"{x:,}", "number"),
        (lambda x: f"${'-' * (x % 2)}{x}", "number"), (lambda x: repr(x * 1.1e-9), "number"),
        (lambda x: str(10**20 + 7 * x), "number"),
        *((lambda x, no=no: no if x % 3 else str(x), "number") for no in ("", "NA", "null")),
        (lambda x: f"{x % 50:05}", "category"), (lambda x: f"+49{x % 30}", "category"),
        (lambda x: f"{x % 30}E5", "category"), (lambda x: f"${x % 3}_${x % 7}", "category"),
        (lambda x: f"{x % 9} to 5:00 %", "category"), (lambda x: "ny"[x % 2], "category"),
        (lambda x: f"person{x}@example.org", "id"), ("{:06}".format, "id"),
    ],
)  # fmt: skip
def test_a_column_comes_back_in_its_form(form, kind):
    assert kind_of([form(x) for x in NUMBERS]) == kind


FORMS = "%Y-%m-%d,%d.%m.%Y,%m/%d/%Y,%d/%m/%y,%Y%m%d,%Y%m%d.0,%d %b %Y,%Y-%m-%dT%H:%M:%SZ,"
FORMS += "%Y-%m-%d %H:%M:%S.123+00:00,%m/%d/%Y %I:%M %p,%H:%M:%S"


@pytest.mark.parametrize("form", FORMS.split(","))
def test_dates_come_back_in_their_form(form):
    assert kind_of(list(DATES.dt.strftime(form))) == "date"


def test_dates_without_zeros_and_numbers_that_count_up():
    assert kind_of([f"{day.month}/{day.day}/{day.year}" for day in DATES]) == "date"
    assert kind_of([str(1_000_000_001 + i) for i in range(N)]) == "id"
    assert kind_of(AGES, x="category") == "category"
    assert kind_of([f"{x}" for x in range(N)], x="number") == "number"


def test_generated_values_keep_steps_digits_and_formats():
    table = Table(pd.DataFrame({
        "step": [f"{500 * x}" for x in NUMBERS], "big": [f"{10**17 + 3 * x}" for x in NUMBERS],
        "day": DATES.dt.strftime("%Y%m%d"), "same": "7",
    }))  # fmt: skip
    cells = tables.Decoder(table.cells, table.columns)(torch.randn(500, table.rows.shape[1]))
    frame = tables.to_frame(cells, table.columns)
    assert not (frame.step.astype(int) % 500).any()
    assert {(int(x) - 10**17) % 3 for x in frame.big} == {0}
    days = pd.to_datetime(frame.day, format="%Y%m%d")
    assert days.between(DATES.min().floor("D"), DATES.max()).all()
    assert set(frame.same) == {"7"}


def test_a_frame_comes_back_with_its_dtypes(monkeypatch):
    capped(monkeypatch, table_gan)
    frame = pd.DataFrame({
        "int": NUMBERS, "float": RANDOM.normal(size=N), "bool": RANDOM.random(N) > 0.5,
        "date": DATES, "zone": DATES.dt.tz_localize("UTC"),
        "level": pd.Categorical(RANDOM.choice(list("ab"), N), list("abc")),
        "maybe": pd.array([None if x % 4 == 0 else x for x in NUMBERS], "Int64"),
        "text": RANDOM.choice(["x", "y", None], N), "gap": [np.nan, 1.5] * (N // 2),
    })  # fmt: skip
    training = table_gan.train(frame, epochs=1, progress=False)
    found = training.sample(200)
    assert "`n` generated rows" in training.sample.__doc__
    assert found.dtypes.equals(frame.dtypes)
    assert list(found.level.cat.categories) == list("abc")
    assert found.maybe.isna().any()
    some = training.sample(20, where={"bool": True, "level": "a"})
    assert (some["bool"] & (some.level == "a")).all()


def test_rules_of_all_rows_are_kept():
    table = Table(pd.DataFrame({
        "city": [f"c{x % 9}" for x in NUMBERS], "state": [f"s{x % 9 // 3}" for x in NUMBERS],
        "net": NUMBERS, "tax": NUMBERS[::-1], "total": np.add(NUMBERS, NUMBERS[::-1]),
        "high": np.maximum(NUMBERS, RANDOM.permutation(NUMBERS)) + 5,
    }))  # fmt: skip
    decoder = tables.Decoder(table.cells, table.columns)
    found = {rule.words for rule in decoder.rules}
    assert found >= {"city decides state", "total = net + tax", "net <= high"}
    rows = decoder(torch.randn(300, table.rows.shape[1]))
    assert all(rule.kept(rows).all() for rule in decoder.rules)
    independent = torch.randn(N, 2).double()
    assert not tables.find_rules(independent, [Column("a"), Column("b")])


# --- Files -------------------------------------------------------------------------------------

TEXT = 'size,town,rooms\n51.5,Ulm,2\n80.0,"Bonn, am Rhein",3\n20.5,,1\n75.0,Köln,3\n'


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (TEXT, "utf-8-sig"), (TEXT, "utf-16"), (TEXT, "latin-1"),
        (TEXT.replace("\n", "\r\n\r\n"), "utf-8"),
        *((TEXT.replace(",", x).replace(f"{x} am", ", am"), "utf-8") for x in "\t|;"),
        (TEXT.replace("\n", ",\n"), "utf-8"),
    ],
)  # fmt: skip
def test_separators_and_encodings_are_found_out(text, encoding, tmp_path):
    frame = tables.read_table(file(tmp_path, text, encoding))
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
        ("a\n" + "".join(f"x{i}\n" for i in range(30)), "IDs alone"),
    ],
)  # fmt: skip
def test_a_wrong_table_is_one_line(text, hint, run, tmp_path):
    assert hint in run(table_gan, "--data", file(tmp_path, text), status=2).err


def test_from_a_file_to_rows_of_a_kind(run, tmp_path, monkeypatch):
    capped(monkeypatch, table_gan)
    lines = [f"{1000 + i},$_{x % 9}_$,{x / 4:.2f},{'yes' if x % 10 == 0 else 'no'}\n"
             for i, x in enumerate(NUMBERS * 2)]  # fmt: skip
    path = file(tmp_path, "id,$_cost{$,price,fraud\n" + "".join(lines))
    printed = run(table_gan, "--data", path, "--epochs", 1, "--animate")
    assert printed.err == "IDs, left out: id\n"  # and pictures could be drawn
    assert json.loads((tmp_path / "metrics.json").read_text())["ids"] == ["id"]
    printed = run(table_gan, "--generate", 50, "--where", "fraud=yes")
    frame = pd.read_csv(io.StringIO(printed.out), dtype=str)
    assert list(frame) == ["$_cost{$", "price", "fraud"]
    assert (len(frame), set(frame.fraud)) == (50, {"yes"})
    assert frame.price.str.fullmatch(r"\d+\.(00|25|50|75)").all()
    wrong = {
        "--where fraud=yes": "give --generate too", f"--generate 5 --data {path}": "leave it out",
        "--generate 5 --where fraud=perhaps": "'fraud' has no category 'perhaps'; it has no, yes",
        "--generate 5 --where frau=yes": "no categorical column 'frau'",
        f"--data {path} --types x=number": "--types: there is no column 'x'",
        f"--data {path} --types price=words": "--types: there is no kind 'words'",
    }  # fmt: skip
    for options, reason in wrong.items():
        assert reason in run(table_gan, *options.split(), status=2).err


# --- Learning ----------------------------------------------------------------------------------


def test_real_samples_are_measures_of_three_species():
    rows = table_gan.real_samples(5000, seeded(0))
    for i, mean in enumerate(table_gan.MEANS):
        found = rows[rows[:, 3] == i, :3]
        assert ((found.mean(dim=0) - mean).abs() < 0.2 * table_gan.DEVIATIONS[i]).all()
        assert len(found) / 5000 == pytest.approx(table_gan.SHARES[i].item(), abs=0.03)


def test_numbers_become_normal_scores():
    rows = torch.randn(1000, 2, dtype=torch.float64).exp()
    normal = QuantileTransformer(n_quantiles=1000, output_distribution="normal")
    expected = torch.from_numpy(normal.fit_transform(rows))
    encoded = tables.encode(rows, [Column("a"), Column("b")]).double()
    assert (encoded - expected)[expected.abs() < 2].abs().max() < 0.01


def test_each_of_many_categories_comes_back():
    cells, columns = torch.arange(1000.0)[:, None], [Column("kind", list(map(str, range(1000))))]
    encoded = tables.encode(cells, columns)
    conditions = tables.Conditions(columns, torch.ones(1000))
    snapped = conditions.snap(encoded + 0.05 * torch.randn_like(encoded))
    assert tables.Decoder(cells, columns)(snapped).equal(cells)


def test_batches_are_new_rows_that_keep_to_their_condition():
    """One row in 40 is of a kind, with numbers of its own."""
    kind = torch.arange(400) % 40 == 0
    numbers = torch.randn(400, 1) + 9 * kind[:, None] + 0.3 * torch.randn(400, 2)
    table = Table(pd.DataFrame(numbers, columns=["a", "b"]).assign(kind=kind.numpy()))
    every = torch.ones(400, dtype=torch.bool)
    batches = tables.augmented_batches(table, every, 100, torch.device("cpu"))
    fresh, chosen = map(torch.cat, zip(*itertools.islice(batches, 50), strict=True))
    rare = chosen == 1
    assert fresh[:, 2:][rare].equal(table.columns[2].codes[1].expand(int(rare.sum()), 2))
    assert 0.2 < rare.double().mean() < 0.5  # drawn more often than it occurs
    assert fresh[rare, 0].min() > table.rows[~kind, 0].max()
    assert torch.cdist(fresh[:, :2], table.rows[:, :2]).amin(dim=1).quantile(0.1) > 0.01
    common_rows = table.rows[~kind, :2]
    assert torch.allclose(fresh[~rare, :2].T.cov(), common_rows.T.cov(), atol=0.2)


def test_auc_is_that_of_the_best_classifier():
    real, generated = torch.randn(2, 500, 1)
    assert 0.45 < tables.two_sample_auc(real, generated) < 0.55
    best = roc_auc_score([0] * 500 + [1] * 500, torch.cat([real, generated + 1.5]))
    assert tables.two_sample_auc(real, generated + 1.5) == pytest.approx(best, abs=0.05)


def test_copies_differences_and_missing_categories_are_named():
    table = Table(pd.DataFrame(torch.randn(500, 4)).assign(kind=["x", "y"] * 250))
    held_out, rows, found = tables.hold_out(500, 0), table.rows, {}
    copies, fresh, other = rows[~held_out] + 0.01, rows.clone(), torch.randn(500, 1).repeat(1, 6)
    fresh[:, :4], other[:, 4:] = torch.randn(500, 4), torch.tensor([2, 0])
    for name, samples in (("fresh", fresh), ("copies", copies), ("other", other)):
        training = found[name] = new_training(rows)
        training.samples, training.generator = samples, torch.nn.Identity()
        tables.judge(training, table, held_out)
    assert [training.converged for training in found.values()] == [True, False, False]
    assert found["fresh"].metrics["copied"] == pytest.approx(0.5, abs=0.1)
    assert "100% are closer" in found["copies"].verdict
    assert "kind y" in found["other"].verdict
    assert found["other"].metrics["auc"] > tables.MAX_AUC


@pytest.mark.parametrize("rows", [[[1.0, 2.0]], [[3.0, 3.0]] * 50, [[0.0]] * 50])
def test_the_smallest_and_oddest_tables_work(rows, monkeypatch):
    capped(monkeypatch, table_gan)
    training = table_gan.train(rows, epochs=1, progress=False)
    found = training.generator(torch.randn(9, table_gan.LATENT_DIM))
    assert set(found.flatten().tolist()) <= {0, 1, 2, 3}
    assert tables.plot_table(Table(rows), training)._repr_png_()
