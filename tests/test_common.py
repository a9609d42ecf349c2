"""The shared parts: codec, device, data, distance, training, files, pictures and numbers."""

import argparse
import ast
import io
import math
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from conftest import ROOT, model_file, needs_cuda, new_training, seeded
from torch import nn

import common
import digits_gan
import sine_gan
from common import EarlyStopping, Failure, SlicedWasserstein


class TestOneHot:
    def test_round_trip(self):
        integers = torch.tensor([0, 3, 9, 3])
        rows = common.one_hot_encode(integers, 10)
        assert rows.shape == (4, 10)
        assert rows.dtype == torch.float32
        assert rows.sum(dim=1).tolist() == [1, 1, 1, 1]
        assert common.one_hot_decode(rows).tolist() == integers.tolist()

    @pytest.mark.parametrize(
        ("integers", "depth"),
        [
            (torch.tensor([10]), 10),
            (torch.tensor([-1]), 10),
            (torch.tensor([1.0]), 10),
            (torch.tensor([[1]]), 10),
            (torch.tensor([1]), 0),
        ],
    )
    def test_bad_input_is_refused(self, integers, depth):
        with pytest.raises(ValueError, match=rf"integers of shape \(n,\) from 0 to {depth - 1}"):
            common.one_hot_encode(integers, depth)


class TestDevice:
    def test_auto_is_there(self):
        torch.zeros(1, device=common.choose_device("auto"))

    def test_cpu(self):
        assert common.choose_device("cpu") == torch.device("cpu")

    @pytest.mark.parametrize("name", ["cuda:99", "quantum", "", "cpu:7"])
    def test_absent_device_is_refused_naming_those_present(self, name):
        with pytest.raises(ValueError, match=r"choose from auto, cpu"):
            common.choose_device(name)


