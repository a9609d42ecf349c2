"""What table_gan.py needs besides `common.py`: copy both along with the script.

Sections: columns and their codes, batches, checks, plot, files. A table is a tensor (n, columns):
numbers as they are, categories as indices into the list of their column.
"""

import csv
import functools
import io
import json
import sys
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor, nn

import common
from common import GENERATED, LARGEST, REAL, Batches, Failure, Figure, InputError, Training

# --- Columns and their codes -------------------------------------------------------------------


class Column(NamedTuple):
    """A table column: categorical if `categories` is not empty, else numeric."""

    name: str
    categories: Sequence[str] = ()
    decimals: int | None = None  # of all its numbers; None if more than six

    @property
    def codes(self) -> Tensor:
        """The code vector of each category: (categories, width)."""
        return category_codes(len(self.categories))

    @property
    def width(self) -> int:
        """The number of columns of encoded rows that it takes."""
        return self.codes.shape[1] if self.categories else 1


@functools.cache
def category_codes(count: int) -> Tensor:
    """Code vectors (count, at most 16) of norm 2: one-hot up to 16 categories, else random.

    Hundreds of one-hot columns would outweigh the numbers.
    """
    random = torch.randn(count, 16, generator=common.stream("codes of categories"))
    return 2 * (torch.eye(count) if count <= 16 else nn.functional.normalize(random))


def check(data: object, columns: Sequence[Column] | None) -> tuple[Tensor, Sequence[Column]]:
    """The table (n, columns) and its columns, numeric if not given; ValueError if they differ."""
    try:
        import sklearn.ensemble  # noqa: F401 - for `judge`, after a training that would be lost
    except ImportError:
        raise Failure("tables need scikit-learn; pip install scikit-learn") from None
    cells = common.as_rows(data)
    columns = columns or [Column(f"x{i + 1}") for i in range(cells.shape[1])]
    if len(columns) != cells.shape[1]:
        raise InputError(f"data have {cells.shape[1]} columns, but {len(columns)} are described")
    return cells, columns


def encode(cells: Tensor, columns: Sequence[Column]) -> Tensor:
    """A table (n, columns) as rows (n, width): normal scores of numbers, codes of categories.

    Each number is replaced by the normal score of its rank, so that only the dependence between
    columns is left to learn.
    """
    parts, random = [], common.stream("ranks of equal numbers")
    for values, column in zip(cells.T, columns, strict=True):
        if column.categories:
            common.one_hot_encode(values.long(), len(column.codes))  # ValueError for others
            parts.append(column.codes[values.long()])
        else:
            mixed = torch.randperm(len(values), generator=random)  # breaks ties at random
            ranks = torch.empty(len(values), dtype=torch.double)
            ranks[mixed[values[mixed].argsort()]] = torch.arange(len(values)).double() + 0.5
            parts.append(torch.special.ndtri(ranks / len(values)).float().unsqueeze(1))
    return torch.cat(parts, dim=1)


def nearest_category(codes: Tensor, column: Column) -> Tensor:
    """The index (n,) of the category whose code is nearest to each of some codes (n, width)."""
    return (codes @ column.codes.to(codes).T).argmax(dim=1)


class SnapCategories(nn.Module):
    """Replaces each generated code in rows (n, width) by the nearest code of a category."""

    def __init__(self, columns: Sequence[Column]) -> None:
        super().__init__()
        self.columns = columns

    def forward(self, rows: Tensor) -> Tensor:
        parts = list(rows.split([column.width for column in self.columns], dim=1))
        for i, column in enumerate(self.columns):
            if column.categories:
                parts[i] = column.codes.to(rows)[nearest_category(parts[i], column)]
        return torch.cat(parts, dim=1)


