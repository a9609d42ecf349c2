"""exp_curve_gan.py, used from code and as a script."""

import json
import shutil
import subprocess
import sys

import pytest
import torch
from conftest import DEVICES, ROOT, capped, run_script, seeded

import exp_curve_gan as script

FILES = {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}


def test_real_samples_lie_on_the_curve():
    x, y = script.real_samples(1000).T
    assert x.min() >= 0
    assert x.max() <= 50
    assert torch.allclose(y, 1.08**x)


@pytest.mark.parametrize("device", DEVICES)
def test_a_short_training_brings_the_points_near(device):
    data = script.real_samples(2048, generator=seeded(0))
    training = script.train(data, device=device, epochs=12, progress=False)
    assert [row.epoch for row in training.history] == list(range(1, 13))
    assert training.history[-1].distance < 0.6 * training.history[0].distance
    assert training.generator(torch.randn(7, script.LATENT_DIM)).shape == (7, 2)
    assert not training.generator.training


def test_same_seed_same_training_other_seed_another():
    data = script.real_samples(256, generator=seeded(0))
    histories = [script.train(data, seed=s, epochs=2, progress=False).history for s in (1, 1, 2)]
    assert histories[0] == histories[1] != histories[2]


@pytest.mark.parametrize(
    "data",
    [
        torch.rand(10),
        torch.rand(0, 2),
        torch.tensor([[1.0, float("nan")]]),
        torch.tensor([[1.0, float("inf")]]),
        torch.ones(10, 2, dtype=torch.complex64),
        [[1.0, 2.0], [3.0]],
        [["one", "two"]],
    ],
)
def test_bad_data_are_refused(data):
    with pytest.raises(ValueError, match="data must"):
        script.train(data, progress=False)


@pytest.mark.parametrize(
    "setting",
    [{"epochs": 0}, {"patience": 0}, {"batch_size": 0}, {"batch_size": 11}, {"lr": -1.0},
     {"lr": float("nan")}, {"epochs": 1.5}],
)  # fmt: skip
def test_bad_settings_are_refused(setting):
    with pytest.raises(ValueError, match=f"{next(iter(setting))}|learning rate"):
        script.train(torch.rand(10, 2), progress=False, **setting)


@pytest.mark.parametrize(
    "data", [torch.ones(1, 2), torch.ones(50, 2), torch.rand(9, 1), torch.rand(40, 5)]
)
def test_any_shape_and_constant_columns_are_learned(data):
    training = script.train(data, epochs=1, progress=False)
    points = training.generator(torch.randn(3, script.LATENT_DIM))
    assert points.shape == (3, data.shape[1])
    constant = (data == data[0]).all(dim=0)
    assert (points[:, constant] == data[0, constant]).all()


@pytest.fixture(scope="module")
def copied(tmp_path_factory):
    """The script and common.py alone in an empty folder, run there once as a user would."""
    folder = tmp_path_factory.mktemp("Zwölf Boxkämpfer, 十二")
    for name in ("exp_curve_gan.py", "common.py"):
        shutil.copy(ROOT / name, folder)
    result = run_script("exp_curve_gan.py", "--epochs", 3, "--device", "cpu", folder=folder)
    return folder, result


class TestCommandLine:
    def test_saves_everything_and_says_so(self, copied):
        folder, result = copied
        assert result.returncode == 0
        out = folder / "outputs" / "exp_curve"
        assert {file.name for file in out.glob("[!.]*")} == FILES
        assert "epoch 3" in result.stdout
        assert "WARNING, not converged" in result.stdout
        assert "Warning" not in result.stderr
        assert "epoch" in result.stderr  # the bar
        metrics = json.loads((out / "metrics.json").read_text())
        assert metrics["converged"] is False
        assert f"kept epoch {metrics['kept_epoch']}." in result.stdout
        assert metrics["ratio"] > 1

    def test_saved_generators_load_in_plain_torch_and_agree(self, copied):
        out = copied[0] / "outputs" / "exp_curve"
        latents = torch.randn(5, 2)
        script = torch.jit.load(out / "generator.pt", map_location="cpu")
        program = torch.export.load(out / "generator.pt2").module()
        assert torch.allclose(script(latents), program(latents), atol=1e-4)

    def test_same_seed_same_bytes(self, copied, monkeypatch):
        folder, _ = copied
        monkeypatch.chdir(folder)
        assert script.main(["--epochs", "3", "--device", "cpu", "--quiet", "--out", "again"]) == 0
        for name in ("history.csv", "samples.png", "metrics.json"):
            first = folder / "outputs" / "exp_curve" / name
            assert first.read_bytes() == (folder / "again" / name).read_bytes(), name

    def test_generates_csv_and_walks(self, copied, monkeypatch, capsys):
        monkeypatch.chdir(copied[0])
        assert script.main(["--generate", "1000"]) == 0
        said = capsys.readouterr()
        header, *rows = said.out.splitlines()
        assert header == "x,y"
        assert len(rows) == 1000
        assert all(len([float(cell) for cell in row.split(",")]) == 2 for row in rows)
        assert said.err == ""
        assert script.main(["--interpolate", "9"]) == 0
        assert "interpolation.png" in capsys.readouterr().out
        picture = copied[0] / "outputs" / "exp_curve" / "interpolation.png"
        assert picture.read_bytes().startswith(b"\x89PNG")


def test_a_reader_that_stops_reading_is_no_error(copied):
    folder, _ = copied
    command = f"{sys.executable} exp_curve_gan.py --generate 200000 | head -n 1"
    result = subprocess.run(command, shell=True, cwd=folder, capture_output=True, text=True)
    assert result.stdout == "x,y\n"
    assert result.stderr == ""


def test_learns_a_file_of_points(tmp_path, monkeypatch, capsys):
    capped(monkeypatch, script)
    points = tmp_path / "points.csv"
    points.write_text("a,b\n" + "".join(f"{i},{i * i}\n" for i in range(100)))
    arguments = ["--data", str(points), "--epochs", "1", "--quiet", "--out", str(tmp_path / "out")]
    assert script.main(arguments) == 0
    assert "Trained on 100 samples" in capsys.readouterr().out


@pytest.mark.parametrize("columns", [1, 3])
def test_points_of_any_number_of_columns(columns, tmp_path, monkeypatch, capsys):
    """As where `real_samples` was changed in a copy."""
    capped(monkeypatch, script)

    def real_samples(n, generator=None):
        return torch.rand(n, columns, generator=generator)

    monkeypatch.setattr(script, "real_samples", real_samples)
    arguments = ["--quiet", "--device", "cpu", "--out", str(tmp_path)]
    assert script.main(["--epochs", "1", "--animate", *arguments]) == 0
    capsys.readouterr()
    assert script.main(["--generate", "5", "--interpolate", "4", *arguments]) == 0
    rows = capsys.readouterr().out.splitlines()
    assert [len(row.split(",")) for row in rows] == 6 * [columns]
    points = tmp_path / "points.csv"
    points.write_text("\n".join(rows))
    assert script.main(["--epochs", "1", "--data", str(points), *arguments]) == 0
    points.write_text("1,2\n")
    assert script.main(["--data", str(points), *arguments]) == 1
    assert f"line 1: expected {columns} finite number" in capsys.readouterr().err
