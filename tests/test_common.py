"""The shared parts: codec, device, data, distance, early stopping, files and pictures."""

import io
import math
import os
import subprocess
import sys
from itertools import islice
from pathlib import Path

import pytest
import torch
from torch import nn

import common
from common import EarlyStop, Failure, SlicedWasserstein


class TestOneHot:
    def test_round_trip(self):
        integers = torch.tensor([0, 3, 9, 3])
        rows = common.one_hot_encode(integers, 10)
        assert rows.shape == (4, 10)
        assert rows.sum(dim=1).tolist() == [1, 1, 1, 1]
        assert common.one_hot_decode(rows).tolist() == integers.tolist()

    @pytest.mark.parametrize(
        ("integers", "depth", "complaint"),
        [
            (torch.tensor([10]), 10, r"0\.\.9"),
            (torch.tensor([-1]), 10, r"0\.\.9"),
            (torch.tensor([1.0]), 10, "tensor of integers, not torch.float32"),
            (torch.tensor([True]), 10, "tensor of integers"),
            ([1, 2], 10, "tensor of integers, not list"),
            (torch.tensor([[1]]), 10, "shape"),
            (torch.tensor([1]), 0, "depth"),
            (torch.tensor([1]), 10.0, "depth"),
        ],
    )
    def test_bad_input_is_refused(self, integers, depth, complaint):
        with pytest.raises(ValueError, match=complaint):
            common.one_hot_encode(integers, depth)

    def test_decode_refuses_what_is_not_rows(self):
        with pytest.raises(ValueError, match="shape"):
            common.one_hot_decode(torch.zeros(5))


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
        data = torch.arange(n).unsqueeze(1)
        learned, held_out = common.hold_out(data, common.seeded_generator(0))
        assert len(learned) >= len(held_out) >= 1
        if n > 1:
            assert sorted(torch.cat([learned, held_out]).flatten().tolist()) == list(range(n))

    def test_standardised_and_restored(self):
        data = torch.tensor([[1e4, 5.0, 1e-20], [1e4 + 1, 5.0, 3e-20], [1e4 + 2, 5.0, 2e-20]])
        standard = common.Standardize(data)(data)
        assert torch.allclose(standard.mean(dim=0), torch.zeros(3), atol=1e-5)
        assert torch.allclose(standard.std(dim=0, correction=0), torch.tensor([1.0, 0.0, 1.0]))
        assert torch.allclose(common.Restore(data)(standard), data)

    def test_columns_in_one_unit_keep_it(self):
        data = torch.stack([torch.full((100,), 7.0), 10 * torch.rand(100), torch.rand(100)], dim=1)
        standard = common.Standardize(data, one_unit=True)(data)
        assert standard.mean().abs() < 1e-5
        assert abs(standard.std(correction=0) - 1) < 1e-5
        ratios = standard.std(dim=0) / data.std(dim=0)
        assert torch.allclose(ratios[1], ratios[2])

    def test_constant_column_is_restored_exactly(self):
        data = torch.full((100, 1), 0.1)
        assert (common.Restore(data)(torch.randn(100, 1)) == data).all()


class TestBatches:
    @pytest.mark.parametrize("size", [1, 3, 10, 25])
    def test_hold_each_row_as_often_as_any_other(self, size):
        rows = torch.arange(10.0).unsqueeze(1)
        taken = torch.cat(list(islice(common.Batches(rows, size), 20)))
        assert taken.shape == (20 * size, 1)
        counts = taken.flatten().long().bincount(minlength=10)
        assert counts.max() - counts.min() <= 1

    def test_are_shuffled_anew(self):
        rows = torch.arange(100.0).unsqueeze(1)
        first, second = islice(common.Batches(rows, 100), 2)
        assert not torch.equal(first, second)


class TestEvenNoise:
    def test_leaves_no_gaps(self):
        """256 Sobol points have one in each of 16 by 16 equal parts."""
        for noise in islice(common.even_noise(256, 2, "cpu"), 3):
            cells = (16 * torch.special.ndtr(noise)).long()
            assert len(cells.unique(dim=0)) == 256

    def test_is_standard_normal_and_drawn_anew(self):
        batches = list(islice(common.even_noise(100, 3, "cpu"), 100))
        noise = torch.cat(batches)
        assert noise.shape == (10_000, 3)
        assert noise.isfinite().all()
        assert torch.allclose(noise.T.cov(), torch.eye(3), atol=0.05)
        assert not torch.equal(batches[0], batches[1])