class Decoder(nn.Module):
    """Inverse of `encode`, (n, width) to (n, columns); numbers lie between quantiles of the data.

    Its buffer `about` holds the columns as JSON, for whoever loads a saved generator.
    """

    quantiles: Tensor  # (columns, quantiles)

    def __init__(self, cells: Tensor, columns: Sequence[Column]) -> None:
        super().__init__()
        # At most one quantile for four rows, so that numbers are interpolated, not copied
        count = min(max(len(cells) // 4, min(len(cells), 20)), 1000)
        chosen = torch.linspace(0, len(cells) - 1, count).round().long()
        self.register_buffer("quantiles", cells.sort(dim=0).values[chosen].T.contiguous())
        self.columns = [
            column._replace(decimals=self.decimals(values))
            for values, column in zip(cells.T, columns, strict=True)
        ]

    @staticmethod
    def decimals(numbers: Tensor) -> int | None:
        """How many decimals all numbers (n,) have; None if more than six."""
        exact = numbers.double()
        same = (exact.round(decimals=d).to(numbers).equal(numbers) for d in range(7))
        return next((d for d, each in enumerate(same) if each), None)

    def forward(self, rows: Tensor) -> Tensor:
        cells = []
        parts = rows.split([column.width for column in self.columns], dim=1)
        for part, numbers, column in zip(parts, self.quantiles, self.columns, strict=True):
            place = torch.special.ndtr(part[:, 0].to(numbers.dtype)) * (len(numbers) - 1)
            low, high = numbers[place.floor().long()], numbers[place.ceil().long()]
            between = low.lerp(high, place.frac()).double()
            if column.decimals is not None:
                between = between.round(decimals=column.decimals)
            cells.append(nearest_category(part, column) if column.categories else between)
        return torch.stack(cells, dim=1).to(self.quantiles.dtype)


# --- Batches -----------------------------------------------------------------------------------


class NeighbourhoodBatches(Batches):
    """Endless augmented batches (size, width); without them a small table would be memorised.

    A row's numbers are drawn from a Gaussian fitted to its nearest neighbours: vicinal risk
    minimization (Chapelle et al. 2000). Its codes get noise.
    """

    MAX_ROWS = 4096  # of a table that is augmented
    PULL, SPREAD = 0.6, 1.1  # towards the row; scale of the Gaussian
    CODE_NOISE = 0.4  # standard deviation

    def __init__(self, rows: Tensor, size: int, columns: Sequence[Column]) -> None:
        """`rows` (n, width) are encoded."""
        indices = torch.arange(len(rows), device=rows.device)
        super().__init__(indices, size)
        self.encoded = rows
        numeric = [not each.categories for each in columns for _ in range(each.width)]
        self.numeric = torch.tensor(numeric).nonzero().flatten().to(rows.device)
        self.neighbours = indices.unsqueeze(1)  # the row alone
        if len(rows) <= self.MAX_ROWS:
            count = min(max(20, 3 * len(self.numeric) // 2), 100, len(rows))
            self.neighbours = torch.cdist(rows, rows).topk(count, largest=False).indices

    def __iter__(self) -> Iterator[Tensor]:
        for chosen in super().__iter__():
            rows = self.encoded[chosen]
            near = self.encoded[self.neighbours[chosen]][:, :, self.numeric]
            mean, weights = near.mean(dim=1), torch.randn(near.shape[:2], device=rows.device)
            moves = torch.einsum("nk,nkw->nw", weights, near - mean.unsqueeze(1))
            moves *= self.SPREAD / near.shape[1] ** 0.5
            fresh = rows + self.CODE_NOISE * torch.randn_like(rows)
            fresh[:, self.numeric] = mean + self.PULL * (rows[:, self.numeric] - mean) + moves
            yield fresh


# --- Checks ------------------------------------------------------------------------------------

MAX_AUC = 0.75  # of a forest that separates generated rows from held-out ones
MAX_CLOSER = 0.75  # share of rows closer to a training row than the median held-out row


def hold_out(n: int, seed: int) -> Tensor:
    """Mask (n,) of a random eighth of the rows: a forest could recognise a stratified sample."""
    order = torch.randperm(n, generator=common.stream("held-out rows", seed))
    return order < min(max(n // 8, 10), max(n // 2, 1), 2048)


def two_sample_auc(real: Tensor, generated: Tensor) -> float | None:
    """Cross-validated ROC AUC of a random forest, generated (n, features) against real rows.

    0.5 means indistinguishable (Lopez-Paz and Oquab 2017). None for fewer than 10 real rows.
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    if len(real) < 10:
        return None
    some = real[:2000], generated[: min(2000, 10 * len(real))]
    is_real = torch.arange(sum(map(len, some))) < len(some[0])
    forest = RandomForestClassifier(min_samples_leaf=3, class_weight="balanced", random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_score(forest, torch.cat(some), is_real, scoring="roc_auc", cv=folds)
    return float(scores.mean())


def share_closer_than_holdout(train: Tensor, held_out: Tensor, generated: Tensor) -> float:
    """Share of generated rows closer to a training row than the median held-out row is.

    Above 0.5, training rows are copied. Rows have shape (n, features), in similar units.
    """
    held_out_distances, distances = (
        torch.cat([torch.cdist(some, train).amin(dim=1) for some in rows[:2000].split(100)])
        for rows in (held_out, generated)
    )
    return (distances < held_out_distances.median()).float().mean().item()


def judge(training: Training, cells: Tensor, columns: Sequence[Column]) -> Training:
    """Let the generator give rows of the table, and check its AUC, near-copies and categories.

    Ranks and quantiles come from all rows, the dependence between columns from the training rows.
    """
    decoder = Decoder(cells, columns)
    training.samples = decoder(training.samples)
    names = [f"{each.name} {name}" for each in columns for name in each.categories]
    if names:
        counts = torch.tensor([len(column.categories) for column in columns])
        starts = (counts.cumsum(0) - counts)[counts > 0]
        both = (rows[:, counts > 0].long() + starts for rows in (cells, training.samples))
        training.check_missing(*(indices.flatten() for indices in both), names=names)
    train, held_out = cells[training.is_train], cells[training.is_held_out]
    scaled = map(common.Standardize(cells), (train, held_out, training.samples))
    share = share_closer_than_holdout(*scaled)
    words = f"{share:.0%} are closer to a training row than the median held-out row (50% is right)"
    training.check(share <= MAX_CLOSER, words)
    auc = two_sample_auc(held_out, training.samples)
    if auc is not None:
        words = f"a forest separates them from held-out rows with AUC {auc:.2f} (0.5: it cannot)"
        training.check(auc <= MAX_AUC, words)
    training.metrics |= {"copied": share, "auc": auc}
    about = json.dumps([each._asdict() for each in decoder.columns]).encode()
    training.generator = nn.Sequential(training.generator, decoder).eval()
    training.generator.register_buffer("columns", torch.tensor(list(about), dtype=torch.uint8))
    snapshots = training.snapshots.items()
    training.snapshots = {key: (row, decoder(rows)) for key, (row, rows) in snapshots}
    return training


# --- Plot --------------------------------------------------------------------------------------


def plot_table(cells: Tensor, columns: Sequence[Column], training: Training) -> Figure:
    """Columns of real and generated rows (n, columns), their correlations, and the history.

    Shows the first 30 columns.
    """
    columns, names = columns[:30], [column.name[:20] for column in columns[:30]]
    across = 4 if len(columns) <= 4 else 6
    panels = [str(i) for i in range(len(columns))] + ["."] * (-len(columns) % across)
    top = [panels[i : i + across] for i in range(0, len(panels), across)]
    halves = ["real"] * (across // 2) + ["generated"] * (across // 2)
    history = training.history, [*top, halves], training.kept_epoch
    figure, axes = common.plot_history(*history)
    figure.set_figheight(5.5 + 1.5 * len(top))
    styles = {"real": (cells, REAL, "bar"), "generated": (training.samples, GENERATED, "step")}
    for i, (name, categories, _) in enumerate(columns):
        axis, numbers = axes[str(i)], cells[:, i].numpy()
        bins = np.arange(len(categories) + 1) - 0.5 if categories else np.histogram(numbers, 20)[1]
        for label, (rows, colour, bars) in styles.items():
            style = {"label": label, "color": colour, "histtype": bars}
            weights = np.full(len(rows), 100 / len(rows))
            axis.hist(rows[:, i].numpy(), bins, weights=weights, **style)
        if categories:
            axis.set_xticks(range(len(categories))[:8], [each[:9] for each in categories[:8]])
            axis.tick_params("x", rotation=30)
        axis.set_title(name[:20], fontsize=8)
        axis.tick_params(labelsize=6)
    axes["0"].legend(fontsize=6)
    for title, (rows, *_) in styles.items():
        scaled = common.Standardize(rows)(rows)[:, : len(columns)]
        correlations = (scaled.T @ scaled / len(rows)).numpy()
        shades = axes[title].imshow(correlations, "RdBu", vmin=-1, vmax=1, aspect="auto")
        axes[title].set_title(f"{title}: correlations of {len(rows):,} rows", fontsize=8)
        axes[title].set(xticks=[], yticks=range(len(names)))
        axes[title].set_yticklabels(names, fontsize=5)
    figure.colorbar(shades, ax=axes["generated"])
    return figure


# --- Files -------------------------------------------------------------------------------------


def read_table(path: Path, named: Sequence[str] | None = None) -> tuple[Tensor, list[Column]]:
    """The table in a CSV file with a header, and its columns; Failure names the line.

    Text columns, and the numeric ones in `named` (by default: of up to 10 values), are categorical.
    """
    try:
        text = path.read_text(encoding="utf-8-sig")
        first = text.partition("\n")[0]
        separator = max(",;\t", key=lambda each: len(next(csv.reader([first], delimiter=each), [])))
        reader = csv.reader(io.StringIO(text), delimiter=separator, strict=True)
        lines = [(reader.line_num, [cell.strip() for cell in row]) for row in reader if row]
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        reason = getattr(error, "strerror", None) or "it is not a CSV file in UTF-8"
        raise Failure(f"cannot read {path}: {reason}") from None
    (_, header), *rows = lines or [(1, [])]
    if not rows:
        raise Failure(f"{path} has no rows; expected a header and one line per row")
    if len({*header, ""}) <= len(header) or any(number_of(cell) is not None for cell in header):
        found = ",".join(header)[:40]
        raise Failure(f"{path}, line 1: expected a name for each column, found {found!r}")
    for line, row in rows:
        if len(row) != len(header):
            wanted = f"expected {len(header)} cells, as in the header"
            raise Failure(f"{path}, line {line}: {wanted}, found {len(row)}")
    if unknown := {*(named or ())} - {*header}:
        raise InputError(f"--categories: {path} has no column {min(unknown)!r}")
    data, columns = [], []
    for name, cells in zip(header, zip(*(row for _, row in rows), strict=True), strict=True):
        values = sorted(set(cells))
        numbers = [number_of(cell, "," if separator == ";" else ".") for cell in cells]
        filled = [x for cell, x in zip(cells, numbers, strict=True) if cell]
        few = len(values) <= min(10, len(cells) / 2) if named is None else name in named
        if few or 2 * filled.count(None) >= len(filled):
            if len(values) > 1000:
                reason = f"column {name!r} has {len(values):,} categories, more than 1,000"
                raise Failure(f"{path}: {reason}; leave it out")
            place = {value: i for i, value in enumerate(values)}
            numbers = [place[cell] for cell in cells]
            columns.append(Column(name, values))
        elif None in numbers:
            wrong = numbers.index(None)
            where = f"{path}, line {rows[wrong][0]}, column {name!r}"
            raise Failure(f"{where}: expected a number, found {cells[wrong][:40]!r}")
        else:
            columns.append(Column(name))
        data.append(torch.tensor(numbers, dtype=torch.float64))
    return torch.stack(data, dim=1), columns


def number_of(cell: str, point: str = ".") -> float | None:
    """The cell as a finite number, or None."""
    with suppress(ValueError):
        return x if abs(x := float(cell.replace(point, "."))) <= LARGEST else None
    return None


def columns_of(model: nn.Module) -> list[Column]:
    """The columns of the table that a saved generator gives."""
    about = bytes(dict(model.named_buffers())["columns"])
    return [Column(**column) for column in json.loads(about)]


def write_table(blocks: Iterator[Tensor], columns: Sequence[Column]) -> None:
    """Print a table as CSV: a header, and blocks of rows (n, columns) with names of categories."""
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow([column.name for column in columns])
    for rows in blocks:
        cells = []
        for column, numbers in zip(columns, rows.T.tolist(), strict=True):
            exact = "%r" if rows.dtype == torch.float64 else "%.9g"
            style = exact if column.decimals is None else f"%.{column.decimals}f"
            named = column.categories
            cells.append([named[int(x)] if named else style % (x + 0.0) for x in numbers])
        writer.writerows(zip(*cells, strict=True))
