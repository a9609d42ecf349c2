"""cycle_gan.py: digits become outlines, and outlines digits."""

import numpy as np
import pytest
import torch
from conftest import arguments, capped, own_data
from PIL import Image

import cycle_gan
import images

NAMES = ["to_outline", "to_digit"]


def test_an_outline_is_bright_beside_bright_pixels():
    digit, expected = torch.zeros(2, 28, 28)
    digit[10:14, 10:14] = 1
    expected[9:15, 9:15] = 1
    assert cycle_gan.outline(digit.view(1, -1)).view(28, 28).equal(expected - digit)


def test_real_samples_are_digits_and_outlines_of_others(data_dir):
    (rows,) = own_data(cycle_gan, data_dir)
    digits, _ = images.load_images("mnist", data_dir)
    distances = [torch.cdist(half, real) for half, real in zip(
        rows.chunk(2, dim=1), (digits, cycle_gan.outline(digits)), strict=True)]  # fmt: skip
    assert all(each.amin(dim=1).max() < 1e-2 for each in distances)
    shown, outlined = (set(each.argmin(dim=1).tolist()) for each in distances)
    assert not shown & outlined


@pytest.fixture(scope="module")
def trained(data_dir, tmp_path_factory):
    """The options for a short training, and both translators."""
    out = tmp_path_factory.mktemp("out")
    use = arguments(cycle_gan, data_dir, out)
    with pytest.MonkeyPatch.context() as patch:
        capped(patch, cycle_gan, 10)
        assert cycle_gan.main([*use, "--epochs", "5"]) == 0
    return out, use, [torch.jit.load(out / f"{name}.pt") for name in NAMES]


def test_it_translates_without_having_seen_a_pair(trained, data_dir):
    to_outline, to_digit = trained[2]
    digits, _ = images.load_images("mnist", data_dir)
    outlines = cycle_gan.outline(digits)

    def distance(rows, real):
        """To the nearest: the data do not decide which bar becomes which."""
        return torch.cdist(rows, real).amin(dim=1).mean()

    assert distance(to_outline(digits), outlines) < 0.8 * distance(digits, outlines)
    assert distance(to_digit(outlines), digits) < 0.8 * distance(outlines, digits)


def test_translates_all_files_both_ways(trained, tmp_path):
    out, use, translators = trained
    files = [tmp_path / name for name in ("a/one.png", "b/one.png", "two.bmp")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        pixels = np.random.randint(0, 100, (28, 28), dtype=np.uint8)
        Image.fromarray(pixels).save(file)
    assert cycle_gan.main([*use, "--translate", *map(str, files)]) == 0
    for name, translate in zip(NAMES, translators, strict=True):
        written = sorted((out / name).iterdir())
        assert [path.name for path in written] == ["1-one.png", "2-one.png", "3-two.png"]
        for file, path in zip(files, written, strict=True):
            expected = translate(images.read_image(file)).view(28, 28).numpy()
            pixels = np.asarray(Image.open(path))
            assert np.abs(pixels / 255 - expected).max() < 0.01


def test_a_missing_image_is_named(trained, capsys):
    assert cycle_gan.main([*trained[1], "--translate", "absent.png"]) == 1
    assert "absent.png" in capsys.readouterr().err
