"""What all ten scripts promise: they learn, repeat, save, generate, and explain errors."""

import contextlib
import csv
import io
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import DEVICES, GANS, IMAGE_GANS, ROOT, SCRIPTS, arguments, capped, own_data
from PIL import Image

import common
import conditional_gan
import cycle_gan
import dcgan
import exp_curve_gan
import fashion_classifier
import images
import multiples_of_five_gan
import sine_gan
import table_gan
import wgan

each_script = pytest.mark.parametrize("script", SCRIPTS)
MODELS = {cycle_gan: ["to_outline", "to_digit"], fashion_classifier: ["classifier"]}
METRICS = {"verdict", "converged", "samples", "seed", "epochs", "kept_epoch", "best_epoch"}


def sizes(script):
    """The columns that a saved network takes, and the shape that it returns."""
    inputs = 784 if script in MODELS else script.LATENT_DIM + 10 * (script is conditional_gan)
    outputs = {multiples_of_five_gan: (100,), table_gan: (4,), fashion_classifier: (10,)}
    outputs |= {dcgan: (1, 28, 28), conditional_gan: (1, 28, 28)}
    return inputs, outputs.get(script, (784,) if script in IMAGE_GANS else (2,))


def is_blank(path):
    """Whether a picture has a single colour."""
    with Image.open(path) as image:
        return np.ptp(np.asarray(image.convert("L"))) == 0


@pytest.fixture(scope="module", params=DEVICES)
def device(request):
    return request.param


@pytest.fixture(scope="module", params=SCRIPTS)
def saved(request, device, data_dir, tmp_path_factory):
    """The results of a short training on the command line, and what it printed."""
    script, out = request.param, tmp_path_factory.mktemp(request.param.__name__)
    epochs = {fashion_classifier: 30, cycle_gan: 5, conditional_gan: 6}.get(script, 3)
    use = [*arguments(script, data_dir, out), "--device", device]
    train = ["--epochs", str(epochs), "--patience", str(epochs), "--seed", "3", "--show"]
    train += ["--animate"] * (script in GANS)
    stdout, stderr, shown = io.StringIO(), io.StringIO(), []
    with pytest.MonkeyPatch.context() as patch:
        capped(patch, script, 3 if script is multiples_of_five_gan else 10, export=True)
        patch.setattr(Image.Image, "show", lambda image: shown.append(image.size))
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            assert script.main([*use, *train]) == 0
    return SimpleNamespace(
        script=script, out=out, use=use, models=MODELS.get(script, ["generator"]), epochs=epochs,
        stdout=stdout.getvalue(), stderr=stderr.getvalue(), shown=shown,
    )  # fmt: skip


def test_a_run_learns_and_saves_and_reports_what_it_promises(saved):
    script, metrics = saved.script, json.loads((saved.out / "metrics.json").read_text())
    files = {f"{name}.{kind}" for name in saved.models for kind in ("pt", "pt2")}
    files |= {"samples.png", "history.csv", "metrics.json"}
    files |= {"training.gif"} if script in GANS else set()
    files |= {"estimate.png"} if script is wgan else set()
    assert {path.name for path in saved.out.glob("[!.]*")} == files
    assert not any(is_blank(path) for path in saved.out.glob("*.png"))
    assert len(saved.shown) == 1  # by --show
    if script in GANS:
        with Image.open(saved.out / "training.gif") as film:
            assert film.n_frames == saved.epochs
        names = {"distance", "distance_of_real_samples", "ratio", "precision", "coverage", "recall"}
        assert metrics.keys() >= names
    assert metrics.keys() >= METRICS
    assert (metrics["epochs"], metrics["seed"]) == (saved.epochs, 3)
    assert metrics["converged"] is metrics["verdict"].startswith("Good")
    history = np.genfromtxt(saved.out / "history.csv", delimiter=",", names=True)
    assert history["epoch"].tolist() == list(range(1, saved.epochs + 1))
    assert all(np.isfinite(history[name]).all() for name in history.dtype.names)
    errors = history["validation_loss" if script is fashion_classifier else "distance"]
    assert errors[1:].min() < 0.9 * errors[0]
    assert f"Saved in {saved.out}: " in saved.stdout
    assert f"Trained on {metrics['samples']:,} samples for {saved.epochs} epochs" in saved.stdout
    assert metrics["verdict"] in saved.stdout
    assert saved.stderr == ""


