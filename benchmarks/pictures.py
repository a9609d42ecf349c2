"""Draws the pictures of docs/ and runs tour.ipynb, with default settings.

python benchmarks/pictures.py --data-dir PATH     twelve minutes on 2 cores
"""

import argparse
import importlib
import tempfile
from pathlib import Path

import measure
import nbclient
import nbformat

DOCS, NOTEBOOK = measure.ROOT / "docs", measure.ROOT / "tour.ipynb"


def draw(script: str, *options: str, file: str = "samples.png") -> bytes:
    """One of the files that a training saves, run as a user does."""
    with tempfile.TemporaryDirectory() as out:
        if importlib.import_module(script).main(["--device", "cpu", "--out", out, *options]):
            raise SystemExit(1)
        return Path(out, file).read_bytes()


def main() -> None:
    """Draw all of them, and run the notebook: it keeps what it shows, without progress bars."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--data-dir", default="data", help="folder of the images (%(default)s)")
    data = ("--data-dir", parser.parse_args().data_dir)
    (DOCS / "exp_curve.png").write_bytes(draw("exp_curve_gan"))
    (DOCS / "sine.gif").write_bytes(draw("sine_gan", "--animate", file="training.gif"))
    (DOCS / "multiples_of_five.png").write_bytes(draw("multiples_of_five_gan"))
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(measure.ROOT)}}
    nbclient.NotebookClient(notebook, resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [each for each in cell.outputs if each.get("name") != "stderr"]
    nbformat.write(notebook, NOTEBOOK)
    variants = {"dcgan": data, "conditional_gan": data, "wgan": (), "cycle_gan": data}
    pictures = (draw(script, *options) for script, options in variants.items())
    measure.save_four(DOCS / "variants.png", pictures)


if __name__ == "__main__":
    main()
