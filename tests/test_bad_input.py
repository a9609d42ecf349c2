"""Unusual data and settings: they are learned, or refused with a clear ValueError."""

import math
import traceback
from pathlib import Path

import pytest
import torch
from conftest import GANS, POINT_GANS, ROOT, capped, name_of, own_data, seeded

import common
import conditional_gan
import cycle_gan
import dcgan
import digits_gan
import exp_curve_gan
import fashion_classifier
import multiples_of_five_gan
import sine_gan

ROWS = torch.randn(60, 2, generator=seeded(0))
UNUSUAL = {
    "one row": torch.ones(1, 2),
    "two rows": torch.tensor([[0.0, 1.0], [1.0, 0.0]]),
    "equal rows": torch.full((60, 2), 0.1),
    "a constant column": torch.cat([ROWS[:, :1], torch.full((60, 1), -7.0)], dim=1),
    "one column": ROWS[:, :1],
    "five columns": ROWS.repeat(1, 3)[:, :5],
    "tiny numbers": 1e-30 * ROWS,
    "huge numbers": 1e30 * ROWS,
    "denormal numbers": torch.full((60, 2), 1e-40) * ROWS,
    "numbers far from zero": 1e6 + 1e-3 * ROWS.double(),
    "both scales": ROWS * torch.tensor([1e-30, 1e30]),
    "one outlier": torch.cat([ROWS, torch.tensor([[1e4, 0.0]])]),
    "duplicates": ROWS[:3].repeat(20, 1),
    "half floats": ROWS.half(),
    "brain floats": ROWS.bfloat16(),
    "integers": (10 * ROWS).long(),
    "booleans": ROWS > 0,
    "one-hot rows": common.one_hot_encode(torch.arange(60) % 7, 7),
    "one integer": common.one_hot_encode(torch.zeros(60).long(), 1),
}


@pytest.mark.parametrize("data", UNUSUAL.values(), ids=UNUSUAL.keys())
@pytest.mark.parametrize("script", POINT_GANS, ids=name_of)
def test_unusual_points_are_learned(script, data, monkeypatch):
    capped(monkeypatch, script, 2)
    training = script.train(data, epochs=1, progress=False)
    rows = training.generator(torch.randn(5, script.LATENT_DIM))
    assert rows.shape == (5, data.shape[1])
    assert rows.isfinite().all()
    constant = (data == data[0]).all(dim=0)
    assert (rows[:, constant] == data[0, constant].to(rows)).all()


@pytest.mark.parametrize("data", UNUSUAL.values(), ids=UNUSUAL.keys())
def test_integers_are_one_hot_or_refused(data, monkeypatch):
    capped(monkeypatch, multiples_of_five_gan, 2)
    if (data.double().sort(dim=1).values == torch.eye(data.shape[1])[-1]).all():
        rows = multiples_of_five_gan.train(data, epochs=1, progress=False).samples
        assert (rows.sum(dim=1) == 1).all()
    else:
        with pytest.raises(ValueError, match="one-hot rows"):
            multiples_of_five_gan.train(data, progress=False)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (torch.rand(5), r"shape \(n, features\), not \(5,\)"),
        (torch.rand(5, 2, 2), "shape"),
        (torch.rand(0, 2), r"not \(0, 2\)"),
        (torch.tensor([[0.0], [math.nan]]), "row 1, column 0 holds nan"),
        (torch.tensor([[0.0, -math.inf]]), "row 0, column 1 holds -inf"),
        (torch.tensor([[3e38, 1.0]]), "row 0, column 0"),
        (torch.ones(10, 2, dtype=torch.complex64), "rows of numbers"),
        ([[1.0, 2.0], [3.0]], "rows of numbers"),
        ([["a", "b"]], "rows of numbers"),
        (None, "shape"),
        (torch.nn.Identity(), "rows of numbers|shape"),
    ],
)
def test_data_that_cannot_be_learned_are_refused(data, reason):
    with pytest.raises(ValueError, match=f"^data must.*{reason}"):
        sine_gan.train(data, progress=False)


@pytest.mark.parametrize(
    "setting",
    [{"epochs": 0}, {"epochs": 1.5}, {"epochs": None}, {"patience": 0}, {"patience": 2.5},
     {"batch_size": 0}, {"batch_size": 2.0}, {"batch_size": 10**12}, {"device": "cuda:99"},
     {"device": "quantum"}],
)  # fmt: skip
@pytest.mark.parametrize("script", GANS, ids=name_of)
def test_wrong_settings_are_named(script, setting, data_dir):
    ((name, value),) = setting.items()
    with pytest.raises(ValueError, match=f"{name}.* {value}|{name} {value!r}") as error:
        script.train(*own_data(script, data_dir), progress=False, **setting)
    source = traceback.extract_tb(error.value.__traceback__)[-1].filename
    assert Path(source).parent == ROOT  # the words are ours, not torch's


@pytest.mark.parametrize(
    "settings",
    [{"batch_size": 1}, {"batch_size": 60}, {"seed": 2**60}, {"lr": 1e-12},
     {"device": torch.device("cpu")}, {"patience": 10**9}],
)  # fmt: skip
@pytest.mark.parametrize("script", [exp_curve_gan, digits_gan], ids=name_of)
def test_unusual_settings_are_accepted(script, settings, data_dir, monkeypatch):
    capped(monkeypatch, script, 2)
    training = script.train(*own_data(script, data_dir), progress=False, epochs=1, **settings)
    assert training.samples.isfinite().all()


@pytest.mark.parametrize(
    ("script", "columns"),
    [(digits_gan, 784), (dcgan, 784), (conditional_gan, 794), (cycle_gan, 1568)],
    ids=name_of,
)
def test_images_of_other_sizes_or_ranges_are_refused(script, columns):
    for given in (49, columns - 1, columns + 1):
        reason = f"^data must have {columns} columns, for 28 by 28 pixels.*, not {given}$"
        with pytest.raises(ValueError, match=reason):
            script.train(torch.rand(20, given), progress=False)
    with pytest.raises(ValueError, match=r"data must lie in 0\.\.1"):
        script.train(255 * torch.rand(20, columns), progress=False)


@pytest.mark.parametrize(
    ("data", "labels", "reason"),
    [
        (torch.rand(10, 784), torch.arange(9), "as many labels"),
        (torch.rand(10, 784), torch.rand(10), "labels must be integers"),
        (torch.rand(10, 784), torch.arange(10) + 1, "from 0 to 9"),
        (torch.rand(10, 28, 28), torch.arange(10), "shape"),
        (torch.rand(10, 49), torch.arange(10), "784 columns"),
        (2 * torch.rand(10, 784), torch.arange(10), r"0\.\.1"),
        (torch.rand(1, 784), torch.arange(1), "at least two"),
    ],
)
def test_labelled_images_that_cannot_be_learned_are_refused(data, labels, reason):
    with pytest.raises(ValueError, match=reason):
        fashion_classifier.train(data, labels, progress=False)


def test_labels_of_a_conditional_gan_must_be_one_hot():
    with pytest.raises(ValueError, match="one-hot"):
        conditional_gan.train(torch.rand(20, 794), progress=False)
