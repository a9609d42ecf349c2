"""dcgan.py on several processes."""

import os
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
from conftest import ROOT

import common
import images

TWO = """
import os, signal, socket, sys
import common, dcgan, images, torch
images.load_images = lambda *_: (torch.rand(60, 784), torch.arange(60) % 10)
common.save = lambda *_, **__: None  # it takes seconds
dcgan.BATCHES_PER_EPOCH, dcgan.WIDTH = 4, 8
torch.optim.Adam([torch.zeros(1)]).step()  # imports much, which no process need do again
with socket.socket() as free:
    free.bind(("localhost", 0))
    port = str(free.getsockname()[1])
os.environ |= {"WORLD_SIZE": "2", "MASTER_ADDR": "localhost", "MASTER_PORT": port}
for rank in "01":
    if os.fork() == 0:  # a process with the environment that torchrun gives it
        os.environ |= {"RANK": rank, "LOCAL_RANK": rank}
        signal.alarm(100)  # none waits for one that failed
        networks, build = [], dcgan.build_generator
        dcgan.build_generator = lambda: networks.append(build()) or networks[-1]
        status = dcgan.main()
        weights = next(networks[0].parameters()).detach()
        others = [torch.empty_like(weights) for _ in "01"]
        torch.distributed.all_gather(others, weights)
        assert others[0].equal(others[1]), "the processes learned different weights"
        sys.exit(status)
sys.exit(any([os.wait()[1] for _ in "01"]))
"""


def test_two_processes_learn_the_same_and_one_saves(tmp_path):
    use = ["--epochs", "1", "--device", "cpu", "--out", tmp_path / "out"]
    done = subprocess.run(
        [sys.executable, "-c", TWO, *use], cwd=ROOT, capture_output=True, text=True, timeout=120,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Grad strides" not in done.stderr
    assert done.stdout.count("Trained on 60 samples for 1 epochs") == 1
    assert (tmp_path / "out" / "samples.png").exists()


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cpu", ["gloo", "cpu"]), ("cuda", ["nccl", "cuda:1"]), ("cuda:1", ["nccl", "cuda:2"])],
)
def test_each_process_has_its_own_gpu(device, expected, monkeypatch):
    backends: list[str] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(common, "choose_device", torch.device)
    monkeypatch.setattr("torch.distributed.init_process_group", backends.append)
    for name in ("torch.cuda.set_device", "atexit.register", "signal.signal"):
        monkeypatch.setattr(name, lambda *_: None)
    options = Namespace(device=device)
    images.join_processes(options)
    assert [*backends, options.device] == expected
