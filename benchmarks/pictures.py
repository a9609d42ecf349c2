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

DOCS = measure.ROOT / "docs"
NOTEBOOK = measure.ROOT / "tour.ipynb"


def draw(script: str, *options: str, file: str = "samples.png") -> bytes:
    """One of the files that a training saves, run as a user does."""
    with tempfile.TemporaryDirectory() as out:
        status = importlib.import_module(script).main(["--device=cpu", f"--out={out}", *options])
        if status != 0:
            raise SystemExit(status)
        return Path(out, file).read_bytes()


def run_notebook() -> None:
    """Run the notebook: it keeps what it shows, without progress bars."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    resources = {"metadata": {"path": str(measure.ROOT)}}
    nbclient.NotebookClient(notebook, resources=resources).execute()
    for cell in notebook.cells:
        cell.metadata = {}
        if cell.cell_type == "code":
            cell.outputs = [output for output in cell.outputs if output.get("name") != "stderr"]
    nbformat.write(notebook, NOTEBOOK)


def main() -> None:
    """Draw all of them, and run the notebook."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument(
        "--data-dir", metavar="DIR", default="data", help="folder of the images (%(default)s)"
    )
    data_dir = f"--data-dir={parser.parse_args().data_dir}"
    (DOCS / "exp_curve.png").write_bytes(draw("exp_curve_gan"))
    (DOCS / "sine.gif").write_bytes(draw("sine_gan", "--animate", file="training.gif"))
    (DOCS / "multiples_of_five.png").write_bytes(draw("multiples_of_five_gan"))
    run_notebook()
    variants = [
        draw("dcgan", data_dir),
        draw("conditional_gan", data_dir),
        draw("wgan"),
        draw("cycle_gan", data_dir),
    ]
    measure.save_four(DOCS / "variants.png", variants)


if __name__ == "__main__":
    main()
