"""table_gan.py, used from code and as a script: tables of numbers and of categories."""

import csv
import io
import itertools
import json
import sys
import types

import pytest
import torch
from conftest import DEVICES, capped, new_training, seeded

import common
import table_gan
import tables
from common import Failure
from tables import Column

TABLE = """size,town,rooms,price
51.5,Ulm,2,300
80.0,"Bonn, am Rhein",3,450
20.5,,1,150
75.0,Ulm,3,425
"""


@pytest.fixture(autouse=True)
def short(monkeypatch):
    capped(monkeypatch, table_gan, 10)


def file(folder, text, encoding="utf-8"):
    path = folder / "table.csv"
    path.write_bytes(text.encode(encoding))
    return path


def mixed(n=300):
    """Rows of every kind: with many decimals, two, none, many zeros, constant; three categories."""
    numbers = torch.randn(n)
    kind = (numbers > 0).long() + (numbers > 1)
    rows = [numbers, (100 * numbers).round() / 100, (1000 * numbers).round(),
            numbers.clamp(min=0), torch.full((n,), 0.1), kind]  # fmt: skip
    names = [*map(Column, "abcde"), Column("kind", ["x", "y", "z"])]
    return torch.stack(rows, dim=1), names


def generated(capsys, *arguments):
    """The rows that the script prints, as dictionaries."""
    capsys.readouterr()
    assert table_gan.main(["--generate", "200", *map(str, arguments)]) == 0
    return list(csv.DictReader(io.StringIO(capsys.readouterr().out)))


class TestData:
    def test_real_samples_are_measurements_of_three_species(self):
        rows = table_gan.real_samples(1000, seeded(0))
        bill, flipper, mass, species = rows.T
        assert set(species.tolist()) == {0, 1, 2}
        assert flipper.equal(flipper.round())
        assert (10 * bill).sub((10 * bill).round()).abs().max() < 1e-3
        assert flipper[species == 2].mean() > flipper[species == 0].mean() + 20
        assert mass[species == 2].mean() > mass[species == 0].mean() + 1

    def test_encoded_rows_come_back(self):
        rows, columns = mixed()
        encoded = tables.encode(rows, columns)
        assert encoded.shape == (300, 8)
        assert encoded[:, :5].std(dim=0).sub(1).abs().max() < 0.02
        decoded = tables.Decoder(rows, columns)(encoded)
        assert decoded[:, 5].equal(rows[:, 5])
        assert ((decoded - rows).abs().mean(dim=0) <= 0.03 * rows.std(dim=0) + 1e-6).all()

    def test_whatever_is_decoded_looks_like_the_data(self):
        rows, columns = mixed()
        decoded = tables.Decoder(rows, columns)(3 * torch.randn(5000, 8))
        assert (decoded >= rows.amin(dim=0)).all()
        assert (decoded <= rows.amax(dim=0)).all()
        assert decoded[:, 2].equal(decoded[:, 2].round())
        assert (100 * decoded[:, 1]).sub((100 * decoded[:, 1]).round()).abs().max() < 1e-3
        assert set(decoded[:, 4].tolist()) == {rows[0, 4].item()}
        assert set(decoded[:, 5].tolist()) == {0, 1, 2}
        assert len(decoded[:, 0].unique()) > 1000  # not only numbers that were learned

    def test_each_of_many_categories_comes_back(self):
        columns = [Column("kind", [str(i) for i in range(1000)])]
        rows = torch.arange(1000.0).unsqueeze(1)
        encoded = tables.encode(rows, columns)
        assert encoded.shape == (1000, 16)
        assert tables.Decoder(rows, columns)(encoded).equal(rows)
        blurred = encoded + 0.1 * torch.randn_like(encoded)
        assert (
            tables.SnapCategories(columns)(blurred).isclose(encoded).all(dim=1).float().mean()
            > 0.99
        )

    def test_batches_are_of_fresh_rows_spread_as_the_learned_ones(self):
        columns = [Column("a"), Column("b"), Column("kind", ["x", "y"])]
        kind = torch.arange(200.0) % 2
        numbers = torch.randn(200, 1) + 5 * kind.unsqueeze(1) + 0.3 * torch.randn(200, 2)
        rows = tables.encode(torch.cat([numbers, kind.unsqueeze(1)], dim=1), columns)
        batches = tables.NeighbourhoodBatches(rows, 100, columns)
        fresh = torch.cat(list(itertools.islice(batches, 50)))
        assert fresh.shape == (5000, 4)
        assert torch.cdist(fresh[:, :2], rows[:, :2]).amin(dim=1).quantile(0.1) > 0.01
        assert torch.allclose(fresh[:, :2].T.cov(), rows[:, :2].T.cov(), atol=0.1)
        for marked in rows[:2, 2:]:
            mean, due = (
                some[some[:, 2:] @ marked > 2][:, :2].mean(dim=0) for some in (fresh, rows)
            )
            assert torch.allclose(mean, due, atol=0.1)

    def test_of_many_rows_batches_are_the_rows_themselves(self):
        rows = torch.randn(5000, 2)
        batch = next(iter(tables.NeighbourhoodBatches(rows, 10, [Column("a"), Column("b")])))
        assert torch.cdist(batch, rows).amin(dim=1).max() < 1e-4


