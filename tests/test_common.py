"""common.py: its numbers against independent computations."""

import io
import math
import warnings
from itertools import islice

import numpy as np
import pandas as pd
import pytest
import torch
from helpers import DEVICES, new_training
from PIL import Image
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from torch import nn

import common
from common import EarlyStopping, InputError, sliced_wasserstein

# --- Devices, codec, data ----------------------------------------------------------------------


def test_a_device_is_chosen_by_name_or_refused():
    assert common.choose_device("cpu") == torch.device("cpu")
    assert common.choose_device("cpu:0") == torch.device("cpu")
    assert common.choose_device(torch.device("cpu")) == torch.device("cpu")
    assert (common.choose_device().type != "cpu") == torch.accelerator.is_available()
    for name in ("quantum", "cuda:99"):
        with pytest.raises(InputError, match=f"{name}.* choose from auto, cpu"):
            common.choose_device(name)


def test_random_generator_differ_by_use_and_by_seed():
    def numbers(*use):
        return torch.rand(9, generator=common.random_generator(*use)).tolist()

    assert numbers("data", 1) == numbers("data", 1)
    assert numbers("data", 1) != numbers("data", 2)
    assert numbers("data", 1) != numbers("samples", 1)


def test_one_hot_rows_are_those_of_numpy_and_are_decoded():
    integers = torch.randint(7, (100,))
    rows = common.one_hot_encode(integers, 7)
    assert rows.dtype == torch.float32
    assert np.array_equal(rows, np.eye(7)[integers])
    assert common.one_hot_decode(rows).equal(integers)


@pytest.mark.parametrize("wrong", [[7], [-1], [1.0], [[1]]])
def test_what_is_no_integer_of_the_codec_is_refused(wrong):
    with pytest.raises(InputError, match="expected integers"):
        common.one_hot_encode(torch.tensor(wrong), 7)


ROWS = torch.tensor([[1.0, -2.0], [3.0, 0.5]])
READABLE = {
    "float32": (ROWS, torch.float32),
    "bfloat16": (ROWS.bfloat16(), torch.float32),
    "booleans": (ROWS > 0, torch.float32),
    "gradients": (ROWS.clone().requires_grad_(), torch.float32),
    "array": (ROWS.numpy(), torch.float32),
    "float64": (ROWS.double(), torch.float64),
    "integers": (ROWS.long(), torch.float64),
    "list": (ROWS.tolist(), torch.float64),
    "DataFrame": (pd.DataFrame({"a": [1, 3], "b": [-2.0, 0.5]}), torch.float64),
    "big-endian array": (ROWS.double().numpy().astype(">f8"), torch.float64),
    "long doubles": (ROWS.numpy().astype(np.longdouble), torch.float64),
    "sparse": (ROWS.to_sparse(), torch.float32),
    "list of tensors with gradients": ([*ROWS.clone().requires_grad_()], torch.float32),
    "DataFrame of objects": (pd.DataFrame({"a": [1, 3], "b": [True, False]}), torch.float64),
}


@pytest.mark.parametrize("name", READABLE)
def test_rows_of_numbers_are_read_without_loss(name):
    data, dtype = READABLE[name]
    rows = common.as_rows(data)
    expected = data
    if torch.is_tensor(data):
        expected = data.detach().to_dense().double()
    if name.startswith("list of tensors"):
        expected = ROWS
    expected = np.asarray(expected, dtype=float)
    assert (rows.dtype, rows.requires_grad) == (dtype, False)
    assert np.array_equal(rows.double(), expected)


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (torch.rand(5), r"the shape \(n, columns\), not \(5,\)"),
        (torch.rand(0, 2), "at least one row"),
        ([[0.0], [math.nan]], "finite numbers"),
        ([[3e38, 1.0]], "finite numbers"),
        ([[1.0, 2.0], [3.0]], "rows of numbers"),
        ([["a", "b"]], "rows of numbers"),
        (pd.DataFrame({"a": [1], "b": ["x"]}), "column 'b'"),
        (None, ""),
        (torch.rand(3, 2) + 1j, "not complex"),
        (np.ma.masked_array([[1.0, 2.0]], mask=[[True, False]]), "masked"),
        (np.array([[2**53 + 1, 0]]), "rounded"),
        ([[10**400, 2]], "rows of numbers"),
    ],
)
def test_other_data_are_refused(data, reason):
    with pytest.raises(InputError, match=f"^data must .*{reason}"):
        common.as_rows(data)


