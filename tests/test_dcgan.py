"""dcgan.py: pictures of all sizes; on several processes, started by torchrun."""

import os
import subprocess
import sys
from argparse import Namespace

import pytest
import torch
from conftest import ROOT, capped
from PIL import Image
from test_images import write_pictures

import common
import dcgan
import images


@pytest.mark.parametrize(("size", "channels"), [(28, 3), (64, 1), (128, 3)])
def test_pictures_of_all_sizes(size, channels, tmp_path, monkeypatch):
    capped(monkeypatch, dcgan, 1)
    data = write_pictures(tmp_path / "data", ["black", "red" if channels == 3 else "grey"])
    use = ["--quiet", "--device", "cpu", "--out", str(tmp_path)]
    learn = ["--data", str(data), "--size", str(size), "--epochs", "1", "--animate"]
    assert dcgan.main([*use, *learn]) == 0
    assert {path.name for path in tmp_path.glob("*.[pg][ni][gf]")} == {
        "copies.png", "samples.png", "training.gif"
    }  # fmt: skip
    generator, noise = torch.jit.load(tmp_path / "generator.pt"), torch.randn(3, 64)
    pictures, exported = generator(noise), torch.export.load(tmp_path / "generator.pt2").module()
    assert pictures.shape == (3, channels, size, size)
    assert 0 <= pictures.min() < pictures.max() <= 1
    assert torch.allclose(exported(noise), pictures, atol=1e-5)
    assert dcgan.main([*use, "--generate", "3", "--interpolate", "4"]) == 0
    with Image.open(tmp_path / "generated" / "00002.png") as picture:
        assert (picture.size, picture.mode) == ((size, size), "RGB" if channels == 3 else "L")
    assert (tmp_path / "interpolation.png").exists()


@pytest.mark.parametrize("shape", [(4, 32, 32), (3, 30, 30), (3, 32, 64)])
def test_pictures_of_other_shapes_are_refused(shape):
    with pytest.raises(ValueError, match="^a picture must have the shape"):
        dcgan.train(torch.rand(20, *shape), progress=False)


TWO = f"""
import sys
sys.path.insert(0, {str(ROOT)!r})
import common, dcgan, images, torch
labels, names = torch.arange(60) % 10, list("0123456789")
images.load_dataset = lambda *_: (torch.rand(60, 1, 28, 28), labels, names)
dcgan.BATCHES_PER_EPOCH, dcgan.WIDTH = 4, 8
common.save = lambda *_, **__: None  # it takes seconds
networks, build = [], dcgan.build_generator
dcgan.build_generator = lambda shape: networks.append(build(shape)) or networks[-1]
status = dcgan.main()
torch.save(networks[0].state_dict(), f"two.{{torch.distributed.get_rank()}}")
sys.exit(status)
"""


def test_two_processes_learn_the_same_and_one_saves(tmp_path):
    (tmp_path / "two.py").write_text(TWO)
    use = ["--epochs", "1", "--device", "cpu", "--out", tmp_path / "out"]
    torchrun = ["-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    done = subprocess.run(
        [sys.executable, *torchrun, tmp_path / "two.py", *use], capture_output=True, text=True,
        env=os.environ | {"OMP_NUM_THREADS": "1"}, timeout=120, check=False, cwd=tmp_path,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    assert "Grad strides" not in done.stderr
    assert done.stdout.count("Trained on 60 samples for 1 epochs") == 1
    assert (tmp_path / "out" / "samples.png").exists()
    weights, others = (torch.load(tmp_path / f"two.{rank}")["0.weight"] for rank in range(2))
    assert weights.equal(others)


@pytest.mark.parametrize(
    ("device", "expected"),
    [("cpu", ["gloo", "cpu"]), ("cuda", ["nccl", "cuda:1"]), ("cuda:1", ["nccl", "cuda:2"])],
)
def test_each_process_has_its_own_gpu(device, expected, monkeypatch):
    backends: list[str] = []
    monkeypatch.setenv("LOCAL_RANK", "1")
    monkeypatch.setattr(common, "choose_device", torch.device)
    monkeypatch.setattr("torch.distributed.init_process_group", backends.append)
    for name in ("torch.cuda.set_device", "atexit.register", "signal.signal"):
        monkeypatch.setattr(name, lambda *_: None)
    options = Namespace(device=device, resume=False)
    images.join_processes(options)
    assert [*backends, options.device] == expected
