"""What all ten scripts promise: they learn, repeat, save, generate, and explain errors."""

import contextlib
import csv
import functools
import io
import json
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import DEVICES, GANS, IMAGE_GANS, SCRIPTS, arguments, capped, name_of, own_data
from PIL import Image

import conditional_gan
import cycle_gan
import fashion_classifier
import multiples_of_five_gan
import table_gan
import wgan

each_script = pytest.mark.parametrize("script", SCRIPTS, ids=name_of)
MODELS = {cycle_gan: ["to_outline", "to_digit"], fashion_classifier: ["classifier"]}
METRICS = {"verdict", "converged", "samples", "seed", "epochs", "kept_epoch", "best_epoch"}


def sizes(script):
    """The columns that a saved network takes and returns."""
    inputs = 784 if script in MODELS else script.LATENT_DIM + 10 * (script is conditional_gan)
    outputs = {multiples_of_five_gan: 100, table_gan: 4, fashion_classifier: 10}
    return inputs, outputs.get(script, 784 if script in IMAGE_GANS else 2)


def is_blank(path):
    """Whether a picture has a single colour."""
    with Image.open(path) as image:
        return np.ptp(np.asarray(image.convert("L"))) == 0


@pytest.fixture
def train(script, data_dir, monkeypatch):
    """`train` of a script with short epochs, on the script's own data."""
    capped(monkeypatch, script, 3 if script is multiples_of_five_gan else 10)
    return functools.partial(script.train, *own_data(script, data_dir), progress=False)


@each_script
@pytest.mark.parametrize("device", DEVICES)
def test_training_improves(script, train, device):
    classifier = script is fashion_classifier
    epochs = 30 if classifier else 3
    training = train(epochs=epochs, patience=epochs, device=device)
    assert [row.epoch for row in training.history] == list(range(1, epochs + 1))
    assert np.isfinite(training.history).all()
    errors = [row.validation_loss if classifier else row.distance for row in training.history]
    assert min(errors[1:]) < 0.9 * errors[0]
    network = training.classifier if classifier else training.generator
    inputs, outputs = sizes(script)
    both = 2 if script is cycle_gan else 1  # networks side by side
    result = network(torch.randn(7, both * inputs))
    assert result.shape == (7, both * outputs)
    assert result.isfinite().all()
    assert not network.training


@each_script
def test_same_seed_same_history_another_seed_another(script, train, monkeypatch):
    capped(monkeypatch, script, 2)
    first, same, other = (train(epochs=1, seed=seed).history for seed in (1, 1, 2))
    assert first == same != other


# --- Command line ------------------------------------------------------------------------------


@pytest.fixture(scope="module", params=SCRIPTS, ids=name_of)
def saved(request, data_dir, tmp_path_factory):
    """The results of a short training on the command line, and what it printed."""
    script, out = request.param, tmp_path_factory.mktemp(request.param.__name__)
    use = arguments(script, data_dir, out)
    animate = ["--animate"] * (script in GANS)
    out_, err_ = io.StringIO(), io.StringIO()
    with pytest.MonkeyPatch.context() as patch:
        capped(patch, script)
        with contextlib.redirect_stdout(out_), contextlib.redirect_stderr(err_):
            assert script.main([*use, "--epochs", "2", "--seed", "3", *animate]) == 0
    printed = {"stdout": out_.getvalue(), "stderr": err_.getvalue()}
    return SimpleNamespace(script=script, out=out, use=use, **printed)


