"""What table_gan.py needs besides `common.py`: copy both along with the script.

A table is a tensor (n, columns) of numbers and of category indices.
"""

import argparse
import csv
import dataclasses
import json
import sys
from collections.abc import Iterator
from functools import cached_property
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

import common
from common import GENERATED, REAL, Batches, Failure, Figure, InputError, Training

MAX_AUGMENTED = 4096  # rows of a table whose numbers are augmented
PULL, SPREAD, CODE_NOISE = 0.6, 1.1, 0.4  # of a row's own value, of the Gaussian, of codes
MAX_AUC = 0.75  # of a forest that separates generated rows from held-out ones
MAX_CLOSER = 0.75  # share of rows closer to a training row than the median held-out row


def check_packages() -> None:
    """Failure if pandas or scikit-learn is missing, before a training that would be lost."""
    if not (find_spec("pandas") and find_spec("sklearn")):
        raise Failure("tables need two more packages; pip install pandas scikit-learn")


@dataclasses.dataclass
class Column:
    """A table column: categorical if `categories` is not empty, else numeric."""

    name: str
    categories: list[str] = dataclasses.field(default_factory=list)
    decimals: int | None = None  # of all its numbers; None if more than six

    @cached_property
    def codes(self) -> Tensor:
        """The code vector of each category (categories, width), of norm 2; (0, 1) for numbers."""
        count = len(self.categories)
        one_hot = torch.eye(count, max(count, 1))
        random = torch.randn(count, 16, generator=common.stream("codes of categories"))
        # Hundreds of one-hot columns would outweigh the numbers
        return 2 * (one_hot if count <= 16 else nn.functional.normalize(random))

    def nearest(self, codes: Tensor) -> Tensor:
        """The index (n,) of the category whose code is nearest to each of these (n, width)."""
        return (codes @ self.codes.to(codes).T).argmax(dim=1)

    def text(self, values: Tensor) -> list[str]:
        """Values (n,) as text: names of categories, numbers with the decimals of the data."""
        if self.categories:
            return [self.categories[int(index)] for index in values]
        style = "" if self.decimals is None else f".{self.decimals}f"
        return [format(number + 0.0, style) for number in values.tolist()]  # + 0.0: no -0


def encode(cells: Tensor, columns: list[Column]) -> Tensor:
    """A table (n, columns) as rows (n, width): codes of categories, normal scores of numbers."""
    parts, random = [], common.stream("ranks of equal numbers")
    for values, column in zip(cells.T, columns, strict=True):
        if column.categories:
            parts.append(column.codes[values.long()])
        else:
            mixed = torch.randperm(len(values), generator=random)  # breaks ties at random
            ranks = mixed[values[mixed].argsort()].argsort()
            parts.append(torch.special.ndtri((ranks.double() + 0.5) / len(values)).float()[:, None])
    return torch.cat(parts, dim=1)


def snap(rows: Tensor, columns: list[Column]) -> Tensor:
    """Encoded rows (n, width), each generated code replaced by the nearest code of a category."""
    parts = list(rows.split([column.codes.shape[1] for column in columns], dim=1))
    for i, column in enumerate(columns):
        if column.categories:
            parts[i] = column.codes.to(rows)[column.nearest(parts[i])]
    return torch.cat(parts, dim=1)


