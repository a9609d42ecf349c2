"""What makes a script a command: options, files, messages, and the use of a saved generator.

Copy this file and common.py along with a script. A `train` alone needs only common.py.
"""

import argparse
import errno
import functools
import inspect
import io
import json
import os
import re
import shutil
import signal
import sys
import tempfile
import warnings
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, redirect_stdout, suppress
from pathlib import Path
from typing import Any, NoReturn

if not os.access(os.path.expanduser("~"), os.W_OK):  # where matplotlib would keep its list of fonts
    os.environ.setdefault("MPLCONFIGDIR", tempfile.gettempdir())

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn

import common
from common import LARGEST, Failure, Figure, InputError

# --- Errors and exit status --------------------------------------------------------------------


def command(main: Callable[..., int]) -> Callable[..., int]:
    """Turns errors of the user in `main` into one line on standard error and an exit status.

    0: done; 1: it could not be done; 2: the options or data are wrong; 130: interrupted by Ctrl-C
    or SIGTERM. Other errors keep their traceback.
    """
    script = Path(inspect.getfile(main)).name

    @functools.wraps(main)
    def wrapper(argv: Sequence[str] | None = None) -> int:
        in_notebook = "ipykernel" in sys.modules and Path(sys.argv[0]).name != script
        if argv is None and in_notebook:
            argv = []  # the command line is Jupyter's own
        open_closed_streams()
        accept_any_character()
        try:
            with sigterm_as_ctrl_c(), redirect_stdout(Output(sys.stdout)):
                status = main(argv)
                print(end="", flush=True)
                return status
        except Failure as error:
            reason, status = str(error), error.status
        except KeyboardInterrupt as interrupt:
            reason, status = str(interrupt) or "interrupted before all was saved", 130
        except OutputError as error:
            discard_output()
            if error.reader_is_gone:  # as by `| head`
                return 0
            reason, status = str(error), 1
        except (MemoryError, RuntimeError) as error:
            if not is_out_of_memory(error):
                raise
            reason, status = "out of memory; lower --batch-size, or use less data", 1
        print(f"{script}: {reason}", file=sys.stderr)
        return status

    return wrapper


@contextmanager
def sigterm_as_ctrl_c() -> Iterator[None]:
    """While this lasts, SIGTERM ends a training as Ctrl-C does."""
    try:
        before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    except ValueError:  # not in the main thread, where alone Python handles signals
        yield
        return
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def open_closed_streams() -> None:
    """Lets scripts print where there are no streams, as under pythonw."""
    for name in ("stdout", "stderr"):
        if getattr(sys, name) is None:
            setattr(sys, name, io.StringIO())


def accept_any_character() -> None:
    """Lets standard output print any character: a file is UTF-8, a terminal shows escapes."""
    if isinstance(sys.stdout, io.TextIOWrapper):
        encoding = None if sys.stdout.isatty() else "utf-8"
        sys.stdout.reconfigure(encoding=encoding, errors="backslashreplace")


class OutputError(Exception):
    """Standard output cannot be written to; other errors of the system are not its."""

    def __init__(self, cause: OSError) -> None:
        super().__init__(f"cannot print: {cause.strerror}")
        self.reader_is_gone = cause.errno in (errno.EPIPE, errno.EINVAL)  # Windows says EINVAL


class Output:
    """Standard output as a stream that raises OutputError."""

    def __init__(self, stream: Any) -> None:
        self.stream = stream

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)

    def write(self, text: str) -> int:
        try:
            return self.stream.write(text)
        except OSError as error:
            raise OutputError(error) from error

    def flush(self) -> None:
        try:
            self.stream.flush()
        except OSError as error:
            raise OutputError(error) from error


def discard_output() -> None:
    """Throws away what is still to be printed, so that Python's last flush does not fail."""
    output = sys.stdout.fileno()
    before = os.dup(output)
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, output)
    sys.stdout.flush()
    os.dup2(before, output)
    os.close(before)
    os.close(nowhere)


def is_out_of_memory(error: Exception) -> bool:
    """Whether there was too little memory, of this machine or of a GPU."""
    if isinstance(error, MemoryError | torch.OutOfMemoryError):
        return True
    return "can't allocate memory" in str(error)  # torch's words for a CPU


# --- Options -----------------------------------------------------------------------------------

