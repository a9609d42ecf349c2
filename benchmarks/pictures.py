"""Draws the pictures of docs/ and runs tour.ipynb, with default settings.

python benchmarks/pictures.py --data-dir PATH     twelve minutes on 2 cores
"""

import argparse
import tempfile
from pathlib import Path
from types import ModuleType

import nbclient
import nbformat
from measure import ROOT
from PIL import Image

import conditional_gan
import cycle_gan
import dcgan
import exp_curve_gan
import multiples_of_five_gan
import sine_gan
import wgan


def draw(script: ModuleType, name: str, target: Path, *options: str) -> Path:
    """Train as a user does, and keep one of the saved files."""
    with tempfile.TemporaryDirectory() as out:
        if script.main(["--device", "cpu", "--out", out, *options]):
            raise SystemExit(1)
        target.write_bytes(Path(out, name).read_bytes())
    return target


def run_notebook(path: Path) -> None:
    """Run a notebook, and keep what it shows, without progress bars."""
    notebook = nbformat.read(path, as_version=4)
    nbclient.NotebookClient(notebook, resources={"metadata": {"path": str(ROOT)}}).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    nbformat.write(notebook, path)


def main() -> None:
    """Draw all of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", default="data", help="folder of the images (%(default)s)")
    options = parser.parse_args()
    docs = ROOT / "docs"
    draw(exp_curve_gan, "samples.png", docs / "exp_curve.png")
    draw(sine_gan, "training.gif", docs / "sine.gif", "--animate")
    draw(multiples_of_five_gan, "samples.png", docs / "multiples_of_five.png")
    run_notebook(ROOT / "tour.ipynb")
    whole = Image.new("RGB", (1600, 1120))
    for i, script in enumerate((dcgan, conditional_gan, wgan, cycle_gan)):
        data = () if script is wgan else ("--data-dir", options.data_dir)
        part = Image.open(draw(script, "samples.png", docs / "variants.png", *data)).convert("RGB")
        part = part.resize((800, 560), Image.Resampling.LANCZOS)
        whole.paste(part, (800 * (i % 2), 560 * (i // 2)))
    whole.save(docs / "variants.png", optimize=True)


if __name__ == "__main__":
    main()