def test_saved_networks_load_in_plain_torch_and_agree(saved):
    inputs, outputs = sizes(saved.script)
    rows = torch.randn(20, inputs)
    for name in saved.models:
        traced = torch.jit.load(saved.out / f"{name}.pt", map_location="cpu")
        exported = torch.export.load(saved.out / f"{name}.pt2").module()
        found = traced(rows)
        assert found.shape == (20, *outputs)
        assert found.isfinite().all()
        for network in (traced, exported):  # any number of rows, none of which changes another
            parts = torch.cat([network(part) for part in rows.split([0, 1, 19])])
            assert torch.allclose(parts, found, atol=1e-3)


@pytest.mark.parametrize("saved", GANS, indirect=True)
def test_generates_and_interpolates(saved, run):
    script, use = saved.script, [saved.script, *saved.use, "--seed", 5]
    lines = run(*use, "--generate", 12).out.splitlines()
    if script in IMAGE_GANS:
        for folder in MODELS.get(script, ["generated"]):
            assert len(list((saved.out / folder).glob("*.png"))) == 12
    else:
        columns = {multiples_of_five_gan: 1, table_gan: 4}.get(script, 2)
        assert [len(row) for row in csv.reader(lines)] == 13 * [columns]
        assert run(*use, "--generate", 5).out.splitlines() == lines[:6]
    run(*use, "--interpolate", 6)
    assert not is_blank(saved.out / "interpolation.png")


@each_script
def test_same_seed_same_results_another_seed_others(script, run, monkeypatch):
    def save(_, training, *__, **networks):
        weights = [part for each in networks.values() for part in each.state_dict().values()]
        results.append((training.history, [part.numpy().tobytes() for part in weights]))

    results = []
    capped(monkeypatch, script, 2)
    monkeypatch.setattr(common, "save", save)
    monkeypatch.setattr(common, "save_picture", lambda *_: None)
    monkeypatch.setattr(common, "precision_and_coverage", lambda *_: (0.0, 0.0))  # it takes long
    for seed in (1, 1, 2):
        run(script, "--epochs", 1, "--seed", seed)
    first, same, other = results
    assert first == same
    assert first[0] != other[0]


# --- Errors ------------------------------------------------------------------------------------


@each_script
def test_without_a_saved_network_the_user_is_told_to_train(script, run):
    task = ["--generate", 5] if script in GANS else ["--predict", __file__]
    assert "train first" in run(script, *task, status=1).err


WRONG = {  # option: hint in the message
    "--nonsense": "--nonsense", "stray": "stray", "--epoch 3": "--epoch", "--epochs 0": "at least",
    "--patience 1.5": "at least 1", "--batch-size 0": "at least 1", "--lr -1": "positive",
    "--lr nan": "positive", "--seed -1": "integer", "--device quantum": "choose from auto, cpu",
    "--generate 0": "--generate", "--interpolate 0": "--interpolate", "--batch-size 9999": "larger",
}  # fmt: skip


@each_script
@pytest.mark.parametrize(("options", "hint"), WRONG.items(), ids=WRONG.keys())
def test_a_wrong_option_is_one_line_and_status_2(script, options, hint, run):
    message = run(script, *options.split(), status=2).err
    assert message.startswith(f"{script.__name__}.py: ")
    assert hint in message


@each_script
def test_help_names_every_option(script, run):
    options = "seed device epochs patience batch-size lr out show quiet"
    options += " generate interpolate animate" if script in GANS else " predict"
    words = run(script, "--help").out
    assert all(f"--{option}" in words for option in options.split())


# --- What only one script does -----------------------------------------------------------------


@pytest.mark.parametrize("saved", [exp_curve_gan], indirect=True)
def test_examples_in_the_readme_run_alone(saved, tmp_path, monkeypatch):
    monkeypatch.setitem(sine_gan.train.__wrapped__.__kwdefaults__, "epochs", 2)
    monkeypatch.chdir(tmp_path)
    Path("outputs").mkdir()
    Path("outputs/exp_curve").symlink_to(saved.out)
    for example in re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL):
        names = {}
        exec(example, names)
        assert names["points"].shape in [(1000, 2), (16384, 2)]


@pytest.mark.parametrize("label", [None, 7])
@pytest.mark.parametrize("saved", [conditional_gan], indirect=True)
def test_conditional_gan_generates_digits_in_turn_or_one(saved, run, data_dir, label):
    more = [] if label is None else ["--label", label]
    run(conditional_gan, *saved.use, "--generate", 500, "--format", "npz", *more)
    pixels = torch.from_numpy(np.load(saved.out / "generated.npz")["images"])
    assert pixels.shape == (500, 28, 28)
    assert len(pixels.unique(dim=0)) > 400
    pixels = pixels.flatten(1) / 255
    classes, _ = images.nearest_class(pixels, *images.load_images("mnist", data_dir))
    asked = torch.arange(500) % 10 if label is None else torch.full((500,), label)
    assert (classes == asked).float().mean() > 0.5  # 0.1 by chance