class TestReading:
    def test_numbers_and_categories(self, tmp_path):
        rows, columns = tables.read_table(file(tmp_path, TABLE))
        assert [column.name for column in columns] == ["size", "town", "rooms", "price"]
        assert [list(column.categories) for column in columns] == [
            [],
            ["", "Bonn, am Rhein", "Ulm"],
            [],
            [],
        ]
        assert rows.tolist()[1] == [80, 1, 3, 450]

    def test_few_numbers_are_categories_unless_others_are_named(self, tmp_path):
        path = file(tmp_path, "a,b\n" + "".join(f"{i},{i % 10}\n" for i in range(40)))
        assert [len(column.categories) for column in tables.read_table(path)[1]] == [0, 10]
        assert [len(column.categories) for column in tables.read_table(path, ["a"])[1]] == [40, 0]

    @pytest.mark.parametrize(
        ("text", "encoding"),
        [
            (TABLE, "utf-8-sig"),
            (TABLE.replace("\n", "\r\n"), "utf-8"),
            (TABLE.replace("\n", "\n\n"), "utf-8"),
            (TABLE.replace("Bonn, am", "Bonn am").replace(",", "\t"), "utf-8"),
            (TABLE.replace("Bonn, am", "Bonn am").replace(",", ";").replace(".", ","), "utf-8"),
        ],
    )
    def test_other_forms_of_the_file(self, text, encoding, tmp_path):
        rows, columns = tables.read_table(file(tmp_path, text, encoding))
        assert rows[:, 0].tolist() == [51.5, 80, 20.5, 75]
        assert columns[1].categories[2] == "Ulm"

    @pytest.mark.parametrize(
        ("text", "hint"),
        [
            ("", "no rows"),
            ("a,b\n", "no rows"),
            ("1,2\n3,4\n", "line 1: expected a name for each column"),
            ("a,a\n3,4\n", "line 1: expected a name for each column"),
            ("a,\n3,4\n", "line 1: expected a name for each column"),
            ("a,b\n1,2\n3\n", "line 3: expected 2 cells, as in the header, found 1"),
            ("a,b\n1,2\n3,4,5\n", "line 3: expected 2 cells, as in the header, found 3"),
            ("a\n1\n2\n\n\"\"\n3\n", "line 5, column 'a': expected a number, found ''"),
            ("a\n1\n2\nnan\n4\n5\n", "line 4, column 'a': expected a number, found 'nan'"),
            ("a\n" + "".join(f"x{i}\n" for i in range(1001)), "'a' has 1,001 categories"),
            ('a,b\n"1,2\n', "not a CSV file"),
        ],
    )  # fmt: skip
    def test_what_cannot_be_read_is_one_clear_line(self, text, hint, tmp_path, capsys):
        assert table_gan.main(["--data", str(file(tmp_path, text)), "--out", str(tmp_path)]) == 1
        message = capsys.readouterr().err
        assert hint in message
        assert message.count("\n") == 1

    def test_text_far_down_is_named(self, tmp_path):
        text = "a,b\n" + "".join(f"{i},x\n" for i in range(90_000)) + "oops,x\n"
        with pytest.raises(
            Failure, match="line 90002, column 'a': expected a number, found 'oops'"
        ):
            tables.read_table(file(tmp_path, text))

    def test_another_encoding_and_an_absent_file(self, tmp_path, capsys):
        assert table_gan.main(["--data", str(file(tmp_path, TABLE + "1,Köln,1,1", "latin-1"))]) == 1
        assert "not a CSV file in UTF-8" in capsys.readouterr().err
        assert table_gan.main(["--data", str(tmp_path / "absent.csv")]) == 1
        assert "cannot read" in capsys.readouterr().err

    def test_an_unknown_column_is_a_wrong_command_line(self, tmp_path, capsys):
        assert table_gan.main(["--data", str(file(tmp_path, TABLE)), "--categories", "x"]) == 2
        assert "no column 'x'" in capsys.readouterr().err