def test_standardize_agrees_with_scikit_learn_and_is_inverted():
    units = torch.tensor([1.0, 1e-20, 1e4, 0.0], dtype=torch.float64)  # the last one is constant
    rows = torch.tensor([0.0, 0.0, 1e6, 0.1]).double() + units * torch.rand(200, 4).double()
    standardize = common.Standardize(rows)
    standard = standardize(rows)
    assert np.allclose(standard, StandardScaler().fit_transform(rows), atol=1e-4)
    restored = standardize.inverse()(standard)
    assert torch.allclose(restored, rows, rtol=1e-5)
    assert restored[:, 3].equal(rows[:, 3])


def test_a_far_cluster_is_scaled_into_reach_and_a_single_outlier_is_not():
    rows = torch.randn(1000, 1)
    rows[:10] += 100
    assert common.Standardize(rows, limit=3.0)(rows).max() == pytest.approx(3, rel=0.05)
    rows[1:10] -= 100
    assert common.Standardize(rows, limit=3.0)(rows).max() > 20


@pytest.mark.parametrize("size", [1, 3, 25])
def test_batches_hold_each_row_equally_often_in_a_new_order(size):
    batches = common.Batches(torch.arange(10.0).unsqueeze(1), size)
    rows = torch.cat(list(islice(batches, 20)))
    counts = rows.flatten().long().bincount(minlength=10)
    assert counts.max() - counts.min() <= 1
    assert not rows[:10].equal(rows[10:20])


def test_noise_is_normal_and_evenly_spread():
    batches = list(islice(common.even_noise(256, 2, "cpu"), 70))
    assert torch.allclose(torch.cat(batches).T.cov(), torch.eye(2), atol=0.05)
    assert not batches[0].equal(batches[1])
    for noise in batches[:3]:  # one point in each of 16 by 16 equally likely cells
        assert len((16 * torch.special.ndtr(noise)).long().unique(dim=0)) == 256


# --- Networks ----------------------------------------------------------------------------------


def test_the_gradient_penalty_is_that_of_a_known_function():
    inputs = torch.randn(50, 3).requires_grad_()
    penalty = common.gradient_penalty(inputs.square().sum(dim=1, keepdim=True), inputs)
    assert penalty.item() == pytest.approx(4 * inputs.square().sum(dim=1).mean().item(), rel=1e-5)


def test_the_average_of_weights_includes_running_statistics():
    average = nn.BatchNorm1d(3)
    model = nn.BatchNorm1d(3)
    nn.init.constant_(model.weight, 5.0)  # after 1
    nn.init.constant_(model.running_mean, 1.0)  # after 0
    common.update_ema(average, model, 0.75)
    assert average.weight.tolist() == [2.0] * 3
    assert average.running_mean.tolist() == [0.25] * 3


def test_interpolated_noise_is_smooth_and_as_normal_as_any():
    noise = common.interpolate(400, 1000)
    assert noise.std(dim=1).sub(1).abs().max() < 0.1
    assert (noise[1:] - noise[:-1]).norm(dim=1).max() < 1  # of about 31


# --- Distance ----------------------------------------------------------------------------------


def standardized(real, samples):
    standardize = common.Standardize(real)
    return standardize(real), standardize(samples)


