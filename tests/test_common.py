"""common.py: its numbers against independent computations, its files and its command line."""

import argparse
import ast
import io
import math
import sys
import zipfile
from itertools import islice

import numpy as np
import pytest
import torch
from conftest import ROOT, SCRIPTS, name_of, needs_cuda, new_training, run_python, seeded
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from torch import nn

import common
import digits_gan
import sine_gan
from common import EarlyStopping, Failure, SlicedWasserstein

# --- Device, codec and data --------------------------------------------------------------------


def test_one_hot_rows_are_those_of_numpy_and_decode_to_the_same_integers():
    integers = torch.randint(7, (100,))
    rows = common.one_hot_encode(integers, 7)
    assert rows.dtype == torch.float32
    assert np.array_equal(rows, np.eye(7)[integers])
    assert common.one_hot_decode(rows).equal(integers)


@pytest.mark.parametrize("integers", [[10], [-1], [1.0], [[1]]])
def test_one_hot_refuses_anything_but_integers_in_range(integers):
    with pytest.raises(ValueError, match="from 0 to 9"):
        common.one_hot_encode(torch.tensor(integers), 10)


def test_a_device_is_found_or_refused():
    torch.zeros(1, device=common.choose_device("auto"))
    assert common.choose_device("cpu") == torch.device("cpu")
    for name in ("cuda:99", "quantum", "", "cpu:7"):
        with pytest.raises(ValueError, match="choose from auto, cpu"):
            common.choose_device(name)


def test_standardize_agrees_with_scikit_learn_and_is_inverted():
    units = np.array([1.0, 1e-20, 1e4, 0.0])  # the last column is constant
    rows = torch.from_numpy(np.array([0.0, 0.0, 1e6, 0.1]) + units * np.random.rand(200, 4))
    standard = common.Standardize(rows)(rows)
    assert standard.dtype == torch.float32
    assert np.allclose(standard, StandardScaler().fit_transform(rows), atol=1e-4)
    restored = common.Unstandardize(rows)(standard)
    assert restored.dtype == torch.float64
    assert torch.allclose(restored, rows, rtol=1e-5)
    assert (restored[:, 3] == 0.1).all()


def test_columns_in_one_unit_share_a_scale():
    rows = torch.stack([torch.full((100,), 7.0), 10 * torch.rand(100), torch.rand(100)], dim=1)
    standard = common.Standardize(rows, one_unit=True)(rows)
    assert np.allclose(standard, (rows - rows.mean()) / rows.std(correction=0), atol=1e-5)


@pytest.mark.parametrize("n", [1, 2, 50, 5000])
def test_held_out_rows_are_not_learned(n):
    training = new_training(torch.arange(n).float().unsqueeze(1))
    assert len(training.train_rows) >= len(training.held_out) >= 1
    if n > 1:
        both = torch.cat([training.train_rows, training.held_out]).flatten()
        assert sorted(both.tolist()) == list(range(n))


def test_streams_are_independent_and_repeatable():
    uses = [("samples", 0), ("samples", 1), ("data", 0), ("walk", 0)]
    numbers = torch.stack([torch.randn(1000, generator=common.stream(*use)) for use in uses])
    assert (torch.corrcoef(numbers) - torch.eye(4)).abs().max() < 0.15
    assert torch.randn(1000, generator=common.stream("data")).equal(numbers[2])


# --- Building blocks ---------------------------------------------------------------------------


@pytest.mark.parametrize("size", [1, 3, 25])
def test_batches_hold_each_row_equally_often_in_a_new_order(size):
    batches = iter(common.Batches(torch.arange(10.0).unsqueeze(1), size))
    rows = torch.cat(list(islice(batches, 20)))
    assert rows.shape == (20 * size, 1)
    counts = rows.flatten().long().bincount(minlength=10)
    assert counts.max() - counts.min() <= 1
    assert not rows[:10].equal(rows[10:20])


def test_sobol_noise_is_normal_and_evenly_spread():
    batches = list(islice(common.sobol_noise(256, 2, "cpu"), 70))
    assert torch.allclose(torch.cat(batches).T.cov(), torch.eye(2), atol=0.05)
    assert not batches[0].equal(batches[1])
    for noise in batches[:3]:  # one point in each of 16 by 16 equally likely cells
        assert len((16 * torch.special.ndtr(noise)).long().unique(dim=0)) == 256