SETTINGS = ["seed", "device", "epochs", "patience", "batch_size", "lr"]  # of each `train`


class Parser(argparse.ArgumentParser):
    """A parser with the options that all scripts have; an error is one line."""

    def __init__(
        self,
        file: str,
        about: str | None,
        train: Callable,
        gan: bool = True,
        several_processes: bool = False,
    ) -> None:
        """For a script's file. `about` is the text of --help; defaults are those of `train`.

        With `several_processes`, torchrun may start it more than once.
        """
        script = Path(file).stem
        self.several_processes = several_processes
        super().__init__(
            f"{script}.py",
            description=about,
            allow_abbrev=False,
            formatter_class=argparse.RawDescriptionHelpFormatter,
        )
        defaults = inspect.signature(train).parameters
        self.set_defaults(**{name: defaults[name].default for name in SETTINGS})
        self.add_training_options()
        self.add_argument(
            "--out",
            metavar="DIR",
            type=folder,
            default=Path("outputs", script.removesuffix("_gan")),
            help="folder for the results (%(default)s)",
        )
        show = "after training, open the picture of the results in a window"
        self.add_argument("--show", action="store_true", help=show)
        self.add_argument("--quiet", action="store_true", help="print results and errors only")
        if gan:
            self.add_generator_options()
        else:
            self.set_defaults(generate=None)

    def add_training_options(self) -> None:
        """Adds an option for each of SETTINGS."""
        natural = functools.partial(number, least=0)
        rate = functools.partial(number, kind=float, least=sys.float_info.min)
        seed = "start of the random numbers: the same one, the same results (%(default)s)"
        device = "cpu, cuda, cuda:1, mps, or auto: a GPU if there is one (%(default)s)"
        epochs = "train for at most N epochs (%(default)s)"
        default = "by default never" if self.get_default("patience") is None else "%(default)s"
        patience = f"end training early after N epochs without progress ({default})"
        batch_size = "samples in a step; all, if the data have fewer (%(default)s)"
        lr = "learning rate: how far a step changes the networks (%(default)s)"
        self.add_argument("--seed", metavar="N", type=natural, help=seed)
        self.add_argument("--device", metavar="NAME", help=device)
        self.add_argument("--epochs", metavar="N", type=number, help=epochs)
        self.add_argument("--patience", metavar="N", type=number, help=patience)
        self.add_argument("--batch-size", metavar="N", type=number, help=batch_size)
        self.add_argument("--lr", metavar="X", type=rate, help=lr)

    def add_generator_options(self) -> None:
        """Adds the options that use a saved generator, and --animate."""
        generate = "do not train: N new samples of the saved generator"
        interpolate = "do not train: draw N samples that turn into one another"
        self.add_argument("--generate", metavar="N", type=number, help=generate)
        self.add_argument("--interpolate", metavar="N", type=number, help=interpolate)
        animate = "also save a film of the training, training.gif"
        self.add_argument("--animate", action="store_true", help=animate)

    def settings(self, options: argparse.Namespace) -> dict[str, Any]:
        """The options that `train` takes; makes the folder for its results first."""
        if not self.several_processes and os.environ.get("WORLD_SIZE", "1") != "1":
            raise InputError("start it once, not by torchrun; dcgan_multigpu.py is for that")
        settings = {name: getattr(options, name) for name in SETTINGS}
        settings["device"] = common.choose_device(options.device)
        settings["progress"] = not options.quiet
        make_folder(options.out)
        show_step(options, "Training")
        return settings

    def error(self, message: str) -> NoReturn:
        self.exit(2, f"{self.prog}: {message}; see --help\n")


def folder(text: str) -> Path:
    """The type of an option: a folder; ~ is that of the user."""
    return Path(text).expanduser()


def show_step(options: argparse.Namespace, step: str) -> None:
    """Says on standard error what the next seconds are spent on."""
    if not options.quiet:
        print(f"{step} ...", file=sys.stderr, flush=True)


def number(text: str, kind: Callable[[str], float] = int, least: float = 1) -> float:
    """The type of an option: an integer of at least `least`, or a positive float."""
    most = 2**63 if kind is int else float("inf")
    with suppress(ValueError):
        if least <= kind(text) < most:
            return kind(text)
    wanted = f"an integer of at least {least}" if kind is int else "a positive number"
    raise argparse.ArgumentTypeError(f"{text!r} is not {wanted}")