@pytest.mark.parametrize(("columns", "tolerance"), [(1, 1e-3), (2, 0.15)])
def test_the_distance_is_the_root_mean_square_over_directions(columns, tolerance):
    real = torch.randn(200, columns)
    samples = torch.rand(200, columns)
    scaler = StandardScaler().fit(real)
    angles = np.linspace(0, np.pi, 999, endpoint=False)  # the distance takes 64 at random
    directions = np.stack([np.cos(angles), np.sin(angles)]) if columns == 2 else np.eye(1)
    ours = np.sort(scaler.transform(samples) @ directions, axis=0)
    theirs = np.sort(scaler.transform(real) @ directions, axis=0)
    expected = pytest.approx(np.sqrt(np.mean((ours - theirs) ** 2)), rel=tolerance)
    assert sliced_wasserstein(*standardized(real, samples)) == expected
    assert sliced_wasserstein(*standardized(real, samples.repeat(3, 1))) == expected
    assert sliced_wasserstein(*standardized(1e5 * real, 1e5 * samples)) == expected
    assert sliced_wasserstein(real, real.flip(0)) == pytest.approx(0, abs=1e-5)
    assert sliced_wasserstein(real, torch.full_like(samples, math.nan)) == math.inf


def test_precision_and_coverage_agree_with_scikit_learn():
    real, generated = standardized(torch.randn(300, 2), 1.5 * torch.randn(400, 2))
    to_others, _ = NearestNeighbors(n_neighbors=6).fit(real).kneighbors(real)  # first: itself
    reach = np.maximum(to_others[:, 5], 0.1)
    near = np.linalg.norm(generated.numpy()[:, None] - real.numpy()[None], axis=2) <= reach
    precision, coverage = common.precision_and_coverage(real, generated)
    assert precision == pytest.approx(near.any(axis=1).mean(), abs=0.005)
    assert coverage == pytest.approx(near.any(axis=0).mean(), abs=0.005)
    assert 0.3 < coverage < 1
    assert 0.3 < precision < 1


def test_half_of_two_clusters_is_half_covered():
    cluster = torch.randn(300, 2)
    rows = standardized(torch.cat([cluster, cluster + 20]), cluster)
    assert common.precision_and_coverage(*rows) == pytest.approx((1, 0.5))


# --- Training ----------------------------------------------------------------------------------


def stop(errors, epochs=10, patience=2, **settings):
    """Early stopping after these errors, and a model whose weight is the number of its epoch."""
    stopping = EarlyStopping(epochs, patience, **settings)
    model = nn.Linear(1, 1)
    for epoch, error in enumerate(errors, start=1):
        nn.init.constant_(model.weight, epoch)
        stopping.update(error, model)
        if stopping.stopped:
            break
    return stopping, model


@pytest.mark.parametrize(
    ("errors", "settings", "last", "kept"),
    [
        ([3.0, 1.0, 2.0, 1.5, 0.1], {}, 4, 2),  # two epochs without progress
        ([1 / n for n in range(1, 9)], {"epochs": 7}, 7, 7),  # as long as there is progress
        ([3.0, 1.0, *[2.0] * 8], {"cooldown": 3}, 2 + 2 + 3, 2),
        ([3.0, 2.0, 1.99, 1.98, 1.97], {"tolerance": 0.5}, 4, 4),  # gains too small to count
        ([1.0, 1.4, 1.6, 1.0], {"tolerance": 0.5}, 3, 2),  # the latest of equal errors
        ([1.0, math.nan, 0.5], {}, 2, 1),
        ([1.0, math.inf, 0.5], {}, 2, 1),
    ],
)
def test_training_stops_and_keeps_the_best_epoch(errors, settings, last, kept):
    stopping, model = stop(errors, **settings)
    assert stopping.epoch == last
    assert stopping.kept_epoch == stopping.load_best(model).weight.item() == kept
    assert stopping.diverged == (not math.isfinite(errors[last - 1]))


@pytest.mark.parametrize(("epochs", "patience"), [(0, 1), (1.5, 1), (3, 0), (3, 1.5)])
def test_epochs_and_patience_are_counts(epochs, patience):
    with pytest.raises(InputError, match="must be an integer of at least 1"):
        EarlyStopping(epochs, patience)


