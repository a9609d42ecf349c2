"""exp_curve_gan.py, copied with common.py alone into an empty folder, and run as a user does."""

import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from conftest import ROOT, run_python

import exp_curve_gan


def test_real_samples_lie_on_the_curve():
    x, y = exp_curve_gan.real_samples(1000).T
    assert 0 <= x.min() < 1
    assert 49 < x.max() <= 50
    assert torch.allclose(y, 1.08**x)


@pytest.fixture(scope="module")
def stopped(tmp_path_factory):
    """A folder with the script and common.py, where Ctrl-C stopped a training; what it printed."""
    folder = tmp_path_factory.mktemp("Zwölf Boxkämpfer, 十二")
    for name in ("exp_curve_gan.py", "common.py"):
        shutil.copy(ROOT / name, folder)
    command = [sys.executable, "exp_curve_gan.py", "--epochs", "100000", "--patience", "100000"]
    process = subprocess.Popen(
        [*command, "--device", "cpu"], cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    bar = b""
    while b"distance" not in bar:  # until the first epoch has ended
        bar += process.stderr.read(1) or pytest.fail(bar.decode())
    process.send_signal(signal.SIGINT)
    stdout, stderr = process.communicate(timeout=120)
    return folder, process.returncode, stdout.decode(), (bar + stderr).decode()


def test_a_copy_runs_alone_and_ctrl_c_keeps_what_it_learned(stopped):
    folder, status, stdout, stderr = stopped
    assert status == 130
    assert "interrupted, kept epoch" in stdout
    assert "Warning" not in stderr
    files = {path.name for path in Path(folder, "outputs", "exp_curve").iterdir()}
    assert files == {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}


def test_a_reader_that_stops_reading_is_no_error(stopped):
    command = f"{sys.executable} exp_curve_gan.py --generate 200000 | head -n 1"
    done = subprocess.run(command, shell=True, cwd=stopped[0], capture_output=True, text=True)
    assert (done.stdout, done.stderr) == ("x,y\n", "")


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_standard_output_is_one_line(stopped):
    with Path("/dev/full").open("w") as full:
        done = run_python("exp_curve_gan.py", "--generate", 5, folder=stopped[0], stdout=full)
    assert done.returncode == 1
    assert done.stderr == "exp_curve_gan.py: cannot print: No space left on device\n"