class TestData:
    @pytest.mark.parametrize("n", [1, 2, 3, 50, 2048, 100_000])
    def test_held_out_rows_are_not_learned_from(self, n):
        data = torch.arange(n).float().unsqueeze(1)
        training = new_training(data)
        assert len(training.train_rows) >= len(training.held_out) >= 1
        if n > 1:
            both = torch.cat([training.train_rows, training.held_out])
            assert sorted(both.flatten().tolist()) == list(range(n))

    def test_standardised_and_restored(self):
        data = torch.tensor([[1e4, 5.0, 1e-20], [1e4 + 1, 5.0, 3e-20], [1e4 + 2, 5.0, 2e-20]])
        standard = common.Standardize(data)(data)
        assert torch.allclose(standard.mean(dim=0), torch.zeros(3), atol=1e-5)
        assert torch.allclose(standard.std(dim=0, correction=0), torch.tensor([1.0, 0.0, 1.0]))
        assert torch.allclose(common.Unstandardize(data)(standard), data)

    def test_columns_in_one_unit_keep_it(self):
        data = torch.stack([torch.full((100,), 7.0), 10 * torch.rand(100), torch.rand(100)], dim=1)
        standard = common.Standardize(data, one_unit=True)(data)
        assert standard.mean().abs() < 1e-5
        assert abs(standard.std(correction=0) - 1) < 1e-5
        ratios = standard.std(dim=0) / data.std(dim=0)
        assert torch.allclose(ratios[1], ratios[2])

    def test_far_rows_are_brought_within_reach(self):
        data = torch.cat([torch.randn(950, 2), torch.randn(50, 2) + 100, torch.full((1, 2), 1e6)])
        near = common.Standardize(data[:-1], max_std=2)(data[:-1])
        assert near.abs().max() < 2.1
        assert near.abs().max() > 1.9
        outlier = common.Standardize(data, max_std=2)
        assert outlier(data)[-1].min() > 2  # a single row does not squeeze all others
        assert torch.allclose(common.Unstandardize(data, max_std=2)(outlier(data)), data, atol=0.01)

    def test_constant_column_is_restored_exactly(self):
        data = torch.full((100, 1), 0.1)
        assert (common.Unstandardize(data)(torch.randn(100, 1)) == data).all()

    def test_values_that_float32_cannot_hold_are_kept(self):
        data = 1.7e9 + 1000 * torch.rand(2048, 2, dtype=torch.float64)
        standard = common.Standardize(data)
        assert standard(data).dtype == torch.float32
        back = common.Unstandardize(data)(standard(data))
        assert back.dtype == torch.float64
        assert (back - data).abs().max() < 1e-3
        training = sine_gan.train(data, epochs=1, progress=False)
        assert training.samples.dtype == torch.float64
        assert len(training.samples[:, 0].unique()) > 10_000

    @pytest.mark.parametrize(
        "form",
        [
            lambda rows: rows.double(),
            lambda rows: rows.bfloat16(),
            lambda rows: rows.clone().requires_grad_(),
            lambda rows: rows.numpy(),
            lambda rows: rows.tolist(),
            lambda rows: rows.round().long(),
            lambda rows: rows.numpy().astype("uint16"),
            lambda rows: pytest.importorskip("pandas").DataFrame(rows.numpy(), columns=["a", "b"]),
        ],
    )
    def test_data_have_any_form(self, form):
        rows = torch.arange(200.0).view(100, 2)
        wide = form(rows) if not isinstance(form(rows), torch.Tensor) else form(rows).detach()
        training = sine_gan.train(form(rows), epochs=1, progress=False)
        assert training.samples.shape == (16384, 2)
        same = common.as_rows(wide)
        assert torch.allclose(same.float(), rows, rtol=0.01)
        assert training.samples.dtype == same.dtype

    @needs_cuda
    @pytest.mark.parametrize("device", ["cpu", "cuda"])
    def test_data_may_lie_on_a_gpu(self, device):
        data = sine_gan.real_samples(100, seeded(0))
        due = sine_gan.train(data, device=device, epochs=1, progress=False)
        torch.set_default_device("cuda")
        try:
            found = sine_gan.train(data.cuda(), device=device, epochs=1, progress=False)
        finally:
            torch.set_default_device("cpu")
        assert found.samples.device.type == "cpu"
        assert found.history[0].distance == pytest.approx(due.history[0].distance, rel=0.01)

    def test_data_are_learned_under_any_settings_of_torch(self):
        data = sine_gan.real_samples(100, seeded(0))
        due = sine_gan.train(data, epochs=1, progress=False)
        torch.set_default_dtype(torch.float64)
        try:
            with torch.no_grad(), torch.device("meta"):
                found = sine_gan.train(data, epochs=1, progress=False)
        finally:
            torch.set_default_dtype(torch.float32)
        assert found.history == due.history

    @pytest.mark.parametrize(
        ("data", "reason"),
        [
            (torch.rand(5), r"shape \(n, features\), not \(5,\)"),
            (torch.tensor([[0.0], [math.nan]]), "row 1, column 0 holds nan"),
            (torch.tensor([[0.0, -math.inf]]), "row 0, column 1 holds -inf"),
            (torch.zeros(0, 2), r"not \(0, 2\)"),
            ([["a", "b"]], "rows of numbers"),
            (None, r"shape \(n, features\)"),
        ],
    )
    def test_what_cannot_be_learned_is_said(self, data, reason):
        with pytest.raises(ValueError, match=reason):
            sine_gan.train(data, progress=False)


def test_no_two_uses_share_random_numbers():
    uses = [("samples", 0), ("samples", 1), ("data", 0), ("walk", 0), ("training", 0)]
    numbers = torch.stack([torch.randn(1000, generator=common.stream(*use)) for use in uses])
    assert (torch.corrcoef(numbers) - torch.eye(5)).abs().max() < 0.15
    assert torch.randn(1000, generator=common.stream("data")).equal(numbers[2])


class TestBatches:
    @pytest.mark.parametrize("size", [1, 3, 10, 25])
    def test_hold_each_row_as_often_as_any_other(self, size):
        batches = common.Batches(torch.arange(10.0).unsqueeze(1), size)
        taken = torch.cat([*islice(batches, 12), *islice(batches, 8)])  # as in two epochs
        assert taken.shape == (20 * size, 1)
        counts = taken.flatten().long().bincount(minlength=10)
        assert counts.max() - counts.min() <= 1

    def test_are_shuffled_anew(self):
        first, second = islice(common.Batches(torch.arange(100.0).unsqueeze(1), 100), 2)
        assert not torch.equal(first, second)


