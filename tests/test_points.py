"""Points and integers: their data, unusual data, users' files, Jupyter."""

import multiprocessing
import os
import sys
from pathlib import Path

import pytest
import torch
from helpers import DEVICES, POINT_GANS, ROOT, seeded, shorten

import cli
import common
import exp_curve_gan
import multiples_of_five_gan
import sine_gan
import wgan

# --- Data --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("script", "low", "high", "curve"),
    [(exp_curve_gan, 0, 50, lambda x: 1.08**x), (sine_gan, -5, 5, torch.sin)],
)
def test_real_samples_lie_on_a_curve(script, low, high, curve):
    x, y = script.real_samples(1000).T
    assert low <= x.min() < x.max() <= high
    assert x.max() - x.min() > 0.98 * (high - low)
    assert torch.allclose(y, curve(x))


def test_real_samples_are_eight_clusters_or_multiples(monkeypatch):
    points = wgan.real_samples(1000)
    assert torch.allclose(points.norm(dim=1), torch.tensor(wgan.RADIUS), atol=0.3)
    eighths = (torch.atan2(points[:, 1], points[:, 0]) / (torch.pi / 4)).round() % 8
    assert eighths.long().bincount().min() > 80
    for step in (5, 7, 3):
        monkeypatch.setattr(multiples_of_five_gan, "MULTIPLE_OF", step)
        integers = common.one_hot_decode(multiples_of_five_gan.real_samples(2000))
        assert set(integers.tolist()) == set(range(0, 100, step))


ROWS = torch.randn(60, 2, generator=seeded(0))
UNUSUAL = {
    "one row": torch.ones(1, 2),
    "two rows": torch.eye(2),
    "equal rows": torch.full((60, 2), 0.1),
    "a constant column": torch.stack([ROWS[:, 0], torch.full((60,), -7.0)], dim=1),
    "one column": ROWS[:, :1],
    "five columns": ROWS.repeat(1, 3)[:, :5],
    "tiny numbers": 1e-30 * ROWS,
    "huge numbers": 1e30 * ROWS,
    "denormal numbers": 1e-40 * ROWS,
    "duplicates": ROWS[:3].repeat(20, 1),
    "an outlier": torch.cat([ROWS, 1e4 * torch.eye(2)]),
    "numbers that float32 cannot hold": 1.7e9 + ROWS.double(),
}


@pytest.mark.parametrize("script", [exp_curve_gan, wgan])
@pytest.mark.parametrize("name", UNUSUAL)
def test_unusual_points_are_learned(name, script, monkeypatch):
    shorten(monkeypatch, script, 2)
    data = UNUSUAL[name]
    samples = script.train(data, epochs=1, progress=False).samples
    assert samples.dtype == data.dtype
    assert samples.isfinite().all()
    constant = (data == data[0]).all(dim=0)
    assert (samples[:, constant] == data[0, constant]).all()
    if data.dtype == torch.float64:
        assert len(samples[:, 0].unique()) > 10_000


@pytest.mark.parametrize("rows", [ROWS, torch.zeros(9, 5), torch.ones(9, 2)])
def test_rows_that_are_not_one_hot_are_refused(rows):
    with pytest.raises(common.InputError, match="^data must be one-hot rows"):
        multiples_of_five_gan.train(rows, epochs=1, progress=False)


POINTS = ("a,b\n\n" + "1,-2.5\n3,4\n" * 50, "1,2,3\n", "line 1: expected 2 finite number")
INTEGERS = ("3\n4\n" * 50, "3\n100\n", "line 2: expected an integer in 0..99")


@pytest.mark.parametrize("script", [*POINT_GANS, multiples_of_five_gan])
def test_learns_a_file(script, run, tmp_path, monkeypatch):
    shorten(monkeypatch, script, 1)
    monkeypatch.setattr(cli, "model_files", lambda *_: {})  # it takes seconds
    right, wrong, complaint = POINTS if script in POINT_GANS else INTEGERS
    file = tmp_path / "data.csv"
    file.write_text(right)
    assert "Trained on 100 samples" in run(script, "--data", file, "--epochs", 1).out
    file.write_text(wrong)
    assert complaint in run(script, "--data", file, "--epochs", 1, status=2).err


# --- Learning ----------------------------------------------------------------------------------


