"""Faults injected into real runs, each in a process of its own: results/faults.md.

python benchmarks/faults.py     half an hour on 2 cores; as root, on Linux: it mounts small disks
"""

import argparse
import contextlib
import hashlib
import io
import json
import os
import pickle
import random
import resource
import shlex
import signal
import subprocess
import sys
import tempfile
import threading
import time
import warnings
from collections.abc import Callable, Iterator
from multiprocessing.pool import ThreadPool
from pathlib import Path

import measure
import torch
from measure import RESULTS, ROOT
from PIL import Image

import common
import digits_gan
import sine_gan

sys.path.insert(0, str(ROOT / "tests"))
from conftest import Recorder, write_images  # noqa: E402 - found through the line above

FILES = {"generator.pt", "generator.pt2", "samples.png", "history.csv", "metrics.json"}
DROP = ["setpriv", "--bounding-set=-dac_override", "--inh-caps=-dac_override"]  # so that a folder
# can be read-only to root
ONE_AT_A_TIME = threading.Lock()


@contextlib.contextmanager
def started(script: str, *arguments: object, log: Path | None = None) -> Iterator[subprocess.Popen]:
    """A script in a process of its own, killed at the end if it still runs."""
    command = [*DROP, sys.executable, ROOT / script, "--device", "cpu", *map(str, arguments)]
    with contextlib.ExitStack() as stack:
        errors = stack.enter_context(log.open("w")) if log else subprocess.PIPE
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=errors, text=True)
        try:
            yield process
        finally:
            process.kill()
            process.wait()


def shell(command: str, folder: Path, **more: str) -> subprocess.CompletedProcess:
    """A line of the shell; {sine} in it is the script."""
    sine = f"{sys.executable} {ROOT}/sine_gan.py --device cpu"
    line = command.replace("{sine}", sine)
    return subprocess.run(
        ["bash", "-c", line],
        cwd=folder,
        capture_output=True,
        text=True,
        errors="replace",  # what it prints may be in another encoding
        env=os.environ | more,
    )


def fails_in_one_line(result: subprocess.CompletedProcess, status: int = 1) -> bool:
    """Whether a run ended as one should that could not do what was asked."""
    last = result.stderr.rstrip("\n").splitlines()[-1]  # before it, perhaps, a progress bar
    return result.returncode == status and "Traceback" not in result.stderr and ": " in last


def damaged(folder: Path, latent_dim: int = sine_gan.LATENT_DIM) -> list[str]:
    """The names of the results in a folder that are not there, or not whole."""
    latents = torch.randn(8, latent_dim)

    def whole(name: str) -> bool:
        path = folder / name
        with contextlib.suppress(Exception):
            if name == "generator.pt":
                return torch.jit.load(path)(latents).isfinite().all().item()
            if name == "generator.pt2":
                return torch.export.load(path).module()(latents).isfinite().all().item()
            if name == "samples.png":
                with Image.open(path) as image:
                    image.load()
                return True
            if name == "metrics.json":
                return bool(json.loads(path.read_text()))
            return path.read_text().endswith("\n")
        return False

    with ONE_AT_A_TIME:  # torch.export is not made for threads
        return [name for name in FILES if not whole(name)]


def results(folder: Path) -> dict[str, str]:
    """A digest of each file that a training saved."""
    return {
        name: hashlib.sha256((folder / name).read_bytes()).hexdigest()
        for name in sorted(FILES)
        if (folder / name).exists()
    }


def train(folder: Path, *arguments: object, script: str = "sine_gan.py") -> dict[str, str]:
    """Run a script to its end; digests of what it saved."""
    with started(script, "--quiet", "--out", folder, *arguments) as process:
        _, errors = process.communicate()
        if process.returncode:
            raise RuntimeError(errors)
    return results(folder)


# --- Faults: each gives, for each time that it was injected, the files lost, or None if it failed


Outcomes = Iterator[list[str] | None]  # what was lost; None: it did not end as it should