class Decoder(nn.Module):
    """Inverse of `encode`, (n, width) to (n, columns); numbers lie between the quantiles."""

    def __init__(self, cells: Tensor, columns: list[Column]) -> None:
        super().__init__()
        # One quantile per four rows (20 to 1,000), so that numbers are interpolated, not copied
        count = min(max(len(cells) // 4, min(len(cells), 20)), 1000)
        chosen = torch.linspace(0, len(cells) - 1, count).round().long()
        self.quantiles = nn.Buffer(cells.sort(dim=0).values[chosen].T.contiguous())
        described = zip(columns, map(count_decimals, cells.T), strict=True)
        self.columns = [dataclasses.replace(column, decimals=d) for column, d in described]

    def forward(self, rows: Tensor) -> Tensor:
        cells, parts = [], rows.split([column.codes.shape[1] for column in self.columns], dim=1)
        for part, numbers, column in zip(parts, self.quantiles, self.columns, strict=True):
            place = torch.special.ndtr(part[:, 0].to(numbers.dtype)) * (len(numbers) - 1)
            low, high = numbers[place.floor().long()], numbers[place.ceil().long()]
            between = low.lerp(high, place.frac()).double()
            if column.decimals is not None:
                between = between.round(decimals=column.decimals)
            cells.append(column.nearest(part) if column.categories else between)
        return torch.stack(cells, dim=1).to(self.quantiles.dtype)


def count_decimals(numbers: Tensor) -> int | None:
    """The fewest decimals that give all numbers (n,) exactly; None if more than six."""
    rounded = (numbers.double().round(decimals=d).to(numbers) for d in range(7))
    return next((d for d, each in enumerate(rounded) if each.equal(numbers)), None)


def augmented_batches(rows: Tensor, size: int, columns: list[Column]) -> Iterator[Tensor]:
    """Endless batches (size, width) around encoded rows, as a small table would be memorised.

    Numbers are drawn from a Gaussian fitted to a row's neighbours (Chapelle et al. 2000); codes of
    categories get noise.
    """
    is_numeric = torch.tensor([not each.categories for each in columns for _ in each.codes.T])
    numeric = is_numeric.nonzero().flatten().to(rows.device)
    numbers, indices = rows[:, numeric], torch.arange(len(rows), device=rows.device)
    neighbours = indices.unsqueeze(1)  # the row alone
    if len(rows) <= MAX_AUGMENTED:
        count = min(max(20, 3 * len(numeric) // 2), 100, len(rows))
        neighbours = torch.cdist(rows, rows).topk(count, largest=False).indices
    for chosen in Batches(indices, size):
        near = numbers[neighbours[chosen]]
        mean, weights = near.mean(dim=1), torch.randn(near.shape[:2], device=rows.device)
        moves = torch.einsum("nk,nkw->nw", weights, near - mean.unsqueeze(1))
        moves *= SPREAD / near.shape[1] ** 0.5
        batch = rows[chosen] + CODE_NOISE * torch.randn_like(rows[chosen])
        batch[:, numeric] = mean + PULL * (numbers[chosen] - mean) + moves
        yield batch


def hold_out(n: int, seed: int) -> Tensor:
    """Mask (n,) of the rows that networks are not trained on: an eighth, at least 10 or half."""
    order = torch.randperm(n, generator=common.stream("held-out rows", seed))
    return order < min(max(n // 8, 10), n // 2, 2048)


def two_sample_auc(real: Tensor, generated: Tensor) -> float:
    """ROC AUC of a forest, generated rows (n, features) against real ones (Lopez-Paz 2017)."""
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    some = real[:2000], generated[: min(2000, 10 * len(real))]
    is_real = np.repeat([True, False], [len(rows) for rows in some])
    forest = RandomForestClassifier(min_samples_leaf=3, class_weight="balanced", random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    return cross_val_score(forest, torch.cat(some), is_real, scoring="roc_auc", cv=folds).mean()


def share_closer_than_holdout(train: Tensor, held_out: Tensor, generated: Tensor) -> float:
    """Share of generated rows (n, features) closer to a training row than the median held-out."""
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=1).fit(train)
    real, distances = (nearest.kneighbors(rows[:2000])[0] for rows in (held_out, generated))
    return (distances < np.median(real)).mean()


def judge(training: Training, cells: Tensor, columns: list[Column], held_out: Tensor) -> Training:
    """Decode what the generator gives, by all rows; check categories, near-copies and AUC."""
    decoder = Decoder(cells, columns)
    samples = training.samples = decoder(training.samples)
    for epoch, (row, rows) in training.snapshots.items():
        training.snapshots[epoch] = row, decoder(rows)
    training.generator = nn.Sequential(training.generator, decoder).eval()
    about = json.dumps([dataclasses.asdict(column) for column in decoder.columns]).encode()
    training.generator.register_buffer("columns", torch.tensor(list(about), dtype=torch.uint8))
    names = [f"{each.name} {category}" for each in columns for category in each.categories]
    if names:
        counts = torch.tensor([len(column.categories) for column in columns])
        first = counts.cumsum(dim=0) - counts  # index of a column's first category in `names`
        real, generated = ((first + x.long())[:, counts > 0].flatten() for x in (cells, samples))
        training.check_missing(real, generated, names)
    if held_out.sum() >= 10:
        scaled = map(common.Standardize(cells), (cells[~held_out], cells[held_out], samples))
        share, auc = share_closer_than_holdout(*scaled), two_sample_auc(cells[held_out], samples)
        words = f"{share:.0%} are closer to a training row than the median held-out row"
        training.check(share <= MAX_CLOSER, f"{words} (50% is right)")
        words = f"a forest separates them from held-out rows with AUC {auc:.2f} (0.5: it cannot)"
        training.check(auc <= MAX_AUC, words)
        training.metrics |= {"copied": share, "auc": auc}
    return training


def plot_table(cells: Tensor, columns: list[Column], training: Training) -> Figure:
    """Plots up to 6 columns of real `cells` (n, columns) and generated ones, and correlations."""
    across = 2 if len(columns) <= 4 else 3
    panels = [str(i) if i < len(columns) else "." for i in range(2 * across)]
    top = [[*panels[:across], "real"], [*panels[across:], "generated"]]
    figure, axes = common.plot_history(training, top)
    for i, column in enumerate(columns[:6]):
        axis, names = axes[str(i)], column.categories
        values = [rows[:, i].numpy() for rows in (cells, training.samples)]
        bins = np.arange(len(names) + 1) - 0.5 if names else 20
        axis.hist(values, bins, density=True, color=[REAL, GENERATED])
        axis.set_title(column.name[:20])
        if names:
            labels = [name[:9] for name in names[:8]]
            axis.set_xticks(range(len(labels)), labels, rotation=20)
    axes["0"].legend(["real", "generated"])
    for name, rows in (("real", cells), ("generated", training.samples)):
        correlations = torch.corrcoef(rows.T).reshape(len(columns), -1).numpy()
        figure.colorbar(axes[name].imshow(correlations, "RdBu", vmin=-1, vmax=1))
        axes[name].set_title(f"correlations, {name}")
    return figure


def read_table(path: Path, named: list[str] | None = None) -> tuple[Tensor, list[Column]]:
    """The table in a CSV file with a header, and its columns; errors name the line.

    Text columns, and numeric ones in `named` (by default: with up to 10 values), are categorical.
    """
    import pandas as pd

    try:
        with path.open(encoding="utf-8-sig") as file:
            separator = max(",;\t", key=file.readline().count)
            file.seek(0)
            text: dict = {"dtype": str, "na_filter": False, "skip_blank_lines": False}
            lines = pd.read_csv(file, sep=separator, header=None, **text)
    except (OSError, ValueError) as error:  # pandas' own errors are ValueErrors
        reason = getattr(error, "strerror", None) or str(error).strip()
        raise Failure(f"cannot read {path}: {reason}") from None
    lines = lines.apply(lambda cells: cells.str.strip())
    header, rows = lines.iloc[0], lines.iloc[1:]
    rows = rows[(rows != "").any(axis=1)].set_axis(header, axis=1)  # without blank lines
    if rows.empty or pd.to_numeric(header, errors="coerce").notna().all():
        raise InputError(f"{path}: expected a header with a name for each column, and rows")
    if unknown := {*(named or ())} - {*header}:
        raise InputError(f"--categories: {path} has no column {min(unknown)!r}")
    columns, data, point = [], [], "," if separator == ";" else "."
    for name, cells in rows.items():
        numbers = pd.to_numeric(cells.str.replace(point, "."), errors="coerce").astype(float)
        few = cells.nunique() <= min(10, len(cells) / 2) if named is None else name in named
        if few or numbers.count() <= (cells != "").sum() / 2:
            numbers, names = pd.factorize(cells, sort=True)
            if len(names) > 1000:
                raise InputError(f"{path}: column {name!r} has over 1,000 categories; leave it out")
            columns.append(Column(name, list(names)))
        elif numbers.hasnans:
            row = numbers.isna().idxmax()
            reason = f"expected a number, found {cells[row][:40]!r}"
            raise InputError(f"{path}, line {row + 1}, column {name!r}: {reason}")
        else:
            columns.append(Column(name))
        data.append(torch.tensor(np.asarray(numbers, dtype=np.float64)))
    return torch.stack(data, dim=1), columns


def use_generator(options: argparse.Namespace, latent_dim: int) -> int:
    """Serves --generate and --interpolate; returns the exit status."""
    generator = common.load_model(options.out / "generator.pt", latent_dim)
    about = bytes(dict(generator.named_buffers())["columns"])
    columns = [Column(**column) for column in json.loads(about)]
    names = [column.name for column in columns]
    if options.generate:
        writer = csv.writer(sys.stdout, lineterminator="\n")
        writer.writerow(names)
        for rows in common.generate(generator, latent_dim, options):
            cells = [column.text(values) for column, values in zip(columns, rows.T, strict=True)]
            writer.writerows(zip(*cells, strict=True))
    if options.interpolate:
        common.save_walk(generator, latent_dim, options, names)
    return 0
