"""What the tests share: where the scripts are, and how a user runs one."""

import subprocess
import sys
from pathlib import Path

import pytest
import torch

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT))

needs_cuda = pytest.mark.skipif(not torch.cuda.is_available(), reason="there is no CUDA GPU")
DEVICES = ["cpu", pytest.param("cuda", marks=needs_cuda)]


def run_script(name: str, *arguments: object, folder: Path = ROOT) -> subprocess.CompletedProcess:
    """Run a script in a process of its own, as a user does."""
    return subprocess.run(
        [sys.executable, folder / name, *map(str, arguments)],
        capture_output=True,
        text=True,
        cwd=folder,
        timeout=120,
    )
