"""Draws the pictures of docs/ and tour.ipynb again, from default runs.

python benchmarks/pictures.py --data-dir PATH     twelve minutes on 2 cores
"""

import argparse
import shutil
import tempfile
import types
from pathlib import Path

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

DOCS = ROOT / "docs"


def draw(script: types.ModuleType, name: str, *options: str) -> Path:
    """Train as a user does, and keep one file of what is saved, under the script's name."""
    kept = DOCS / f"{script.__name__.removesuffix('_gan')}{Path(name).suffix}"
    with tempfile.TemporaryDirectory() as folder:
        if script.main(["--device", "cpu", "--out", folder, *options]):
            raise SystemExit(1)
        shutil.copyfile(Path(folder, name), kept)
    return kept


def draw_variants(data_dir: str) -> None:
    """The pictures of the variants, as one."""
    use = ("samples.png", "--data-dir", data_dir)
    files = [draw(dcgan, *use), draw(conditional_gan, *use), draw(wgan, "samples.png")]
    files.append(draw(cycle_gan, *use))
    whole = Image.new("RGB", (1600, 1120))
    for i, file in enumerate(files):
        part = Image.open(file).convert("RGB").resize((800, 560), Image.Resampling.LANCZOS)
        whole.paste(part, (800 * (i % 2), 560 * (i // 2)))
        file.unlink()
    whole.save(DOCS / "variants.png", optimize=True)


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
    parser.add_argument("--data-dir", default="data", help="of the image scripts (data)")
    both = ["points", "variants"]
    parser.add_argument("--only", nargs="+", choices=both, default=both, help="these pictures")
    options = parser.parse_args()
    if "points" in options.only:
        draw(exp_curve_gan, "samples.png")
        draw(sine_gan, "training.gif", "--animate")
        draw(multiples_of_five_gan, "samples.png")
        run_notebook(ROOT / "tour.ipynb")
    if "variants" in options.only:
        draw_variants(options.data_dir)


if __name__ == "__main__":
    main()