def killed(folder: Path) -> Outcomes:
    """kill -9 at 50 random moments of runs that overwrite an earlier result, 25 while they save."""
    out = folder / "out"
    start = time.perf_counter()
    train(out, "--epochs", 1)
    usual = time.perf_counter() - start
    for i in range(50):
        with started("sine_gan.py", "--quiet", "--epochs", 1, "--seed", i, "--out", out) as process:
            if i % 2:
                time.sleep(random.uniform(0, usual))
            else:
                while process.poll() is None and not list(out.glob(".partial/*")):
                    time.sleep(0.0005)
                time.sleep(random.uniform(0, 0.02))
        yield damaged(out)
    train(out, "--epochs", 1)
    yield None if (out / ".partial").exists() else damaged(out)


def interrupted(number: signal.Signals, status: int) -> Callable[[Path], Outcomes]:
    """A signal at 20 random moments of a training."""

    def inject(folder: Path) -> Outcomes:
        for i in range(20):
            out, log = folder / str(i), folder / f"{i}.log"
            with started("sine_gan.py", "--epochs", 10**6, "--out", out, log=log) as process:
                while "epoch" not in log.read_text():
                    time.sleep(0.05)
                time.sleep(random.uniform(0, 3))
                process.send_signal(number)
                printed, _ = process.communicate()
            told = "interrupted after epoch" in printed and process.returncode == status
            yield damaged(out) if told else None

    return inject


def resumed(number: signal.Signals) -> Callable[[Path], Outcomes]:
    """Digits ended by a signal at random moments, and resumed: the same bytes as in one go."""

    def inject(folder: Path) -> Outcomes:
        data = write_images(folder / "images", "MNIST")
        arguments = ("--data-dir", data, "--epochs", 8, "--batch-size", 8)
        in_one_go = train(folder / "one", *arguments, script="digits_gan.py")
        for i in range(2):
            out, more = folder / str(i), list[str]()
            checkpoint = out / "checkpoint.pth"
            for _ in range(2):  # interrupted twice
                command = ("--quiet", "--out", out, *arguments, *more)
                with started("digits_gan.py", *command) as process:
                    before = checkpoint.stat().st_mtime if checkpoint.exists() else 0.0
                    while not checkpoint.exists() or checkpoint.stat().st_mtime == before:
                        time.sleep(0.01)
                    time.sleep(random.uniform(0, 1.5))
                    process.send_signal(number)
                    process.communicate()
                more = ["--resume"]
            same = train(out, *arguments, "--resume", script="digits_gan.py") == in_one_go
            yield damaged(out, digits_gan.LATENT_DIM) if same else None

    return inject


def disk(fault: str) -> Callable[[Path], Outcomes]:
    """A small disk with an earlier result on it, which fails in the midst of a run."""

    def inject(folder: Path) -> Outcomes:
        earlier = train(folder / "earlier", "--epochs", 1)
        used = sum((folder / "earlier" / name).stat().st_size for name in FILES) // 1024
        small = folder / "small"
        small.mkdir()
        for part in range(5):
            size = used + 64 + part * used // 5  # room for none, some, or most of the new files
            subprocess.run(
                ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", small], check=True
            )
            try:
                shell("mkdir small/out && cp earlier/* small/out", folder)
                log = folder / "log"
                command = ("--epochs", 10**6, "--out", small / "out")
                with started("sine_gan.py", *command, log=log) as process:
                    while "epoch" not in log.read_text():
                        time.sleep(0.05)
                    shell(fault, folder)
                    process.send_signal(signal.SIGINT)
                    process.communicate()
                ended = subprocess.CompletedProcess(
                    [], process.returncode, stderr=log.read_text().replace("\r", "\n")
                )
                changed = [n for n, d in results(small / "out").items() if earlier[n] != d]
                yield changed if fails_in_one_line(ended) else None
            finally:
                subprocess.run(["umount", small], check=True)

    return inject


