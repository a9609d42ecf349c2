"""Draws the film of README and runs tour.ipynb, with default settings.

python benchmarks/pictures.py     two minutes on 2 cores
"""

import argparse
import tempfile
from pathlib import Path

import measure
import nbclient
import nbformat

import sine_gan

FILM = measure.ROOT / "docs" / "sine.gif"
NOTEBOOK = measure.ROOT / "tour.ipynb"


def film() -> bytes:
    """The animation of sine_gan.py."""
    with tempfile.TemporaryDirectory() as out:
        status = sine_gan.main(["--device=cpu", f"--out={out}", "--animate"])
        if status != 0:
            raise SystemExit(status)
        return Path(out, "training.gif").read_bytes()


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
    """Draw the film, and run the notebook."""
    argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    ).parse_args()
    FILM.write_bytes(film())
    run_notebook()


if __name__ == "__main__":
    main()