@pytest.mark.parametrize("device", DEVICES)
@pytest.mark.parametrize(("values", "depth"), [(range(0, 100, 5), 100), ([1, 2, 7], 8)])
def test_a_few_epochs_find_the_integers(values, depth, device):
    integers = torch.tensor(list(values))
    data = common.one_hot_encode(integers.repeat(1000 // len(integers)), depth)
    training = multiples_of_five_gan.train(data, device=device, epochs=8, progress=False)
    rows = training.generator(torch.randn(5000, depth))
    assert (rows.sum(dim=1) == 1).all()
    counts = common.one_hot_decode(rows).bincount(minlength=depth)
    assert counts[integers].sum() > 0.95 * 5000
    assert counts[integers].min() > 0.6 * 5000 / len(integers)


def test_the_estimate_of_the_critic_falls_with_the_distance():
    data = wgan.real_samples(2048, seeded(0))
    history = wgan.train(data, epochs=5, progress=False).history
    assert history[-1].distance < 0.5 * history[0].distance
    assert -history[-1].discriminator_loss < 0.5 * -history[0].discriminator_loss


def test_a_training_without_progress_ends(monkeypatch):
    shorten(monkeypatch, sine_gan, 1)
    settings = {"epochs": 100, "patience": 3, "progress": False}
    training = sine_gan.train(sine_gan.real_samples(64), lr=1e-12, **settings)
    assert len(training.history) == 1 + 3 + sine_gan.COOLDOWN
    assert not training.interrupted


# --- Jupyter -----------------------------------------------------------------------------------

SETUP = """
import functools
import cli, sine_gan
sine_gan.train = functools.partial(sine_gan.train, epochs=2)
cli.model_files = lambda *_: {}  # it takes seconds
sine_gan.main()  # not with the arguments of Jupyter
"""


def pictures(cells):
    """The kinds of the pictures that cells show, in their order."""
    kinds = []
    for cell in cells:
        for output in cell.get("outputs", []):
            kinds += [kind for kind in output.get("data", {}) if kind.startswith("image/")]
    return kinds


def printed(cell, name):
    """What a cell printed on "stdout" or "stderr"."""
    return "".join(output.text for output in cell.outputs if output.get("name") == name)


@pytest.mark.parametrize("columns", [1, 3, 10])
@pytest.mark.parametrize("script", POINT_GANS)
def test_any_number_of_columns_is_learned_drawn_and_generated(
    script, columns, run, tmp_path, monkeypatch
):
    def real_samples(n, generator=None):
        return torch.rand(n, columns, generator=generator)

    shorten(monkeypatch, script)
    monkeypatch.setattr(script, "real_samples", real_samples)
    run(script, "--epochs", 1, "--animate")
    assert (tmp_path / "samples.png").exists()
    assert (tmp_path / "training.gif").exists()
    header, *lines = run(script, "--generate", 3, "--interpolate", 5).out.splitlines()
    assert header.split(",") == [f"column {i + 1}" for i in range(columns)]
    assert [len(line.split(",")) for line in lines] == [columns] * 3
    saved = torch.jit.load(tmp_path / "generator.pt")
    latent_dim = max(script.LATENT_DIM, columns)
    assert dict(saved.named_buffers())["inputs"].tolist() == [latent_dim]
    assert saved(torch.randn(4, latent_dim)).shape == (4, columns)


def test_training_leaves_the_settings_of_torch_alone_and_ignores_them(monkeypatch):
    shorten(monkeypatch, sine_gan)
    data = sine_gan.real_samples(100, seeded(0))
    torch.manual_seed(1)
    expected = torch.rand(3)
    torch.manual_seed(1)
    torch.set_default_dtype(torch.float64)
    try:
        with torch.autocast("cpu"), torch.inference_mode():
            training = sine_gan.train(data, epochs=2, progress=False)
        assert torch.get_default_dtype() == torch.float64
        assert torch.rand(3, dtype=torch.float32).equal(expected)
    finally:
        torch.set_default_dtype(torch.float32)
    plain = sine_gan.train(data, epochs=2, progress=False)
    assert training.samples.equal(plain.samples)


def test_no_seed_is_another_seed_each_time(monkeypatch):
    shorten(monkeypatch, sine_gan)
    data = sine_gan.real_samples(100, seeded(0))
    first, second = (sine_gan.train(data, seed=None, epochs=1, progress=False) for _ in range(2))
    assert first.metrics["seed"] != second.metrics["seed"]
    again = sine_gan.train(data, seed=first.metrics["seed"], epochs=1, progress=False)
    assert again.samples.equal(first.samples)
    with pytest.raises(common.InputError, match="seed"):
        sine_gan.train(data, seed="1")


ALL_METHODS = multiprocessing.get_all_start_methods()  # Windows cannot fork
MANY_TRAININGS = """
import multiprocessing, resource, sys
import sine_gan, torch

def learn(seed):
    sine_gan.BATCHES_PER_EPOCH = 2
    return sine_gan.train(sine_gan.real_samples(60), seed=seed, epochs=3, progress=False)

if __name__ == "__main__":
    resource.setrlimit(resource.RLIMIT_NOFILE, (128, 128))
    torch.set_num_threads(2)
    learn(20)
    with multiprocessing.get_context(sys.argv[1]).Pool(2) as pool:
        print(len([training.verdict for training in pool.map(learn, range(int(sys.argv[2])))]))
"""


@pytest.mark.parametrize("method", sorted({"spawn", "fork"} & set(ALL_METHODS)))
def test_many_trainings_come_back_from_other_processes(method, tmp_path, start):
    """They have few open files, and a forked process does not wait for threads of its parent."""
    pytest.importorskip("resource")
    count = "20" if method == "spawn" else "4"
    program = tmp_path / "many.py"
    program.write_text(MANY_TRAININGS)
    process = start(
        [sys.executable, "-W", "ignore", program, method, count],
        env=os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"},
    )
    assert process.communicate(timeout=280)[0].strip().endswith(count)


def test_the_notebook_and_the_scripts_run_in_jupyter(tmp_path, monkeypatch):
    nbclient = pytest.importorskip("nbclient")
    nbformat = pytest.importorskip("nbformat")
    pytest.importorskip("ipykernel")
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    notebook = nbformat.read(ROOT / "tour.ipynb", as_version=4)
    saved = pictures(notebook.cells)
    assert saved == ["image/gif", *["image/png"] * 4]
    main = nbformat.v4.new_code_cell(SETUP)
    generate = nbformat.v4.new_code_cell(f"%run {ROOT / 'sine_gan.py'} --generate 3")
    tour = notebook.cells
    notebook.cells = [main, *tour, generate]
    place = {"metadata": {"path": str(tmp_path)}}
    client = nbclient.NotebookClient(
        notebook, timeout=300, startup_timeout=300, resources=place, shutdown_kernel="immediate"
    )
    client.execute()
    assert pictures(tour) == saved
    assert "Trained on 2,048 samples" in printed(main, "stdout")
    missing = Path("outputs", "sine", "generator.pt")
    assert f"cannot read {missing}" in printed(generate, "stderr")
    assert "Warning" not in printed(main, "stderr") + printed(generate, "stderr")
