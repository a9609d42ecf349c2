"""What is interrupted, full, damaged or nonsense ends with a clear line, and nothing is lost.

Each fault is a real one. Many more moments for each: benchmarks/faults.py.
"""

import itertools
import os
import pickle
import shlex
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
import torch
from conftest import ROOT, Recorder, image_arguments, write_images

import common
import digits_gan
import exp_curve_gan
import fashion_classifier
import multiples_of_five_gan
import sine_gan

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
    while process.poll() is None and not list(earlier.glob(".*.partial")):
        time.sleep(0.0005)
    process.kill()
    process.communicate()
    assert set(contents(earlier)) >= FILES
    common.load_torchscript(earlier / "generator.pt", 2, 2)
    with common.reserved(earlier):  # as the next run does
        assert not list(earlier.glob(".*.partial"))


def test_digits_go_on_where_they_were_interrupted(data_dir, tmp_path, monkeypatch, capsys):
    pytest.importorskip("torchvision")
    monkeypatch.setattr(digits_gan, "BATCHES_PER_EPOCH", 3)
    whole, parts = tmp_path / "whole", tmp_path / "parts"
    arguments = ["--epochs", "30", "--seed", "5"]
    assert digits_gan.main([*image_arguments(data_dir, whole), *arguments]) == 0

    def interrupt() -> None:
        while not (parts / "checkpoint.pth").exists():
            time.sleep(0.01)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    assert digits_gan.main([*image_arguments(data_dir, parts), *arguments]) == 130
    assert "--resume" in capsys.readouterr().out
    assert contents(parts)["history.csv"] != contents(whole)["history.csv"]
    resume = [*image_arguments(data_dir, parts), "--resume"]
    assert digits_gan.main([*resume, *arguments[:2], "--seed", "6"]) == 2
    assert "another seed" in one_line(capsys)
    assert digits_gan.main([*resume, *arguments]) == 0
    ours, due = contents(parts), contents(whole)
    assert ours.keys() == due.keys()
    traced = {"generator.pt", "generator.pt2"}  # which name what else the process has traced
    for name in due.keys() - traced:
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


# In a user namespace, a test may mount a small file system without being root; there it would be
# root, and read-only folders nothing to it, but for the capability that is dropped
mounting = pytest.mark.skipif(
    shutil.which("unshare") is None
    or subprocess.run(["unshare", "-rm", "true"], capture_output=True).returncode != 0,
    reason="no file system can be mounted here",
)


@mounting
@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ("head -c 10M /dev/zero > small/filler", "No space left"),
        ("chmod 500 small/out", "Permission denied"),
    ],
)
def test_a_disk_that_cannot_be_written_to_any_more(fault, reason, finished, tmp_path):
    (tmp_path / "small").mkdir()
    script = f"""
        mount -t tmpfs -o size=2m tmpfs small && mkdir small/out && cp {finished}/* small/out
        setpriv --bounding-set=-dac_override --inh-caps=-dac_override \\
            {sys.executable} {ROOT}/sine_gan.py --epochs 100000 --out small/out 2> errors &
        until grep -q epoch errors; do sleep 0.05; done
        {fault} 2> /dev/null
        kill -INT $!; wait $!; echo $?; cat errors >&2; cp small/out/* .
    """
    result = subprocess.run(
        ["unshare", "-rm", "bash", "-c", script], cwd=tmp_path, capture_output=True, text=True
    )
    assert result.stdout == "1\n"
    last = result.stderr.splitlines()[-1]
    assert reason in last
    assert "cannot save" in last
    saved = {name: (tmp_path / name).read_bytes() for name in FILES}
    assert saved == contents(finished)


def test_a_folder_that_vanishes(tmp_path, capsys):
    out = tmp_path / "out"

    def vanish() -> None:
        shutil.rmtree(out)
        signal.raise_signal(signal.SIGINT)

    threading.Timer(1, vanish).start()
    assert sine_gan.main(["--epochs", "100000", "--quiet", "--out", str(out)]) == 1
    assert "cannot save" in one_line(capsys)


def test_a_second_run_on_the_same_folder_is_told_so(earlier, capsys):
    before = contents(earlier)
    with common.reserved(earlier):
        assert sine_gan.main([*QUICK, str(earlier)]) == 1
    assert "another run saves to" in one_line(capsys)
    assert contents(earlier) == before
    assert sine_gan.main([*QUICK, str(earlier)]) == 0


GANS = [exp_curve_gan, sine_gan, multiples_of_five_gan]


ABSURD = itertools.product([*GANS, digits_gan, fashion_classifier], ["1000", "1e30"])
BORNE = (multiples_of_five_gan, "1000")  # by its one layer, and ends with a warning


@pytest.mark.parametrize(("script", "lr"), [each for each in ABSURD if each != BORNE])
def test_absurd_learning_rates(script, lr, data_dir, tmp_path, capsys):
    arguments = ["--lr", lr, "--quiet", "--device", "cpu", "--out", str(tmp_path)]
    if script not in GANS:
        pytest.importorskip("torchvision")
        arguments += ["--data-dir", str(data_dir)]
    assert script.main(arguments) == 1
    assert "lower --lr" in one_line(capsys)
    assert not contents(tmp_path)


def test_the_last_good_generator_is_kept():
    course = common.Course(torch.rand(100, 2), 0, 10, 10, None, 0.1, progress=False)
    model = torch.nn.Linear(2, 2)
    loss, latents = torch.tensor(0.7), torch.randn(100, 2)
    for epoch in course:
        if epoch == 3:
            torch.nn.init.constant_(model.weight, float("nan"))
        course.evaluate(model, latents, loss, loss)
    training = course.training(latents)
    assert len(training.history) == 3
    assert training.diverged
    assert training.best_epoch < 3
    assert training.generator(latents).isfinite().all()


def test_the_poorest_surroundings(tmp_path):
    """No display, no home, an encoding without umlauts, streams closed."""
    out = tmp_path / ("Zwölf Boxkämpfer, 十二 " + 200 * "x")[:200]
    bare = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "HOME", "LANG", "LC_ALL", "PYTHONUTF8")
    }
    environment = bare | {"HOME": "/nowhere", "LC_ALL": "C", "PYTHONIOENCODING": "ascii"}
    command = f"exec {sys.executable} {ROOT}/sine_gan.py --epochs 1 --device cpu --out"
    for streams in ("> printed", ">&- 2>&-"):
        shutil.rmtree(out, ignore_errors=True)
        line = f"{command} {shlex.quote(str(out))} {streams}"
        assert subprocess.run(line, shell=True, cwd=tmp_path, env=environment).returncode == 0
        assert set(contents(out)) == FILES
    assert "Zw\\xf6lf" in (tmp_path / "printed").read_text()


@pytest.mark.skipif(not Path("/proc/meminfo").exists(), reason="the system has no such limit")
def test_batches_larger_than_the_memory(tmp_path):
    points = tmp_path / "points.csv"
    points.write_text("0.5,1\n" * 300_000 + "0,0\n")
    command = f"ulimit -d 1500000; exec {sys.executable} {ROOT}/sine_gan.py"
    arguments = f"--data {points} --batch-size 100000 --device cpu --quiet --out {tmp_path}"
    result = subprocess.run(
        ["bash", "-c", f"{command} {arguments}"], capture_output=True, text=True
    )
    assert result.returncode == 1
    assert "not enough memory" in result.stderr
    assert result.stderr.count("\n") == 1
