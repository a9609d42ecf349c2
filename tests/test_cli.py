"""cli.py: options, files, errors, and the use of a saved generator."""

import inspect
import io
import os
import signal
import stat
import sys
import time
from contextlib import nullcontext
from multiprocessing import get_context
from pathlib import Path

import numpy as np
import pytest
import torch
from helpers import SCRIPTS, contents, shorten
from PIL import Image
from torch import nn

import cli
import common
import cycle_gan
import fashion_classifier
import sine_gan
import table_gan
from common import Failure, InputError

EPOCH = ["--epochs", "1"]
FILES = {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}


@pytest.fixture(autouse=True)
def short_trainings(monkeypatch):
    for script in (sine_gan, table_gan):
        shorten(monkeypatch, script)


@pytest.fixture(scope="module")
def earlier(tmp_path_factory):
    """The results of a short training; tests leave them as they are."""
    folder = tmp_path_factory.mktemp("earlier")
    with pytest.MonkeyPatch.context() as monkeypatch:
        shorten(monkeypatch, sine_gan)
        options = [*EPOCH, "--quiet", "--device", "cpu", "--out", str(folder)]
        assert sine_gan.main(options) == 0
    return folder


# --- Errors and exit status --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (Failure("no luck"), 1),
        (InputError("a wrong rate"), 2),
        (KeyboardInterrupt(), 130),
        (MemoryError(), 1),
        (RuntimeError("can't allocate memory"), 1),
        (RuntimeError("a mistake in the code"), None),
        (ValueError("a mistake in the code"), None),
        (FileNotFoundError(2, "None", "mine.csv"), None),
        (OSError("image file is truncated"), None),
        (BrokenPipeError(32, "a connection of one's own"), None),
        (RuntimeError("could not allocate a license"), None),
    ],
)
def test_an_error_is_one_line_and_a_status_or_a_traceback(error, status, capsys):
    @cli.command
    def main(_):
        raise error

    with pytest.raises(type(error)) if status is None else nullcontext():
        assert main() == status
        message = capsys.readouterr().err
        assert message.startswith("test_cli.py: ")
        assert message.count("\n") == 1
    print("standard output still works")


def test_the_handler_of_sigterm_is_put_back(run):
    def handler(*_):
        raise AssertionError("not this one")

    before = signal.signal(signal.SIGTERM, handler)
    try:
        run(sine_gan, "--generate", 3, status=1)
        assert signal.getsignal(signal.SIGTERM) is handler
    finally:
        signal.signal(signal.SIGTERM, before)


@pytest.mark.parametrize("package", ["torchvision", "pandas", "sklearn"])
def test_a_missing_package_is_named(package, run, monkeypatch):
    script = fashion_classifier if package == "torchvision" else table_gan
    hint = "torchvision" if package == "torchvision" else "pandas scikit-learn"
    monkeypatch.setitem(sys.modules, package, None)  # cannot be imported
    assert run(script, status=1).err.endswith(f"pip install {hint}\n")


# --- Options -----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("options", "hint"),
    [
        ("--nonsense", "--nonsense"),
        ("stray", "stray"),
        ("--epoch 3", "--epoch"),
        ("--epochs 0", "at least 1"),
        ("--patience 1.5", "at least 1"),
        ("--batch-size 0", "at least 1"),
        ("--lr -1", "positive"),
        ("--lr nan", "positive"),
        ("--lr inf", "positive"),
        ("--seed -1", "at least 0"),
        ("--device quantum", "choose from auto, cpu"),
        ("--generate 0", "--generate"),
        ("--interpolate 0", "--interpolate"),
    ],
)
def test_a_wrong_option_is_one_line_and_status_2(options, hint, run):
    message = run(sine_gan, *options.split(), status=2).err
    assert message.startswith("sine_gan.py: ")
    assert hint in message


@pytest.mark.parametrize("script", SCRIPTS)
def test_help_shows_the_defaults_of_train(script, capsys):
    with pytest.raises(SystemExit, match="0"):
        script.main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    parameters = inspect.signature(script.train).parameters
    for name in ("seed", "device", "epochs", "patience", "batch-size", "lr"):
        default = parameters[name.replace("-", "_")].default
        _, _, about = text.partition(f" --{name} ")
        shown = "by default never" if default is None else default
        assert f"({shown})" in about.partition(" --")[0]


# --- Numbers in a file -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        "1,2\n-3.5,1700000000.25\n",
        "x,y\n\n1,2\n\n-3.5,1700000000.25",
        '"x";"y"\r\n"1";"2"\r\n-3.5 ; 1700000000.25;\r\n',
        "größe\tx\n1\t2\n-3.5\t1700000000.25\n",
        "1 2\n -3.5   1700000000.25 \n",
        "0,1\n1,2\n-3.5,1700000000.25\n",
        "1,0;2,0\n-3,5;1700000000,25\n",
    ],
)
@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "latin-1"])
def test_numbers_are_read_with_or_without_a_header(text, encoding, tmp_path):
    file = tmp_path / "points.csv"
    file.write_bytes(text.encode(encoding))
    assert cli.read_numbers(file, 2).tolist() == [[1, 2], [-3.5, 1700000000.25]]


