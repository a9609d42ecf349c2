"""Interrupted, killed, a full disk, damaged files: one clear line, and no earlier file is lost."""

import io
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from helpers import DEVICES, POINT_GANS, capped, signal_after
from torch import nn

import common
import conditional_gan
import dcgan
import digits_gan
import fashion_classifier
import multiples_of_five_gan
import sine_gan
import table_gan

QUICK = ["--epochs", "1"]
ENDLESS = ["--epochs", "100000", "--patience", "100000"]
FILES = {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}


def contents(folder):
    """The visible files of a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for script in (sine_gan, digits_gan, table_gan):
        capped(monkeypatch, script, 5)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The results of a short training; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("earlier")
    with pytest.MonkeyPatch.context() as patch:
        capped(patch, sine_gan, 5)
        assert sine_gan.main([*QUICK, "--quiet", "--device", "cpu", "--out", str(folder)]) == 0
    return folder


def test_a_terminated_command_saves(run, tmp_path, monkeypatch):
    signal_after(monkeypatch, 3, signal.SIGTERM)
    assert "3 epochs, interrupted, kept epoch" in run(sine_gan, *ENDLESS, status=143).out
    assert set(contents(tmp_path)) == FILES


@pytest.mark.parametrize("script", [digits_gan, dcgan, conditional_gan])
def test_a_resumed_training_ends_like_an_uninterrupted_one(script, run, tmp_path, monkeypatch):
    capped(monkeypatch, script)
    monkeypatch.setattr(common, "save_picture", lambda *_: None)  # it takes long
    use = ["--epochs", 3, "--seed", 5, "--out", tmp_path / "parts"]
    run(script, *use, "--out", tmp_path / "whole")
    signal_after(monkeypatch, 2)
    assert "--resume" in run(script, *use, status=130).err
    assert "omit --resume" in run(script, *use, "--resume", "--seed", 6, status=2).err
    run(script, *use, "--resume")
    whole, parts = (contents(tmp_path / name) for name in ("whole", "parts"))
    assert all(parts[name] == whole[name] for name in ("history.csv", "metrics.json"))
    noise = torch.randn(8, script.LATENT_DIM + 10 * (script is conditional_gan))
    resumed, due = (torch.jit.load(io.BytesIO(each["generator.pt"])) for each in (parts, whole))
    assert resumed(noise).equal(due(noise))
    assert "omit --resume" in run(script, *use, "--resume", status=1).err  # it has ended


def test_a_second_interrupt_ends_at_once(run, earlier, monkeypatch):
    before = contents(earlier)
    signal_after(monkeypatch, 3)
    monkeypatch.setattr(common, "save", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    first, second = run(sine_gan, *ENDLESS, "--out", earlier, status=130).err.splitlines()
    assert "Interrupted after epoch 3" in first
    assert "results were not saved" in second
    assert contents(earlier) == before


@pytest.mark.parametrize("device", DEVICES)
def test_in_code_an_interrupted_training_returns_the_best_so_far(device, monkeypatch):
    signal_after(monkeypatch, 3)
    data, use = sine_gan.real_samples(500).to(device), {"device": device, "progress": False}
    training = sine_gan.train(data, patience=60, **use)
    assert (training.interrupted, len(training.history)) == (True, 3)
    assert training.samples.device.type == "cpu"
    assert training.generator(torch.randn(4, 2)).shape == (4, 2)
    assert not sine_gan.train(data, epochs=4, **use).interrupted  # another one
    monkeypatch.setattr(common, "update_ema", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="nothing was saved"):
        sine_gan.train(data, **use)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the children only write files
def test_two_runs_killed_at_any_moment_leave_whole_files(tmp_path):
    def save(digit, times=10**9):
        for _ in range(times):
            with common.output_folder(tmp_path, io.StringIO()) as folder:
                for name in "abc":
                    (folder / name).write_bytes(digit * 10_000)

    save(b"0", times=1)
    fork = multiprocessing.get_context("fork")
    for repeat in range(10):
        children = [fork.Process(target=save, args=[digit]) for digit in (b"1", b"2")]
        for child in children:
            child.start()
        time.sleep(0.002 * repeat)
        for child in children:
            child.kill()
            child.join()
        whole = [digit * 10_000 for digit in (b"0", b"1", b"2")]
        assert all((tmp_path / name).read_bytes() in whole for name in "abc")
    save(b"3", times=1)  # the next run
    assert (tmp_path / "a").read_bytes() == b"3" * 10_000


def test_a_folder_that_cannot_be_made(run, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        assert "choose another --out" in run(sine_gan, *QUICK, "--out", out, status=1).err


def test_a_full_disk(run, earlier):
    resource = pytest.importorskip("resource")  # a limit on the size of files fails half-way
    before, limits = contents(earlier), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        use = [*QUICK, "--seed", 1, "--out", earlier]
        assert "cannot save" in run(sine_gan, *use, status=1).err
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(earlier) == before


def test_standard_output_may_be_closed_and_have_any_encoding(run, tmp_path, monkeypatch):
    (tmp_path / "data.csv").write_text("größe,城市\n" + "1.5,東京\n2.5,Köln\n" * 40, "utf-8")
    use = [*QUICK, "--out", tmp_path / "größe"]
    monkeypatch.setattr(sys, "stdout", None)  # like `>&-` in a shell
    run(table_gan, *use, "--data", tmp_path / "data.csv")
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    run(table_gan, *use, "--generate", 50)
    header, *rows = printed.getvalue().decode("utf-8").splitlines()
    assert header == "größe,城市"
    assert {row.split(",")[1] for row in rows} == {"東京", "Köln"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_reader_may_stop_reading_and_a_full_output_is_one_line(run, earlier, monkeypatch):
    reader, writer = os.pipe()
    os.close(reader)
    use = [sine_gan, "--generate", 20000, "--out", earlier]
    with os.fdopen(writer, "w") as pipe, Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert run(*use).err == ""
        monkeypatch.setattr(sys, "stdout", full)
        message = run(*use, status=1).err
    assert message == "sine_gan.py: cannot print: No space left on device\n"


def test_a_picture_that_cannot_be_drawn(run, tmp_path, monkeypatch):
    monkeypatch.setattr(common, "plot_points", Mock(side_effect=ValueError("too many bins")))
    assert run(sine_gan, *QUICK).err == "samples.png could not be drawn: too many bins\n"
    assert set(contents(tmp_path)) == FILES - {"samples.png"}


class Code:
    def __reduce__(self):  # what is called when it is unpickled
        return (Path("trace").touch, ())


@pytest.mark.filterwarnings("ignore:'torch.load' received:UserWarning")
@pytest.mark.parametrize("kind", ["truncated", "empty", "code", "flipped bit"])
def test_a_damaged_file_is_refused_and_runs_no_code(kind, run, earlier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    content = bytearray((earlier / "generator.pt").read_bytes())
    content[content.index(b"data/0") + 1000] ^= kind == "flipped bit"  # in its weights
    length = {"truncated": len(content) // 2, "empty": 0}.get(kind)
    for path in (tmp_path / "generator.pt", tmp_path / "checkpoint.pth"):
        path.write_bytes(content[:length])
        if kind == "code":
            torch.save(Code(), path)
    assert "train again" in run(sine_gan, "--generate", 5, status=1).err
    assert "omit --resume" in run(digits_gan, "--resume", status=1).err
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(("inputs", "outputs"), [(3, 2), (2, 3)])
def test_a_network_of_another_script_is_refused(inputs, outputs, run, tmp_path):
    network = torch.jit.trace(nn.Linear(inputs, outputs), torch.zeros(1, inputs))
    torch.jit.save(network, tmp_path / "generator.pt")
    assert "not saved by this script" in run(sine_gan, "--generate", 5, status=1).err


@pytest.mark.parametrize(
    "script", [*POINT_GANS, multiples_of_five_gan, digits_gan, fashion_classifier]
)
def test_an_absurd_learning_rate(script, run, tmp_path, monkeypatch):
    capped(monkeypatch, script, 5)
    assert "lower --lr" in run(script, "--lr", 1e30, status=1).err
    assert not contents(tmp_path)
