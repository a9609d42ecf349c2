"""table_gan.py and tables.py: any table of numbers and categories, from CSV to CSV."""

import csv
import io
import itertools
import json
import sys

import pytest
import torch
from conftest import new_training, seeded
from sklearn.metrics import roc_auc_score
from sklearn.preprocessing import QuantileTransformer

import table_gan
import tables
from tables import Column

ROWS = ["51.5,Ulm,2,300", '80.0,"Bonn, am Rhein",3,450', "20.5,,1,150", "75.0,Ulm,3,425"]
TABLE = "\n".join(["size,town,rooms,price", *ROWS, ""])


def file(folder, text, encoding="utf-8"):
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def mixed(n=300):
    """Numbers: with many decimals, with two, whole, half zeros, constant; and three categories."""
    numbers = torch.randn(n, dtype=torch.float64)
    kind = (numbers > 0).long() + (numbers > 1)
    rows = [numbers, numbers.round(decimals=2), (1000 * numbers).round(), numbers.clamp(min=0),
            torch.full((n,), 0.1), kind]  # fmt: skip
    return torch.stack(rows, dim=1), [*map(Column, "abcde"), Column("kind", ["x", "y", "z"])]


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


def test_encoded_rows_come_back_as_rows_of_the_same_kind():
    rows, columns = mixed()
    encoded = tables.encode(rows, columns)
    assert encoded[:, :5].std(dim=0).sub(1).abs().max() < 0.02  # of equal numbers, too
    decoder = tables.Decoder(rows, columns)
    assert decoder(encoded)[:, 4:].equal(rows[:, 4:])
    assert ((decoder(encoded) - rows).abs().mean(dim=0) <= 0.03 * rows.std(dim=0) + 1e-6).all()
    decoded = decoder(3 * torch.randn(5000, 8))  # any row looks like the data
    assert decoded.amin(dim=0).ge(rows.amin(dim=0)).all()
    assert decoded.amax(dim=0).le(rows.amax(dim=0)).all()
    assert decoded[:, 1].equal(decoded[:, 1].round(decimals=2))
    assert decoded[:, 2].equal(decoded[:, 2].round())
    assert set(decoded[:, 5].tolist()) == {0, 1, 2}
    assert len(decoded[:, 0].unique()) > 1000  # also new numbers


def test_each_of_many_categories_comes_back():
    rows, columns = torch.arange(1000.0)[:, None], [Column("kind", list(map(str, range(1000))))]
    encoded = tables.encode(rows, columns)
    snapped = tables.snap(encoded + 0.05 * torch.randn_like(encoded), columns)
    assert tables.Decoder(rows, columns)(snapped).equal(rows)


def test_batches_are_new_rows_distributed_like_the_data():
    kind = torch.arange(200.0)[:, None] % 2
    numbers = torch.randn(200, 1) + 5 * kind + 0.3 * torch.randn(200, 2)
    columns = [Column("a"), Column("b"), Column("kind", ["x", "y"])]
    rows = tables.encode(torch.cat([numbers, kind], dim=1), columns)
    fresh = torch.cat([*itertools.islice(tables.augmented_batches(rows, 100, columns), 50)])
    assert torch.cdist(fresh[:, :2], rows[:, :2]).amin(dim=1).quantile(0.1) > 0.01
    assert torch.allclose(fresh.T.cov()[:2], rows.T.cov()[:2], atol=0.15)


@pytest.mark.parametrize(
    ("text", "encoding"),
    [
        (TABLE, "utf-8-sig"),
        (TABLE.replace("\n", "\r\n\r\n"), "utf-8"),
        (TABLE.replace(",", "\t").replace("\t am", ", am"), "utf-8"),
        (TABLE.replace(",", ";").replace("; am", ", am").replace(".", ","), "utf-8"),
    ],
)
def test_numbers_and_text(text, encoding, tmp_path):
    rows, columns = tables.read_table(file(tmp_path, text, encoding))
    towns = ["", "Bonn, am Rhein", "Ulm"]
    assert columns == [Column("size"), Column("town", towns), Column("rooms"), Column("price")]
    assert rows.tolist()[:2] == [[51.5, 2, 2, 300], [80, 1, 3, 450]]


