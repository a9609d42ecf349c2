"""What all scripts promise: they learn, repeat, save, generate, and explain errors."""

import contextlib
import csv
import io
import json
import os
import pickle
import re
import shutil
from functools import partial
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from helpers import GANS, IMAGE_GANS, POINT_GANS, ROOT, SCRIPTS, arguments, own_data, shorten
from PIL import Image
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

import common
import conditional_gan
import cycle_gan
import digits_gan
import exp_curve_gan
import fashion_classifier
import images
import multiples_of_five_gan
import sine_gan
import table_gan
import wgan
from common import Failure, InputError

each_script = pytest.mark.parametrize("script", SCRIPTS)
each_gan = pytest.mark.parametrize("script", GANS)
MODELS = {cycle_gan: ["to_outline", "to_digit"], fashion_classifier: ["classifier"]}
EPOCHS = {fashion_classifier: 30, cycle_gan: 5, conditional_gan: 6}  # others: 3
BATCHES = {conditional_gan: 40}  # others: 10
METRICS = {"verdict", "converged", "samples", "seed", "epochs", "kept_epoch"}
GAN_METRICS = {"distance", "distance_of_real_samples", "ratio", "precision", "coverage"}


def shapes(script):
    """The shapes of what a saved model takes and gives, for each row."""
    picture = (1, 28, 28)
    if script in (cycle_gan, fashion_classifier):
        return picture, (10,) if script is fashion_classifier else picture
    inputs = script.LATENT_DIM + 10 * (script is conditional_gan)
    outputs = {multiples_of_five_gan: (100,), table_gan: (4,)}
    return (inputs,), picture if script in IMAGE_GANS else outputs.get(script, (2,))


def is_blank(path):
    """Whether a picture has a single colour."""
    with Image.open(path) as image:
        return np.ptp(np.asarray(image.convert("L"))) == 0


@pytest.fixture(scope="module", params=SCRIPTS)
def saved(request, data_dir, tmp_path_factory):
    """The results of a short training on the command line, and what it printed."""
    script = request.param
    out = tmp_path_factory.mktemp(script.__name__)
    epochs = EPOCHS.get(script, 3)
    options = arguments(script, data_dir, out)
    train = ["--epochs", str(epochs), "--patience", str(epochs), "--seed", "3", "--show"]
    train += ["--device", "auto"]  # a GPU, if there is one
    if script in GANS:
        train.append("--animate")
    stdout = io.StringIO()
    stderr = io.StringIO()
    shown = []
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten(monkeypatch, script, BATCHES.get(script, 10))
        monkeypatch.setattr(Image.Image, "show", lambda image: shown.append(image.size))
        with contextlib.redirect_stdout(stdout), contextlib.redirect_stderr(stderr):
            assert script.main([*options, *train]) == 0
    return SimpleNamespace(
        script=script,
        out=out,
        options=options,
        models=MODELS.get(script, ["generator"]),
        epochs=epochs,
        stdout=stdout.getvalue(),
        stderr=stderr.getvalue(),
        shown=shown,
    )


# --- Training, saving, generating --------------------------------------------------------------


def test_a_run_saves_and_reports_what_it_promises(saved):
    files = {f"{name}.{suffix}" for name in saved.models for suffix in ("pt", "pt2")}
    files |= {"samples.png", "history.csv", "metrics.json"}
    if saved.script in GANS:
        files.add("training.gif")
        with Image.open(saved.out / "training.gif") as film:
            assert film.n_frames == saved.epochs
    if saved.script is wgan:
        files.add("estimate.png")
    assert {path.name for path in saved.out.iterdir()} == files
    assert not any(is_blank(path) for path in saved.out.glob("*.png"))
    assert len(saved.shown) == 1  # by --show
    metrics = json.loads((saved.out / "metrics.json").read_text())
    assert metrics.keys() >= METRICS
    assert saved.script is fashion_classifier or metrics.keys() >= GAN_METRICS
    assert (metrics["epochs"], metrics["seed"]) == (saved.epochs, 3)
    assert metrics["converged"] is metrics["verdict"].startswith("Good")
    assert f"Saved in {saved.out}: " in saved.stdout
    assert f"Trained on {metrics['samples']:,} samples for {saved.epochs} epochs" in saved.stdout
    assert metrics["verdict"] in saved.stdout
    assert saved.stderr == ""


