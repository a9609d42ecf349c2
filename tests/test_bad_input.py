"""Whatever is given to the functions: it is learned from, or refused with a clear ValueError."""

import math
import traceback
from pathlib import Path

import pytest
import torch
from conftest import ROOT, seeded
from hypothesis import given, settings
from hypothesis import strategies as st

import common
import conditional_gan
import cycle_gan
import dcgan
import digits_gan
import exp_curve_gan
import fashion_classifier
import multiples_of_five_gan

# Derandomised: the same cases in every run
many = settings(max_examples=60, deadline=None, derandomize=True, database=None)

NUMBERS = st.sampled_from(
    [0.0, 1.0, -1.0, 0.5, 7.0, 1e30, -1e30, 1e-30, 3e38, -3e38, 1e-40, 1e300, math.nan, math.inf]
)
TYPES = [torch.float32, torch.float64, torch.float16, torch.bfloat16, torch.int64, torch.bool]
SCALES = st.sampled_from([1e-30, 1e-6, 1.0, 1e6, 1e30])
NO_TENSORS = st.sampled_from([None, 3, "data", [[1.0, 2.0]], torch.nn.Identity()])


@st.composite
def chosen(draw):
    """A few numbers, usual and unusual, of any type and shape."""
    shape = draw(st.lists(st.integers(0, 4), max_size=3))
    count = math.prod(shape)
    numbers = draw(st.lists(NUMBERS, min_size=count, max_size=count))
    rows = torch.tensor(numbers, dtype=torch.float64).view(shape)
    return rows.to(draw(st.sampled_from(TYPES)))


@st.composite
def drawn(draw):
    """Rows by lot, at any scale and place, with constant columns and duplicates."""
    random = seeded(draw(st.integers(0, 99)))
    rows = torch.randn(draw(st.integers(1, 70)), draw(st.integers(1, 5)), generator=random)
    rows = draw(SCALES) * rows + draw(SCALES) * draw(st.sampled_from([0, 1]))
    constant = draw(st.integers(0, rows.shape[1]))
    rows[:, :constant] = rows[0, :constant].clone()
    return rows.repeat(draw(st.integers(1, 3)), 1)


@st.composite
def one_hot(draw):
    """One-hot rows, of a few integers or a single one."""
    depth = draw(st.integers(1, 20))
    integers = draw(st.lists(st.integers(0, depth - 1), min_size=1, max_size=50))
    return common.one_hot_encode(torch.tensor(integers), depth)


DATA = chosen() | drawn() | one_hot() | NO_TENSORS
SETTINGS = st.fixed_dictionaries(
    {},
    optional={
        "seed": st.sampled_from([0, 7, 2**60]),
        "epochs": st.sampled_from([1, 2, 0, -1, 1.0, None, True]),
        "patience": st.sampled_from([1, 30, 0, 2.5, None]),
        "batch_size": st.sampled_from([1, 2, 5, None, 0, -3, 10**12, 2.0]),
        "lr": st.sampled_from([0.001, 1, 1e-12, 0, 1e30, math.inf]),
        "device": st.sampled_from(["cpu", "cuda:99", "quantum", torch.device("cpu"), None]),
    },
)


def answer(function, *arguments, **more):
    """What a function gives; None if it refuses, in words of our own and not of torch's."""
    try:
        return function(*arguments, **more)
    except (ValueError, common.Failure) as error:
        if Path(traceback.extract_tb(error.__traceback__)[-1].filename).parent != ROOT:
            raise
        return None


def learns_or_refuses(script, data, more):
    """A training gives whole and finite rows, or says in words what is wrong."""
    training = answer(script.train, data, progress=False, **{"epochs": 1} | more)
    if training is None:
        return
    latents = data.shape[1] if script is multiples_of_five_gan else script.LATENT_DIM
    rows = training.generator(torch.randn(5, latents))
    assert rows.shape == (5, data.shape[1])
    assert rows.dtype == torch.float32
    assert rows.isfinite().all()
    if script is exp_curve_gan:
        constant = (data == data[0]).all(dim=0)
        assert (rows[:, constant] == data[0, constant].float()).all()