# --- Results -----------------------------------------------------------------------------------

# What an earlier training, or the use of its generator, may have left: it would not fit the new one
LEFTOVERS = [
    "samples.png",
    "estimate.png",
    "training.gif",
    "copies.png",
    "interpolation.png",
    "generated",
    "to_digit",
    "to_outline",
]


@contextmanager
def saving_in(folder: Path) -> Iterator[None]:
    """Turns errors of writing in a folder into a Failure."""
    try:
        yield
    except OSError as error:
        remedy = "choose another --out"
        if error.errno in (errno.ENOSPC, errno.EDQUOT):
            remedy = f"free some space, or {remedy}"
        raise Failure(f"cannot save in {folder}: {error.strerror or error}; {remedy}") from None


def make_folder(folder: Path) -> None:
    """Makes the folder for results; Failure if nothing could be saved there."""
    with saving_in(folder):
        folder.mkdir(parents=True, exist_ok=True)
        if not os.access(folder, os.W_OK):
            raise PermissionError(errno.EACCES, "it is read-only")


def write(path: Path, content: bytes) -> None:
    """Writes a file that is never seen half written: it is the old one or the new one."""
    partial = path.with_name(f".{path.name}.partial")
    with saving_in(path.parent):
        try:
            partial.write_bytes(content)
            partial.replace(path)
        finally:
            partial.unlink(missing_ok=True)


def save(options: argparse.Namespace, training: Any, inputs: Any, **models: nn.Module) -> None:
    """Saves the models by name, history.csv and metrics.json; removes what was there before.

    `inputs` is the number of a model's inputs, (n, inputs), or the shape of each one. `training`
    has a history, metrics and a verdict, as common.Training.
    """
    if training.interrupted:
        message = f"Interrupted after epoch {len(training.history)}, saving what was learned"
        print(f"{message}; press Ctrl-C again to stop at once.", file=sys.stderr, flush=True)
    else:
        show_step(options, "Saving")
    files: dict[str, bytes] = {}
    for name, model in models.items():
        files |= model_files(name, model, inputs)
    files["history.csv"] = history_file(training)
    files["metrics.json"] = metrics_file(training)
    for name, content in files.items():
        write(options.out / name, content)
    with saving_in(options.out):
        for name in LEFTOVERS:
            remove(options.out / name)
        for partial in options.out.glob(".*.partial"):  # of a training that was killed
            remove(partial)
    print(f"Saved in {options.out}: {', '.join(files)}")


def model_files(name: str, model: nn.Module, inputs: int | tuple[int, ...]) -> dict[str, bytes]:
    """A model of any number of rows as two files: TorchScript (.pt) and torch.export (.pt2)."""
    # Few rows: torch.jit.trace keeps all activations in memory
    example = torch.zeros(16, *input_shape(inputs))
    model.register_buffer("inputs", torch.tensor(input_shape(inputs)))  # to be read from the file
    rows = torch.export.Dim("rows", max=2**48)  # torch 2.7 refuses to go up to 2**63
    script = io.BytesIO()
    program = io.BytesIO()
    with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
        torch.jit.save(torch.jit.trace(model, (example,), check_trace=False), script)
        exported = torch.export.export(model, (example,), dynamic_shapes=({0: rows},), strict=False)
        torch.export.save(exported, program)
    return {f"{name}.pt": script.getvalue(), f"{name}.pt2": program.getvalue()}


def input_shape(inputs: int | tuple[int, ...]) -> tuple[int, ...]:
    """The shape of one input of a model, given as such or as a number of inputs."""
    return (inputs,) if isinstance(inputs, int) else inputs


def history_file(training: Any) -> bytes:
    """The history as CSV."""
    rows = [training.history[0]._fields, *training.history]
    lines = [",".join(map(str, row)) for row in rows]
    return ("\n".join(lines) + "\n").encode()


def metrics_file(training: Any) -> bytes:
    """The verdict and what it is based on, as JSON."""
    metrics = {
        "verdict": training.verdict,
        "converged": training.converged,
        "checks": [check._asdict() for check in training.checks],
        **training.metrics,
        "epochs": len(training.history),
        "kept_epoch": training.stopping.kept_epoch,
        "interrupted": training.interrupted,
        "diverged": training.stopping.diverged,
        "torch": torch.__version__,
        "python": sys.version.split()[0],
    }
    return (json.dumps(metrics, indent=2) + "\n").encode()