class TestDistance:
    def test_is_zero_for_the_same_rows_in_another_order(self):
        rows = torch.randn(500, 3)
        assert SlicedWasserstein(rows)(rows.flip(0)) == pytest.approx(0, abs=1e-6)

    def test_of_a_shift_by_one_deviation(self):
        """Against the known value: projections of a unit shift have mean length 2 / pi in 2-D."""
        rows = torch.randn(1000, 2)
        shift = torch.tensor([1.0, 0.0]) * rows.std(dim=0, correction=0)
        distance = SlicedWasserstein(rows, directions=2000)(rows + shift)
        assert distance == pytest.approx(2 / math.pi, rel=0.05)

    def test_does_not_depend_on_units(self):
        real, other = torch.rand(300, 2), torch.rand(200, 2)
        units = torch.tensor([1e-3, 1e5])
        expected = SlicedWasserstein(real)(other)
        assert SlicedWasserstein(real * units)(other * units) == pytest.approx(expected, rel=1e-4)

    def test_sees_points_off_the_curve_and_parts_left_out(self):
        x = torch.rand(4000, generator=common.seeded_generator(1))
        curve = torch.stack([x, x**2], dim=1)
        distance = SlicedWasserstein(curve[:2000])
        same = distance(curve[2000:])
        assert distance(curve[2000:] + 0.2 * torch.randn(2000, 2)) > 3 * same
        assert distance(curve[curve[:, 0] < 0.8]) > 3 * same

    def test_of_samples_that_are_not_finite_is_infinite(self):
        assert SlicedWasserstein(torch.randn(10, 2))(torch.tensor([[1.0, math.nan]])) == math.inf

    @pytest.mark.parametrize("samples", [torch.zeros(5), torch.zeros(5, 3), torch.zeros(0, 2)])
    def test_wrong_shape_is_refused(self, samples):
        with pytest.raises(ValueError, match="shape"):
            SlicedWasserstein(torch.randn(10, 2))(samples)


class TestEarlyStop:
    def test_keeps_the_best_and_stops_after_patience(self):
        stop = EarlyStop(patience=2)
        model = nn.Linear(1, 1)
        distances = [math.nan, 3.0, 1.0, 2.0, math.nan]
        for number, distance in enumerate(distances, start=1):
            nn.init.constant_(model.weight, distance)
            assert stop.update(distance, model) == (number == 5)
        assert stop.best_at == 3
        assert stop.lowest == 1.0
        assert stop.best_model.weight.item() == 1.0

    def test_among_distances_that_cannot_be_told_apart_the_later_is_better(self):
        stop = EarlyStop(patience=2, noise=1.5)
        for distance in (1.0, 1.4, 1.6):
            stop.update(distance, nn.Identity())
        assert stop.lowest == 1.4

    @pytest.mark.parametrize("patience", [0, -1, 1.5, True, None])
    def test_patience_is_a_positive_integer(self, patience):
        with pytest.raises(ValueError, match="patience"):
            EarlyStop(patience)


class TestFiles:
    def test_a_write_that_fails_leaves_the_earlier_file(self, tmp_path, monkeypatch):
        path = tmp_path / "file"
        common.write_whole(path, b"earlier")

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "replace", full)
        with pytest.raises(OSError, match="No space"):
            common.write_whole(path, b"later")
        assert [file.read_bytes() for file in tmp_path.iterdir()] == [b"earlier"]

    @pytest.mark.parametrize("rows", [0, 1, 2, 1000])
    def test_saved_models_take_any_number_of_rows(self, rows, recwarn):
        model = nn.Sequential(nn.Linear(2, 8), nn.Tanh(), nn.Linear(8, 2)).eval()
        example, rows = torch.randn(16, 2), torch.randn(rows, 2)
        script, program = common.torchscript(model, example), common.exported(model, example)
        assert not recwarn.list
        for loaded in (
            torch.jit.load(io.BytesIO(script)),
            torch.export.load(io.BytesIO(program)).module(),
        ):
            assert torch.allclose(loaded(rows), model(rows), atol=1e-6)

    def test_a_model_that_does_not_survive_saving_is_refused(self):
        class Counter(nn.Module):
            calls = 0

            def forward(self, rows):
                self.calls += 1
                return rows + self.calls

        with pytest.raises(Failure, match="differs"):
            common.torchscript(Counter(), torch.ones(2, 2))

    @pytest.mark.parametrize("content", [b"", b"nonsense", None])
    def test_what_is_no_model_is_refused(self, tmp_path, content):
        path = tmp_path / "generator.pt"
        if content is not None:
            path.write_bytes(content)
        with pytest.raises(Failure, match="train"):
            common.load_torchscript(path, 2, 2)

    def test_a_model_of_another_shape_is_refused(self, tmp_path):
        path = tmp_path / "generator.pt"
        path.write_bytes(common.torchscript(nn.Linear(2, 3), torch.zeros(4, 2)))
        assert common.load_torchscript(path, 2, 3)(torch.zeros(5, 2)).shape == (5, 3)
        with pytest.raises(Failure, match="shape"):
            common.load_torchscript(path, 2, 2)
        with pytest.raises(Failure, match="not a model from here"):
            common.load_torchscript(path, 3, 3)


