"""Draws the pictures of docs/ and runs tour.ipynb, with default settings.

python benchmarks/pictures.py --data-dir PATH     twelve minutes on 2 cores
"""

import argparse
import io
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


def draw(script: ModuleType, name: str, *options: str) -> bytes:
    """One of the files that a training saves, run as a user does."""
    with tempfile.TemporaryDirectory() as out:
        if script.main(["--device", "cpu", "--out", out, *options]):
            raise SystemExit(1)
        return Path(out, name).read_bytes()


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
    (docs / "exp_curve.png").write_bytes(draw(exp_curve_gan, "samples.png"))
    (docs / "sine.gif").write_bytes(draw(sine_gan, "training.gif", "--animate"))
    (docs / "multiples_of_five.png").write_bytes(draw(multiples_of_five_gan, "samples.png"))
    run_notebook(ROOT / "tour.ipynb")
    whole = Image.new("RGB", (1600, 1120))
    for i, script in enumerate((dcgan, conditional_gan, wgan, cycle_gan)):
        data = () if script is wgan else ("--data-dir", options.data_dir)
        part = Image.open(io.BytesIO(draw(script, "samples.png", *data))).convert("RGB")
        part = part.resize((800, 560), Image.Resampling.LANCZOS)
        whole.paste(part, (800 * (i % 2), 560 * (i // 2)))
    whole.save(docs / "variants.png", optimize=True)


if __name__ == "__main__":
    main()