def remove(path: Path) -> None:
    """Removes a file or a folder, if it is there."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def save_picture(options: argparse.Namespace, name: str, picture: Figure | bytes) -> None:
    """Saves a picture in the folder of the results."""
    content = picture.png() if isinstance(picture, Figure) else picture
    write(options.out / name, content)
    print(f"Drawn in {options.out}: {name}", file=sys.stderr if options.generate else sys.stdout)


def report(options: argparse.Namespace, training: Any) -> int:
    """Prints the verdict, shows the picture if asked to, and returns the exit status."""
    ending = ""
    if training.interrupted:
        ending = ", interrupted"
    elif training.stopping.diverged:
        ending = ", diverged (lower --lr)"
    elif len(training.history) < options.epochs:
        ending = ", stopped as there was no more progress"
    if training.stopping.kept_epoch < len(training.history):
        ending += f", kept epoch {training.stopping.kept_epoch}"
    samples = training.metrics["samples"]
    epochs = len(training.history)
    unit = "epoch" if epochs == 1 else "epochs"
    print(f"Trained on {samples:,} samples for {epochs} {unit}{ending}.")
    print(training.verdict)
    if options.show:
        Image.open(options.out / "samples.png").show()
    return 130 if training.interrupted else 0


# --- The use of a saved generator --------------------------------------------------------------

BLOCK = 4096  # rows generated at once: activations fit the CPU cache


def load_model(path: Path, inputs: int | tuple[int, ...] | None = None) -> nn.Module:
    """A model saved as TorchScript; Failure if it is missing, damaged or has other inputs.

    `inputs` are as for `save`, of a model that does not tell them; None if they are not known.
    """
    try:
        content = path.read_bytes()
    except OSError as error:
        reason = f"cannot read {path}: {error.strerror}"
        raise Failure(f"{reason}; train first, or give the --out of the training") from None
    try:
        if zipfile.ZipFile(io.BytesIO(content)).testzip():  # torch checks no checksums
            raise ValueError("a file in the archive is damaged")
        with torch.no_grad(), warnings.catch_warnings(action="ignore"):  # TorchScript is deprecated
            model = torch.jit.load(io.BytesIO(content), map_location="cpu").eval()
            if inputs is not None:
                model(torch.zeros(2, *saved_shape(model, inputs)))
    except Exception:  # torch raises many kinds of errors for files that it cannot use
        reason = f"{path} is damaged, or was not saved by this script; train again"
        raise Failure(reason) from None
    return model


def saved_shape(model: nn.Module, inputs: int | tuple[int, ...]) -> tuple[int, ...]:
    """The shape of an input that a saved model asks for; that of `inputs` if it does not tell."""
    buffers = dict(model.named_buffers())
    if "inputs" in buffers:
        return tuple(buffers["inputs"].tolist())
    return input_shape(inputs)


def require_no_training_options(options: argparse.Namespace) -> None:
    """Raises InputError if an option that has an effect on training alone is given."""
    for name in ("data", "show"):
        if getattr(options, name, None):
            raise InputError(f"--{name} is for training; leave it out to use the saved generator")


def use_generator(
    options: argparse.Namespace,
    latent_dim: int,
    names: Sequence[str],
    decode: Callable[[Tensor], Tensor] = lambda rows: rows,
) -> int:
    """Serves --generate and --interpolate for columns with names; returns the exit status.

    `decode` turns rows of the saved generator into samples, (n,) or (n, columns).
    """
    require_no_training_options(options)
    generator = load_model(options.out / "generator.pt", latent_dim)
    (latent_dim,) = saved_shape(generator, latent_dim)
    columns = decode(generator(torch.zeros(2, latent_dim))).reshape(2, -1).shape[1]
    if columns != len(names):
        names = [f"column {i + 1}" for i in range(columns)]
    if options.generate:
        random = common.random_generator("samples", options.seed)
        print(",".join(names))
        formats = None
        for start in range(0, options.generate, BLOCK):
            # Whole blocks, the last one too: randn draws the numbers of a part in another order
            block = decode(generator(torch.randn(BLOCK, latent_dim, generator=random)))
            rows = block.reshape(BLOCK, -1)
            formats = formats or number_formats(rows)
            np.savetxt(sys.stdout, rows[: options.generate - start].numpy(), formats, ",")
    if options.interpolate:
        save_interpolation(options, lambda noise: decode(generator(noise)), latent_dim, names)
    return 0


def number_formats(rows: Tensor) -> list[str]:
    """For each column of rows (n, columns), a format with the digits that networks can make.

    These are nine digits, as float32 has them, of the range of the column.
    """
    columns = rows.shape[1]
    if rows.dtype != torch.float64:
        return ["%.9g" if rows.is_floating_point() else "%d"] * columns
    largest = rows.abs().amax(dim=0)
    extent = rows.amax(dim=0) - rows.amin(dim=0)
    more = (largest / extent).log10().ceil().nan_to_num(0, 6).clamp(0, 8)  # constant: 15 digits
    return [f"%.{9 + int(digits)}g" for digits in more]


def save_interpolation(
    options: argparse.Namespace,
    generate: Callable[[Tensor], Tensor],
    latent_dim: int,
    names: Sequence[str],
) -> None:
    """Saves the picture of --interpolate; `generate` maps noise (n, latent_dim) to samples."""
    random = common.random_generator("interpolation", options.seed)
    samples = generate(torch.randn(2048, latent_dim, generator=random))
    path = generate(common.interpolate(options.interpolate, latent_dim, generator=random))
    figure = common.plot_interpolation(samples, path, names)
    save_picture(options, "interpolation.png", figure)


# --- Numbers in a file -------------------------------------------------------------------------


def read_numbers(path: Path, columns: int, depth: int | None = None) -> Tensor:
    """Rows (n, columns) of a CSV file, float64; with `depth`, integers from 0 to depth - 1.

    Semicolons, tabs, bars, commas or blanks separate the numbers; the first line may be a header.
    Failure if the file cannot be read, InputError with the line of a number that is wrong.
    """
    wanted = f"{columns} finite number(s)"
    if depth:
        wanted = f"an integer in 0..{depth - 1}"
    texts = read_text(path).splitlines()
    lines = [split_line(text) for text in texts]
    rows = []
    for i, cells in enumerate(lines):
        if cells == [] or (i == 0 and is_header(cells, lines)):
            continue
        row = parse_numbers(cells)
        if row is None or len(row) != columns or not all(allowed(x, depth) for x in row):
            raise InputError(f"{path}, line {i + 1}: expected {wanted}, found {texts[i][:40]!r}")
        rows.append(row)
    if not rows:
        raise InputError(f"{path} has no numbers; expected {wanted} per line")
    return torch.tensor(rows, dtype=torch.float64)


def split_line(line: str) -> list[str]:
    """The cells of a line; decimal commas, which need another separator, become points."""
    line = line.strip().rstrip(",;|").strip()
    if not line:
        return []
    for separator in (";", "\t", "|"):
        if separator in line:
            return [clean(cell).replace(",", ".") for cell in line.split(separator)]
    return [clean(cell) for cell in re.split(r"\s*,\s*|\s+", line)]


def clean(cell: str) -> str:
    """A cell without blanks and quotes around it."""
    return cell.strip().strip('"')


def is_header(cells: list[str], lines: list[list[str]]) -> bool:
    """Whether the first of the lines is a header: none of its cells is a number.

    Names may also be 0, 1, 2, ..., as pandas writes them; such a line comes once.
    """
    if cells == [str(i) for i in range(len(cells))]:
        return lines.count(cells) == 1
    return all(parse_numbers([cell]) is None for cell in cells)


def parse_numbers(cells: list[str]) -> list[float] | None:
    """Cells as numbers; None if one of them is not a number."""
    try:
        return [float(cell) for cell in cells]
    except ValueError:
        return None


def allowed(x: float, depth: int | None) -> bool:
    """Whether a number is finite; with `depth`, whether it is an integer from 0 to depth - 1."""
    if depth:
        return x.is_integer() and 0 <= x < depth
    return abs(x) <= LARGEST


def read_text(path: Path) -> str:
    """The text of a file in UTF-8 or Latin-1; Failure if it cannot be read."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise Failure(f"cannot read {path}: {error.strerror}") from None
    if b"\0" in content:
        raise Failure(f"cannot read {path}: it is not text in UTF-8")
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        return content.decode("latin-1")