@pytest.mark.parametrize(
    ("text", "depth", "complaint"),
    [
        ("x\n1\n3,4\n", None, r"line 3: expected 1 finite number\(s\), found '3,4'"),
        ("1\nthree\n", None, "line 2"),
        ("1\nnan\n", None, "line 2"),
        ("1\n1e39\n", None, "line 2"),
        ("1\n10\n", 10, r"line 2: expected an integer in 0\.\.9"),
        ("1\n2.5\n", 10, r"line 2: expected an integer in 0\.\.9"),
        ("1\ninf\n", 10, "line 2"),
        ("x\n", None, "no numbers"),
        ("1,x\n2\n", None, "line 1"),
    ],
)
def test_a_file_without_such_numbers_is_refused_with_the_line(text, depth, complaint, tmp_path):
    (tmp_path / "numbers.csv").write_text(text)
    with pytest.raises(InputError, match=complaint):
        cli.read_numbers(tmp_path / "numbers.csv", 1, depth)


def test_a_file_that_is_not_there_is_named(run, tmp_path):
    message = run(sine_gan, "--data", tmp_path / "none.csv", status=1).err
    assert f"cannot read {tmp_path / 'none.csv'}" in message


# --- Results -----------------------------------------------------------------------------------


def test_a_new_training_removes_what_would_not_fit_it(run, tmp_path):
    run(sine_gan, *EPOCH, "--animate")
    run(sine_gan, "--interpolate", 5)
    (tmp_path / "copies.png").touch()
    (tmp_path / "generated").mkdir()
    (tmp_path / "generated" / "00000.png").touch()
    (tmp_path / "mine.txt").touch()
    (tmp_path / ".history.csv.partial").touch()  # of a run that was killed
    assert set(contents(tmp_path)) > {"training.gif", "interpolation.png"}
    run(sine_gan, *EPOCH)
    assert {path.name for path in tmp_path.iterdir()} == {*FILES, "mine.txt"}
    assert not (tmp_path / "generated").exists()


@pytest.mark.parametrize("failing", ["plot", "animate"])
def test_a_picture_that_fails_costs_nothing_else_and_shows_its_own_error(
    failing, run, tmp_path, monkeypatch
):
    def fail(*_):
        raise ValueError("too many bins")

    monkeypatch.setattr(common, failing, fail)
    with pytest.raises(ValueError, match="too many bins"):
        run(sine_gan, *EPOCH, "--animate")
    missing = {"samples.png"} if failing == "plot" else set()
    assert set(contents(tmp_path)) == FILES - missing
    assert len(run(sine_gan, "--generate", 5).out.splitlines()) == 6


def test_a_folder_that_cannot_be_made(run, tmp_path):
    (tmp_path / "file").touch()
    for out in (tmp_path / "file", tmp_path / "file" / "below"):
        message = run(sine_gan, *EPOCH, "--out", out, status=1).err
        assert message.endswith("; choose another --out\n")


def test_a_full_disk(run, earlier):
    resource = pytest.importorskip("resource")  # a limit on the size of files fails half-way
    before = contents(earlier)
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert "cannot save" in run(sine_gan, *EPOCH, "--seed", 1, "--out", earlier, status=1).err
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert contents(earlier) == before
    assert not list(earlier.glob(".*"))


def write_again_and_again(file, pipe):
    """Writes files of one digit each, and says so in a pipe."""
    for i in range(10_000):
        cli.write(file, b"%d" % (i % 10) * 1_000_000)
        os.write(pipe, b".")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="processes cannot fork")
@pytest.mark.filterwarnings("ignore:.*fork:DeprecationWarning")  # the child only writes files
def test_a_run_that_is_killed_leaves_a_whole_file(tmp_path):
    file = tmp_path / "file"
    for i in range(20):
        file.unlink(missing_ok=True)
        reader, writer = os.pipe()
        child = get_context("fork").Process(target=write_again_and_again, args=[file, writer])
        child.start()
        os.close(writer)
        try:
            assert os.read(reader, 1) == b"."  # a file was written
            time.sleep(0.0003 * i)  # to somewhere in the writing of the next
        finally:
            child.kill()
            child.join()
            os.close(reader)
        content = file.read_bytes()
        assert content == content[:1] * 1_000_000
    cli.write(file, b"the next run")
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


def test_a_script_for_one_process_is_not_started_by_torchrun(run, monkeypatch):
    monkeypatch.setenv("WORLD_SIZE", "2")
    assert "torchrun" in run(sine_gan, *EPOCH, status=2).err


