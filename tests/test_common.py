"""common.py: its numbers against independent computations, its files and its command line."""

import json
import math
import re
import sys
from contextlib import nullcontext
from itertools import islice

import numpy as np
import pytest
import torch
from helpers import ROOT, SCRIPTS, capped
from sklearn.neighbors import NearestNeighbors
from sklearn.preprocessing import StandardScaler
from torch import nn

import common
import digits_gan
import sine_gan
import table_gan
from common import EarlyStopping, Failure, InputError, sliced_wasserstein


def test_one_hot_rows_are_those_of_numpy_and_are_decoded():
    integers = torch.randint(7, (100,))
    rows = common.one_hot_encode(integers, 7)
    assert rows.dtype == torch.float32
    assert np.array_equal(rows, np.eye(7)[integers])
    assert common.one_hot_decode(rows).equal(integers)
    for wrong in ([7], [-1], [1.0], [[1]]):
        with pytest.raises(ValueError, match="from 0 to 6"):
            common.one_hot_encode(torch.tensor(wrong), 7)


def test_standardize_agrees_with_scikit_learn_and_is_inverted():
    units = torch.tensor([1.0, 1e-20, 1e4, 0.0], dtype=torch.float64)  # the last one is constant
    rows = torch.tensor([0.0, 0.0, 1e6, 0.1]).double() + units * torch.rand(200, 4).double()
    standard = common.Standardize(rows)(rows)
    assert np.allclose(standard, StandardScaler().fit_transform(rows), atol=1e-4)
    restored = common.Unstandardize(rows)(standard)
    assert torch.allclose(restored, rows, rtol=1e-5)
    assert restored[:, 3].equal(rows[:, 3])
    pixels = common.Standardize(rows, one_unit=True)(rows)
    assert np.allclose(pixels, (rows - rows.mean()) / rows.std(correction=0), atol=1e-5)


@pytest.mark.parametrize("size", [1, 3, 25])
def test_batches_hold_each_row_equally_often_in_a_new_order(size):
    batches = iter(common.Batches(torch.arange(10.0).unsqueeze(1), size))
    rows = torch.cat(list(islice(batches, 20)))
    counts = rows.flatten().long().bincount(minlength=10)
    assert counts.max() - counts.min() <= 1
    assert not rows[:10].equal(rows[10:20])


def test_sobol_noise_is_normal_and_evenly_spread():
    batches = list(islice(common.sobol_noise(256, 2, "cpu"), 70))
    assert torch.allclose(torch.cat(batches).T.cov(), torch.eye(2), atol=0.05)
    assert not batches[0].equal(batches[1])
    for noise in batches[:3]:  # one point in each of 16 by 16 equally likely cells
        assert len((16 * torch.special.ndtr(noise)).long().unique(dim=0)) == 256


def test_the_average_of_weights_includes_running_statistics():
    average, model = nn.BatchNorm1d(3), nn.BatchNorm1d(3)
    nn.init.constant_(model.weight, 5.0)  # after 1
    nn.init.constant_(model.running_mean, 1.0)  # after 0
    common.update_ema(average, model, 0.75)
    assert average.weight.tolist() == [2.0] * 3
    assert average.running_mean.tolist() == [0.25] * 3


def test_walks_are_smooth_and_as_normal_as_noise():
    walk = common.interpolate(400, 1000)
    assert walk.std(dim=1).sub(1).abs().max() < 0.1
    assert (walk[1:] - walk[:-1]).norm(dim=1).max() < 1  # of about 31


def standardized(real, samples):
    unit = common.Standardize(real)
    return unit(real), unit(samples)


def test_the_distance_is_the_root_mean_square_over_directions():
    for columns, tolerance in ((1, 1e-3), (2, 0.15)):  # the plane has more than 64 directions
        real, samples = torch.randn(200, columns), torch.rand(200, columns)
        scaler, angles = StandardScaler().fit(real), np.linspace(0, np.pi, 999, endpoint=False)
        directions = np.stack([np.cos(angles), np.sin(angles)]) if columns == 2 else np.eye(1)
        ours = np.sort(scaler.transform(samples) @ directions, axis=0)
        theirs = np.sort(scaler.transform(real) @ directions, axis=0)
        expected = pytest.approx(np.sqrt(np.mean((ours - theirs) ** 2)), rel=tolerance)
        for scale, repeats in ((1, 1), (1, 3), (1e5, 1)):
            rows = standardized(scale * real, scale * samples.repeat(repeats, 1))
            assert sliced_wasserstein(*rows) == expected
        assert sliced_wasserstein(real, real.flip(0)) == pytest.approx(0, abs=1e-5)
    assert sliced_wasserstein(real, torch.full((3, 2), math.nan)) == math.inf


def test_precision_and_coverage_agree_with_scikit_learn():
    real, generated = torch.randn(300, 2), 1.5 * torch.randn(400, 2)
    scaler = StandardScaler().fit(real)
    real_, generated_ = map(scaler.transform, (real, generated))
    to_others, _ = NearestNeighbors(n_neighbors=6).fit(real_).kneighbors(real_)  # first: itself
    reach = np.maximum(to_others[:, 5], 0.1)
    near = np.linalg.norm(generated_[:, None] - real_[None], axis=2) <= reach
    precision, coverage = common.precision_and_coverage(*standardized(real, generated))
    assert precision == pytest.approx(near.any(axis=1).mean(), abs=0.005)
    assert coverage == pytest.approx(near.any(axis=0).mean(), abs=0.005)
    assert 0.3 < coverage < 1 > precision > 0.3
    both = torch.cat([real, real + 20])  # one cluster of two is generated
    assert common.precision_and_coverage(*standardized(both, real)) == pytest.approx((1, 0.5))


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
        ([1 / n for n in range(1, 9)], {"epochs": 7}, 7, 7),  # as long as there is progress
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


