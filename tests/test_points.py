"""Points and integers: their data, users' files, a copy in an empty folder, Jupyter."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from helpers import DEVICES, POINT_GANS, ROOT, capped, seeded
from test_interrupt import FILES

import common
import exp_curve_gan
import multiples_of_five_gan
import sine_gan
import wgan


def test_real_samples_lie_on_a_curve_or_in_eight_clusters_or_are_multiples_of_five():
    curves = [(exp_curve_gan, 0, 50, lambda x: 1.08**x), (sine_gan, -5, 5, torch.sin)]
    for script, low, high, curve in curves:
        x, y = script.real_samples(1000).T
        assert low <= x.min() < x.max() <= high
        assert x.max() - x.min() > 0.98 * (high - low)
        assert torch.allclose(y, curve(x))
    points = wgan.real_samples(1000)
    assert torch.allclose(points.norm(dim=1), torch.tensor(wgan.RADIUS), atol=0.3)
    eighths = (torch.atan2(points[:, 1], points[:, 0]) / (torch.pi / 4)).round() % 8
    assert eighths.long().bincount().min() > 80
    integers = common.one_hot_decode(multiples_of_five_gan.real_samples(2000))
    assert set(integers.tolist()) == set(range(0, 100, 5))


POINTS = "a,b\n\n" + "1,-2.5\n3,4\n" * 50, "1,2,3\n", "line 1: expected 2 finite number"
INTEGERS = "3\n4\n" * 50, "3\n100\n", "line 2: expected an integer in 0..99"


@pytest.mark.parametrize("script", [*POINT_GANS, multiples_of_five_gan])
def test_learns_a_file(script, run, tmp_path, monkeypatch):
    capped(monkeypatch, script, 1)
    monkeypatch.setattr(common, "save", lambda *_, **__: None)  # it takes seconds
    monkeypatch.setattr(common, "save_picture", lambda *_: None)
    right, wrong, complaint = POINTS if script in POINT_GANS else INTEGERS
    file = tmp_path / "data.csv"
    file.write_text(right)
    assert "Trained on 100 samples" in run(script, "--data", file, "--epochs", 1).out
    file.write_text(wrong)
    assert complaint in run(script, "--data", file, status=2).err


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("values", "depth"), [(range(0, 100, 5), 100), ([1, 2, 7], 8)])
def test_a_few_epochs_find_the_integers(values, depth, device):
    integers = torch.tensor(list(values))
    data = common.one_hot_encode(integers.repeat(1000 // len(integers)), depth)
    training = multiples_of_five_gan.train(data, device=device, epochs=8, progress=False)
    rows = training.generator(torch.randn(5000, depth))
    assert (rows.sum(dim=1) == 1).all()
    counts = common.one_hot_decode(rows).bincount(minlength=depth)
    assert counts[integers].sum() > 0.95 * 5000
    assert counts[integers].min() > 0.6 * 5000 / len(integers)


def test_the_estimate_of_the_critic_falls_with_the_distance():
    data = wgan.real_samples(2048, seeded(0))
    history = wgan.train(data, epochs=5, progress=False).history
    assert history[-1].distance < 0.5 * history[0].distance
    assert -history[-1].discriminator_loss < 0.5 * -history[0].discriminator_loss


def test_a_copy_runs_alone_and_ctrl_c_keeps_what_it_learned(tmp_path):
    folder = tmp_path / "Zwölf Boxkämpfer, 十二"
    folder.mkdir()
    shutil.copy(ROOT / "common.py", folder)
    shutil.copy(ROOT / "exp_curve_gan.py", folder / "spiral_gan.py")
    command = ["spiral_gan.py", "--epochs", "100000", "--patience", "100000", "--device", "cpu"]
    process = subprocess.Popen(
        [sys.executable, *command], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        env=os.environ | {"LC_ALL": "C", "HOME": "/nowhere", "DISPLAY": ""},
    )  # fmt: skip
    bar = b""
    while b"distance" not in bar:  # until the first epoch has ended
        bar += process.stderr.read(1) or pytest.fail(bar.decode())
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    assert process.returncode == 130
    assert b"interrupted, kept epoch" in stdout
    assert b"Warning" not in bar + stderr
    assert {path.name for path in (folder / "outputs" / "spiral").iterdir()} == FILES


def outputs(cells):
    """The kinds of what cells show, in their order."""
    shown = [output for cell in cells for output in cell.get("outputs", [])]
    return [kind for output in shown for kind in output.get("data", {}) if "image" in kind]


def printed(cell, name):
    """What a cell printed on "stdout" or "stderr"."""
    return "".join(output.text for output in cell.outputs if output.get("name") == name)


MAIN = """
import common, sine_gan
sine_gan.train.__wrapped__.__kwdefaults__["epochs"] = 2
common.save = common.save_picture = lambda *_, **__: None  # they take seconds
sine_gan.main()  # not with the arguments of Jupyter
"""


def test_the_notebook_and_the_scripts_run_in_jupyter(tmp_path, monkeypatch):
    nbclient, nbformat = (pytest.importorskip(name) for name in ("nbclient", "nbformat"))
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "tour.ipynb", as_version=4)
    pictures = ["image/png", "image/gif", "image/png", "image/png"]
    assert outputs(notebook.cells) == pictures  # it is saved with them
    run = f"%run {ROOT / 'sine_gan.py'} --generate 3"
    main, run = map(nbformat.v4.new_code_cell, (MAIN, run))
    notebook.cells = [main, *(tour := notebook.cells), run]
    place = {"metadata": {"path": str(tmp_path)}}
    nbclient.NotebookClient(notebook, timeout=120, startup_timeout=120, resources=place).execute()
    assert outputs(tour) == pictures
    assert "Trained on 2,048 samples" in printed(main, "stdout")
    assert "cannot read outputs/sine/generator.pt" in printed(run, "stderr")
    assert not any("Warning" in printed(cell, "stderr") for cell in (main, run))
