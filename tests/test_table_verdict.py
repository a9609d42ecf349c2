"""The verdict on tables, for rows of known quality; spikes, and the shares of rare values."""

import numpy as np
import pandas as pd
import pytest
import torch
import verdict_tables
from helpers import shorten

import table_gan
import tables
from columns import Column
from common import Figure
from tables import Decoder, Table

RANDOM = np.random.default_rng(0)


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("kind", verdict_tables.TRUTHS)
def test_the_truth_is_good(kind, columns):
    failed = [verdict_tables.judge((kind, 300, columns, "the truth"), seed) for seed in range(2)]
    assert failed == [[], []]


@pytest.mark.parametrize("columns", [1, 3])
@pytest.mark.parametrize("kind", verdict_tables.TRUTHS)
def test_training_rows_again_are_told(kind, columns):
    failed = verdict_tables.judge((kind, 300, columns, "training rows again"), 0)
    assert "closer to a training row than a held-out row is" in failed


def answers(refused, n=1000):
    """Answers to a question, a share of which are refused."""
    count = round(refused * n)
    answer = ["refused"] * count + ["yes"] * (n - count)
    return pd.DataFrame({"answer": answer, "age": RANDOM.normal(size=n)})


@pytest.mark.parametrize(("generated", "told"), [(0.04, False), (0.02, True), (0, True)])
def test_a_category_half_as_frequent_is_told(generated, told):
    training = finished(Table(answers(0.04)), answers(generated, 16384))
    assert training.metrics["missing_values"] == (["answer refused"] if told else [])


@pytest.mark.parametrize("generated", [1, 5])
def test_a_category_too_rare_to_tell_is_not_told(generated):
    training = finished(Table(answers(0.004)), answers(generated / 1000, 16384))
    assert training.metrics["missing_values"] == []


def finished(table, generated):
    """A training that ended with generated rows, whose categories were checked."""
    training = tables.TableTraining(table, seed=0, epochs=1, patience=1, progress=False)
    training.data = table.cells
    training.samples = verdict_tables.cells_of(generated, table.columns)
    training.check_categories()
    return training


# --- Spikes ------------------------------------------------------------------------------------

AGES = RANDOM.integers(20, 80, 1000).astype(float)
SIZES = RANDOM.normal(170, 10, 1000)
SPIKES = {
    "a mark for unknown": (np.where(RANDOM.random(1000) < 0.02, -999, SIZES), [-999]),
    "two marks": (np.where(SIZES < 150, 999, np.where(SIZES > 190, 998, SIZES)), [998, 999]),
    "the last one": (np.minimum(AGES + RANDOM.random(1000), 70), [70]),
    "many zeros": (np.maximum(RANDOM.normal(size=1000), 0), [0]),
    "none in whole numbers": (AGES, []),
    "none in few numbers": (np.minimum(RANDOM.poisson(4, 1000), 11), []),
    "none by chance": (RANDOM.integers(0, 1000, 1000), []),
    "none in one number": (np.full(1000, 3.0), []),
}


@pytest.mark.parametrize("name", SPIKES)
def test_spikes_are_found_and_nothing_lies_between_them_and_the_rest(name):
    numbers, spikes = SPIKES[name]
    cells = torch.tensor(numbers).double().unsqueeze(1)
    columns = [Column("x")]
    assert tables.find_spikes(cells[:, 0]).tolist() == spikes
    special = tables.find_specials(cells, columns)
    rows = tables.encode(*tables.with_flags(columns, cells, special)[::-1])
    decoded = Decoder(cells, columns)(rows)
    rest = cells[~torch.isin(cells, torch.tensor(spikes).double())]
    others = decoded[~torch.isin(decoded, torch.tensor(spikes).double())]
    assert len(others) == len(rest)
    assert rest.min() <= others.min()
    assert others.max() <= rest.max()


def test_nothing_lies_between_far_numbers_and_the_rest():
    """Three are too few for a spike."""
    cells = torch.tensor([*RANDOM.normal(size=300), *[1000.0] * 3]).unsqueeze(1)
    decoded = Decoder(cells, [Column("x")])(torch.randn(5000, 1))
    assert not ((decoded > cells[:300].max()) & (decoded < 1000)).any()


def test_missing_and_unknown_numbers_and_rare_categories_keep_their_shares(monkeypatch):
    shorten(monkeypatch, table_gan, batches=10)
    frame = pd.DataFrame(
        {
            "income": np.where(RANDOM.random(1000) < 0.1, -1, RANDOM.lognormal(size=1000)),
            "age": np.where(RANDOM.random(1000) < 0.1, np.nan, AGES),
            "refused": RANDOM.random(1000) < 0.03,
            "answer": RANDOM.choice(list("abc"), 1000, p=[0.9, 0.07, 0.03]),
        }
    )
    training = table_gan.train(frame, epochs=2, progress=False)
    generated = training.sample(20000)
    for share, expected in (
        (generated.income == -1, frame.income == -1),
        (generated.age.isna(), frame.age.isna()),
        (generated.refused, frame.refused),
        (generated.answer == "c", frame.answer == "c"),
    ):
        assert share.mean() == pytest.approx(expected.mean(), rel=0.25)


def test_a_picture_of_a_far_date_shows_the_rest():
    days = pd.date_range("2024-01-01", periods=300).strftime("%Y-%m-%d").tolist()
    table = Table(pd.DataFrame({"until": days + ["9999-12-31"] * 100}))
    axes = Figure().subplots()
    tables.draw_histogram(axes, table.columns[0], table.cells[:, 0], table.cells[:, 0])
    heights = [bar.get_height() for bar in axes.patches]
    assert min(heights) > max(heights) / 3


def test_warnings_are_counted():
    runs = {
        ("curve", 250, 1, "the truth"): [[], ["distance"]],
        ("curve", 250, 2, "the truth"): [[], []],
        ("curve", 250, 2, "training rows again"): [["copies"], ["copies"]],
    }
    assert verdict_tables.share_warned(runs, "curve", "the truth", 250) == "25.0% of 4"
    assert verdict_tables.failed_checks(runs, "curve", "training rows again") == "copies 2"
