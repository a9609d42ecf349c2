"""Fixtures. They import torch late: the process that starts the workers does not need it."""

import pytest


@pytest.fixture(autouse=True)
def same_random_numbers():
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
        assert status not in (1, 2) or printed.err.count("\n") == 1, printed.err
        return printed

    return run