class TestEvenNoise:
    def test_leaves_no_gaps(self):
        """256 Sobol points have one in each of 16 by 16 equal parts."""
        for noise in islice(common.sobol_noise(256, 2, "cpu"), 3):
            cells = (16 * torch.special.ndtr(noise)).long()
            assert len(cells.unique(dim=0)) == 256

    def test_is_standard_normal_and_drawn_anew(self):
        batches = list(islice(common.sobol_noise(100, 3, "cpu"), 100))
        noise = torch.cat(batches)
        assert noise.shape == (10_000, 3)
        assert noise.isfinite().all()
        assert torch.allclose(noise.T.cov(), torch.eye(3), atol=0.05)
        assert not torch.equal(batches[0], batches[1])


def test_the_average_moves_towards_the_model_with_its_running_statistics():
    average, model = (nn.Sequential(nn.Linear(2, 3), nn.BatchNorm1d(3)) for _ in range(2))
    model[1].running_mean += 1
    before = average[0].weight.clone()
    common.update_ema(average, model, 0.75)
    assert torch.allclose(average[0].weight, 0.75 * before + 0.25 * model[0].weight)
    assert torch.allclose(average[1].running_mean, torch.full((3,), 0.25))


class TestDistance:
    def test_is_zero_for_the_same_rows_in_another_order(self):
        rows = torch.randn(500, 3)
        assert SlicedWasserstein(rows)(rows.flip(0)) == pytest.approx(0, abs=1e-6)

    def test_of_a_shift_by_one_deviation(self):
        """Against the known value: projections of a unit shift have mean square 1 / 2 in 2-D."""
        rows = torch.randn(1000, 2)
        shift = torch.tensor([1.0, 0.0]) * rows.std(dim=0, correction=0)
        distance = SlicedWasserstein(rows)
        projected = distance.directions[:, 0].square().mean().sqrt().item()  # 64 directions
        assert distance(rows + shift) == pytest.approx(projected, rel=1e-4)
        assert projected == pytest.approx(0.5**0.5, rel=0.1)

    def test_does_not_depend_on_units(self):
        real, other = torch.rand(300, 2), torch.rand(200, 2)
        units = torch.tensor([1e-3, 1e5])
        expected = SlicedWasserstein(real)(other)
        assert SlicedWasserstein(real * units)(other * units) == pytest.approx(expected, rel=1e-4)

    def test_sees_points_off_the_curve_and_parts_left_out(self):
        x = torch.rand(4000, generator=seeded(1))
        curve = torch.stack([x, x**2], dim=1)
        distance = SlicedWasserstein(curve[:2000])
        same = distance(curve[2000:])
        assert distance(curve[2000:] + 0.2 * torch.randn(2000, 2)) > 3 * same
        assert distance(curve[curve[:, 0] < 0.8]) > 3 * same

    def test_of_samples_that_are_not_finite_is_infinite(self):
        assert SlicedWasserstein(torch.randn(10, 2))(torch.tensor([[1.0, math.nan]])) == math.inf


