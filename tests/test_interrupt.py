"""Interrupted, killed, a full disk, damaged files: one clear line, and no earlier file is lost."""

import io
import os
import signal
import sys
import time
from functools import partial
from pathlib import Path

import pytest
import torch
from conftest import POINT_GANS, arguments, at_epoch, capped, name_of

import common
import digits_gan
import fashion_classifier
import multiples_of_five_gan
import sine_gan
import table_gan
import wgan

QUICK = ["--epochs", "1", "--quiet", "--device", "cpu", "--out"]
ENDLESS = ["--epochs", "100000", "--patience", "100000", *QUICK[2:]]
FILES = {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}
REPEATS = int(os.environ.get("REPEATS", "20"))  # kills at random moments
interrupt = partial(signal.raise_signal, signal.SIGINT)


def contents(folder):
    """The visible files of a folder."""
    return {path.name: path.read_bytes() for path in folder.glob("[!.]*")}


def one_line(capsys):
    """The only line on standard error."""
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    return message


@pytest.fixture(autouse=True)
def short(monkeypatch):
    for script in (sine_gan, wgan, digits_gan, multiples_of_five_gan, table_gan):
        capped(monkeypatch, script, 5)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The results of a short training; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("earlier")
    assert sine_gan.main([*QUICK, str(folder)]) == 0
    return folder


# --- Interrupted or killed ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "number", "status"),
    [(sine_gan, signal.SIGINT, 130), (wgan, signal.SIGTERM, 143)],
    ids=name_of,
)
def test_an_interrupted_command_saves(script, number, status, tmp_path, monkeypatch, capsys):
    at_epoch(monkeypatch, 3, partial(signal.raise_signal, number))
    assert script.main([*ENDLESS, str(tmp_path)]) == status
    assert "3 epochs, interrupted, kept epoch" in capsys.readouterr().out
    assert set(contents(tmp_path)) >= FILES


def test_a_second_interrupt_ends_at_once(earlier, monkeypatch, capsys):
    before = contents(earlier)
    at_epoch(monkeypatch, 3, interrupt)
    monkeypatch.setattr(common, "save", lambda *_, **__: interrupt())
    assert sine_gan.main([*ENDLESS, str(earlier)]) == 130
    first, second = capsys.readouterr().err.splitlines()
    assert "Interrupted after epoch 3" in first
    assert "results were not saved" in second
    assert contents(earlier) == before


def test_in_code_an_interrupted_training_returns_the_best_so_far(monkeypatch):
    at_epoch(monkeypatch, 3, interrupt)
    training = sine_gan.train(sine_gan.real_samples(500), patience=60, progress=False)
    assert training.interrupted
    assert len(training.history) == 3
    assert training.generator(torch.randn(4, 2)).shape == (4, 2)
    monkeypatch.setattr(common, "update_ema", lambda *_: interrupt())
    with pytest.raises(KeyboardInterrupt, match="nothing was saved"):
        sine_gan.train(sine_gan.real_samples(500), progress=False)


def fork(function, *arguments):
    """The id of a process that calls the function again and again until it is killed."""
    child = os.fork()
    if child == 0:
        try:
            while True:
                function(*arguments)
        finally:
            os._exit(1)
    return child


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the children only write files
def test_two_runs_killed_at_any_moment_leave_whole_files(tmp_path):
    def save(digit):
        with common.output_folder(tmp_path, io.StringIO()) as folder:
            for name in "abc":
                (folder / name).write_bytes(digit * 10_000)

    save(b"0")
    for repeat in range(REPEATS):
        children = [fork(save, digit) for digit in (b"1", b"2")]
        time.sleep(0.001 * repeat)
        for child in children:
            os.kill(child, signal.SIGKILL)
            os.waitpid(child, 0)
        for name in "abc":
            assert (tmp_path / name).read_bytes() in [
                digit * 10_000 for digit in (b"0", b"1", b"2")
            ]
    save(b"3")  # the next run
    assert (tmp_path / "a").read_bytes() == b"3" * 10_000


# --- Nothing can be written, printed or drawn --------------------------------------------------


def test_a_folder_that_cannot_be_made(tmp_path, capsys):
    (tmp_path / "file").touch()
    for out in ("file", "file/below"):
        assert sine_gan.main([*QUICK, str(tmp_path / out)]) == 1
        assert "choose another --out" in one_line(capsys)


def test_a_full_disk(earlier, capsys):
    """A limit on the size of files: writing fails half-way, as on a full disk."""
    resource = pytest.importorskip("resource")
    before, limits = contents(earlier), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert sine_gan.main([*QUICK, str(earlier), "--seed", "1"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot save" in one_line(capsys)
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


def test_a_reader_that_stops_reading_is_no_error(earlier, monkeypatch, capsys):
    reader, writer = os.pipe()
    os.close(reader)
    with os.fdopen(writer, "w") as pipe:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert sine_gan.main(["--generate", "20000", "--out", str(earlier)]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
def test_a_full_standard_output_is_one_line(earlier, monkeypatch, capsys):
    with Path("/dev/full").open("w") as full:
        monkeypatch.setattr(sys, "stdout", full)
        assert sine_gan.main(["--generate", "5", "--out", str(earlier)]) == 1
    assert one_line(capsys) == "sine_gan.py: cannot print: No space left on device\n"


def test_a_picture_that_cannot_be_drawn(tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ValueError("too many bins")

    monkeypatch.setattr(common, "plot_history", fail)
    assert sine_gan.main([*QUICK, str(tmp_path)]) == 0
    assert one_line(capsys) == "samples.png could not be drawn: too many bins\n"
    assert set(contents(tmp_path)) == FILES - {"samples.png"}


# --- Damaged files and absurd rates ------------------------------------------------------------


class Code:
    """Creates a file when it is unpickled."""

    def __init__(self, trace):
        self.trace = trace

    def __reduce__(self):
        return (self.trace.touch, ())


@pytest.mark.parametrize("kind", ["truncated", "empty", "code"])
def test_a_damaged_file_is_refused_and_runs_no_code(kind, earlier, data_dir, tmp_path, capsys):
    content = (earlier / "generator.pt").read_bytes()
    for path in (tmp_path / "generator.pt", tmp_path / "checkpoint.pth"):
        path.write_bytes(content[: len(content) // 2 if kind == "truncated" else 0])
        if kind == "code":
            torch.save(Code(tmp_path / "trace"), path)
    assert sine_gan.main(["--generate", "5", "--out", str(tmp_path)]) == 1
    assert "train again" in one_line(capsys)
    assert digits_gan.main([*arguments(digits_gan, data_dir, tmp_path), "--resume"]) == 1
    assert "omit --resume" in one_line(capsys)
    assert not (tmp_path / "trace").exists()


ABSURD = [*POINT_GANS, multiples_of_five_gan, digits_gan, fashion_classifier]


@pytest.mark.parametrize("script", ABSURD, ids=name_of)
def test_an_absurd_learning_rate(script, data_dir, tmp_path, monkeypatch, capsys):
    capped(monkeypatch, script, 20)
    assert script.main([*arguments(script, data_dir, tmp_path), "--lr", "1e30"]) == 1
    assert "lower --lr" in one_line(capsys)
    assert not contents(tmp_path)