def test_a_training_shows_what_it_is_at(tmp_path, capsys, monkeypatch):
    monkeypatch.setattr(cli, "model_files", lambda *_: {})  # it takes seconds
    options = ["--device", "cpu", "--out", str(tmp_path), *EPOCH]
    assert sine_gan.main(options) == 0
    printed = capsys.readouterr().err
    assert printed.startswith("Training ...\n")
    assert printed.endswith("Saving ...\n")
    monkeypatch.setattr(sys, "stderr", None)  # like `2>&-` in a shell, or pythonw
    assert sine_gan.main(options) == 0


# --- Standard output ---------------------------------------------------------------------------


def test_standard_output_may_be_closed_and_have_any_encoding(run, tmp_path, monkeypatch):
    (tmp_path / "data.csv").write_text("größe,城市\n" + "1.5,東京\n2.5,Köln\n" * 40, "utf-8")
    options = [*EPOCH, "--out", tmp_path / "größe"]
    monkeypatch.setattr(sys, "stdout", None)  # like `>&-` in a shell
    run(table_gan, *options, "--data", tmp_path / "data.csv")
    printed = io.BytesIO()
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(printed, encoding="ascii"))
    run(table_gan, *options, "--generate", 50)
    header, *rows = printed.getvalue().decode("utf-8").splitlines()
    assert header == "größe,城市"
    assert {row.split(",")[1] for row in rows} == {"東京", "Köln"}


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full")
@pytest.mark.parametrize("buffering", [-1, 1])  # in blocks, or by line as with PYTHONUNBUFFERED
def test_a_reader_may_stop_reading_and_a_full_output_is_one_line(
    buffering, run, earlier, monkeypatch
):
    options = ["--generate", 20000, "--out", earlier]
    reader, writer = os.pipe()
    os.close(reader)  # as by `| head`
    with open(writer, "w", buffering) as pipe, open("/dev/full", "w", buffering) as full:
        monkeypatch.setattr(sys, "stdout", pipe)
        assert run(sine_gan, *options).err == ""
        assert stat.S_ISFIFO(os.fstat(writer).st_mode)  # it was not replaced
        monkeypatch.setattr(sys, "stdout", full)
        message = run(sine_gan, *options, status=1).err
    assert message == "sine_gan.py: cannot print: No space left on device\n"


# --- The use of a saved generator --------------------------------------------------------------


def test_generated_rows_are_printed_in_full_and_more_begin_with_the_same(run, tmp_path):
    nothing = torch.jit.trace(nn.Identity(), torch.zeros(1, 2))  # a generator that changes nothing
    torch.jit.save(nothing, tmp_path / "generator.pt")
    printed = run(sine_gan, "--generate", 9999).out.splitlines()
    assert printed[0] == "x,y"
    assert run(sine_gan, "--generate", 7).out.splitlines() == printed[:8]
    rows = torch.from_numpy(np.loadtxt(printed[1:], delimiter=",")).float()
    noise = torch.randn(4096, 2, generator=common.random_generator("samples"))
    assert rows[:4096].equal(noise)
    assert len(rows.unique(dim=0)) == 9999


def test_numbers_have_the_digits_that_networks_make():
    rows = torch.tensor([[1.7e9, 0.1], [1.7e9 + 100, 5.1]], dtype=torch.float64)
    assert cli.number_formats(rows) == ["%.17g", "%.10g"]
    assert cli.number_formats(torch.ones(2, 1, dtype=torch.int64)) == ["%d"]


class Code:
    def __reduce__(self):  # what is called when it is unpickled
        return (Path("trace").touch, ())


@pytest.mark.parametrize("fault", ["truncated", "empty", "code", "flipped bit", "missing"])
def test_a_damaged_file_is_refused_and_runs_no_code(fault, run, earlier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    file = tmp_path / "generator.pt"
    content = bytearray((earlier / "generator.pt").read_bytes())
    if fault == "truncated":
        content = content[: len(content) // 2]
    elif fault == "empty":
        content.clear()
    elif fault == "flipped bit":
        content[content.index(b"data/0") + 1000] ^= 1  # in its weights
    file.write_bytes(content)
    if fault == "code":
        torch.save(Code(), file)
    elif fault == "missing":
        file.unlink()
    message = run(sine_gan, "--generate", 5, status=1).err
    assert ("train first" if fault == "missing" else "train again") in message
    assert not (tmp_path / "trace").exists()


@pytest.mark.parametrize(
    ("script", "task"),
    [
        (sine_gan, "--generate 5"),
        (table_gan, "--generate 5"),
        (cycle_gan, "--translate picture.png"),
        (fashion_classifier, "--predict picture.png"),
    ],
)
def test_a_network_of_another_script_is_refused(script, task, run, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Image.new("L", (28, 28)).save("picture.png")
    network = torch.jit.trace(nn.Linear(3, 2), torch.zeros(1, 3))
    for name in ("generator", "to_digit", "to_outline", "classifier"):
        torch.jit.save(network, f"{name}.pt")
    assert "not saved by this script" in run(script, *task.split(), status=1).err
