"""exp_curve_gan.py, copied with common.py alone into an empty folder, and run as a user does."""

import os
import shutil
import signal
import subprocess
import sys

import pytest
import torch
from conftest import ROOT

import exp_curve_gan


def test_real_samples_lie_on_the_curve():
    x, y = exp_curve_gan.real_samples(1000).T
    assert 0 <= x.min() < 1
    assert 49 < x.max() <= 50
    assert torch.allclose(y, 1.08**x)


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
    files = {path.name for path in (folder / "outputs" / "spiral").iterdir()}
    assert files == {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}
