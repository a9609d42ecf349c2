"""Draws the pictures of docs/ and tour.ipynb anew, from default runs.

python benchmarks/pictures.py --data-dir PATH     five minutes on 2 cores
"""

import argparse
import shutil
import tempfile
import types
from pathlib import Path

import nbclient
import nbformat
from measure import ROOT

import digits_gan
import exp_curve_gan
import fashion_classifier
import multiples_of_five_gan
import sine_gan

DOCS = ROOT / "docs"


def draw(script: types.ModuleType, pictures: dict[str, str], *options: str) -> None:
    """Train as a user does, and keep what is saved: its name, and that of the README's picture."""
    with tempfile.TemporaryDirectory() as folder:
        use = ["--device", "cpu", "--out", folder, *options]
        runs = [use]
        if "interpolation.png" in pictures:
            runs.append([*use, "--interpolate", "12"])
        if any(script.main(run) for run in runs):
            raise SystemExit(1)
        for saved, picture in pictures.items():
            shutil.copyfile(Path(folder, saved), DOCS / picture)


def run_notebook(path: Path) -> None:
    """Run the notebook as a reader does, and keep what it shows, but for progress bars."""
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(path.parent)}}).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    nbformat.write(notebook, path)


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data-dir", default="data", help="of the two image scripts (data)")
    images = ("--data-dir", parser.parse_args().data_dir)
    draw(exp_curve_gan, {"samples.png": "exp_curve.png"})
    draw(sine_gan, {"training.gif": "sine.gif"}, "--animate")
    draw(multiples_of_five_gan, {"samples.png": "multiples_of_five.png"})
    draw(fashion_classifier, {"samples.png": "clothes.png"}, *images)
    walk = {"samples.png": "digits.png", "interpolation.png": "digits_walk.png"}
    draw(digits_gan, walk, *images)
    run_notebook(ROOT / "tour.ipynb")


if __name__ == "__main__":
    main()