@pytest.mark.parametrize("device", DEVICES)
def test_a_short_training_brings_the_rows_near(device, monkeypatch):
    """The start has the right columns and correlations, but not the shape of this curve."""
    capped(monkeypatch, table_gan, 45)
    x = 2 * torch.rand(5500) - 1
    rows, fresh = torch.stack([x, x.square()], dim=1).split([500, 5000])
    distance = common.SlicedWasserstein(fresh)
    start = table_gan.train(rows, device=device, epochs=1, progress=False)
    training = table_gan.train(rows, device=device, epochs=8, progress=False)
    assert distance(training.samples) < 0.6 * distance(start.samples)
    assert training.generator(torch.randn(7, table_gan.LATENT_DIM)).shape == (7, 2)


@pytest.mark.parametrize(
    ("rows", "columns"),
    [
        (torch.tensor([[1.0, 2.0]]), None),
        (torch.tensor([[1.0], [2.0]]), None),
        (torch.full((50, 2), 3.0), None),
        (torch.zeros(50, 1), [Column("a", ["only"])]),
        (torch.arange(1000.0).unsqueeze(1), [Column("a", [str(i) for i in range(1000)])]),
    ],
)
def test_smallest_and_oddest_tables_work(rows, columns):
    training = table_gan.train(rows, columns=columns, epochs=1, progress=False)
    found = training.generator(torch.randn(9, table_gan.LATENT_DIM))
    assert set(found.flatten().tolist()) <= {*rows.flatten().tolist(), 1.5}


def test_codes_that_are_none_are_refused():
    with pytest.raises(ValueError, match="integers"):
        table_gan.train(torch.tensor([[0.0], [2.0]]), columns=[Column("a", ["x", "y"])])


class Made(torch.nn.Module):
    """A generator whose rows are given."""

    def __init__(self, rows):
        super().__init__()
        self.rows = torch.nn.Parameter(rows)

    def forward(self, latents):
        return self.rows[: len(latents)]


def judged(cells, columns, make):
    """A training on a table whose generator gives what `make` makes of the training rows."""
    rows, held_out = tables.encode(cells, columns), tables.hold_out(len(cells), 0)
    loose = {"max_off_data": 0.2, "max_missed": 0.05}
    training = new_training(rows, is_held_out=held_out, **loose)
    generator, loss = Made(make(training.train_rows)), torch.tensor(0.7)
    training.evaluate(generator, torch.zeros(500, 1), loss, loss)
    return tables.judge(training.finish(generator, torch.zeros(500, 1)), cells, columns)


class TestVerdict:
    def test_a_forest_tells_other_rows_from_real_ones(self):
        pytest.importorskip("sklearn")
        rows, apart = torch.randn(1000, 2).cumsum(dim=1), torch.randn(500, 2)
        columns = [Column("a"), Column("b")]
        same = judged(rows[:500], columns, lambda _: rows[500:] / torch.tensor([1, 2**0.5]))
        assert same.metrics["auc"] < 0.55
        other = judged(rows[:500], columns, lambda _: apart)
        assert other.metrics["auc"] > 0.57
        line = judged(rows[:500], columns, lambda _: apart[:, :1].repeat(1, 2))
        assert line.metrics["auc"] > tables.MAX_AUC
        assert not line.converged

    def test_copies_are_seen(self):
        rows, others = torch.randn(1000, 4).split(500)
        columns = list(map(Column, "abcd"))
        fresh = judged(rows, columns, lambda _: others)
        assert 0.3 < fresh.metrics["copied"] < 0.7
        copies = judged(rows, columns, lambda learned: learned + 0.01)
        assert copies.metrics["copied"] == 1
        assert "100% are closer to a training row" in copies.verdict
        assert not copies.converged

    def test_missing_categories_are_named(self):
        rows, columns = torch.tensor([[0.0], [1.0]]).repeat(50, 1), [Column("kind", ["a", "b"])]
        found = judged(rows, columns, lambda _: torch.tensor([[1.0, 0.0]]).repeat(500, 1))
        assert "kind b" in found.verdict
        assert not found.converged

    def test_without_scikit_learn_nothing_is_trained(self, monkeypatch, tmp_path, capsys):
        monkeypatch.setitem(sys.modules, "sklearn", None)  # cannot be imported
        monkeypatch.delitem(sys.modules, "sklearn.ensemble", raising=False)
        assert table_gan.main(["--quiet", "--out", str(tmp_path)]) == 1
        assert "pip install scikit-learn" in capsys.readouterr().err