LEARN_SOON = [script for script in SCRIPTS if script is not multiples_of_five_gan]


@pytest.mark.parametrize("saved", LEARN_SOON, indirect=True)
def test_a_few_epochs_lower_the_error(saved):
    history = np.genfromtxt(saved.out / "history.csv", delimiter=",", names=True)
    assert history["epoch"].tolist() == list(range(1, saved.epochs + 1))
    assert all(np.isfinite(history[name]).all() for name in history.dtype.names)
    name = "validation_loss" if saved.script is fashion_classifier else "distance"
    assert history[name][1:].min() < 0.9 * history[name][0]


def test_saved_networks_load_in_plain_torch_and_agree(saved):
    inputs, outputs = shapes(saved.script)
    rows = torch.randn(20, *inputs)
    for name in saved.models:
        traced = torch.jit.load(saved.out / f"{name}.pt", map_location="cpu")
        exported = torch.export.load(saved.out / f"{name}.pt2").module()
        expected = traced(rows)
        assert expected.shape == (20, *outputs)
        assert expected.isfinite().all()
        for network in (traced, exported):  # any number of rows, none of which changes another
            parts = torch.cat([network(part) for part in rows.split([0, 1, 19])])
            assert torch.allclose(parts, expected, atol=1e-3)


@pytest.mark.parametrize("saved", GANS, indirect=True)
def test_generates_and_interpolates(saved, run):
    script = saved.script
    options = [script, *saved.options, "--seed", 5]
    lines = run(*options, "--generate", 12).out.splitlines()
    if script in IMAGE_GANS:
        for folder in MODELS.get(script, ["generated"]):
            assert len(list((saved.out / folder).glob("*.png"))) == 12
    else:
        columns = {multiples_of_five_gan: 1, table_gan: 4}.get(script, 2)
        assert [len(row) for row in csv.reader(lines)] == 13 * [columns]
        assert run(*options, "--generate", 5).out.splitlines() == lines[:6]
    run(*options, "--interpolate", 6)
    assert not is_blank(saved.out / "interpolation.png")


@pytest.mark.parametrize("script", GANS)
def test_show_is_for_training(script, run):
    assert "--show is for training" in run(script, "--generate", 2, "--show", status=2).err


@pytest.mark.parametrize("saved", [exp_curve_gan], indirect=True)
def test_examples_in_the_readme_run(saved, tmp_path, monkeypatch):
    monkeypatch.setattr(sine_gan, "train", partial(sine_gan.train, epochs=2))
    monkeypatch.chdir(tmp_path)
    shutil.copytree(saved.out, "outputs/exp_curve")
    examples = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.DOTALL)
    assert examples
    for example in examples:
        names = {}
        exec(example, names)
        assert names["points"].shape in [(1000, 2), (16384, 2)]


# --- `train` in code ---------------------------------------------------------------------------


def weights(training):
    """The weights of the kept network, as one vector."""
    network = getattr(training, "classifier", None) or training.generator
    return torch.cat([value.flatten().double() for value in network.state_dict().values()])


@each_script
def test_same_seed_same_results_another_seed_others(script, data_dir, monkeypatch):
    shorten(monkeypatch, script, 2)
    data = own_data(script, data_dir)
    trainings = [script.train(*data, epochs=1, seed=n, progress=False) for n in (1, 1, 2)]
    first, same, other = trainings
    assert first.history == same.history
    assert weights(first).equal(weights(same))
    assert first.history != other.history
    copied = pickle.loads(pickle.dumps(first))
    assert copied.history == first.history
    assert copied.verdict == first.verdict


def pretend_to_train(script, data_dir, monkeypatch, convert):
    """Trains on the meta device, which computes nothing and cannot give its tensors away."""
    shorten(monkeypatch, script)
    data = [convert(rows) for rows in own_data(script, data_dir)]
    monkeypatch.setattr(common, "choose_device", lambda _: torch.device("meta"))
    monkeypatch.setattr(script, "Adam", lambda *given, **_: torch.optim.Adam(*given))  # not fused
    monkeypatch.setattr(torch.Tensor, "item", lambda _: 1.0)  # of a loss
    with pytest.raises(NotImplementedError, match="Cannot copy out of meta tensor"):
        script.train(*data, epochs=1, progress=False)  # when samples are to be measured


