"""Interrupted, killed, a full disk, damaged files: one clear line, and no earlier file is lost."""

import io
import multiprocessing
import os
import signal
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import POINT_GANS, arguments, capped, signal_after

import common
import conditional_gan
import dcgan
import digits_gan
import fashion_classifier
import multiples_of_five_gan
import sine_gan
import table_gan

QUICK = ["--epochs", "1", "--quiet", "--device", "cpu", "--out"]
ENDLESS = ["--epochs", "100000", "--patience", "100000", *QUICK[2:]]
FILES = {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}
REPEATS = int(os.environ.get("REPEATS", "10"))  # kills at random moments


def contents(folder):
    """The visible files of a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


def complaint(capsys, script, *options, status=1):
    """What a command writes on standard error, a single line."""
    capsys.readouterr()
    assert script.main([*map(str, options)]) == status
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    return message


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for script in (sine_gan, digits_gan, table_gan):
        capped(monkeypatch, script, 5)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The results of a short training; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("earlier")
    assert sine_gan.main([*QUICK, str(folder)]) == 0
    return folder


def test_a_terminated_command_saves(tmp_path, monkeypatch, capsys):
    signal_after(monkeypatch, 3, signal.SIGTERM)
    assert sine_gan.main([*ENDLESS, str(tmp_path)]) == 143
    assert "3 epochs, interrupted, kept epoch" in capsys.readouterr().out
    assert set(contents(tmp_path)) == FILES


@pytest.mark.parametrize("script", [digits_gan, dcgan, conditional_gan])
def test_a_resumed_training_ends_as_if_it_had_not_been_interrupted(
    script, data_dir, tmp_path, monkeypatch, capsys
):
    capped(monkeypatch, script)
    monkeypatch.setattr("torch.export.export", lambda *_, **__: None)  # it takes seconds
    monkeypatch.setattr("torch.export.save", lambda *_: None)
    whole, parts = (arguments(script, data_dir, tmp_path / name) for name in ("whole", "parts"))
    use = ["--epochs", "3", "--seed", "5"]
    assert script.main([*whole, *use]) == 0
    signal_after(monkeypatch, 2)
    assert script.main([*parts, *use]) == 130
    assert "--resume" in capsys.readouterr().err
    resume = [*parts, *use, "--resume"]
    assert "omit --resume" in complaint(capsys, script, *resume, "--seed", "6", status=2)
    assert script.main(resume) == 0
    for name in ("history.csv", "samples.png", "metrics.json"):
        assert (tmp_path / "parts" / name).read_bytes() == (tmp_path / "whole" / name).read_bytes()
    noise = torch.randn(8, script.LATENT_DIM + 10 * (script is conditional_gan))
    resumed, due = (torch.jit.load(tmp_path / name / "generator.pt") for name in ("parts", "whole"))
    assert resumed(noise).equal(due(noise))
    assert "omit --resume" in complaint(capsys, script, *resume)  # it has ended


def test_a_second_interrupt_ends_at_once(earlier, monkeypatch, capsys):
    before = contents(earlier)
    signal_after(monkeypatch, 3)
    monkeypatch.setattr(common, "save", lambda *_, **__: signal.raise_signal(signal.SIGINT))
    assert sine_gan.main([*ENDLESS, str(earlier)]) == 130
    first, second = capsys.readouterr().err.splitlines()
    assert "Interrupted after epoch 3" in first
    assert "results were not saved" in second
    assert contents(earlier) == before


def test_in_code_an_interrupted_training_returns_the_best_so_far(monkeypatch):
    signal_after(monkeypatch, 3)
    training = sine_gan.train(sine_gan.real_samples(500), patience=60, progress=False)
    assert training.interrupted
    assert len(training.history) == 3
    assert training.generator(torch.randn(4, 2)).shape == (4, 2)
    monkeypatch.setattr(common, "update_ema", lambda *_: signal.raise_signal(signal.SIGINT))
    with pytest.raises(KeyboardInterrupt, match="nothing was saved"):
        sine_gan.train(sine_gan.real_samples(500), progress=False)


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
    for repeat in range(REPEATS):
        children = [fork.Process(target=save, args=[digit]) for digit in (b"1", b"2")]
        for child in children:
            child.start()
        time.sleep(0.02 * repeat / REPEATS)
        for child in children:
            child.kill()
            child.join()
        whole = [digit * 10_000 for digit in (b"0", b"1", b"2")]
        assert all((tmp_path / name).read_bytes() in whole for name in "abc")
    save(b"3", times=1)  # the next run
    assert (tmp_path / "a").read_bytes() == b"3" * 10_000


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    for out in ("file", "file/below"):
        assert "choose another --out" in complaint(capsys, sine_gan, *QUICK, tmp_path / out)


def test_a_full_disk(earlier, capsys):
    resource = pytest.importorskip("resource")  # a limit on the size of files fails half-way
    before, limits = contents(earlier), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert "cannot save" in complaint(capsys, sine_gan, *QUICK, earlier, "--seed", "1")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(earlier) == before


def test_standard_output_may_be_closed_and_have_any_encoding(tmp_path, monkeypatch):
    (tmp_path / "data.csv").write_text("größe,城市\n" + "1.5,東京\n2.5,Köln\n" * 40, "utf-8")
    use = [*QUICK, str(tmp_path / "größe")]
    monkeypatch.setattr(sys, "stdout", None)  # like `>&-` in a shell
    assert table_gan.main([*use, "--data", str(tmp_path / "data.csv")]) == 0
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    assert table_gan.main([*use, "--generate", "50"]) == 0
    header, *rows = printed.getvalue().decode("utf-8").splitlines()
    assert header == "größe,城市"
    assert {row.split(",")[1] for row in rows} == {"東京", "Köln"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_reader_may_stop_reading_and_a_full_output_is_one_line(earlier, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    use = ["--generate", "20000", "--out", str(earlier)]
    with os.fdopen(writer, "w") as pipe, Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert sine_gan.main(use) == 0
        assert capsys.readouterr().err == ""
        monkeypatch.setattr(sys, "stdout", full)
        message = complaint(capsys, sine_gan, *use)
    assert message == "sine_gan.py: cannot print: No space left on device\n"


def test_a_picture_that_cannot_be_drawn(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ValueError("too many bins")

    monkeypatch.setattr(common, "plot_history", fail)
    message = complaint(capsys, sine_gan, *QUICK, tmp_path, status=0)
    assert message == "samples.png could not be drawn: too many bins\n"
    assert set(contents(tmp_path)) == FILES - {"samples.png"}


class Code:
    def __reduce__(self):  # what is called when it is unpickled
        return (Path("trace").touch, ())


@pytest.mark.filterwarnings("ignore:'torch.load' received:UserWarning")
@pytest.mark.parametrize("kind", ["truncated", "empty", "code", "flipped bit"])
def test_a_damaged_file_is_refused_and_runs_no_code(
    kind, earlier, data_dir, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    content = bytearray((earlier / "generator.pt").read_bytes())
    content[content.index(b"data/0") + 1000] ^= kind == "flipped bit"  # in its weights
    length = {"truncated": len(content) // 2, "empty": 0}.get(kind)
    for path in (tmp_path / "generator.pt", tmp_path / "checkpoint.pth"):
        path.write_bytes(content[:length])
        if kind == "code":
            torch.save(Code(), path)
    assert "train again" in complaint(capsys, sine_gan, "--generate", 5, "--out", tmp_path)
    resume = [*arguments(digits_gan, data_dir, tmp_path), "--resume"]
    assert "omit --resume" in complaint(capsys, digits_gan, *resume)
    assert not (tmp_path / "trace").exists()


def test_a_network_of_another_script_is_refused(earlier, capsys):
    message = complaint(capsys, multiples_of_five_gan, "--generate", 5, "--out", earlier)
    assert "was not saved by this script" in message


@pytest.mark.parametrize(
    "script", [*POINT_GANS, multiples_of_five_gan, digits_gan, fashion_classifier]
)
def test_an_absurd_learning_rate(script, data_dir, tmp_path, monkeypatch, capsys):
    capped(monkeypatch, script, 5)
    use = [*arguments(script, data_dir, tmp_path), "--lr", "1e30"]
    assert "lower --lr" in complaint(capsys, script, *use)
    assert not contents(tmp_path)