class TestEarlyStopping:
    @staticmethod
    def after(errors, patience=2, cooldown=0, **more):
        """After such errors, with a model whose weight is the number of its epoch."""
        stopping, model = EarlyStopping(10, patience, cooldown, **more), nn.Linear(1, 1)
        for epoch, error in enumerate(errors, start=1):
            nn.init.constant_(model.weight, epoch)
            if stopping.update(error, model):
                break
        return stopping, model

    def test_keeps_the_best_model_and_stops_after_patience(self):
        stopping, model = self.after([3.0, 1.0, 2.0, 1.5, 0.1])
        assert stopping.epoch == 4
        assert stopping.kept_epoch == stopping.load_best(model).weight.item() == 2

    def test_the_rate_falls_to_nothing_when_progress_ends_or_in_time_for_the_last_epoch(self):
        factors = [1.0]
        for count in range(1, 6):
            stopping, _ = self.after([3.0, 1.0, 2.0, 1.5, 1.2, 1.1][:count], cooldown=3)
            factors.append(stopping.lr_factor)
        assert factors[:4] == [1, 1, 1, 1]
        assert 1 > factors[4] > factors[5] > 0
        assert self.after([3.0, 1.0, *[2.0] * 8], cooldown=3)[0].epoch == 2 + 2 + 3
        falling = [1 / count for count in range(1, 11)]
        factors = [self.after(falling[:count], cooldown=3)[0].lr_factor for count in range(10)]
        assert factors[:7] == [1] * 7
        assert sorted(factors[6:], reverse=True) == factors[6:]

    def test_less_than_the_least_progress_is_none(self):
        assert self.after([3.0, 2.4, 2.3, 2.2, 2.1], min_progress=0.5)[0].epoch == 4

    def test_of_equal_errors_the_latest_is_kept(self):
        assert self.after([1.0, 1.4, 1.6], tolerance=0.5)[0].kept_epoch == 2
        assert self.after([9.0, 1.0, 1.4, 1.8], 3, tolerance=0.5)[0].kept_epoch == 3

    @pytest.mark.parametrize("error", [math.nan, math.inf, 1e7])
    def test_stops_when_the_training_diverges(self, error):
        stopping, model = self.after([1.0, error, 0.5])
        assert stopping.diverged
        assert stopping.epoch == 2
        assert stopping.load_best(model).weight.item() == 1

    def test_without_any_good_model_there_is_none(self):
        stopping, model = self.after([math.nan])
        with pytest.raises(Failure, match="lower --lr"):
            stopping.load_best(model)

    @pytest.mark.parametrize("setting", [0, -1, 1.5, None])
    @pytest.mark.parametrize("name", ["epochs", "patience"])
    def test_settings_are_positive_integers(self, name, setting):
        with pytest.raises(ValueError, match=name):
            EarlyStopping(**{"epochs": 3, "patience": 3} | {name: setting})

    def test_a_loop_that_forgets_to_evaluate_is_told_so(self):
        with pytest.raises(RuntimeError, match=r"end with a call of training\.evaluate"):
            list(new_training(torch.rand(60, 2), epochs=3).epochs())


class TestFiles:
    def test_results_that_fail_leave_the_earlier_ones(self, tmp_path):
        def save():
            with common.output_folder(tmp_path) as place:
                common.write_file(place / "file", b"later")
                common.write_file(place / "no such folder" / "file", b"later")

        (tmp_path / "file").write_bytes(b"earlier")
        with pytest.raises(Failure, match="cannot save file: No such file"):
            save()
        found = {path.name: path.read_bytes() for path in tmp_path.glob("[!.]*")}
        assert found == {"file": b"earlier"}
        assert not (tmp_path / ".partial").exists()

    def test_results_replace_the_earlier_ones_and_are_named(self, tmp_path, capsys):
        for content in (b"earlier", b"later"):
            with common.output_folder(tmp_path) as place:
                (place / "file").write_bytes(content)
                (place / "folder").mkdir()
                (place / "folder" / content.decode()).touch()
        assert (tmp_path / "file").read_bytes() == b"later"
        assert [path.name for path in (tmp_path / "folder").iterdir()] == ["later"]
        assert f"Saved in {tmp_path}: file, folder" in capsys.readouterr().out

    @pytest.mark.parametrize("rows", [0, 1, 2, 1000])
    def test_saved_models_take_any_number_of_rows(self, rows, recwarn):
        model, rows = (
            nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)),
            torch.randn(rows, 2),
        )
        script, program = (io.BytesIO(model_file(model, 2, kind)) for kind in ("pt", "pt2"))
        assert not recwarn.list
        for loaded in (torch.jit.load(script), torch.export.load(program).module()):
            assert torch.allclose(loaded(rows), model(rows), atol=1e-6)

    @pytest.mark.parametrize("kind", ["pt", "pt2"])
    def test_saved_models_name_no_path_of_this_machine(self, kind):
        import zipfile

        with zipfile.ZipFile(io.BytesIO(model_file(nn.Linear(2, 2), 2, kind))) as archive:
            for name in archive.namelist():
                assert b"site-packages" not in archive.read(name)
                assert str(ROOT).encode() not in archive.read(name)

    @pytest.mark.parametrize("content", [b"", b"nonsense", None])
    def test_what_is_no_model_is_refused(self, tmp_path, content):
        path = tmp_path / "generator.pt"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(Failure, match="train"):
            common.load_model(path, 2, 2)

    def test_a_model_with_a_flipped_bit_is_refused(self, tmp_path):
        path, content = tmp_path / "generator.pt", bytearray(model_file(nn.Linear(40, 40), 40))
        content[content.index(b"data/0") + 1000] ^= 1  # in its weights
        path.write_bytes(content)
        with pytest.raises(Failure, match="damaged"):
            common.load_model(path, 40, 40)

    def test_a_model_of_another_shape_is_refused(self, tmp_path):
        path = tmp_path / "generator.pt"
        path.write_bytes(model_file(nn.Linear(2, 3), 2))
        assert common.load_model(path, 2, 3)(torch.zeros(5, 2)).shape == (5, 3)
        with pytest.raises(Failure, match="sizes"):
            common.load_model(path, 2, 2)
        with pytest.raises(Failure, match="was not saved by this script"):
            common.load_model(path, 3, 3)


