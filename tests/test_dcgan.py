"""dcgan.py on several processes, started by torchrun."""

import os
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
from conftest import ROOT

import common
import images

TWO = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import common, dcgan, images, torch
images.load_images = lambda *_: (torch.rand(60, 784), torch.arange(60) % 10)
dcgan.BATCHES_PER_EPOCH, dcgan.WIDTH = 4, 8
common.save = lambda *_, **__: None  # it takes seconds
networks, build = [], dcgan.build_generator
dcgan.build_generator = lambda: networks.append(build()) or networks[-1]
status = dcgan.main()
weights = next(networks[0].parameters()).detach()
others = [torch.empty_like(weights) for _ in range(2)]
torch.distributed.all_gather(others, weights)
assert others[0].equal(others[1]), "the processes learned different weights"
sys.exit(status)
"""


def test_two_processes_learn_the_same_and_one_saves(tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    use = ["--epochs", "1", "--device", "cpu", "--out", tmp_path / "out"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, tmp_path / "two.py", *use], capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120, check=False,
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