def vanished(folder: Path) -> Outcomes:
    """The folder is moved away in the midst of a run."""
    for i in range(5):
        out, log = folder / str(i), folder / "log"
        earlier = train(out, "--epochs", 1)
        with started("sine_gan.py", "--epochs", 10**6, "--out", out, log=log) as process:
            while "epoch" not in log.read_text():
                time.sleep(0.05)
            out.rename(folder / f"{i} moved")
            process.send_signal(signal.SIGINT)
            process.communicate()
        ended = subprocess.CompletedProcess([], process.returncode, stderr=log.read_text())
        same = results(folder / f"{i} moved") == earlier
        yield [] if fails_in_one_line(ended) and same else None


def two_at_once(folder: Path) -> Outcomes:
    """Two runs with the same --out."""
    for i in range(5):
        out = folder / str(i)
        with (
            started("sine_gan.py", "--quiet", "--epochs", 20, "--out", out) as one,
            started("sine_gan.py", "--quiet", "--epochs", 20, "--seed", 1, "--out", out) as other,
        ):
            for process in (one, other):
                process.communicate()
            status = sorted([one.returncode, other.returncode])
        seed = json.loads((out / "metrics.json").read_text())["seed"]
        alone = train(folder / f"alone {i}", "--epochs", 20, "--seed", seed)
        yield damaged(out) if status in ([0, 0], [0, 1]) and results(out) == alone else None


def absurd_rates(folder: Path) -> Outcomes:
    """Learning rates of 1000 and 1e30, over an earlier result."""
    for script in ("exp_curve_gan.py", "sine_gan.py", "multiples_of_five_gan.py"):
        for lr in (1000, 1e30):
            out = folder / f"{script} {lr}"
            earlier = train(out, "--epochs", 1, script=script)
            result = subprocess.run(
                [sys.executable, ROOT / script, "--quiet", "--lr", str(lr), "--out", out],
                capture_output=True,
                text=True,
            )
            if script == "multiples_of_five_gan.py" and lr == 1000:  # its one layer bears that
                told = "WARNING" in result.stdout and "lower --lr" in result.stdout
                yield damaged(out, latent_dim=100) if told else None
            else:
                told = fails_in_one_line(result) and "lower --lr" in result.stderr
                yield [] if told and results(out) == earlier else None


def damaged_files(folder: Path) -> Outcomes:
    """A generator.pt that is truncated, has a byte changed, is of another kind or shape."""
    train(folder, "--epochs", 1)
    path, trace = folder / "generator.pt", folder / "trace"
    whole = path.read_bytes()
    saved = io.BytesIO()
    torch.save(Recorder(trace), saved)
    for name, layer in (("wide", torch.nn.Linear(2, 3)), ("deep", torch.nn.Linear(3, 2))):
        common.save_model(folder, name, layer, layer.in_features)
    contents = [
        b"",
        random.randbytes(len(whole)),
        pickle.dumps(Recorder(trace)),
        saved.getvalue(),
        (folder / "wide.pt").read_bytes(),
        (folder / "deep.pt").read_bytes(),
        *(whole[: random.randrange(len(whole))] for _ in range(5)),
        *(changed(whole, random.randrange(len(whole))) for _ in range(5)),
    ]
    for content in contents:
        path.write_bytes(content)
        result = shell("{sine} --generate 5 --out .", folder)
        refused = fails_in_one_line(result) and not result.stdout
        as_before = content[:4] == whole[:4] and result.stdout.count("\n") == 6
        yield [] if (refused or as_before) and not trace.exists() else None


def changed(content: bytes, place: int) -> bytes:
    """One byte of it another."""
    return content[:place] + bytes([content[place] ^ 0x55]) + content[place + 1 :]