def test_fourier_features_are_sines_and_cosines():
    inputs = torch.randn(5, 2)
    phases = np.stack([inputs.numpy() * frequency for frequency in (1, 2, 4)], axis=2)
    expected = [inputs, *(wave(phases).reshape(5, 6) for wave in (np.sin, np.cos))]
    features = common.FourierFeatures()(inputs)
    assert np.allclose(features, np.concatenate(expected, axis=1), atol=1e-5)


def test_the_gradient_penalty_of_a_linear_layer_is_its_squared_weight():
    rows, layer = torch.randn(9, 3, requires_grad=True), nn.Linear(3, 1)
    penalty = common.gradient_penalty(layer(rows), rows)
    assert penalty.item() == pytest.approx(layer.weight.square().sum().item(), rel=1e-5)


def test_the_average_of_weights_includes_running_statistics():
    average, model = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    model[1].running_mean += 1
    expected = 0.75 * average[0].weight + 0.25 * model[0].weight
    common.update_ema(average, model, 0.75)
    assert torch.allclose(average[0].weight, expected)
    assert torch.allclose(average[1].running_mean, torch.full((3,), 0.25))


def test_walks_are_smooth_and_as_normal_as_the_noise():
    walk = common.interpolate(400, 1000)
    assert walk.shape == (400, 1000)
    assert walk.std(dim=1).sub(1).abs().max() < 0.1
    assert (walk[1:] - walk[:-1]).norm(dim=1).max() < 1  # of about 31


# --- Distance ----------------------------------------------------------------------------------


def test_in_one_dimension_the_distance_is_wasserstein_2():
    real, samples = torch.randn(300, 1), torch.rand(300, 1)
    scaler = StandardScaler().fit(real)
    ours, theirs = (np.sort(scaler.transform(rows)[:, 0]) for rows in (samples, real))
    expected = np.sqrt(np.mean((ours - theirs) ** 2))
    distance = SlicedWasserstein(real)
    assert distance(samples) == pytest.approx(expected, rel=1e-3)
    assert distance(samples.repeat(3, 1)) == pytest.approx(expected, rel=1e-3)
    assert distance(real.flip(0)) == pytest.approx(0, abs=1e-5)


def test_in_the_plane_it_is_the_root_mean_square_over_directions():
    real, samples = torch.randn(200, 2), torch.rand(200, 2)
    scaler, angles = StandardScaler().fit(real), np.linspace(0, np.pi, 1000, endpoint=False)
    directions = np.stack([np.cos(angles), np.sin(angles)])
    ours, theirs = (np.sort(scaler.transform(rows) @ directions, axis=0)
                    for rows in (samples, real))  # fmt: skip
    expected = np.sqrt(np.mean((ours - theirs) ** 2))
    assert SlicedWasserstein(real)(samples) == pytest.approx(expected, rel=0.15)
    units = torch.tensor([1e-3, 1e5])
    assert SlicedWasserstein(real * units)(samples * units) == pytest.approx(expected, rel=0.15)


def test_samples_that_are_not_finite_are_infinitely_far():
    assert SlicedWasserstein(torch.randn(10, 2))(torch.tensor([[1.0, math.nan]])) == math.inf


def test_precision_and_coverage_agree_with_scikit_learn():
    real, generated = torch.randn(300, 2), 1.5 * torch.randn(400, 2)
    scaler = StandardScaler().fit(real)
    real_, generated_ = map(scaler.transform, (real, generated))
    to_others, _ = NearestNeighbors(n_neighbors=6).fit(real_).kneighbors(real_)  # first: itself
    reach = np.maximum(to_others[:, 5], 0.1)
    near = np.linalg.norm(generated_[:, None] - real_[None], axis=2) <= reach
    precision, coverage = common.precision_and_coverage(real, generated)
    assert precision == pytest.approx(near.any(axis=1).mean(), abs=0.005)
    assert coverage == pytest.approx(near.any(axis=0).mean(), abs=0.005)
    assert 0.3 < coverage < 1 > precision > 0.3


# --- Early stopping ----------------------------------------------------------------------------