class TestNumbersFromFile:
    def test_every_digit_is_kept(self, tmp_path):
        path = tmp_path / "points.csv"
        path.write_text("20250203,1700000000.25\n")
        assert common.read_numbers(path, 2).tolist() == [[20250203, 1700000000.25]]

    def test_with_and_without_header(self, tmp_path):
        path = tmp_path / "points.csv"
        for head in ("", "x,y\n"):
            path.write_text(head + "1,2\n\n-3.5,4e2\n")
            assert common.read_numbers(path, 2).tolist() == [[1, 2], [-3.5, 400]]

    def test_integers(self, tmp_path):
        path = tmp_path / "integers.csv"
        path.write_text("integer\n7\n9.0\n")
        assert common.read_numbers(path, 1, depth=10).tolist() == [[7], [9]]

    @pytest.mark.parametrize(
        ("text", "columns", "complaint"),
        [
            ("x,y\n1,2\n3\n", 2, "line 3: expected 2 finite numbers, found '3'"),
            ("1,2\nthree,4\n", 2, "line 2"),
            ("1,2,3\n", 2, "line 1"),
            ("1,2\nnan,4\n", 2, "line 2"),
            ("1,2\n1e39,4\n", 2, "line 2"),
            ("1\n2,3\n", 1, "line 2: expected 1 finite number, found"),
            ("x,y\n", 2, "no numbers"),
            ("", 2, "no numbers"),
            ("\0\n", 2, "CSV|no numbers"),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path, text, columns, complaint):
        path = tmp_path / "points.csv"
        path.write_text(text)
        with pytest.raises(Failure, match=complaint):
            common.read_numbers(path, columns)

    @pytest.mark.parametrize("text", ["1\n10\n", "1\n-1\n", "1\n2.5\n", "1\n2,3\n"])
    def test_what_is_no_integer_in_range_is_named(self, tmp_path, text):
        path = tmp_path / "integers.csv"
        path.write_text(text)
        with pytest.raises(Failure, match=r"line 2: expected an integer in 0\.\.9"):
            common.read_numbers(path, 1, depth=10)

    def test_absent_or_binary_file(self, tmp_path):
        binary = tmp_path / "binary"
        binary.write_bytes(b"\xff\xfe\x00")
        for path in (tmp_path / "absent", binary, tmp_path):
            with pytest.raises(Failure, match="cannot read"):
                common.read_numbers(path, 2)


def test_what_the_caller_has_set_is_given_back():
    @common.torch_defaults(threads=1)
    def found():
        parts = torch.get_num_threads(), torch.is_grad_enabled(), torch.zeros(1).dtype
        return *parts, torch.zeros(1).device.type

    threads = torch.get_num_threads()
    torch.set_default_dtype(torch.float64)
    try:
        with torch.inference_mode(), torch.device("meta"):
            assert found() == (1, True, torch.float32, "cpu")
            assert not torch.is_grad_enabled()
            assert torch.zeros(1).device.type == "meta"
        assert torch.zeros(1).dtype == torch.float64
        assert torch.get_num_threads() == threads
    finally:
        torch.set_default_dtype(torch.float32)


def test_missing_values_are_found():
    training = new_training(torch.rand(50, 2))
    training.check_missing(torch.tensor([1, 1, 2, 3]), torch.tensor([1] * 90 + [2] * 9 + [4]))
    assert training.metrics["missing_values"] == [3]
    assert not training.converged


@pytest.mark.parametrize("columns", [1, 2, 3])
def test_pictures_name_what_they_show(columns):
    rows = torch.rand(20, columns)
    figure = common.plot_points(rows, rows, [common.Evaluation(1, 0.7, 0.7, 0.5)])
    words = {axes.get_ylabel() for axes in figure.axes}
    assert {"loss", "distance", "share in %"} < words
    legends = [text.get_text() for axes in figure.axes if axes.get_legend()
               for text in axes.get_legend().get_texts()]  # fmt: skip
    assert {"real", "generated", "discriminator", "generator"} <= set(legends)
    assert common.plot_interpolation(rows, rows).axes[0].get_xlabel() == "x"


def test_a_walk_is_as_normal_as_its_stops():
    steps = common.interpolate(400, 1000)
    assert steps.shape == (400, 1000)
    assert steps.std(dim=1).sub(1).abs().max() < 0.1
    assert (steps[1:] - steps[:-1]).norm(dim=1).max() < 1  # of some 31


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Failure("no luck"), 1),
        (common.InputError("a bad rate"), 2),
        (MemoryError(), 1),
        (RuntimeError("can't allocate memory"), 1),
        (KeyboardInterrupt(), 130),
    ],
)
def test_what_goes_wrong_is_one_line_and_a_status(error, status, capsys):
    @common.command
    def main(_):
        raise error

    assert main() == status
    message = capsys.readouterr().err
    assert message.startswith("test_common.py: ")
    assert message.count("\n") == 1