@pytest.mark.parametrize("saved", [cycle_gan], indirect=True)
def test_cycle_gan_translates_files_without_having_seen_a_pair(saved, run, data_dir, tmp_path):
    digits, _ = images.load_images("mnist", data_dir)
    domains = cycle_gan.outline(digits), digits  # to_outline, to_digit
    files = [tmp_path / name for name in ("a/one.png", "b/one.png", "two.bmp")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(torch.randint(100, (28, 28)).byte().numpy()).save(file)
    run(cycle_gan, *saved.use, "--translate", *files)
    for name, real, rows in zip(saved.models, domains, domains[::-1], strict=True):
        translate = torch.jit.load(saved.out / f"{name}.pt", map_location="cpu")
        before, after = (torch.cdist(each, real).amin(dim=1) for each in (rows, translate(rows)))
        assert after.mean() < 0.9 * before.mean()  # which bar becomes which is not decided
        written = sorted((saved.out / name).iterdir())
        assert [path.name for path in written] == ["1-one.png", "2-one.png", "3-two.png"]
        for file, path in zip(files, written, strict=True):
            expected = translate(images.read_image(file)).view(28, 28).numpy()
            assert np.abs(np.asarray(Image.open(path)) / 255 - expected).max() < 0.01


def test_cycle_gan_learns_from_digits_and_outlines_of_others(data_dir):
    (rows,) = own_data(cycle_gan, data_dir)
    digits, _ = images.load_images("mnist", data_dir)
    padded = torch.nn.functional.pad(digits.view(-1, 28, 28), (1, 1, 1, 1))
    largest = padded.unfold(1, 3, 1).unfold(2, 3, 1).amax(dim=(3, 4))  # in windows of 3 by 3
    known = digits, largest.flatten(1) - digits
    pairs = zip(rows.chunk(2, dim=1), known, strict=True)
    nearest = [torch.cdist(half, real).min(dim=1) for half, real in pairs]
    assert all(each.values.max() < 1e-2 for each in nearest)
    assert not set(nearest[0].indices.tolist()) & set(nearest[1].indices.tolist())


@pytest.mark.parametrize("saved", [fashion_classifier], indirect=True)
def test_fashion_classifier_predicts_image_files_light_or_dark(saved, run, data_dir, tmp_path):
    categories, metrics = fashion_classifier.CATEGORIES, (saved.out / "metrics.json").read_text()
    assert json.loads(metrics)["test_accuracy"] > 0.9
    assert set(json.loads(metrics)["test_accuracy_by_category"]) == set(categories)
    assert "Good: " in saved.stdout
    test, labels = images.load_images("fashion", data_dir, train=False)
    files, printed = [tmp_path / f"{i}.png" for i in range(10)], []
    for rows in (test, 1 - test):
        for file, row in zip(files, rows, strict=False):
            Image.fromarray((255 * row.view(28, 28)).round().byte().numpy()).save(file)
        printed.append(run(fashion_classifier, *saved.use, "--predict", *files))
    header, *lines = printed[0].out.splitlines()
    assert header == "image,category,probability"
    right = [categories[label] in line for label, line in zip(labels, lines, strict=False)]
    assert len(right) == 10
    assert sum(right) > 7
    assert printed[1].out == printed[0].out
    assert printed[0].err == ""
    assert printed[1].err.count("so it was inverted") == 10
    message = run(fashion_classifier, *saved.use, "--predict", __file__, status=1).err
    assert "it is not an image" in message


def test_fashion_classifier_keeps_the_epoch_with_the_lowest_validation_loss(data_dir):
    data, labels = own_data(fashion_classifier, data_dir)
    labels = labels[torch.randperm(len(labels))]  # there is nothing to learn
    training = fashion_classifier.train(data, labels, patience=3, progress=False)
    losses = [row.validation_loss for row in training.history]
    assert training.stopping.kept_epoch == 1 + losses.index(min(losses))
    assert len(losses) == training.stopping.kept_epoch + 3
    assert training.verdict.startswith("WARNING")


@pytest.mark.skipif("GAN_DATA_DIR" not in os.environ, reason="GAN_DATA_DIR names no real images")
def test_fashion_classifier_learns_real_clothes():
    folder = os.environ["GAN_DATA_DIR"]
    learned, test = (images.load_images("fashion", folder, train) for train in (True, False))
    classifier = fashion_classifier.train(*learned, epochs=30, progress=False).classifier
    assert (classifier(test[0]).argmax(dim=1) == test[1]).float().mean() > 0.7