def stop(errors, epochs=10, patience=2, **more):
    """Early stopping after these errors, and a model whose weight is the number of its epoch."""
    stopping, model = EarlyStopping(epochs, patience, **more), nn.Linear(1, 1)
    for epoch, error in enumerate(errors, start=1):
        nn.init.constant_(model.weight, epoch)
        if stopping.update(error, model):
            break
    return stopping, model


@pytest.mark.parametrize(
    ("errors", "more", "last", "kept"),
    [
        ([3.0, 1.0, 2.0, 1.5, 0.1], {}, 4, 2),  # two epochs without progress
        ([5.0, 4.0, 3.0, 2.0], {"epochs": 3}, 3, 3),
        ([3.0, 1.0, *[2.0] * 8], {"cooldown": 3}, 2 + 2 + 3, 2),
        ([3.0, 2.4, 2.3, 2.2, 2.1], {"min_progress": 0.5}, 4, 4),
        ([1.0, 1.4, 1.6, 1.0], {"tolerance": 0.5}, 3, 2),  # the latest of equal errors
        ([1.0, math.nan, 0.5], {}, 2, 1),
        ([1.0, math.inf, 0.5], {}, 2, 1),
    ],
)
def test_training_stops_and_keeps_the_best_epoch(errors, more, last, kept):
    stopping, model = stop(errors, **more)
    assert stopping.epoch == last
    assert stopping.kept_epoch == stopping.load_best(model).weight.item() == kept
    assert stopping.diverged == (not math.isfinite(errors[last - 1]))


def test_the_learning_rate_falls_once_progress_ends_and_before_the_last_epoch():
    for errors in ([3.0, 1.0, 2.0, 1.5, 1.2, 1.1, 1.1], [1 / n for n in range(1, 11)]):
        factors = [stop(errors[:n], cooldown=3)[0].lr_factor for n in range(len(errors))]
        assert factors[: len(errors) - 3] == [1] * (len(errors) - 3)
        assert 1 > factors[-2] > factors[-1] > 0


def test_without_a_usable_epoch_the_advice_is_a_lower_rate():
    stopping, model = stop([math.nan])
    with pytest.raises(Failure, match="lower --lr"):
        stopping.load_best(model)


def test_training_goes_on_while_it_improves_and_then_ends(monkeypatch):
    """With given distances: they fall for 30 epochs, then stay."""
    distances = [*range(31, 1, -1)] + [1.0] * 1000

    def measure(_, samples):
        return float(distances.pop(0)) if len(samples) == 1024 else 1e-3  # fixed noise, or others

    monkeypatch.setattr(sine_gan, "BATCHES_PER_EPOCH", 1)
    monkeypatch.setattr(SlicedWasserstein, "__call__", measure)
    training = sine_gan.train(sine_gan.real_samples(64), epochs=1000, progress=False)
    assert len(training.history) == 31 + sine_gan.PATIENCE + sine_gan.COOLDOWN


# --- Training ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "form",
    [
        lambda rows: rows.double(),
        lambda rows: rows.bfloat16(),
        lambda rows: rows.clone().requires_grad_(),
        lambda rows: rows.numpy(),
        lambda rows: rows.tolist(),
        lambda rows: rows.round().long(),
        lambda rows: pytest.importorskip("pandas").DataFrame(rows.numpy()),
        pytest.param(lambda rows: rows.cuda(), marks=needs_cuda),
    ],
)
def test_data_may_have_any_form(form, monkeypatch):
    monkeypatch.setattr(sine_gan, "BATCHES_PER_EPOCH", 1)
    rows = 1000 + torch.arange(200.0).view(100, 2)
    samples = sine_gan.train(form(rows), epochs=1, progress=False).samples
    assert samples.device.type == "cpu"
    assert 500 < samples.mean() < 1800
    wide = form(rows) if isinstance(form(rows), torch.Tensor) else torch.tensor(np.array(form(rows)))
    narrow = wide.dtype in (torch.float32, torch.bfloat16)
    assert samples.dtype == (torch.float32 if narrow else torch.float64)