@pytest.mark.parametrize(
    "errors", [[3.0, 1.0, 2.0, 1.5, 1.2, 1.1, 1.1], [1 / n for n in range(1, 11)]]
)
def test_the_learning_rate_falls_once_progress_ends_and_before_the_last_epoch(errors):
    factors = [stop(errors[:n], cooldown=3)[0].lr_factor for n in range(len(errors))]
    assert factors[:-3] == [1] * (len(errors) - 3)
    assert 1 > factors[-2] > factors[-1] > 0


def test_a_generator_that_drifts_away_is_not_kept():
    data = torch.randn(500, 2)
    training = new_training(data, epochs=3, patience=3)
    half_a_limit = torch.full((2,), training.distance_limit / 2)
    generator = nn.BatchNorm1d(2).eval()  # it adds its bias
    for shifts in range(3):
        with torch.no_grad():
            generator.bias.copy_(shifts * half_a_limit)
        training.evaluate(generator, data, 0.7, 0.7)
    assert training.stopping.kept_epoch == 1


def test_an_epoch_without_an_evaluation_is_an_error():
    with pytest.raises(RuntimeError, match=r"training\.evaluate"):
        for _ in new_training(torch.randn(60, 2)).epochs():
            pass


def test_missing_integers_and_categories_are_named():
    training = new_training(torch.randn(60, 2))
    real = torch.arange(10).repeat(100)
    training.check_missing(real, real[(real != 3) & (real != 7)])
    training.check_missing(real, real, list("abcdefghij"))
    assert [check.passed for check in training.checks] == [False, True]
    assert "too rare: 3, 7." in training.verdict
    assert not training.converged


# --- Plots -------------------------------------------------------------------------------------


def test_one_function_draws_the_picture_and_each_frame_of_the_film():
    training = new_training(torch.randn(60, 2), epochs=3, patience=3)
    generator = nn.Linear(2, 2)
    for _ in training.epochs():
        training.evaluate(generator, torch.randn(100, 2), 0.0, 0.0)
    training.finish(generator, torch.randn(100, 2))
    drawn = []

    def draw(axes, data, samples):
        drawn.append((data, samples))
        axes.set_title("a price of 1$ or 2$")  # no formula

    figure = common.plot(training, draw)
    film = Image.open(io.BytesIO(common.animate(training, draw)))
    with Image.open(io.BytesIO(figure.png())) as picture:
        assert picture.format == "PNG"
    assert film.n_frames == 3
    assert all(data is training.data for data, _ in drawn)
    expected = [training.samples, *training.snapshots]
    assert all(x.equal(y) for (_, x), y in zip(drawn, expected, strict=True))


# --- A training step as a CUDA graph -----------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
def test_a_recorded_step_learns_what_a_plain_one_does(device):
    """On a GPU; on the CPU, the decorator changes nothing."""
    data = torch.randn(20, 50, 3).to(device)

    def learn(recorded):
        torch.manual_seed(0)
        model = nn.Linear(3, 1).to(device)
        optimizer = torch.optim.Adam(model.parameters(), fused=True)

        def step(rows, *, apply_penalty):
            loss = (model(rows) - rows.sum(dim=1, keepdim=True)).square().mean()
            if apply_penalty:
                loss = loss + model.weight.square().sum()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            return loss.detach()

        if recorded:
            step = common.cuda_graph(torch.device(device), optimizer)(step)
        losses = []
        for i, rows in enumerate(data):
            common.set_lr(0.1 / (1 + i), optimizer)
            losses.append(step(rows, apply_penalty=i % 4 == 0).item())
        if recorded and device == "cuda":
            assert len(step.graphs) == 2  # with the penalty, and without
        return losses, model.weight.detach().cpu()

    with warnings.catch_warnings(action="error"):  # "not recorded as a CUDA graph"
        losses, weights = learn(recorded=True)
    plain_losses, plain_weights = learn(recorded=False)
    assert losses == pytest.approx(plain_losses, rel=1e-3)
    assert torch.allclose(weights, plain_weights, atol=1e-4)