@pytest.mark.parametrize("script", [exp_curve_gan, multiples_of_five_gan])
def test_any_data(script):
    @many
    @given(DATA)
    def check(data):
        learns_or_refuses(script, data, {})

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "BATCHES_PER_EPOCH", 2)
        check()


@pytest.mark.parametrize("script", [exp_curve_gan, multiples_of_five_gan])
def test_any_settings(script):
    data = common.one_hot_encode(torch.arange(40) % 3, 3)

    @many
    @given(SETTINGS)
    def check(more):
        learns_or_refuses(script, data, more)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(script, "BATCHES_PER_EPOCH", 2)
        check()


@many
@given(DATA | st.just(torch.rand(20, 784)), SETTINGS)
def test_images(data, more):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(digits_gan, "BATCHES_PER_EPOCH", 1)
        learns_or_refuses(digits_gan, data, more)


@pytest.mark.parametrize(
    ("script", "columns", "wanted"),
    [
        (digits_gan, 784, "784 columns, for 28 by 28 pixels"),
        (dcgan, 784, "784 columns, for 28 by 28 pixels"),
        (conditional_gan, 794, "794 columns, for 28 by 28 pixels and 10 more"),
        (cycle_gan, 1568, "1568 columns, for 28 by 28 pixels and 784 more"),
    ],
)
def test_rows_of_another_width_are_refused(script, columns, wanted):
    for given_columns in (1, 49, 784, 785, columns - 1, columns + 1):
        if given_columns != columns:
            said = f"^data must have {wanted}, not {given_columns}$"
            with pytest.raises(common.InputError, match=said):
                script.train(torch.rand(20, given_columns), progress=False)


@many
@given(
    DATA | st.just(torch.rand(20, 784)),
    st.sampled_from([torch.arange(20) % 10, torch.arange(20), torch.arange(9), torch.rand(20)]),
    SETTINGS,
)
def test_labelled_images(images, labels, more):
    more = {"epochs": 1} | more
    training = answer(fashion_classifier.train, images, labels, progress=False, **more)
    assert training is None or training.classifier(images).isfinite().all()


@many
@given(st.lists(st.integers(0, 9), max_size=20), st.integers(1, 12))
def test_the_codec_comes_back(integers, depth):
    given_ = torch.tensor(integers, dtype=torch.int64)
    if max(integers, default=0) >= depth:
        with pytest.raises(ValueError, match="from 0 to"):
            common.one_hot_encode(given_, depth)
    elif integers:
        assert common.one_hot_decode(common.one_hot_encode(given_, depth)).tolist() == integers


@many
@given(drawn(), drawn())
def test_the_distance(real, samples):
    distance = common.SlicedWasserstein(real)
    assert distance(real) < 1e-3
    samples = samples[:, :1].expand(-1, real.shape[1])
    found = distance(samples)
    assert found >= 0
    deviation = real.double().std(dim=0, correction=0).min()  # a constant column has none
    usual = (samples.double() - real.double().mean(dim=0)).abs().max() <= 1e6 * deviation
    assert math.isfinite(found) or not usual


@many
@given(st.lists(st.floats(), min_size=1, max_size=20), st.integers(1, 5), st.floats(0, 1))
def test_early_stopping(errors, patience, noise):
    stopping, model = common.EarlyStopping(20, patience, tolerance=noise), torch.nn.Linear(1, 1)
    seen = []
    for epoch, error in enumerate(errors, start=1):
        torch.nn.init.constant_(model.weight, epoch)
        seen.append(error)
        if stopping.update(error, model):
            break
    good = [error for error in seen if abs(error) < common.DIVERGED]
    if good:
        assert stopping.load_best(model).weight.item() == stopping.kept_epoch
        assert stopping.lowest == min(good)
        assert seen[stopping.kept_epoch - 1] <= min(seen[: stopping.kept_epoch]) + noise
        assert len(seen) - stopping.kept_epoch <= patience
    else:
        assert stopping.diverged
