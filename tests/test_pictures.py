"""dcgan.py and conditional_gan.py: pictures of all sizes, their labels, and several processes."""

from argparse import Namespace

import numpy as np
import pytest
import torch
from conftest import capped, own_data
from PIL import Image
from test_images import write_pictures
from torch.distributed.launcher.api import LaunchConfig, elastic_launch

import common
import conditional_gan
import dcgan
import images


@pytest.mark.parametrize(("size", "channels"), [(28, 3), (64, 1), (128, 3)])
def test_pictures_of_all_sizes(size, channels, tmp_path, monkeypatch):
    capped(monkeypatch, dcgan, 1, export=size == 28)
    data = write_pictures(tmp_path / "data", ["black", "red" if channels == 3 else "grey"])
    use = ["--quiet", "--device", "cpu", "--out", str(tmp_path)]
    learn = ["--data", str(data), "--size", str(size), "--epochs", "1", "--animate"]
    assert dcgan.main([*use, *learn]) == 0
    assert {path.name for path in tmp_path.glob("*.[pg][ni][gf]")} == {
        "copies.png", "samples.png", "training.gif"
    }  # fmt: skip
    generator, noise = torch.jit.load(tmp_path / "generator.pt"), torch.randn(3, 64)
    pictures = generator(noise)
    assert pictures.shape == (3, channels, size, size)
    assert 0 <= pictures.min() < pictures.max() <= 1
    if size == 28:
        exported = torch.export.load(tmp_path / "generator.pt2").module()
        assert torch.allclose(exported(noise), pictures, atol=1e-5)
    assert dcgan.main([*use, "--generate", "3", "--interpolate", "4"]) == 0
    with Image.open(tmp_path / "generated" / "00002.png") as picture:
        assert (picture.size, picture.mode) == ((size, size), "RGB" if channels == 3 else "L")
    assert (tmp_path / "interpolation.png").exists()


def test_pictures_have_the_labels_of_their_subfolders(tmp_path, monkeypatch, capsys):
    capped(monkeypatch, conditional_gan, 1)
    data = write_pictures(tmp_path / "data", ["Blue", "red"])
    use = ["--quiet", "--device", "cpu", "--out", str(tmp_path)]
    assert conditional_gan.main([*use, "--data", str(data), "--epochs", "1"]) == 0
    generator = torch.jit.load(tmp_path / "generator.pt")
    noise = torch.randn(40, 64, generator=common.stream("samples", 0))
    for label, one_hot in (("blue", [1.0, 0.0]), ("red", [0.0, 1.0]), ("1", [0.0, 1.0])):
        asked = ["--generate", "40", "--format", "npz", "--label", label]
        assert conditional_gan.main([*use, *asked]) == 0
        due = generator(torch.cat([noise, torch.tensor(one_hot).expand(40, 2)], dim=1))
        pixels = torch.from_numpy(np.load(tmp_path / "generated.npz")["images"])
        assert torch.allclose(pixels / 255, due.permute(0, 2, 3, 1), atol=0.003)
    capsys.readouterr()
    assert conditional_gan.main([*use, "--generate", "4", "--label", "green"]) == 2
    assert capsys.readouterr().err.endswith("--label can be Blue, red, not green\n")


def test_real_samples_of_digits_have_their_labels(data_dir):
    (rows,) = own_data(conditional_gan, data_dir)
    data, labels = images.load_images("mnist", data_dir)
    pixels, label = rows.split([784, 10], dim=1)
    distance, nearest = torch.cdist(pixels, data).min(dim=1)
    assert distance.max() < 1e-2
    assert label.argmax(dim=1).equal(labels[nearest])


def learn(out):
    """A short training in one process of several: the first weights of its generator."""
    networks, build = [], dcgan.build_generator
    data = torch.rand(60, 1, 28, 28), torch.arange(60) % 2, ["a", "b"]
    with pytest.MonkeyPatch.context() as patch:
        capped(patch, dcgan, 4)
        patch.setattr(dcgan, "build_generator", lambda x: networks.append(build(x)) or networks[0])
        patch.setattr(images, "load_dataset", lambda *_: data)
        assert dcgan.main(["--epochs", "1", "--device", "cpu", "--out", out]) == 0
    return networks[0][0].weight.tolist()


def test_two_processes_learn_the_same_and_one_saves(tmp_path, monkeypatch, capfd):
    monkeypatch.setattr("signal.signal", lambda *_: None)  # torch would leave its own handlers
    config = LaunchConfig(
        1, 1, nproc_per_node=2, run_id="two", rdzv_backend="c10d", rdzv_endpoint="localhost:0",
        max_restarts=0, start_method="spawn" if torch.cuda.is_available() else "fork",
    )  # fmt: skip
    weights = elastic_launch(config, learn)(str(tmp_path))  # as torchrun does it
    assert weights[0] == weights[1]
    printed = capfd.readouterr()
    assert printed.out.count("Trained on 60 samples for 1 epochs") == 1
    assert "Grad strides" not in printed.err
    assert (tmp_path / "generator.pt").exists()


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