SURROUNDINGS = [
    "env -u DISPLAY -u WAYLAND_DISPLAY {sine} --quiet --epochs 1 --out out",
    "env -u HOME {sine} --quiet --epochs 1 --out out",
    "HOME=/nowhere {sine} --quiet --epochs 1 --out out",
    "LC_ALL=C PYTHONUTF8=0 PYTHONCOERCECLOCALE=0 {sine} --quiet --epochs 1 --out Größe",
    "{sine} --epochs 1 --out out >&-",
    "{sine} --epochs 1 --quiet --out out | true",
    "{sine} --epochs 1 --quiet --out out && {sine} --generate 100000 --out out | head -n 1",
    "{sine} --epochs 1 --quiet --out ' a  b '",
    "{sine} --epochs 1 --quiet --out " + 200 * "x",
    "{sine} --epochs 1 --quiet --out " + 66 * "大",
    "{sine} --epochs 1 --quiet --out a/b/c/../d",
    "mkdir out && cd / && {sine} --epochs 1 --quiet --out $OLDPWD/out",
    "out=$PWD/out; cd /proc && {sine} --epochs 1 --quiet --out $out",
    "umask 077; {sine} --epochs 1 --quiet --out out",
    "TERM= COLUMNS= {sine} --epochs 1 --out out",
]


def surroundings(folder: Path) -> Outcomes:
    """No display, no home, another encoding, pipes that close, strange names and places."""
    for i, command in enumerate(SURROUNDINGS):
        place = folder / str(i)
        place.mkdir()
        result = shell(f"set -o pipefail; {command}", place)
        where = [path.parent for path in place.rglob("generator.pt")]
        fine = not result.returncode and "Traceback" not in result.stderr and len(where) == 1
        if not fine:
            print(command, result, flush=True)
        yield damaged(where[0]) if fine else None


def too_large(folder: Path) -> Outcomes:
    """More than there is memory for: batches, and samples."""
    train(folder, "--epochs", 1)
    for size in (2049, 10**12):
        refused = shell(f"{{sine}} --batch-size {size} --out .", folder)
        yield [] if fails_in_one_line(refused, 2) else None
    little = "ulimit -d 4000000; {sine}"  # KiB: a process that maps more is refused it
    points = "import random\nfor _ in range(1_000_000): print(random.random(), 0, sep=',')"
    shell(f"python -c {shlex.quote(points)} > points.csv", folder)
    large = shell(f"{little} --quiet --data points.csv --batch-size 900000 --out .", folder)
    yield [] if fails_in_one_line(large) and "memory" in large.stderr else None
    streamed = shell(f"{little} --generate 3000000 --out . > many.csv; wc -l < many.csv", folder)
    yield [] if streamed.stdout == "3000001\n" else None


FAULTS: dict[str, Callable[[Path], Outcomes]] = {
    "kill -9, over an earlier result": killed,
    "Ctrl-C": interrupted(signal.SIGINT, 130),
    "SIGTERM": interrupted(signal.SIGTERM, 143),
    "digits: Ctrl-C twice, then --resume to the same bytes": resumed(signal.SIGINT),
    "digits: kill -9 twice, then --resume to the same bytes": resumed(signal.SIGKILL),
    "the disk is full": disk("cat /dev/zero > small/filler"),
    "the folder turns read-only": disk("chmod 500 small/out"),
    "the folder vanishes": vanished,
    "two runs with one --out": two_at_once,
    "absurd learning rates": absurd_rates,
    "damaged files": damaged_files,
    "poor surroundings": surroundings,
    "more than the memory holds": too_large,
}


# --- Load and reproducibility ------------------------------------------------------------------


def load(folder: Path) -> str:
    """What many trainings in one process leave behind, in words."""

    def now() -> tuple[float, int]:
        pages = int(Path("/proc/self/statm").read_text().split()[1])
        return pages * resource.getpagesize() / 2**20, len(list(Path("/proc/self/fd").iterdir()))

    def grown(times: int, work: Callable[[int], object]) -> str:
        seen = []
        with contextlib.redirect_stdout(io.StringIO()):
            for i in range(times):
                work(i)
                seen.append(now())
        (early, early_files), (late, late_files) = seen[9], seen[-1]
        return (
            f"{early:.0f} and {late:.0f} MB, {early_files} and {late_files} open files, "
            f"after 10 and {times}"
        )

    data = sine_gan.real_samples(256)
    short = ["--epochs", "1", "--quiet", "--out", str(folder)]
    trained = grown(200, lambda i: sine_gan.train(data, seed=i, epochs=1, progress=False))
    saved = grown(40, lambda i: sine_gan.main([*short, "--seed", str(i)]))
    return f"In one process: {trained} trainings; {saved} whole runs, with all they save."