def test_numbers_that_float32_cannot_hold_stay_apart():
    data = 1.7e9 + 1000 * torch.rand(500, 2, dtype=torch.float64)
    samples = sine_gan.train(data, epochs=1, progress=False).samples
    assert len(samples[:, 0].unique()) > 10_000


def test_settings_of_torch_neither_matter_nor_change(monkeypatch):
    monkeypatch.setattr(sine_gan, "BATCHES_PER_EPOCH", 1)
    data = sine_gan.real_samples(100)
    expected = sine_gan.train(data, epochs=1, progress=False).history
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.device("meta"):
            assert sine_gan.train(data, epochs=1, progress=False).history == expected
            assert not torch.is_grad_enabled()
            assert torch.zeros(1).device.type == "meta"
        assert torch.zeros(1).dtype == torch.float64
    finally:
        torch.set_default_dtype(torch.float32)


def test_a_loop_without_evaluation_is_an_error():
    with pytest.raises(RuntimeError, match=r"training\.evaluate"):
        list(new_training(torch.rand(60, 2), epochs=3).epochs())


def test_a_long_training_has_a_short_film():
    training, loss = new_training(torch.rand(50, 2), epochs=1000), torch.tensor(0.7)
    for _ in range(100):
        training.evaluate(nn.Identity(), torch.rand(100, 2), loss, loss)
    epochs = [row.epoch for row, *_ in training.snapshots.values()]
    assert epochs[:3] == [1, 2, 3]
    assert epochs[-1] == 100
    assert len(epochs) < 60


# --- Files -------------------------------------------------------------------------------------


def test_results_replace_earlier_ones_only_when_all_are_written(tmp_path, capsys):
    for content in ("earlier", "later"):
        with common.output_folder(tmp_path) as folder:
            (folder / "file").write_text(content)
            (folder / "pictures").mkdir()
            (folder / "pictures" / content).touch()
    assert f"Saved in {tmp_path}: file, pictures" in capsys.readouterr().out
    with pytest.raises(KeyError), common.output_folder(tmp_path) as folder:
        (folder / "file").write_text("unfinished")
        raise KeyError
    assert (tmp_path / "file").read_text() == "later"
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["later"]


def save_model(folder, model, inputs):
    """Saves a model, and returns the path of its TorchScript."""
    common.save_model(folder, "generator", model.requires_grad_(False), inputs)
    return folder / "generator.pt"


def test_a_saved_model_takes_any_number_of_rows_and_names_no_local_path(tmp_path, recwarn):
    model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2))
    path = save_model(tmp_path, model, 2)
    assert not recwarn.list
    program = torch.export.load(path.with_suffix(".pt2")).module()
    for rows in (torch.randn(n, 2) for n in (0, 1, 2, 1000)):
        for loaded in (common.load_model(path, 2, 2), program):
            assert torch.allclose(loaded(rows), model(rows), atol=1e-6)
    with zipfile.ZipFile(path.with_suffix(".pt2")) as archive:
        assert not any(str(ROOT).encode() in archive.read(name) for name in archive.namelist())


@pytest.mark.parametrize(
    ("inputs", "outputs", "reason"), [(40, 2, "sizes"), (3, 3, "not saved by this script")]
)
def test_a_model_of_other_sizes_is_refused(tmp_path, inputs, outputs, reason):
    path = save_model(tmp_path, nn.Linear(40, 40), 40)
    with pytest.raises(Failure, match=reason):
        common.load_model(path, inputs, outputs)


def test_a_model_with_a_flipped_bit_is_refused(tmp_path):
    path = save_model(tmp_path, nn.Linear(40, 40), 40)
    content = bytearray(path.read_bytes())
    content[content.index(b"data/0") + 1000] ^= 1  # in its weights
    path.write_bytes(content)
    with pytest.raises(Failure, match="damaged"):
        common.load_model(path, 40, 40)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("x,y\n1,2\n\n-3.5,4e2\n", [[1, 2], [-3.5, 400]]),
        ("20250203,1700000000.25\n", [[20250203, 1700000000.25]]),
    ],
)
def test_numbers_are_read_with_or_without_a_header(tmp_path, text, expected):
    (tmp_path / "points.csv").write_text(text)
    assert common.read_numbers(tmp_path / "points.csv", 2).tolist() == expected