class TestNumbersFromFile:
    def test_with_and_without_header(self, tmp_path):
        path = tmp_path / "points.csv"
        for head in ("", "x,y\n"):
            path.write_text(head + "1,2\n\n-3.5,4e2\n")
            assert common.read_points(path).tolist() == [[1, 2], [-3.5, 400]]

    def test_integers(self, tmp_path):
        path = tmp_path / "integers.csv"
        path.write_text("integer\n7\n9.0\n")
        assert common.one_hot_decode(common.read_integers(path, 10)).tolist() == [7, 9]

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            ("x,y\n1,2\n3\n", "line 3"),
            ("1,2\nthree,4\n", "line 2"),
            ("1,2,3\n", "line 1"),
            ("1,2\nnan,4\n", "line 2"),
            ("1,2\n1e39,4\n", "line 2"),
            ("x,y\n", "no numbers"),
            ("", "no numbers"),
            ("\0\n", "CSV|no numbers"),
        ],
    )
    def test_a_bad_line_is_named(self, tmp_path, text, complaint):
        path = tmp_path / "points.csv"
        path.write_text(text)
        with pytest.raises(Failure, match=complaint):
            common.read_points(path)

    @pytest.mark.parametrize("text", ["1\n10\n", "1\n-1\n", "1\n2.5\n", "1\n2,3\n"])
    def test_what_is_no_integer_in_range_is_named(self, tmp_path, text):
        path = tmp_path / "integers.csv"
        path.write_text(text)
        with pytest.raises(Failure, match=r"line 2: expected an integer in 0\.\.9"):
            common.read_integers(path, 10)

    def test_absent_or_binary_file(self, tmp_path):
        binary = tmp_path / "binary"
        binary.write_bytes(b"\xff\xfe\x00")
        for path in (tmp_path / "absent", binary, tmp_path):
            with pytest.raises(Failure, match="cannot read"):
                common.read_points(path)


def test_threads_are_given_back():
    before = torch.get_num_threads()
    assert common.on_one_thread(torch.get_num_threads)() == 1
    assert torch.get_num_threads() == before


def test_missing_values_are_found():
    generated = torch.tensor([1] * 90 + [2] * 9 + [4])
    assert common.missing_values(torch.tensor([1, 1, 2, 3]), generated) == [3]


@pytest.mark.parametrize("plot", [common.plot_points, common.plot_frequencies])
def test_pictures_name_what_they_show(plot):
    rows = common.one_hot_encode(torch.tensor([0, 1, 1]), 2)
    figure = plot(rows, rows, [common.Evaluation(1, 0.7, 0.7, 0.5)])
    words = {axes.get_ylabel() for axes in figure.axes}
    assert {"loss", "distance"} < words
    legends = [text.get_text() for axes in figure.axes if axes.get_legend()
               for text in axes.get_legend().get_texts()]  # fmt: skip
    assert any("real" in text for text in legends)
    assert any("generated" in text for text in legends)


@pytest.mark.parametrize(
    ("name", "more"),
    [
        ("exp_curve_gan.py", set()),
        ("sine_gan.py", set()),
        ("multiples_of_five_gan.py", set()),
        ("digits_gan.py", {"torchvision"}),
        ("fashion_classifier.py", {"torchvision"}),
    ],
)
def test_inline_dependencies_are_those_of_requirements(name, more):
    root = Path(common.__file__).parent
    head = (root / name).read_text().split('dependencies = ["')[1].split('"]')[0]
    assert set(head.split('", "')) == set((root / "requirements.txt").read_text().split()) | more


def test_without_torchvision_images_are_refused_and_all_else_works(tmp_path):
    code = """
import sys
sys.modules["torchvision"] = None  # cannot be imported
import digits_gan, sine_gan
print(sine_gan.main(["--epochs", "1", "--quiet"]), digits_gan.main([]))
"""
    environment = os.environ | {"PYTHONPATH": str(Path(common.__file__).parent)}
    result = subprocess.run(
        [sys.executable, "-c", code], cwd=tmp_path, env=environment, capture_output=True, text=True
    )
    assert result.stdout.endswith("0 1\n")
    assert "pip install torchvision" in result.stderr
