"""The command line, the same in every script: bad input, interruption, one clear line for each."""

import functools
import importlib
import io
import signal
import sys

import pytest
import torch
from conftest import ROOT, at_epoch, capped, new_training
from PIL import Image

import common
import digits_gan
import exp_curve_gan
import fashion_classifier
import multiples_of_five_gan
import sine_gan

SCRIPTS = [exp_curve_gan, sine_gan, multiples_of_five_gan]
IMAGE_SCRIPTS = [digits_gan, fashion_classifier]


@pytest.mark.parametrize("script", [*SCRIPTS, *IMAGE_SCRIPTS])
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--nonsense"], "--nonsense"),
        (["stray"], "stray"),
        (["--epochs", "0"], "at least 1"),
        (["--epoch", "3"], "--epoch"),
        (["--patience", "0"], "at least 1"),
        (["--lr", "-1"], "positive"),
        (["--lr", "nan"], "positive"),
        (["--lr", "inf"], "positive"),
        (["--batch-size", "0"], "at least 1"),
        (["--seed", "x"], "integer"),
        (["--seed", "-1"], "integer"),
        (["--seed", "99999999999999999999"], "integer"),
        (["--device", "quantum"], "choose from auto, cpu"),
    ],
)
def test_a_wrong_command_line_is_one_clear_line(script, arguments, hint, tmp_path, capsys):
    with pytest.raises(SystemExit) as exit_:
        sys.exit(script.main([*arguments, "--out", str(tmp_path)]))
    assert exit_.value.code == 2
    message = capsys.readouterr().err
    assert hint in message
    assert message.count("\n") == 1


@pytest.mark.parametrize("script", SCRIPTS)
def test_batches_larger_than_the_data_are_refused(script, tmp_path, capsys):
    assert script.main(["--batch-size", "100000", "--out", str(tmp_path)]) == 2
    assert "larger than the data" in capsys.readouterr().err


@pytest.mark.parametrize("script", [*SCRIPTS, digits_gan])
@pytest.mark.parametrize("option", ["--generate", "--interpolate"])
def test_no_samples_are_none(script, option, capsys):
    with pytest.raises(SystemExit, match="2"):
        script.main([option, "0"])
    assert "at least 1" in capsys.readouterr().err


@pytest.mark.parametrize("script", SCRIPTS)
@pytest.mark.parametrize(
    ("arguments", "hint"),
    [
        (["--out", "file"], "choose another --out"),
        (["--out", "file/below"], "choose another --out"),
        (["--generate", "5", "--out", "nothing here"], "train first"),
        (["--generate", "5", "--out", "damaged"], "train again"),
        (["--data", "absent.csv"], "cannot read"),
    ],
)
def test_what_cannot_be_done_is_one_clear_line(
    script, arguments, hint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "damaged").mkdir()
    (tmp_path / "damaged" / "generator.pt").write_bytes(b"nonsense")
    assert script.main(arguments) == 1
    message = capsys.readouterr().err
    assert hint in message
    assert message.count("\n") == 1


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a CUDA GPU")
def test_cuda_where_there_is_none(tmp_path, capsys):
    assert sine_gan.main(["--device", "cuda", "--out", str(tmp_path)]) == 2
    assert "'cuda' is not available; choose from auto, cpu" in capsys.readouterr().err


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_names_every_option(script, capsys):
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    words = capsys.readouterr().out
    for option in ("seed", "device", "epochs", "patience", "batch-size", "lr", "out", "data",
                   "generate", "interpolate", "animate", "show", "quiet"):  # fmt: skip
        assert f"--{option}" in words


