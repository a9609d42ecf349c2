"""dcgan.py, used from code, as a script, and on two processes."""

import functools
import json
import os
import re
import socket
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
    monkeypatch.setattr(script, "EMA_DECAY", 0.95)


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


@pytest.fixture
def torchrun(data_dir, tmp_path, monkeypatch):
    """Runs the script as torchrun would the second process of two, where there are some GPUs.

    It gives the exit status, and what was asked for: a GPU, a backend, a device to train on.
    """

    def run(device, local_rank, gpus):
        asked = []
        for name, number in {"RANK": 1, "LOCAL_RANK": local_rank, "WORLD_SIZE": 2}.items():
            monkeypatch.setenv(name, str(number))
        monkeypatch.setattr("torch.accelerator.is_available", lambda: gpus > 0)
        monkeypatch.setattr("torch.accelerator.device_count", lambda: gpus)
        monkeypatch.setattr("torch.accelerator.current_accelerator", lambda: torch.device("cuda"))
        monkeypatch.setattr("torch.cuda.is_available", lambda: gpus > 0)
        monkeypatch.setattr("torch.cuda.device_count", lambda: gpus)
        monkeypatch.setattr("torch.cuda.set_device", lambda gpu: asked.append(gpu.index))
        monkeypatch.setattr("torch.distributed.init_process_group", asked.append)
        monkeypatch.setattr("atexit.register", lambda _: None)
        wrap = functools.wraps(script.train)  # as the defaults of options are those of `train`
        monkeypatch.setattr(script, "train", wrap(lambda _, **given: asked.append(given["device"])))
        use = ["--data-dir", str(data_dir), "--device", device, "--out", str(tmp_path)]
        return script.main(use), asked

    return run


@pytest.mark.parametrize(
    ("device", "local_rank", "gpus", "due"),
    [
        ("cpu", 1, 1, ["gloo", torch.device("cpu")]),
        ("auto", 1, 0, ["gloo", torch.device("cpu")]),
        ("auto", 1, 2, [1, "nccl", torch.device("cuda:1")]),
        ("cuda", 0, 1, [0, "nccl", torch.device("cuda:0")]),
        ("cuda:1", 0, 2, [1, "nccl", torch.device("cuda:1")]),
        ("cuda:1", 1, 3, [2, "nccl", torch.device("cuda:2")]),
    ],
)
def test_each_process_has_its_device(torchrun, device, local_rank, gpus, due):
    assert torchrun(device, local_rank, gpus) == (0, due)


@pytest.mark.parametrize(("device", "gpus"), [("auto", 1), ("cuda", 1), ("cuda:1", 2)])
def test_more_processes_than_gpus_are_refused(torchrun, device, gpus, capsys):
    assert torchrun(device, 1, gpus) == (2, [])
    said = capsys.readouterr().err
    assert said.count("\n") == 1
    assert "is not available; choose from auto, cpu, cuda:0" in said


def test_of_two_machines_the_first_has_the_process_that_saves(tmp_path):
    """By README's commands, of which that for the second is started first."""
    (tmp_path / "rank.py").write_text("import os; print(os.environ['RANK'])")
    with socket.socket() as free:
        free.bind(("localhost", 0))
        port = str(free.getsockname()[1])
    readme = (ROOT / "README.md").read_text()
    commands = re.findall(r"torchrun (--nnodes .*) dcgan.py", readme.replace("HOST", "localhost"))
    second, first = machines = [
        subprocess.Popen(
            [sys.executable, "-m", "torch.distributed.run", "--master-port", port,
             *command.split(), str(tmp_path / "rank.py")],
            stdout=subprocess.PIPE, text=True,
        )
        for command in reversed(commands)
    ]  # fmt: skip
    try:
        assert first.communicate(timeout=120) == ("0\n", None)
        assert second.communicate(timeout=120) == ("1\n", None)
    finally:
        for machine in machines:
            machine.kill()


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
    assert "Grad strides" not in done.stderr
    assert done.stdout.count("Trained on 60 samples for 2 epochs") == 1
    assert {file.name for file in (tmp_path / "out").iterdir()} >= FILES
    assert json.loads((tmp_path / "out" / "metrics.json").read_text())["epochs"] == 2
