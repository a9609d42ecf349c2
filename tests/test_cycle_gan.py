"""cycle_gan.py: digits become outlines, and outlines digits."""

import numpy as np
import pytest
import torch
from conftest import arguments, capped, own_data
from PIL import Image

import cycle_gan
import images

NAMES = ["to_outline", "to_digit"]


def test_real_samples_are_digits_and_outlines_of_others(data_dir):
    (rows,) = own_data(cycle_gan, data_dir)
    digits, _ = images.load_images("mnist", data_dir)
    padded = torch.nn.functional.pad(digits.view(-1, 28, 28), (1, 1, 1, 1))
    largest = padded.unfold(1, 3, 1).unfold(2, 3, 1).amax(dim=(3, 4))  # in windows of 3 by 3
    known = digits, largest.flatten(1) - digits
    pairs = zip(rows.chunk(2, dim=1), known, strict=True)
    nearest = [torch.cdist(half, real).min(dim=1) for half, real in pairs]
    assert all(each.values.max() < 1e-2 for each in nearest)
    assert not set(nearest[0].indices.tolist()) & set(nearest[1].indices.tolist())


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

    for translate, rows, real in ((to_outline, digits, outlines), (to_digit, outlines, digits)):
        before, after = (torch.cdist(each, real).amin(dim=1) for each in (rows, translate(rows)))
        assert after.mean() < 0.9 * before.mean()  # which bar becomes which is not decided


def test_translates_all_files_both_ways(trained, tmp_path):
    out, use, translators = trained
    files = [tmp_path / name for name in ("a/one.png", "b/one.png", "two.bmp")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(torch.randint(100, (28, 28)).byte().numpy()).save(file)
    assert cycle_gan.main([*use, "--translate", *map(str, files)]) == 0
    for name, translate in zip(NAMES, translators, strict=True):
        written = sorted((out / name).iterdir())
        assert [path.name for path in written] == ["1-one.png", "2-one.png", "3-two.png"]
        for file, path in zip(files, written, strict=True):
            expected = translate(images.read_image(file)).view(28, 28).numpy()
            pixels = np.asarray(Image.open(path))
            assert np.abs(pixels / 255 - expected).max() < 0.01