def test_few_numbers_are_categories_unless_others_are_named(tmp_path, capsys):
    path = file(tmp_path, "a,b\n" + "".join(f"{i},{i % 10}\n" for i in range(40)))
    assert [len(column.categories) for column in tables.read_table(path)[1]] == [0, 10]
    assert [len(column.categories) for column in tables.read_table(path, ["a"])[1]] == [40, 0]
    assert table_gan.main(["--data", str(path), "--categories", "x"]) == 2
    assert "no column 'x'" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("text", "hint", "status"),
    [
        ("", "cannot read", 1),
        ("1,2\n3,4\n", "expected a header with a name for each column, and rows", 2),
        ("a,b\n1,2\n3,4,5\n", "Expected 2 fields in line 3, saw 3", 1),
        ("a,b\n1,2\n\n3\n5,6\n7,8\n", "line 4, column 'b': expected a number, found ''", 2),
        ("a\n1\n2\nnan\n4\n", "line 4, column 'a': expected a number, found 'nan'", 2),
        (
            "a\n" + "".join(f"x{i}\n" for i in range(1001)),
            "column 'a' has over 1,000 categories",
            2,
        ),
        ("a\nK\xf6ln", "'utf-8' codec", 1),
    ],
)
def test_a_wrong_table_is_one_line(text, hint, status, tmp_path, capsys):
    path = file(tmp_path, text, "latin-1")
    assert table_gan.main(["--data", str(path), "--out", str(tmp_path)]) == status
    message = capsys.readouterr().err
    assert hint in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("package", ["pandas", "sklearn"])
def test_a_missing_package_is_named_before_the_training(package, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, package, None)  # cannot be imported
    assert table_gan.main([]) == 1
    assert capsys.readouterr().err.endswith("pip install pandas scikit-learn\n")


def test_auc_is_that_of_the_best_classifier():
    real, generated = torch.randn(1000, 1), torch.randn(1000, 1)
    assert 0.45 < tables.two_sample_auc(real, generated) < 0.55
    best = roc_auc_score([0] * 1000 + [1] * 1000, torch.cat([real, generated + 1.5]))
    assert tables.two_sample_auc(real, generated + 1.5) == pytest.approx(best, abs=0.05)


def test_near_copies():
    train, held_out, generated = torch.randn(1500, 4).split(500)
    median = torch.cdist(held_out, train).amin(dim=1).median()
    expected = (torch.cdist(generated, train).amin(dim=1) < median).float().mean()
    found = tables.share_closer_than_holdout(train, held_out, generated)
    assert found == pytest.approx(expected.item(), abs=0.01)
    assert tables.share_closer_than_holdout(train, held_out, train + 0.01) == 1


def test_copies_differences_and_missing_categories_are_named():
    cells = torch.cat([torch.randn(500, 4), torch.arange(500)[:, None] % 2], dim=1)
    columns, held_out = [*map(Column, "abcd"), Column("kind", ["x", "y"])], tables.hold_out(500, 0)
    rows, other = tables.encode(cells, columns), torch.randn(500, 1).repeat(1, 6)
    other[:, 4:] = torch.tensor([2, 0])
    for samples, hint in ((rows[~held_out] + 0.01, "100% are closer"), (other, "kind y")):
        training = new_training(rows)
        training.samples, training.generator = samples, torch.nn.Identity()
        tables.judge(training, cells, columns, held_out)
        assert hint in training.verdict
        assert not training.converged
    assert training.metrics["auc"] > tables.MAX_AUC


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        ([[1.0, 2.0]], None),
        ([[3.0, 3.0]] * 50, None),
        ([[0.0]] * 50, [Column("a", ["only"])]),
        ([[i % 4.0] * 9 for i in range(200)], [Column("a", list("wxyz"))] + [Column("b")] * 8),
    ],
)
def test_the_smallest_and_oddest_tables_work(rows, columns):
    training = table_gan.train(rows, columns=columns, epochs=1, progress=False)
    found = training.generator(torch.randn(9, table_gan.LATENT_DIM))
    assert set(found.flatten().tolist()) <= {0, 1, 2, 3}
    columns = columns or [Column("a"), Column("b")]
    assert tables.plot_table(torch.tensor(rows), columns, training)._repr_png_()


def test_numbers_and_names_come_back_as_they_are(tmp_path, capsys):
    """Float32 has only even numbers of that size; two $ are a formula to matplotlib."""
    lines = [f"{2025020001 + i},{i / 1000:.3f},T{i % 20}\n" for i in range(300)]
    path, use = file(tmp_path, "id,$_cost{$,town\n" + "".join(lines)), ["--out", str(tmp_path)]
    assert table_gan.main(["--data", str(path), "--epochs", "1", "--quiet", *use]) == 0
    assert "could not be drawn" not in capsys.readouterr().err
    assert table_gan.main(["--generate", "200", *use]) == 0
    model = torch.jit.load(tmp_path / "generator.pt")
    assert json.loads(bytes(model.columns))[2]["name"] == "town"
    ids, costs, towns = zip(*csv.reader(io.StringIO(capsys.readouterr().out)), strict=True)
    assert (ids[0], costs[0], towns[0]) == ("id", "$_cost{$", "town")
    assert {int(each) % 2 for each in ids[1:]} == {0, 1}
    assert all(2025020001 <= int(each) <= 2025020300 for each in ids[1:])
    assert all(len(each.partition(".")[2]) == 3 for each in costs[1:])
    assert set(towns[1:]) <= {f"T{i}" for i in range(20)}
    assert towns[1:11] != tuple(sorted(towns[1:11]))
