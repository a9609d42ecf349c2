"""What is interrupted, full, damaged or nonsense ends with a clear line, and nothing is lost.

Each fault is a real one. Many more moments for each: benchmarks/faults.py.
"""

import functools
import itertools
import os
import pickle
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Recorder, at_epoch, capped, image_arguments, new_training, write_images

import common
import digits_gan
import exp_curve_gan
import fashion_classifier
import multiples_of_five_gan
import sine_gan
import table_gan

QUICK = ["--epochs", "1", "--quiet", "--device", "cpu", "--out"]
FILES = {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}


def contents(folder: Path) -> dict[str, bytes]:
    """All that a user would find in a folder of results."""
    return {file.name: file.read_bytes() for file in folder.glob("[!.]*")}


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """The results of a short training."""
    folder = tmp_path_factory.mktemp("finished")
    assert sine_gan.main([*QUICK, str(folder)]) == 0
    return folder


@pytest.fixture
def earlier(finished, tmp_path):
    """A folder of its own with the same results."""
    return Path(shutil.copytree(finished, tmp_path / "earlier"))


@pytest.fixture(scope="module")
def data_dir(tmp_path_factory):
    folder = write_images(tmp_path_factory.mktemp("images"), "MNIST")
    return write_images(folder, "FashionMNIST")


def start(script: str, *arguments: object) -> subprocess.Popen:
    """A script in a process of its own."""
    command = [sys.executable, ROOT / script, *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)


def one_line(capsys: pytest.CaptureFixture) -> str:
    message = capsys.readouterr().err
    assert message.count("\n") == 1, message
    return message


def test_a_run_killed_while_it_saves_leaves_whole_files(earlier):
    process = start("sine_gan.py", *QUICK, earlier)
    while process.poll() is None and not list(earlier.glob(".partial/*")):
        time.sleep(0.0005)
    process.kill()
    process.communicate()
    assert set(contents(earlier)) >= FILES
    common.load_model(earlier / "generator.pt", 2, 2)
    with common.output_folder(earlier) as place:  # as the next run does
        assert not list(place.iterdir())