def test_the_picture_shows_columns_and_correlations():
    rows, columns = mixed()
    others = rows.clone()
    others[:, 5] = 1
    training = types.SimpleNamespace(samples=others, kept_epoch=1)
    training.history = [common.Evaluation(1, 0.7, 0.7, 0.5)]
    axes = tables.plot_table(rows, columns, training).axes
    assert [axis.get_title() for axis in axes[:6]] == ["a", "b", "c", "d", "e", "kind"]
    real, generated = axes[5].patches[:3], axes[5].patches[3]
    due = 100 * rows[:, 5].long().bincount() / 300
    assert [bar.get_height() for bar in real] == pytest.approx(due.tolist(), abs=1e-3)
    assert generated.get_xy()[1::2, 1].tolist()[:3] == pytest.approx([0, 100, 0])
    assert [label.get_text() for label in axes[5].get_xticklabels()] == ["x", "y", "z"]
    labels = {patch.get_label(): patch for patch in axes[0].get_legend().get_patches()}
    assert labels["real"].get_facecolor()[:3] != labels["generated"].get_facecolor()[:3]
    shown = {axis.get_title()[:4]: axis.images[0].get_array() for axis in axes if axis.images}
    due = torch.corrcoef(rows[:, [0, 5]].T)[0, 1].item()
    assert shown["real"][0, 5] == pytest.approx(due, abs=1e-3)
    assert shown["gene"][0, 5] == 0


class TestNumbersKept:
    def test_large_whole_numbers_are_exact(self, tmp_path, capsys):
        """Float32 has only even ones up there, and close ones are all alike."""
        days, path = [20250200 + i % 28 for i in range(300)], tmp_path / "days.csv"
        close = [1234567890 + i for i in range(300)]
        lines = "".join(f"{day},{number}\n" for day, number in zip(days, close, strict=True))
        path.write_text("day,$cost in $\n" + lines)
        use = ["--out", str(tmp_path / "out")]
        assert table_gan.main(["--data", str(path), "--epochs", "2", "--quiet", *use]) == 0
        assert "could not be drawn" not in capsys.readouterr().err
        assert (tmp_path / "out" / "samples.png").exists()
        rows = generated(capsys, *use)
        assert {int(row["day"]) % 2 for row in rows} == {0, 1}
        assert {int(row["day"]) for row in rows} <= set(days)
        assert {int(row["$cost in $"]) for row in rows} <= set(close)
        assert len({int(row["$cost in $"]) for row in rows}) > 50

    def test_many_categories_come_out_at_random(self, tmp_path, capsys):
        towns = [f"Town{chr(65 + i % 20)}" for i in range(400)]
        path, use = tmp_path / "towns.csv", ["--out", str(tmp_path / "out")]
        path.write_text("town,size\n" + "".join(f"{town},{i}\n" for i, town in enumerate(towns)))
        assert table_gan.main(["--data", str(path), "--epochs", "1", "--quiet", *use]) == 0
        found = [row["town"] for row in generated(capsys, *use)]
        assert found[:20:2] != sorted(set(towns))[::2]
        assert found[:10] != sorted(found[:10])


def test_a_description_of_other_columns_is_refused():
    with pytest.raises(ValueError, match="3 columns, but 2 are described"):
        table_gan.train(torch.rand(50, 3), columns=[Column("a"), Column("b")])


class TestCommandLine:
    def test_the_table_of_its_own(self, tmp_path, capsys):
        use = ["--out", str(tmp_path)]
        assert table_gan.main(["--epochs", "1", "--quiet", "--animate", *use]) == 0
        assert (tmp_path / "training.gif").exists()
        rows = generated(capsys, *use)
        assert [*rows[0]] == ["bill_mm", "flipper_mm", "mass_kg", "species"]
        assert {row["species"] for row in rows} <= set(table_gan.SPECIES)
        assert all(len(row["mass_kg"].split(".")[1]) == 2 for row in rows)
        assert all(row["flipper_mm"].isdigit() for row in rows)
        assert table_gan.main(["--interpolate", "5", *use]) == 0
        assert (tmp_path / "interpolation.png").exists()

    def test_another_table_and_what_its_files_tell(self, tmp_path, capsys):
        path = file(tmp_path, TABLE)
        use = ["--out", str(tmp_path / "out")]
        assert table_gan.main(["--data", str(path), "--epochs", "1", "--quiet", *use]) == 0
        rows = generated(capsys, *use)
        assert {row["town"] for row in rows} <= {"", "Bonn, am Rhein", "Ulm"}
        assert {row["rooms"] for row in rows} <= {"1", "2", "3"}
        assert all(len(row["size"].split(".")[1]) == 1 for row in rows)
        model = torch.jit.load(tmp_path / "out" / "generator.pt")
        program = torch.export.load(tmp_path / "out" / "generator.pt2")
        for columns in (model.columns, program.state_dict["columns"]):
            about = json.loads(bytes(columns))
            assert [column["name"] for column in about] == ["size", "town", "rooms", "price"]
        noise = torch.randn(3, table_gan.LATENT_DIM)
        assert torch.allclose(model(noise), program.module()(noise))