@pytest.mark.parametrize(
    ("text", "columns", "depth", "complaint"),
    [
        ("x,y\n1,2\n3\n", 2, None, "line 3: expected 2 finite numbers, found '3'"),
        ("1,2\nthree,4\n", 2, None, "line 2"),
        ("1,2,3\n", 2, None, "line 1"),
        ("1,2\nnan,4\n", 2, None, "line 2"),
        ("1,2\n1e39,4\n", 2, None, "line 2"),
        ("x,y\n", 2, None, "no numbers"),
        ("", 2, None, "no numbers"),
        ("1\n10\n", 1, 10, r"line 2: expected an integer in 0\.\.9"),
        ("1\n2.5\n", 1, 10, r"line 2: expected an integer in 0\.\.9"),
    ],
)
def test_a_wrong_line_is_named(tmp_path, text, columns, depth, complaint):
    (tmp_path / "points.csv").write_text(text)
    with pytest.raises(Failure, match=complaint):
        common.read_numbers(tmp_path / "points.csv", columns, depth)


def test_a_file_that_cannot_be_read_is_named(tmp_path):
    (tmp_path / "binary").write_bytes(b"\xff\xfe\x00")
    for path in (tmp_path / "absent", tmp_path / "binary", tmp_path):
        with pytest.raises(Failure, match=f"cannot read {path}"):
            common.read_numbers(path, 2)


# --- Command line ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Failure("no luck"), 1),
        (common.InputError("a wrong rate"), 2),
        (MemoryError(), 1),
        (RuntimeError("can't allocate memory"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_an_error_is_one_line_and_a_status(error, status, capsys):
    @common.command
    def main(_):
        raise error

    assert main() == status
    message = capsys.readouterr().err
    assert message.startswith("test_common.py: ")
    assert message.count("\n") == 1


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, KeyError])
def test_a_mistake_in_the_code_keeps_its_traceback(kind):
    @common.command
    def main(_):
        raise kind("a mistake")

    with pytest.raises(kind, match="a mistake"):
        main()


def test_samples_do_not_depend_on_their_number_or_the_size_of_blocks(monkeypatch):
    def generate(count):
        options = argparse.Namespace(seed=3, generate=count)
        return torch.cat(list(common.generate(nn.Identity(), 3, options)))

    rows = generate(9_999)
    assert rows.shape == (9_999, 3)
    assert len(rows.unique(dim=0)) == 9_999
    assert generate(7).equal(rows[:7])
    monkeypatch.setattr(common, "CHUNK", 1008)
    assert generate(9_999).equal(rows)


def test_rows_are_printed_as_csv_in_full(capsys):
    rows = torch.randn(2, 2)
    common.print_rows(iter([rows]), "a,b")
    numbers = np.loadtxt(io.StringIO(capsys.readouterr().out), delimiter=",", skiprows=1)
    assert torch.from_numpy(numbers).float().equal(rows)


# --- Packages ----------------------------------------------------------------------------------

PACKAGES = {"PIL": "matplotlib", "filelock": "torch", "sklearn": "scikit-learn"}  # that bring them


def named_in_head(script):
    """The packages, with versions, that the head of a script names."""
    return set((ROOT / f"{script.__name__}.py").read_text().split('"]')[0].split('["')[1].split('", "'))


def imported(name):
    """The packages that a file of the project imports, itself or by other files of the project."""
    found = set()
    for node in ast.walk(ast.parse((ROOT / f"{name}.py").read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for each in {each.partition(".")[0] for each in names} - sys.stdlib_module_names:
            own = (ROOT / f"{each}.py").exists()
            found |= imported(each) if own else {PACKAGES.get(each, each)}
    return found


@pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
def test_the_head_of_a_script_names_what_it_imports(script):
    named = {package.partition(">=")[0] for package in named_in_head(script)}
    assert named >= imported(script.__name__) - {"scikit-learn"}


def test_requirements_name_what_the_scripts_need():
    required = set((ROOT / "requirements.txt").read_text().split())
    assert required | {"torchvision"} == set().union(*map(named_in_head, SCRIPTS))


def test_without_torchvision_images_are_refused(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # cannot be imported
    assert digits_gan.main([]) == 1
    assert "pip install torchvision" in capsys.readouterr().err