@pytest.mark.parametrize(("number", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_interrupted_training_is_saved(number, status, tmp_path, monkeypatch, capsys):
    at_epoch(monkeypatch, 3, functools.partial(signal.raise_signal, number))
    arguments = ["--epochs", "100000", "--quiet", "--device", "cpu", "--out", str(tmp_path)]
    assert sine_gan.main(arguments) == status
    assert "3 epochs, interrupted, kept epoch" in capsys.readouterr().out
    assert torch.jit.load(tmp_path / "generator.pt")(torch.randn(4, 2)).shape == (4, 2)


def test_a_second_interrupt_ends_at_once(monkeypatch, tmp_path, capsys):
    at_epoch(monkeypatch, 3, functools.partial(signal.raise_signal, signal.SIGINT))
    monkeypatch.setattr(common, "save", lambda *_: signal.raise_signal(signal.SIGINT))
    arguments = ["--epochs", "100000", "--quiet", "--device", "cpu", "--out", str(tmp_path)]
    assert sine_gan.main(arguments) == 130
    first, second = capsys.readouterr().err.splitlines()
    assert "Interrupted after epoch 3, keeping what was learned" in first
    assert "nothing new was saved" in second


def test_show_opens_a_window(monkeypatch, tmp_path):
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    shown = []
    monkeypatch.setattr(plt, "show", lambda: shown.extend(plt.get_fignums()))
    assert sine_gan.main(["--epochs", "1", "--quiet", "--show", "--out", str(tmp_path)]) == 0
    assert len(shown) == 1
    assert not plt.get_fignums()


@pytest.mark.parametrize("script", SCRIPTS)
def test_a_training_is_animated(script, tmp_path, monkeypatch):
    capped(monkeypatch, script)
    arguments = ["--animate", "--epochs", "3", "--quiet", "--device", "cpu", "--out", str(tmp_path)]
    assert script.main(arguments) == 0
    with Image.open(tmp_path / "training.gif") as film:
        assert film.n_frames == 3
        film.seek(0)
        assert film.info["duration"] >= 1000  # it dwells on the start


def test_the_film_shows_what_the_discriminator_thinks():
    data = torch.rand(200, 2) * torch.tensor([1.0, 50.0])
    training, loss = new_training(data, epochs=2), torch.tensor(0.7)

    class Right(torch.nn.Module):  # takes places on the right for real, and none for generated
        def forward(self, points):
            return 4 * (points[:, :1] > 0.5)

    training.evaluate(torch.nn.Identity(), torch.rand(100, 2), loss, loss, Right())
    ((_, _, opinions),) = training.snapshots.values()
    picture = opinions.reshape(common.GRID_SIDE, common.GRID_SIDE)
    assert (picture[:, : common.GRID_SIDE // 2] == 0.5).all()
    assert (picture[:, common.GRID_SIDE // 2 :] > 0.9).all()
    drawn = Image.open(io.BytesIO(common.animate_points(data, training.snapshots))).convert("RGB")
    left, right = drawn.getpixel((120, 60)), drawn.getpixel((300, 60))
    assert left != right


def test_a_film_stays_small_and_ends_with_the_last_epoch():
    training = new_training(torch.rand(50, 2), epochs=10_000)
    loss = torch.tensor(0.7)
    for _ in range(100):
        training.evaluate(torch.nn.Identity(), torch.rand(100, 2), loss, loss)
    epochs = [row.epoch for row, _ in training.snapshots.values()]
    assert epochs[:3] == [1, 2, 3]
    assert epochs[-1] == 100
    assert len(epochs) < 60


def test_a_copy_under_another_name_keeps_its_own_results(tmp_path, monkeypatch, capsys):
    (tmp_path / "spiral_gan.py").write_text((ROOT / "sine_gan.py").read_text())
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    spiral_gan = importlib.import_module("spiral_gan")
    assert spiral_gan.main(["--epochs", "1", "--quiet"]) == 0
    assert (tmp_path / "outputs" / "spiral" / "generator.pt").exists()
    assert not (tmp_path / "outputs" / "sine").exists()
    with pytest.raises(SystemExit):
        spiral_gan.main(["--nonsense"])
    assert capsys.readouterr().err.startswith("spiral_gan.py: ")


def test_data_samples_and_networks_draw_different_random_numbers(tmp_path):
    """With the same seed for all of them, as by default."""
    arguments = ["--quiet", "--epochs", "1", "--out", str(tmp_path)]
    noises = []

    def seen(n, generator=None):
        noises.append(torch.randn(n, 2, generator=generator))
        return noises[-1]

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sine_gan, "real_samples", seen)
        assert sine_gan.main(arguments) == 0
    noises.append(torch.randn(2048, 2, generator=common.stream("samples")))
    torch.manual_seed(0)
    noises.append(torch.randn(2048, 2))
    columns = torch.cat([noise[:, :1] for noise in noises if len(noise) == 2048], dim=1)
    assert (torch.corrcoef(columns.T) - torch.eye(3)).abs().max() < 0.1
