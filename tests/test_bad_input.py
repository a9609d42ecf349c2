"""Unusual data and settings: they are learned, or refused with a clear ValueError."""

import math

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import GANS, capped, own_data, seeded

import conditional_gan
import cycle_gan
import dcgan
import digits_gan
import exp_curve_gan
import fashion_classifier
import multiples_of_five_gan
import sine_gan
from common import InputError

ROWS = torch.randn(60, 2, generator=seeded(0))
UNUSUAL = {
    "one row": torch.ones(1, 2), "two rows": torch.eye(2), "equal rows": torch.full((60, 2), 0.1),
    "a constant column": torch.stack([ROWS[:, 0], torch.full((60,), -7.0)], dim=1),
    "one column": ROWS[:, :1], "five columns": ROWS.repeat(1, 3)[:, :5],
    "tiny numbers": 1e-30 * ROWS, "huge numbers": 1e30 * ROWS, "denormal numbers": 1e-40 * ROWS,
    "duplicates": ROWS[:3].repeat(20, 1), "an outlier": torch.cat([ROWS, 1e4 * torch.eye(2)]),
    "bfloat16": ROWS.bfloat16(), "booleans": ROWS > 0, "gradients": ROWS.clone().requires_grad_(),
    "array": ROWS.numpy(), "DataFrame": pd.DataFrame(ROWS.numpy(), columns=["a", "b"]),
}  # fmt: skip
WIDE = {  # rows are generated as float64
    "numbers that float32 cannot hold": 1.7e9 + ROWS.double(),
    "integers": (10 * ROWS).long(), "list": ROWS.tolist(),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNUSUAL | WIDE)
def test_unusual_points_are_learned(kind, monkeypatch):
    capped(monkeypatch, exp_curve_gan, 2)
    data = (UNUSUAL | WIDE)[kind]
    samples = exp_curve_gan.train(data, epochs=1, progress=False).samples
    assert samples.dtype == (torch.float64 if kind in WIDE else torch.float32)
    assert samples.isfinite().all()
    real = data.detach() if isinstance(data, torch.Tensor) else torch.tensor(np.array(data))
    constant = (real == real[0]).all(dim=0)
    assert (samples[:, constant] == real[0, constant].to(samples)).all()
    if kind in WIDE:
        assert len(samples[:, 0].unique()) > 10_000


IMAGES, DIGITS = torch.rand(10, 784, generator=seeded(0)), torch.arange(10)
LABELS = "labels must be integers from 0 to 9"
WRONG_DATA = [
    (sine_gan, [torch.rand(5)], r"data must have the shape \(n, features\), not \(5,\)"),
    (sine_gan, [torch.rand(0, 2)], r"data must have the shape .*, not \(0, 2\)"),
    (sine_gan, [torch.tensor([[0.0], [math.nan]])], "data must be finite numbers"),
    (sine_gan, [torch.tensor([[3e38, 1.0]])], "data must be finite numbers"),
    (sine_gan, [[[1.0, 2.0], [3.0]]], "data must be rows of numbers"),
    (sine_gan, [[["a", "b"]]], "data must be rows of numbers"),
    (sine_gan, [None], "data must .*(shape|rows of numbers)"),
    (multiples_of_five_gan, [ROWS], "data must be one-hot rows"),
    (multiples_of_five_gan, [torch.zeros(9, 5)], "data must be one-hot rows"),
    (multiples_of_five_gan, [torch.ones(9, 2)], "data must be one-hot rows"),
    (fashion_classifier, [IMAGES, torch.arange(9)], LABELS),
    (fashion_classifier, [IMAGES, torch.rand(10)], LABELS),
    (fashion_classifier, [IMAGES, DIGITS + 1], LABELS),
    (fashion_classifier, [IMAGES[:1], [0]], LABELS),
    (fashion_classifier, [IMAGES[:, :49], DIGITS], "data must have 784 columns.*, not 49"),
    (fashion_classifier, [2 * IMAGES, DIGITS], "data must lie in 0..1"),
]
COLUMNS = {digits_gan: 784, dcgan: 784, conditional_gan: 794, cycle_gan: 1568}
for gan, columns in COLUMNS.items():
    WRONG_DATA.append((gan, [torch.rand(9, 99)], f"data must have {columns} columns.*, not 99"))
    WRONG_DATA.append((gan, [2 * torch.ones(9, columns)], "data must lie in 0..1"))
for shape in ((4, 32, 32), (3, 30, 30), (3, 32, 64)):
    WRONG_DATA.append((dcgan, [torch.rand(20, *shape)], "a picture must have the shape"))


@pytest.mark.parametrize(("script", "data", "reason"), WRONG_DATA)
def test_data_that_cannot_be_learned_are_refused(script, data, reason):
    with pytest.raises(ValueError, match=f"^{reason}"):
        script.train(*data, progress=False)


WRONG_SETTINGS = [("epochs", 0), ("epochs", 1.5), ("patience", None), ("batch_size", 0)]
WRONG_SETTINGS += [("batch_size", 2.0), ("batch_size", 10**12)]
WRONG_SETTINGS += [("device", "quantum"), ("device", "cuda:99")]


@pytest.mark.parametrize("script", GANS)
def test_wrong_settings_are_named(script, data_dir):
    data = own_data(script, data_dir)
    for name, value in WRONG_SETTINGS:
        with pytest.raises(InputError, match=f"{name}.* {value}|{name} {value!r}"):
            script.train(*data, progress=False, **{name: value})


@pytest.mark.parametrize("batch_size", [1, 60])
@pytest.mark.parametrize("script", [exp_curve_gan, digits_gan])
def test_unusual_settings_are_accepted(script, batch_size, data_dir, monkeypatch):
    capped(monkeypatch, script, 2)
    others = {"seed": 2**60, "lr": 1e-12, "patience": 10**9, "device": torch.device("cpu")}
    data = [rows[:60] for rows in own_data(script, data_dir)]
    training = script.train(*data, progress=False, epochs=1, batch_size=batch_size, **others)
    assert training.samples.isfinite().all()