def side_by_side(folder: Path) -> str:
    """Whether 8 runs at once give what they give alone, in words."""
    alone = [train(folder / f"alone {seed}", "--epochs", 10, "--seed", seed) for seed in range(8)]
    with contextlib.ExitStack() as stack:
        processes = [
            stack.enter_context(
                started("sine_gan.py", "--quiet", "--epochs", 10, "--seed", seed, "--out",
                        folder / f"at once {seed}")
            )
            for seed in range(8)
        ]  # fmt: skip
        for process in processes:
            process.communicate()
    same = sum(results(folder / f"at once {seed}") == alone[seed] for seed in range(8))
    return f"Of 8 runs side by side, {same} gave the same bytes as alone."


def reproducibility(folder: Path, pythons: list[str]) -> str:
    """A table of what gives the same bytes."""
    data = write_images(folder / "images", "MNIST")

    def run(script: str, python: str = sys.executable, threads: int = 1) -> dict[str, str]:
        out = Path(tempfile.mkdtemp(dir=folder))
        more = ["--data-dir", data] if script.startswith("digits") else []
        subprocess.run(
            [python, ROOT / script, "--device", "cpu", "--quiet", "--epochs", "3", "--out", out,
             *more],
            env=os.environ | {"OMP_NUM_THREADS": str(threads), "MKL_NUM_THREADS": str(threads)},
            check=True,
            capture_output=True,
        )  # fmt: skip
        found = results(out)
        if python != sys.executable:
            del found["metrics.json"]  # which names the version of Python
        return found

    def same(one: dict[str, str], other: dict[str, str]) -> str:
        differing = [name for name in other if one[name] != other[name]]
        return "the same" if not differing else f"{', '.join(differing)} differ"

    rows = []
    for script in ("exp_curve_gan.py", "multiples_of_five_gan.py", "digits_gan.py"):
        first = run(script)
        rows.append([script, "two processes", same(first, run(script))])
        rows.append([script, "1 and 2 threads", same(first, run(script, threads=2))])
        for python in pythons:
            version = subprocess.run([python, "--version"], capture_output=True, text=True).stdout
            name = f"{sys.version.split()[0]} and {version.strip()}"
            rows.append([script, name, same(first, run(script, python))])
    return measure.table(["script", "compared", "files"], rows)


def main() -> None:
    """Inject, count, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--python", action="append", default=[], metavar="PATH",
        help="another interpreter, with the same torch, to compare with")  # fmt: skip
    options = parser.parse_args()
    random.seed(0)
    warnings.simplefilter("ignore", FutureWarning)  # TorchScript has a successor

    def outcomes_of(inject: Callable[[Path], Outcomes]) -> list[list[str] | None]:
        with tempfile.TemporaryDirectory() as folder:
            return list(inject(Path(folder)))

    rows = []
    pool = ThreadPool(os.cpu_count())
    for name, outcomes in zip(FAULTS, pool.imap(outcomes_of, FAULTS.values()), strict=True):
        lost = sum(len(outcome) for outcome in outcomes if outcome is not None)
        survived = sum(outcome is not None for outcome in outcomes)
        rows.append([name, len(outcomes), survived, lost])
        print(*rows[-1], [outcome for outcome in outcomes if outcome != []], sep=" | ", flush=True)
    faults = measure.table(["fault", "injected", "survived", "files lost"], rows)
    words = []
    for part in (load, side_by_side, lambda folder: reproducibility(folder, options.python)):
        with tempfile.TemporaryDirectory() as folder:
            words.append(part(Path(folder)))
        print(words[-1], flush=True)
    source = measure.circumstances("faults.py")
    text = f"""# Faults

Injected into runs in processes of their own. Survived: it ended as it should, with the right exit
status and one clear line, or went on. Lost: files that were there, or should be, and are not whole.

{faults}
{words[0]}
{words[1]}

{words[2]}
{source}"""
    (RESULTS / "faults.md").write_text(text)


if __name__ == "__main__":
    main()
