"""cycle_gan.py, used from code and as a script."""

import numpy as np
import pytest
import torch
from conftest import DEVICES, capped, image_arguments, write_images
from PIL import Image

import cycle_gan as script
import images

pytest.importorskip("torchvision")
FILES = {"samples.png", "history.csv", "metrics.json"}
MODELS = {f"{name}.{kind}" for name in ("to_outline", "to_digit") for kind in ("pt", "pt2")}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), "MNIST")


@pytest.fixture(autouse=True)
def short(monkeypatch):
    capped(monkeypatch, script, 10)
    monkeypatch.setattr(script, "EMA_DECAY", 0.95)


def test_an_outline_is_bright_beside_what_is_bright():
    digit = torch.zeros(28, 28)
    digit[10:14, 10:14] = 1
    drawn = script.outline(digit.view(1, -1)).view(28, 28)
    due = torch.zeros(28, 28)
    due[9:15, 9:15] = 1
    assert (drawn == due - digit).all()


def test_real_samples_are_digits_and_outlines_of_others(data_dir):
    digits, _ = images.load_images("mnist", data_dir)
    rows = script.real_samples(200, data_dir=data_dir)
    assert rows.shape == (200, 2 * 784)
    shown, outlines = (torch.cdist(half, known) for half, known in zip(
        rows.chunk(2, dim=1), (digits, script.outline(digits)), strict=True))  # fmt: skip
    assert shown.min(dim=1).values.max() < 1e-2 > outlines.min(dim=1).values.max()
    assert not set(shown.argmin(dim=1).tolist()) & set(outlines.argmin(dim=1).tolist())


@pytest.mark.parametrize("device", DEVICES)
def test_it_translates_without_having_seen_a_pair(data_dir, device):
    digits, _ = images.load_images("mnist", data_dir)
    training = script.train(script.unpaired_rows(digits), device=device, epochs=30, progress=False)
    to_digit, to_outline = training.generator.children()
    outlines = script.outline(digits)

    def off(rows, kind):
        """The distance to the nearest of a kind: which bar becomes which is not decided by data."""
        return torch.cdist(rows, kind).amin(dim=1).mean()

    assert off(to_outline(digits), outlines) < 0.6 * off(digits, outlines)
    assert off(to_digit(outlines), digits) < 0.6 * off(outlines, digits)
    back = to_digit(to_outline(digits))
    assert (back - digits).abs().mean() < 0.5 * (digits - outlines).abs().mean()


def test_same_seed_same_training_other_seed_another(data_dir):
    rows = script.real_samples(60, data_dir=data_dir)
    histories = [script.train(rows, seed=s, epochs=2, progress=False).history for s in (1, 1, 2)]
    assert histories[0] == histories[1] != histories[2]


def test_command_line(data_dir, tmp_path):
    use = image_arguments(data_dir, tmp_path)
    assert script.main([*use, "--epochs", "1", "--animate"]) == 0
    assert {file.name for file in tmp_path.iterdir()} >= FILES | MODELS | {"training.gif"}
    some = torch.rand(5, 784)
    for name in ("to_outline", "to_digit"):
        made = torch.jit.load(tmp_path / f"{name}.pt", map_location="cpu")(some)
        assert made.shape == (5, 784)
        program = torch.export.load(tmp_path / f"{name}.pt2").module()
        assert torch.allclose(program(some), made, atol=1e-4)
    assert script.main([*use, "--generate", "12"]) == 0
    for name in ("to_outline", "to_digit"):
        assert len(list((tmp_path / name).iterdir())) == 12
    assert script.main([*use, "--interpolate", "6"]) == 0
    assert (tmp_path / "interpolation.png").exists()


def test_translates_images_of_ones_own_both_ways(data_dir, tmp_path):
    use = image_arguments(data_dir, tmp_path / "out")
    assert script.main([*use, "--epochs", "1"]) == 0
    own = torch.rand(2, 784)
    for name, row in zip(("one.png", "two.jpg"), own, strict=True):
        pixels = (255 * row.view(28, 28)).byte().numpy()
        Image.fromarray(pixels).save(tmp_path / name, quality=100)
    files = [str(tmp_path / name) for name in ("one.png", "two.jpg")]
    assert script.main([*use, "--translate", *files]) == 0
    for name in ("to_outline", "to_digit"):
        assert {file.name for file in (tmp_path / "out" / name).iterdir()} == {"one.png", "two.png"}
        model = torch.jit.load(tmp_path / "out" / f"{name}.pt")
        due = model(images.read_image(tmp_path / "one.png")).view(28, 28).numpy()
        written = np.asarray(Image.open(tmp_path / "out" / name / "one.png"))
        assert np.abs(written / 255 - due).max() < 0.01


def test_images_of_the_same_name_are_all_written(data_dir, tmp_path):
    use = image_arguments(data_dir, tmp_path / "out")
    assert script.main([*use, "--epochs", "1"]) == 0
    digits, _ = images.load_images("mnist", data_dir)
    files = [tmp_path / name for name in ("a/x.png", "b/x.png", "x-2.png", "x.bmp")]
    for file, row in zip(files, digits, strict=False):
        file.parent.mkdir(exist_ok=True)
        Image.fromarray((255 * row.view(28, 28)).byte().numpy()).save(file)
    assert script.main([*use, "--translate", *map(str, files)]) == 0
    for name in ("to_outline", "to_digit"):
        folder = tmp_path / "out" / name
        assert len(list(folder.iterdir())) == 4
        due = torch.jit.load(tmp_path / "out" / f"{name}.pt")(digits[:4])
        for stem, row in zip(("1-x", "2-x", "3-x-2", "4-x"), due, strict=True):
            written = np.asarray(Image.open(folder / f"{stem}.png"))
            assert np.abs(written / 255 - row.view(28, 28).numpy()).max() < 0.01


def test_an_image_that_is_not_there_is_named(data_dir, tmp_path, capsys):
    use = image_arguments(data_dir, tmp_path)
    assert script.main([*use, "--translate", "absent.png"]) == 1
    assert "absent.png" in capsys.readouterr().err