def test_a_training_without_progress_ends(monkeypatch):
    capped(monkeypatch, sine_gan, 1)
    training = sine_gan.train(sine_gan.real_samples(64), epochs=1000, lr=1e-12, progress=False)
    assert len(training.history) == 1 + sine_gan.PATIENCE + sine_gan.COOLDOWN
    assert not training.interrupted


def test_settings_of_torch_neither_matter_nor_change(monkeypatch):
    capped(monkeypatch, sine_gan, 1)
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


def test_results_replace_earlier_ones(tmp_path, capsys):
    for content in ("earlier", "later"):
        with common.output_folder(tmp_path) as folder:
            (folder / "file").write_text(content)
            (folder / "pictures").mkdir()
            (folder / "pictures" / content).touch()
    assert f"Saved in {tmp_path}: file, pictures" in capsys.readouterr().out
    assert (tmp_path / "file").read_text() == "later"
    assert [path.name for path in (tmp_path / "pictures").iterdir()] == ["later"]


@pytest.mark.parametrize(
    ("content", "depth", "complaint"),
    [
        (b"x\n1\n3,4\n", None, r"line 3: expected 1 finite number\(s\), found '3,4'"),
        (b"1\nthree\n", None, "line 2"),
        (b"1\nnan\n", None, "line 2"),
        (b"1\n1e39\n", None, "line 2"),
        (b"1\n10\n", 10, r"line 2: expected an integer in 0\.\.9"),
        (b"1\n2.5\n", 10, r"line 2: expected an integer in 0\.\.9"),
        (b"x\n", None, "no numbers"),
        (b"\xff\xfe\x00", None, "cannot read"),
    ],
)
def test_a_file_without_such_numbers_is_refused_with_the_line(tmp_path, content, depth, complaint):
    (tmp_path / "numbers.csv").write_bytes(content)
    with pytest.raises((Failure, InputError), match=complaint):
        common.read_numbers(tmp_path / "numbers.csv", 1, depth)


ERRORS = [  # each with its exit status, or None for a traceback
    (Failure("no luck"), 1), (InputError("a wrong rate"), 2), (KeyboardInterrupt(), 130),
    (MemoryError(), 1), (RuntimeError("can't allocate memory"), 1),
    (ValueError("a mistake in the code"), None), (FileNotFoundError(2, "None", "mine.csv"), None),
]  # fmt: skip


@pytest.mark.parametrize(("error", "status"), ERRORS)
def test_an_error_is_one_line_and_a_status_or_a_traceback(error, status, tmp_path, capsys):
    @common.command
    def main(_):
        with common.output_folder(tmp_path):
            raise error

    with pytest.raises(type(error)) if status is None else nullcontext():
        assert main() == status
        message = capsys.readouterr().err
        assert message.startswith("test_common.py: ")
        assert message.count("\n") == 1


def test_generated_rows_are_printed_in_full_and_more_begin_with_the_same(run, tmp_path):
    nothing = torch.jit.trace(nn.Identity(), torch.zeros(1, 2))  # a generator that changes nothing
    torch.jit.save(nothing, tmp_path / "generator.pt")
    printed = [run(sine_gan, "--generate", count).out.splitlines() for count in (9999, 7)]
    assert printed[0][0] == "x,y"
    assert printed[0][:8] == printed[1]
    rows = torch.from_numpy(np.loadtxt(printed[0][1:], delimiter=",")).float()
    assert rows[:4096].equal(torch.randn(4096, 2, generator=common.stream("samples")))
    assert len(rows.unique(dim=0)) == 9_999


def packages(name):
    """The packages that a file of the project imports, itself or by other files of the project."""
    text = (ROOT / f"{name}.py").read_text()
    found = set(re.findall(r"^ *(?:import|from(?= \S+ import)) (\w+)", text, re.M))
    own = {each for each in found if (ROOT / f"{each}.py").exists()}
    return (found - own - sys.stdlib_module_names).union(*map(packages, own))


def test_heads_and_requirements_name_what_the_scripts_import():
    every, names = set(), {"sklearn": "scikit-learn", "PIL": "matplotlib"}  # which brings Pillow
    for script in SCRIPTS:
        (head,) = re.findall(r"# dependencies = (.*)", (ROOT / f"{script.__name__}.py").read_text())
        named = set(json.loads(head))
        imported = {names.get(each, each) for each in packages(script.__name__)}
        assert {each.partition(">=")[0] for each in named} == imported
        every |= named
    assert every == {*(ROOT / "requirements.txt").read_text().split(), "torchvision"}


@pytest.mark.parametrize("package", ["torchvision", "pandas", "sklearn"])
def test_a_missing_package_is_named(package, monkeypatch, capsys):
    image = package == "torchvision"
    script, hint = (digits_gan, package) if image else (table_gan, "pandas scikit-learn")
    monkeypatch.setitem(sys.modules, package, None)  # cannot be imported
    assert script.main([]) == 1
    assert capsys.readouterr().err.endswith(f"pip install {hint}\n")


def test_numbers_are_read_with_or_without_a_header(tmp_path):
    for header in ("", "x,y\n"):
        (tmp_path / "points.csv").write_text(header + "1,2\n\n-3.5,1700000000.25\n")
        numbers = common.read_numbers(tmp_path / "points.csv", 2)
        assert numbers.tolist() == [[1, 2], [-3.5, 1700000000.25]]