def test_digits_go_on_where_they_were_interrupted(data_dir, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torchvision")
    capped(monkeypatch, digits_gan)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ["--epochs", "8", "--seed", "5"]
    assert digits_gan.main([*image_arguments(data_dir, whole), *arguments]) == 0
    at_epoch(monkeypatch, 3, functools.partial(signal.raise_signal, signal.SIGINT))
    assert digits_gan.main([*image_arguments(data_dir, parts), *arguments]) == 130
    assert "--resume" in capsys.readouterr().out
    assert contents(parts)["history.csv"] != contents(whole)["history.csv"]
    resume = [*image_arguments(data_dir, parts), "--resume"]
    assert digits_gan.main([*resume, *arguments[:2], "--seed", "6"]) == 2
    assert "another data or seed" in one_line(capsys)
    assert digits_gan.main([*resume, *arguments]) == 0
    ours, due = contents(parts), contents(whole)
    assert ours.keys() == due.keys()
    for name in ("history.csv", "samples.png", "metrics.json"):
        assert ours[name] == due[name], name
    noise = torch.randn(8, digits_gan.LATENT_DIM)
    images, same = (torch.jit.load(folder / "generator.pt")(noise) for folder in (parts, whole))
    assert torch.equal(images, same)
    assert digits_gan.main([*resume, *arguments]) == 1
    assert "omit --resume" in one_line(capsys)


@pytest.mark.parametrize("kind", ["truncated", "empty", "random", "pickle", "torch.save"])
class TestDamagedFiles:
    @staticmethod
    def damage(path: Path, kind: str, trace: Path) -> None:
        content = path.read_bytes() if path.exists() else b""
        if kind == "torch.save":
            torch.save(Recorder(trace), path)
        else:
            path.write_bytes(
                {
                    "truncated": content[: len(content) // 2],
                    "empty": b"",
                    "random": torch.randint(256, (5000,)).byte().numpy().tobytes(),
                    "pickle": pickle.dumps(Recorder(trace)),
                }[kind]
            )

    def test_a_generator_is_refused(self, kind, earlier, tmp_path, capsys):
        trace = tmp_path / "trace"
        self.damage(earlier / "generator.pt", kind, trace)
        assert sine_gan.main(["--generate", "5", "--out", str(earlier)]) == 1
        assert "train again" in one_line(capsys)
        assert not trace.exists()

    def test_a_checkpoint_is_refused(self, kind, data_dir, tmp_path, capsys):
        pytest.importorskip("torchvision")
        trace, out = tmp_path / "trace", tmp_path / "out"
        out.mkdir()
        self.damage(out / "checkpoint.pth", kind, trace)
        assert digits_gan.main([*image_arguments(data_dir, out), "--resume"]) == 1
        assert "omit --resume" in one_line(capsys)
        assert not trace.exists()


def test_a_run_killed_between_two_files_leaves_each_whole(earlier):
    """Each file is the earlier or the later one; a folder that was on its way comes back."""
    before = contents(earlier)
    (earlier / "pictures").mkdir()
    (earlier / "pictures" / "0.png").write_bytes(b"earlier")
    code = """if True:
        import os, signal, sys
        from pathlib import Path
        import common
        replace, moves = Path.replace, []
        def count(path, target):
            if len(moves) == int(sys.argv[2]):
                os.kill(os.getpid(), signal.SIGKILL)
            moves.append(path)
            return replace(path, target)
        Path.replace = count
        with common.output_folder(Path(sys.argv[1])) as place:
            for name in ("generator.pt", "metrics.json"):
                common.write_file(place / name, b"later")
            (place / "pictures").mkdir()
            (place / "pictures" / "0.png").write_bytes(b"later")
    """
    for moves in range(4):
        command = [sys.executable, "-c", code, str(earlier), str(moves)]
        assert subprocess.run(command, cwd=ROOT, check=False).returncode == -signal.SIGKILL
        for name in ("generator.pt", "metrics.json"):
            assert (earlier / name).read_bytes() in (before[name], b"later")
        with common.output_folder(earlier):  # as the next run does
            assert (earlier / "pictures" / "0.png").read_bytes() in (b"earlier", b"later")


@pytest.mark.parametrize("script", [sine_gan, multiples_of_five_gan, table_gan])
def test_a_picture_that_cannot_be_drawn_costs_no_training(script, tmp_path, monkeypatch, capsys):
    def fail(*_):
        raise ValueError("too many bins")

    monkeypatch.setattr(common, "plot_history", fail)
    assert script.main([*QUICK, str(tmp_path)]) == 0
    assert one_line(capsys) == "samples.png could not be drawn: too many bins\n"
    assert set(contents(tmp_path)) == FILES - {"samples.png"}


def test_an_error_of_ones_own_keeps_its_traceback(tmp_path, monkeypatch, capsys):
    def real_samples(*_):
        return Path("no such file").read_bytes()

    monkeypatch.setattr(sine_gan, "real_samples", real_samples)
    with pytest.raises(FileNotFoundError):
        sine_gan.main([*QUICK, str(tmp_path)])
    monkeypatch.undo()
    monkeypatch.setattr(common, "sobol_noise", real_samples)  # in the middle of saving results
    with pytest.raises(FileNotFoundError):
        sine_gan.main([*QUICK, str(tmp_path)])
    assert capsys.readouterr().err == ""


def test_a_full_standard_output(earlier):
    if not Path("/dev/full").exists():
        pytest.skip("there is no /dev/full")
    command = [sys.executable, ROOT / "sine_gan.py", "--generate", "5", "--out", earlier]
    with open("/dev/full", "w") as full:
        done = subprocess.run(command, stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == "sine_gan.py: cannot print: No space left on device\n"


@pytest.mark.parametrize("encoding", ["ascii", "cp1252"])
def test_names_come_out_whatever_the_encoding(encoding, tmp_path):
    (tmp_path / "data.csv").write_text("größe,城市\n" + "1.5,東京\n2.5,Köln\n" * 40, "utf-8")
    environment = os.environ | {"PYTHONIOENCODING": encoding, "PYTHONUTF8": "0"}
    shared = [sys.executable, ROOT / "table_gan.py", "--out", tmp_path / "größe"]
    for more in (["--data", tmp_path / "data.csv", *QUICK[:-1]], ["--generate", "50"]):
        done = subprocess.run([*shared, *more], capture_output=True, env=environment, check=True)
        assert not done.stderr
    header, *rows = done.stdout.decode("utf-8").splitlines()
    assert header == "größe,城市"
    assert {row.split(",")[1] for row in rows} == {"東京", "Köln"}


def test_a_disk_that_is_full(earlier, capsys):
    """By a limit on the size of files: writing fails half-way, as it does on a full disk."""
    resource = pytest.importorskip("resource")
    before, limits = contents(earlier), resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, limits[1]))
    try:
        assert sine_gan.main([*QUICK, str(earlier), "--seed", "1"]) == 1
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert "cannot save" in one_line(capsys)
    assert contents(earlier) == before
    assert not (earlier / ".partial").exists()


def test_a_folder_that_vanishes(tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"

    def vanish() -> None:
        shutil.rmtree(out)
        signal.raise_signal(signal.SIGINT)

    at_epoch(monkeypatch, 3, vanish)
    assert sine_gan.main(["--epochs", "100000", "--quiet", "--out", str(out)]) == 1
    assert "cannot save" in capsys.readouterr().err.splitlines()[-1]


def test_a_closed_standard_output(tmp_path, monkeypatch):
    monkeypatch.setattr(sys, "stdout", None)  # as after `>&-` in a shell
    assert sine_gan.main([*QUICK, str(tmp_path)]) == 0
    assert set(contents(tmp_path)) == FILES


def test_a_second_run_on_the_same_folder_is_told_so(earlier, capsys):
    before = contents(earlier)
    with common.output_folder(earlier):
        assert sine_gan.main([*QUICK, str(earlier)]) == 1
    assert "is in use by another run" in one_line(capsys)
    assert contents(earlier) == before
    assert sine_gan.main([*QUICK, str(earlier)]) == 0


GANS = [exp_curve_gan, sine_gan, multiples_of_five_gan]


ABSURD = itertools.product([*GANS, digits_gan, fashion_classifier], ["1000", "1e30"])
BORNE = (multiples_of_five_gan, "1000")  # by its one layer, and ends with a warning


@pytest.mark.parametrize(("script", "lr"), [each for each in ABSURD if each != BORNE])
def test_absurd_learning_rates(script, lr, data_dir, tmp_path, monkeypatch, capsys):
    arguments = ["--lr", lr, "--quiet", "--device", "cpu", "--out", str(tmp_path)]
    if script not in GANS:
        pytest.importorskip("torchvision")
        arguments += ["--data-dir", str(data_dir)]
    if script is digits_gan:
        capped(monkeypatch, script, 20)
    assert script.main(arguments) == 1
    assert "lower --lr" in one_line(capsys)
    assert not contents(tmp_path)


def test_the_last_good_generator_is_kept():
    training = new_training(torch.rand(100, 2), epochs=10)
    model = torch.nn.Linear(2, 2)
    loss, latents = torch.tensor(0.7), torch.randn(100, 2)
    for epoch in training.epochs():
        if epoch == 3:
            torch.nn.init.constant_(model.weight, float("nan"))
        training.evaluate(model, latents, loss, loss)
    training.finish(model, latents)
    assert len(training.history) == 3
    assert training.stopping.diverged
    assert training.kept_epoch < 3
    assert training.generator(latents).isfinite().all()
