"""dcgan.py on several processes, started by torchrun."""

from argparse import Namespace

import pytest
import torch
from conftest import ROOT, arguments, run_python

import common
import dcgan
import images

TWO = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import common, dcgan, torch
dcgan.BATCHES_PER_EPOCH, dcgan.WIDTH = 4, 8
common.save = lambda *_, **__: None  # takes its time, and needs no second process
networks, build = [], dcgan.build_generator
dcgan.build_generator = lambda: networks.append(build()) or networks[-1]
status = dcgan.main()
weights = next(networks[0].parameters()).detach()
others = [torch.empty_like(weights) for _ in range(2)]
torch.distributed.all_gather(others, weights)
assert others[0].equal(others[1]), "the processes learned different weights"
sys.exit(status)
"""


def test_two_processes_learn_the_same_and_one_saves(data_dir, tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    use = [*arguments(dcgan, data_dir, tmp_path / "out"), "--epochs", "1"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = run_python(*torchrun, tmp_path / "two.py", *use)
    assert done.returncode == 0, done.stderr
    assert "Grad strides" not in done.stderr
    assert done.stdout.count("Trained on 160 samples for 1 epochs") == 1
    assert (tmp_path / "out" / "samples.png").exists()


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cpu", ["gloo", "cpu"]), ("cuda", ["nccl", "cuda:1"]), ("cuda:1", ["nccl", "cuda:2"])],
)
def test_each_process_has_its_own_gpu(device, expected, monkeypatch):
    backends: list[str] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(common, "choose_device", torch.device)
    monkeypatch.setattr("torch.cuda.set_device", lambda _: None)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 3)
    monkeypatch.setattr("torch.distributed.init_process_group", backends.append)
    monkeypatch.setattr("atexit.register", lambda _: None)
    monkeypatch.setattr("signal.signal", lambda *_: None)
    options = Namespace(device=device)
    images.join_processes(options)
    assert [*backends, options.device] == expected
