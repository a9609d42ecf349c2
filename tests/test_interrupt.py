"""Ctrl-C and SIGTERM: the best so far is kept and saved."""

import os
import shutil
import signal
import sys

import pytest
import torch
from helpers import (
    DEVICES,
    ROOT,
    can_send_ctrl_c,
    contents,
    shorten,
    signal_after,
    wait_for_an_epoch,
)

import cli
import common
import sine_gan

LONG = ["--epochs", "1000", "--patience", "1000"]
FILES = {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}


@pytest.fixture(autouse=True)
def short_epochs(monkeypatch):
    shorten(monkeypatch, sine_gan, 5)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_an_interrupted_command_saves(number, run, tmp_path, monkeypatch):
    signal_after(monkeypatch, 3, number)
    printed = run(sine_gan, *LONG, status=130)
    assert "for 3 epochs, interrupted" in printed.out
    assert "Interrupted after epoch 3" in printed.err
    assert set(contents(tmp_path)) == FILES


def test_a_second_interrupt_ends_at_once(run, tmp_path, monkeypatch):
    signal_after(monkeypatch, 3)
    monkeypatch.setattr(cli, "model_files", lambda *_: signal.raise_signal(signal.SIGINT))
    first, second = run(sine_gan, *LONG, status=130).err.splitlines()
    assert "Interrupted after epoch 3" in first
    assert "interrupted before all was saved" in second
    assert not contents(tmp_path)


@pytest.mark.parametrize("device", DEVICES)
def test_in_code_an_interrupted_training_returns_the_best_so_far(device, monkeypatch):
    signal_after(monkeypatch, 3)
    data = sine_gan.real_samples(500).to(device)
    settings = {"device": device, "progress": False}
    training = sine_gan.train(data, epochs=60, patience=60, **settings)
    assert (training.interrupted, len(training.history)) == (True, 3)
    assert training.samples.device.type == "cpu"
    assert training.generator(torch.randn(4, 2)).shape == (4, 2)
    assert not sine_gan.train(data, epochs=4, **settings).interrupted  # another one


def test_before_the_first_epoch_ends_there_is_nothing_to_keep(monkeypatch):
    monkeypatch.setattr(common, "update_ema", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="nothing was saved"):
        sine_gan.train(sine_gan.real_samples(500), epochs=4, progress=False)


@can_send_ctrl_c
def test_a_copy_runs_and_ctrl_c_ends_it(start, tmp_path):
    folder = tmp_path / "Zwölf Boxkämpfer, 十二"
    folder.mkdir()
    for name in ("common.py", "cli.py", "exp_curve_gan.py"):
        shutil.copy(ROOT / name, folder)
    unusual = {"LC_ALL": "C", "HOME": "/nowhere", "DISPLAY": "", "MPLBACKEND": "module://none"}
    environment = os.environ | unusual
    process = start([sys.executable, "exp_curve_gan.py", *LONG], cwd=folder, env=environment)
    bar = wait_for_an_epoch(process)
    process.send_signal(signal.SIGINT)
    printed, errors = process.communicate()
    assert process.returncode == 130
    assert ", interrupted" in printed
    assert "Warning" not in bar + errors
    assert "Matplotlib" not in bar + errors
    assert set(contents(folder / "outputs" / "exp_curve")) == FILES