@each_gan
def test_a_loop_keeps_to_its_device(script, data_dir, monkeypatch):
    """The meta device refuses tensors of the CPU, as a GPU does."""
    pretend_to_train(script, data_dir, monkeypatch, torch.clone)


class NoFloat64(TorchDispatchMode):
    """Like an Apple GPU, the device has no float64."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        result = function(*args, **(kwargs or {}))
        for tensor in tree_leaves([args, result]):
            if isinstance(tensor, torch.Tensor) and tensor.device.type == "meta":
                assert tensor.dtype != torch.float64, function
        return result


@each_gan
def test_no_float64_is_on_the_device(script, data_dir, monkeypatch):
    with NoFloat64():
        pretend_to_train(script, data_dir, monkeypatch, torch.Tensor.double)


@pytest.mark.parametrize("script", [*POINT_GANS, table_gan])
def test_data_may_have_any_units(script, monkeypatch):
    shorten(monkeypatch, script, 10)
    data = script.real_samples(300).double()
    settings = {"epochs": 2, "progress": False}
    usual = script.train(data, **settings).samples.mean(dim=0)
    scale = torch.tensor([1e-6, 1e9, 1.0, 1.0], dtype=torch.float64)[: data.shape[1]]
    shift = torch.tensor([0.0, -1e12, 0.0, 0.0], dtype=torch.float64)[: data.shape[1]]
    other = script.train(scale * data + shift, **settings).samples.mean(dim=0)
    tolerance = 0.05 * data.std(dim=0)
    assert ((other - shift) / scale - usual).abs().le(tolerance).all()


@pytest.mark.parametrize("batch_size", [1, 10**12])
@pytest.mark.parametrize("script", [script for script in SCRIPTS if script is not table_gan])
def test_a_batch_is_at_most_all_of_the_data(script, batch_size, data_dir, monkeypatch):
    shorten(monkeypatch, script, 2)
    data = [rows[:60] for rows in own_data(script, data_dir)]
    unusual = {"seed": 2**60, "lr": 1e-12, "patience": 10**9, "device": torch.device("cpu")}
    settings = {"epochs": 1, "batch_size": batch_size, "progress": False}
    assert len(script.train(*data, **settings, **unusual).history) == 1


@each_script
def test_a_wrong_batch_size_or_device_is_named(script, data_dir):
    data = own_data(script, data_dir)
    for name, value in (("batch_size", 0), ("batch_size", 1.5), ("device", "quantum")):
        with pytest.raises(InputError, match=f"{name}.* {value}|{name} {value!r}"):
            script.train(*data, epochs=1, progress=False, **{name: value})


@pytest.mark.parametrize("script", [*POINT_GANS, multiples_of_five_gan, digits_gan])
def test_a_training_that_diverges_says_what_to_do(script, data_dir, monkeypatch):
    shorten(monkeypatch, script, 5)
    with pytest.raises(Failure, match="lower --lr"):
        script.train(*own_data(script, data_dir), epochs=2, lr=1e30, progress=False)


@each_script
def test_without_a_saved_network_the_user_is_told_to_train(script, run):
    task = ["--generate", 5] if script in GANS else ["--predict", __file__]
    assert "train first" in run(script, *task, status=1).err


# --- What only one script does -----------------------------------------------------------------


def class_of(pictures, data_dir):
    """The digits (n,) that generated pictures are nearest to."""
    return images.nearest_class(pictures, *images.load_dataset("mnist", data_dir)[:2])[0]


@pytest.mark.parametrize("label", [None, 7])
@pytest.mark.parametrize("saved", [conditional_gan], indirect=True)
def test_conditional_gan_generates_digits_in_turn_or_one(saved, run, data_dir, label):
    options = [] if label is None else ["--label", label]
    run(conditional_gan, *saved.options, "--generate", 500, *options)
    files = sorted((saved.out / "generated").iterdir())
    pixels = np.stack([np.asarray(Image.open(file)) for file in files])
    pictures = torch.from_numpy(pixels).unsqueeze(1) / 255
    assert pictures.shape == (500, 1, 28, 28)
    assert len(pictures.unique(dim=0)) > 400
    requested = torch.arange(500) % 10 if label is None else torch.full((500,), label)
    assert (class_of(pictures, data_dir) == requested).float().mean() > 0.5  # 0.1 by chance


@pytest.mark.parametrize("saved", [cycle_gan], indirect=True)
def test_cycle_gan_translates_without_having_seen_a_pair(saved, data_dir):
    digits = images.load_dataset("mnist", data_dir).pictures
    outlines = cycle_gan.outline(digits)
    for name, pictures, aim in (
        ("to_outline", digits, outlines),
        ("to_digit", outlines, digits),
    ):
        translate = torch.jit.load(saved.out / f"{name}.pt", map_location="cpu")
        distances = []
        for rows in (pictures, translate(pictures)):
            nearest = torch.cdist(rows.flatten(1), aim.flatten(1)).amin(dim=1)
            distances.append(nearest.mean().item())  # which bar becomes which is not decided
        assert distances[1] < 0.9 * distances[0]


@pytest.mark.parametrize("saved", [cycle_gan], indirect=True)
def test_cycle_gan_translates_files(saved, run, tmp_path):
    files = [tmp_path / name for name in ("a/one.png", "b/one.png", "two.bmp")]
    for file in files:
        file.parent.mkdir(exist_ok=True)
        Image.fromarray(torch.randint(100, (28, 28)).byte().numpy()).save(file)
    run(cycle_gan, *saved.options, "--translate", *files)
    for name in saved.models:
        translate = torch.jit.load(saved.out / f"{name}.pt", map_location="cpu")
        written = sorted((saved.out / name).iterdir())
        assert [path.name for path in written] == ["1-one.png", "2-one.png", "3-two.png"]
        for file, path in zip(files, written, strict=True):
            expected = translate(images.read_grey(file))[0, 0].numpy()
            assert np.abs(np.asarray(Image.open(path)) / 255 - expected).max() < 0.01


@pytest.mark.parametrize("saved", [fashion_classifier], indirect=True)
def test_fashion_classifier_predicts_image_files_light_or_dark(saved, run, data_dir, tmp_path):
    categories = fashion_classifier.CATEGORIES
    metrics = json.loads((saved.out / "metrics.json").read_text())
    assert metrics["test_accuracy"] > 0.9
    assert set(metrics["test_accuracy_by_category"]) == set(categories)
    assert "Good: " in saved.stdout
    pictures, labels, _ = images.load_dataset("fashion", data_dir, train=False)
    files = [tmp_path / f"{i}.png" for i in range(10)]
    printed = []
    for shown in (pictures, 1 - pictures):
        for file, picture in zip(files, shown, strict=False):
            Image.fromarray((255 * picture[0]).round().byte().numpy()).save(file)
        printed.append(run(fashion_classifier, *saved.options, "--predict", *files))
    header, *lines = printed[0].out.splitlines()
    assert header == "image,category,probability"
    right = [categories[label] in line for label, line in zip(labels, lines, strict=False)]
    assert len(right) == 10
    assert sum(right) > 7
    assert printed[1].out == printed[0].out
    assert printed[0].err == ""
    assert printed[1].err.count("so it was inverted") == 10
    message = run(fashion_classifier, *saved.options, "--predict", __file__, status=1).err
    assert "it is not an image" in message


def test_fashion_classifier_keeps_the_epoch_with_the_lowest_validation_loss(data_dir):
    pictures, labels = own_data(fashion_classifier, data_dir)
    labels = labels[torch.randperm(len(labels))]  # there is nothing to learn
    settings = {"epochs": 60, "patience": 3, "progress": False}
    result = fashion_classifier.train(pictures, labels, **settings)
    losses = [epoch.validation_loss for epoch in result.history]
    assert result.stopping.kept_epoch == 1 + losses.index(min(losses))
    assert len(losses) == result.stopping.kept_epoch + 3
    assert result.verdict.startswith("WARNING")


@pytest.mark.skipif("GAN_DATA_DIR" not in os.environ, reason="GAN_DATA_DIR names no real images")
def test_fashion_classifier_learns_real_clothes():
    folder = os.environ["GAN_DATA_DIR"]
    pictures, labels, _ = images.load_dataset("fashion", folder)
    test_pictures, test_labels, _ = images.load_dataset("fashion", folder, train=False)
    result = fashion_classifier.train(pictures, labels, epochs=30, progress=False)
    predicted = result.classifier(test_pictures).argmax(dim=1)
    assert (predicted == test_labels).float().mean() > 0.7
