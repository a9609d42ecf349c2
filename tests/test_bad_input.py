"""Unusual data and settings: they are learned, or refused with a clear ValueError."""

import math
import traceback
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import GANS, ROOT, capped, name_of, needs_cuda, own_data, seeded

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


@needs_cuda
def test_data_may_lie_on_a_gpu(monkeypatch):
    capped(monkeypatch, sine_gan)
    samples = sine_gan.train(ROWS.cuda(), device="cuda", epochs=1, progress=False).samples
    assert samples.device.type == "cpu"


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (torch.rand(5), r"shape \(n, features\), not \(5,\)"),
        (torch.rand(0, 2), r"not \(0, 2\)"),
        (torch.tensor([[0.0], [math.nan]]), "finite numbers"),
        (torch.tensor([[3e38, 1.0]]), "finite numbers"),
        ([[1.0, 2.0], [3.0]], "rows of numbers"),
        ([["a", "b"]], "rows of numbers"),
        (None, "shape|rows of numbers"),
    ],
)
def test_data_that_cannot_be_learned_are_refused(data, reason):
    with pytest.raises(ValueError, match=f"^data must.*{reason}"):
        sine_gan.train(data, progress=False)


@pytest.mark.parametrize("data", [ROWS, torch.zeros(9, 5), torch.ones(9, 2)])
def test_integers_that_are_not_one_hot_are_refused(data):
    with pytest.raises(ValueError, match="one-hot rows"):
        multiples_of_five_gan.train(data, progress=False)


@pytest.mark.parametrize(
    "setting",
    [{"epochs": 0}, {"epochs": 1.5}, {"patience": None}, {"batch_size": 0}, {"batch_size": 2.0},
     {"batch_size": 10**12}, {"device": "quantum"}, {"device": "cuda:99"}],
    ids=str,
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
    [{"batch_size": 1}, {"batch_size": 60}, {"seed": 2**60}, {"lr": 1e-12}, {"patience": 10**9},
     {"device": torch.device("cpu")}],
    ids=str,
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
    for given in (49, columns + 1):
        with pytest.raises(ValueError, match=f"^data must have {columns} columns.*, not {given}"):
            script.train(torch.rand(20, given), progress=False)
    with pytest.raises(ValueError, match=r"data must lie in 0\.\.1"):
        script.train(255 * torch.rand(20, columns), progress=False)


IMAGES = torch.rand(10, 784)


@pytest.mark.parametrize(
    ("data", "labels"),
    [(IMAGES, torch.arange(9)), (IMAGES, torch.rand(10)), (IMAGES, torch.arange(10) + 1),
     (IMAGES[:, :49], torch.arange(10)), (2 * IMAGES, torch.arange(10)), (IMAGES[:1], [0])],
    ids=["too few labels", "real labels", "label 10", "49 pixels", "too bright", "one image"],
)  # fmt: skip
def test_labelled_images_that_cannot_be_learned_are_refused(data, labels):
    with pytest.raises(ValueError, match=r"labels|integers|images|data must"):
        fashion_classifier.train(data, labels, progress=False)