def test_a_run_saves_and_reports_what_it_promises(saved):
    script, metrics = saved.script, json.loads((saved.out / "metrics.json").read_text())
    files = {
        f"{name}.{kind}" for name in MODELS.get(script, ["generator"]) for kind in ("pt", "pt2")
    }
    files |= {"samples.png", "history.csv", "metrics.json"}
    files |= {"training.gif"} if script in GANS else set()
    files |= {"estimate.png"} if script is wgan else set()
    assert {path.name for path in saved.out.glob("[!.]*")} == files
    assert metrics.keys() >= METRICS
    if script in GANS:
        assert metrics.keys() >= {"distance", "distance_of_real_samples", "ratio"}
        assert script in IMAGE_GANS or metrics.keys() >= {"precision", "coverage", "recall"}
    assert (metrics["epochs"], metrics["seed"]) == (2, 3)
    assert metrics["converged"] is metrics["verdict"].startswith("Good")
    with (saved.out / "history.csv").open() as file:
        assert [row["epoch"] for row in csv.DictReader(file)] == ["1", "2"]
    assert f"Saved in {saved.out}: " in saved.stdout
    assert f"Trained on {metrics['samples']:,} samples for 2 epochs" in saved.stdout
    assert metrics["verdict"] in saved.stdout
    assert saved.stderr == ""


def test_saved_networks_load_in_plain_torch_and_agree(saved):
    inputs, outputs = sizes(saved.script)
    for name in MODELS.get(saved.script, ["generator"]):
        traced = torch.jit.load(saved.out / f"{name}.pt", map_location="cpu")
        exported = torch.export.load(saved.out / f"{name}.pt2").module()
        for rows in (torch.randn(1, inputs), torch.randn(9, inputs)):
            assert traced(rows).shape == (len(rows), outputs)
            assert torch.allclose(traced(rows), exported(rows), atol=1e-3)


def test_the_pictures_show_something(saved):
    assert not any(is_blank(path) for path in saved.out.glob("*.png"))
    for path in saved.out.glob("*.gif"):
        with Image.open(path) as film:
            assert film.n_frames == 2  # one for each epoch


@pytest.mark.parametrize("saved", GANS, indirect=True, ids=name_of)
def test_generates_and_interpolates(saved, capsys):
    script, use = saved.script, [*saved.use, "--seed", "5"]
    assert script.main([*use, "--generate", "12"]) == 0
    if script in IMAGE_GANS:
        for folder in MODELS.get(script, ["generated"]):
            assert len(list((saved.out / folder).glob("*.png"))) == 12
    else:
        lines = capsys.readouterr().out.splitlines()
        columns = {multiples_of_five_gan: 1, table_gan: 4}.get(script, 2)
        assert [len(row) for row in csv.reader(lines)] == 13 * [columns]
        assert script.main([*use, "--generate", "5"]) == 0
        assert capsys.readouterr().out.splitlines() == lines[:6]
    assert script.main([*use, "--interpolate", "6"]) == 0
    assert not is_blank(saved.out / "interpolation.png")


@each_script
def test_without_a_saved_network_the_user_is_told_to_train(script, data_dir, tmp_path, capsys):
    task = ["--generate", "5"] if script in GANS else ["--predict", __file__]
    assert script.main([*arguments(script, data_dir, tmp_path), *task]) == 1
    message = capsys.readouterr().err
    assert "train first" in message
    assert message.count("\n") == 1


WRONG = {  # option: hint in the message
    "--nonsense": "--nonsense", "stray": "stray", "--epoch 3": "--epoch", "--epochs 0": "at least",
    "--patience 1.5": "at least 1", "--batch-size 0": "at least 1", "--lr -1": "positive",
    "--lr nan": "positive", "--seed -1": "integer", "--device quantum": "choose from auto, cpu",
    "--generate 0": "--generate", "--interpolate 0": "--interpolate", "--batch-size 9999": "larger",
}  # fmt: skip


@each_script
@pytest.mark.parametrize(("options", "hint"), WRONG.items(), ids=WRONG.keys())
def test_a_wrong_option_is_one_line_and_status_2(script, options, hint, data_dir, tmp_path, capsys):
    try:
        status = script.main([*arguments(script, data_dir, tmp_path), *options.split()])
    except SystemExit as error:
        status = error.code
    message = capsys.readouterr().err
    assert status == 2
    assert message.startswith(f"{script.__name__}.py: ")
    assert hint in message
    assert message.count("\n") == 1


@each_script
def test_help_names_every_option(script, capsys):
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    options = "seed device epochs patience batch-size lr out show quiet"
    options += " generate interpolate animate" if script in GANS else " predict"
    words = capsys.readouterr().out
    assert all(f"--{option}" in words for option in options.split())