@pytest.mark.parametrize("kind", [RuntimeError, ValueError, KeyError])
def test_a_mistake_in_the_code_is_shown_whole(kind):
    @common.command
    def main(_):
        raise kind("a mistake")

    with pytest.raises(kind, match="a mistake"):
        main()


@pytest.mark.parametrize("latent_dim", [2, 3, 64])
def test_samples_do_not_depend_on_the_blocks_they_come_in(latent_dim, monkeypatch):
    def generated(count, chunk):
        options = argparse.Namespace(seed=3, generate=count)
        monkeypatch.setattr(common, "CHUNK", chunk)
        return torch.cat(list(common.generate(nn.Identity(), latent_dim, options)))

    rows = generated(9_999, common.CHUNK)
    assert rows.shape == (9_999, latent_dim)
    assert len(rows.unique(dim=0)) == 9_999
    for chunk in (16, 1008, 20_000):
        assert torch.equal(generated(9_999, chunk), rows)
    assert torch.equal(generated(7, 4096), rows[:7])


def test_samples_are_written_as_csv(capsys):
    rows = torch.randn(2, 2)
    common.print_rows(iter([rows]), "a,b")
    head, *lines = capsys.readouterr().out.splitlines()
    assert head == "a,b"
    assert torch.allclose(torch.tensor([[float(x) for x in s.split(",")] for s in lines]), rows)


SCRIPTS = [path for path in sorted(ROOT.glob("*.py")) if "# /// script" in path.read_text()]
PACKAGES = {"PIL": "matplotlib", "filelock": "torch", "sklearn": "scikit-learn"}  # that bring them


def named_in_head(script: Path) -> set[str]:
    """The packages, with versions, that the head of a script names."""
    return set(script.read_text().split('dependencies = ["')[1].split('"]')[0].split('", "'))


def imported(script: Path) -> set[str]:
    """The packages that a script imports, itself or by other files of the project."""
    found: set[str] = set()
    for node in ast.walk(ast.parse(script.read_text())):
        names = [node.module] if isinstance(node, ast.ImportFrom) else []
        names += [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        for name in {name.partition(".")[0] for name in names} - sys.stdlib_module_names:
            own = ROOT / f"{name}.py"
            found |= imported(own) if own.exists() else {PACKAGES.get(name, name)}
    return found


def test_there_are_ten_scripts():
    assert len(SCRIPTS) == 10


@pytest.mark.parametrize("script", SCRIPTS, ids=lambda script: script.stem)
def test_the_head_of_a_script_names_what_it_imports(script):
    others = set() if script.stem == "table_gan" else {"scikit-learn"}
    assert {name.partition(">=")[0] for name in named_in_head(script)} == imported(script) - others


def test_requirements_name_what_all_scripts_need():
    required = set((ROOT / "requirements.txt").read_text().split())
    assert required | {"torchvision"} == set().union(*map(named_in_head, SCRIPTS))


def test_without_torchvision_images_are_refused(monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "torchvision", None)  # cannot be imported
    assert digits_gan.main([]) == 1
    assert "pip install torchvision" in capsys.readouterr().err
