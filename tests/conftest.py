"""Fixtures. They import torch late: the process that starts the workers does not need it."""

import os
import signal
import subprocess
import threading
from contextlib import suppress

import pytest


@pytest.fixture(scope="session", autouse=True)
def ctrl_c():
    """Ctrl-C works here, and so in each process started: `nohup` and background jobs ignore it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.fixture(autouse=True)
def same_random_generator():
    """Each test starts with the same random numbers, whatever ran before."""
    import torch

    torch.manual_seed(0)


@pytest.fixture(scope="session")
def data_dir(tmp_path_factory):
    """A folder with tiny versions of both image data sets."""
    from helpers import write_images

    folder = write_images(tmp_path_factory.mktemp("images"), "MNIST")
    return write_images(folder, "FashionMNIST")


@pytest.fixture
def run(data_dir, tmp_path, capsys):
    """A function that runs a command line, and returns what it prints: one line for an error."""
    from helpers import arguments

    def run(script, *options, status=0):
        capsys.readouterr()
        try:
            ended = script.main([*arguments(script, data_dir, tmp_path), *map(str, options)])
        except SystemExit as error:
            ended = error.code
        printed = capsys.readouterr()
        assert ended == status, printed.err
        if status in (1, 2):
            assert printed.err.count("\n") == 1, printed.err
        return printed

    return run


@pytest.fixture
def start():
    """A function that starts a process, to be killed when the test ends, or after five minutes."""
    processes = []
    timers = []

    def kill(process):
        if not hasattr(os, "killpg"):  # on Windows
            process.kill()
            return
        with suppress(ProcessLookupError):  # it has ended, and its children too
            os.killpg(process.pid, signal.SIGKILL)

    def start(command, **options):
        pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        process = subprocess.Popen(command, start_new_session=True, **pipes, **options)
        processes.append(process)
        timers.append(threading.Timer(300, kill, [process]))
        timers[-1].start()
        return process

    yield start
    for process, timer in zip(processes, timers, strict=True):
        timer.cancel()
        kill(process)
        process.wait()
