"""dcgan.py, used from code, as a script, and on two processes."""

import json
import os
import subprocess
import sys

import pytest
import torch
from conftest import DEVICES, ROOT, capped, image_arguments, write_images

import dcgan as script
import images

pytest.importorskip("torchvision")
FILES = {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    return write_images(tmp_path_factory.mktemp("images"), "MNIST")


@pytest.fixture
def few_channels(monkeypatch):
    """Networks that learn as these do, and sooner."""
    capped(monkeypatch, script, 10)
    monkeypatch.setattr(script, "WIDTH", 8)
    monkeypatch.setattr(script, "AVERAGING", 0.05)


@pytest.mark.usefixtures("few_channels")
@pytest.mark.parametrize("device", DEVICES)
def test_a_short_training_brings_the_images_near(data_dir, device):
    data, _ = images.load_images("mnist", data_dir)
    training = script.train(data, device=device, epochs=14, progress=False)
    assert training.history[-1].distance < 0.7 * training.history[0].distance
    generated = training.generator(torch.randn(1, script.LATENT_DIM))
    assert generated.shape == (1, 784)
    assert 0 <= generated.min() <= generated.max() <= 1


@pytest.mark.usefixtures("few_channels")
def test_same_seed_same_training_other_seed_another(data_dir):
    data, _ = images.load_images("mnist", data_dir)
    histories = [script.train(data, seed=s, epochs=2, progress=False).history for s in (1, 1, 2)]
    assert histories[0] == histories[1] != histories[2]


@pytest.mark.usefixtures("few_channels")
def test_command_line(data_dir, tmp_path):
    use = image_arguments(data_dir, tmp_path)
    assert script.main([*use, "--epochs", "1", "--animate"]) == 0
    assert {file.name for file in tmp_path.iterdir()} >= FILES | {"training.gif"}
    latents = torch.randn(5, script.LATENT_DIM)
    written = torch.jit.load(tmp_path / "generator.pt", map_location="cpu")(latents)
    assert written.shape == (5, 784)
    program = torch.export.load(tmp_path / "generator.pt2").module()
    assert torch.allclose(program(latents), written, atol=1e-4)
    assert script.main([*use, "--generate", "12"]) == 0
    assert len(list((tmp_path / "generated").iterdir())) == 12
    assert script.main([*use, "--interpolate", "6"]) == 0
    assert (tmp_path / "interpolation.png").exists()


TWO = """
import dcgan, torch
dcgan.BATCHES_PER_EPOCH, dcgan.WIDTH = 4, 8
networks = []
build = dcgan.build_generator
dcgan.build_generator = lambda: networks.append(build()) or networks[-1]
status = dcgan.main()
first = next(networks[0].parameters()).detach()
others = [torch.empty_like(first) for _ in range(2)]
torch.distributed.all_gather(others, first)
assert torch.equal(*others), "the processes have learned different weights"
assert not status
"""


def test_two_processes_learn_the_same_and_one_saves(data_dir, tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    start = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    use = [*image_arguments(data_dir, tmp_path / "out"), "--epochs", "2"]
    done = subprocess.run(
        [*start, str(tmp_path / "two.py"), *use],
        capture_output=True, text=True, timeout=180, check=False,
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("Learned from 60 samples, ended after epoch 2") == 1
    assert {file.name for file in (tmp_path / "out").iterdir()} >= FILES
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["epochs"] == 2
