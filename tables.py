"""What a GAN needs to learn a table.

Copy this file, sampling.py, rules.py, rulesearch.py, columns.py, dates.py and csvfile.py along with
table_gan.py.

A table is a DataFrame. Its cells are a tensor (n, columns) of numbers and of indices of categories,
as columns.py reads them. They are encoded as rows (n, width), which a GAN learns: a category is a
code of several numbers, and a number is its normal score.
"""

import argparse
import functools
import math
import shlex
import sys
from collections.abc import Mapping
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from torch import Tensor, nn

import cli
import common
from columns import KEPT_AS, KINDS, Column, dtypes_of, parse, to_frame, to_json
from common import GENERATED, REAL, Failure, Figure, InputError, Training
from rules import Rule, apply_rules, hide
from rulesearch import find_broken_sums, find_rules
from sampling import LATENT_DIM, SavedTable, generate, split_condition

with suppress(ImportError):  # require_packages says so
    import pandas as pd


# --- Tables ------------------------------------------------------------------------------------


def require_packages() -> None:
    """Failure if pandas or scikit-learn is missing, before a training that would be lost."""
    if not (find_spec("pandas") and find_spec("sklearn")):
        raise Failure("tables need two more packages; pip install pandas scikit-learn")


class Table:
    """A DataFrame, or rows of numbers (n, columns), as cells (n, columns), without its IDs.

    It has encoded `rows` (n, width), and the `indices` (n, m) of the `conditions` they fulfil.
    `types` has the kinds of some columns, the others are found out; InputError if they do not fit.
    """

    def __init__(
        self, data: "pd.DataFrame | Tensor", types: Mapping[str, str] | None = None
    ) -> None:
        require_packages()
        types = dict(types or {})
        if not isinstance(data, pd.DataFrame):
            data = pd.DataFrame(common.as_rows(data).numpy()).rename(columns="x{}".format)
            types = dict.fromkeys(data.columns, "number") | types
        require_types(types, data)
        require_different_names(data)

        self.ids: list[str] = []
        self.columns: list[Column] = []
        self.dtypes: dict[Any, tuple] = {}  # by name, see dtypes_of
        all_cells = []
        left_out: dict[str, list[str]] = {}  # names by the reason
        for name in data:
            parsed = parse(data[name], types.get(name))
            if isinstance(parsed, str):
                self.ids.append(str(name))
                left_out.setdefault(parsed, []).append(str(name))
                continue
            column, cells = parsed
            self.columns.append(column)
            self.dtypes[name] = dtypes_of(data[name], column)
            all_cells.append(cells)
        lines = [describe_left_out(*item) for item in left_out.items()]
        if not self.columns or len(data) == 0:
            reasons = "; ".join(lines) or "no rows"
            raise InputError(f"there is nothing to learn: {reasons}")
        for line in lines:
            print(line, file=sys.stderr)

        self.cells = torch.stack(all_cells, dim=1)
        self.specials = find_specials(self.cells, self.columns)
        columns, cells = self.with_flags(self.cells)
        self.rows = encode(cells, columns)
        self.indices = condition_indices(cells, columns)
        self.conditions = Conditions(columns, self.indices.flatten().bincount())

    def with_flags(self, cells: Tensor) -> tuple[list[Column], Tensor]:
        """As the function with_flags, for cells (n, columns) of the data or generated ones."""
        return with_flags(self.columns, cells, self.specials)

    def __str__(self) -> str:
        """What each column was taken for, below a heading."""
        lines = [f"{'column':24}  {'taken for':24}  for example"]
        for column, cells in zip(self.columns, self.cells.T, strict=True):
            different = dict.fromkeys(shown(value) for value in column.values(cells[:3]))
            examples = " | ".join(different)
            lines.append(f"{column.name[:24]:24}  {describe(column, cells):24}  {examples}"[:100])
        return "\n".join(lines)


def shown(value: object) -> str:
    """A value as text; an empty one as a reader can see it."""
    return "(empty)" if value in ("", None) else str(value)


def describe_left_out(reason: str, names: list[str]) -> str:
    """Why columns are left out, and how to keep them, in a line."""
    line = f"left out, {reason}: {', '.join(names)}"
    if reason in KEPT_AS:
        pair = shlex.quote(f"{names[0]}={KEPT_AS[reason]}")
        line += f"; to keep it, --types {pair}"
    return line


def require_types(types: Mapping[str, str], data: "pd.DataFrame") -> None:
    """InputError unless `types` has kinds of columns by name."""
    for name, kind in types.items():
        unknown = None
        if name not in data.columns:
            unknown = f"column {name!r}"
        elif kind not in KINDS:
            unknown = f"kind {kind!r}"
        if unknown:
            raise InputError(f"--types: there is no {unknown}; kinds are {', '.join(KINDS)}")


def require_different_names(data: "pd.DataFrame") -> None:
    """InputError if two columns have the same name."""
    if not data.columns.is_unique:
        name = data.columns[data.columns.duplicated()][0]
        raise InputError(f"two columns have the name {name!r}")


def describe(column: Column, cells: Tensor) -> str:
    """What a column was taken for, in a few words."""
    if column.categories:
        return f"category of {len(column.categories)}"
    text = "date" if column.date else "number"
    if column.missing is not None:
        text += f", {cells.isnan().double().mean():.0%} missing"
    return text


# --- Encoded rows ------------------------------------------------------------------------------

MAX_ONE_HOT = 16  # categories: hundreds of one-hot columns would outweigh the numbers


def category_codes(column: Column) -> Tensor:
    """The code of each category of a column (categories, width), of norm 2; (0, 1) for numbers."""
    count = len(column.categories)
    if count == 0:
        return torch.zeros(0, 1)
    if count <= MAX_ONE_HOT:
        return 2 * torch.eye(count)
    random = common.random_generator("codes of categories")
    return 2 * nn.functional.normalize(torch.randn(count, MAX_ONE_HOT, generator=random))


MAX_SPIKES = 8  # of a column
MIN_SPIKE = 5  # how often one is there, at least, for each time that the numbers next to it are


def find_specials(cells: Tensor, columns: list[Column]) -> list[Tensor]:
    """The special values (k,) of each column of numbers: spikes, and NaN if it may miss numbers."""
    specials = []
    for values, column in zip(cells.T, columns, strict=True):
        special = values[:0]
        if not column.categories:
            special = find_spikes(values)
        if column.missing is not None:
            special = torch.cat([special, torch.tensor([math.nan]).to(special)])
        specials.append(special)
    return specials


def find_spikes(values: Tensor) -> Tensor:
    """The numbers (k,) that values (n,) hold far more often than the numbers next to them.

    A spike is -999 for an unknown number, say, the last age of a survey, or zero rain.
    """
    numbers, counts = values[~values.isnan()].unique(return_counts=True)
    counts = counts.double()
    neighbours = nn.functional.pad(counts, (5, 5), value=math.nan).unfold(0, 11, 1)
    usual = neighbours.nanmedian(dim=1).values
    least = (MIN_SPIKE * usual + 3).clamp(min=len(values) / 100)
    often = counts >= least  # more than by chance
    order = counts.where(often, 0).argsort(descending=True)
    chosen = order[: min(MAX_SPIKES, int(often.sum()))]
    return numbers[chosen.sort().values]


def with_flags(
    columns: list[Column], cells: Tensor, specials: list[Tensor]
) -> tuple[list[Column], Tensor]:
    """The columns, and a category more for each with special values: which one a cell is, if any.

    Cells (n, columns) get these categories as well (Zhao et al. 2021).
    """
    flags = []
    blocks = [cells]
    for column, values, special in zip(columns, cells.T, specials, strict=True):
        if len(special) > 0:
            names = column.values(special)
            if column.missing is not None:
                names[-1] = "missing"
            flags.append(Column(column.name, ["number", *names]))
            blocks.append(special_indices(values, special).unsqueeze(1).to(cells))
    return [*columns, *flags], torch.cat(blocks, dim=1)


def special_indices(values: Tensor, special: Tensor) -> Tensor:
    """Which of the special values (k,) each value (n,) is, counted from 1; 0 for all others."""
    places = torch.arange(len(special)) + 1
    equal = values.unsqueeze(1) == special
    equal |= values.isnan().unsqueeze(1) & special.isnan()
    return (equal * places).sum(dim=1)


def encode(cells: Tensor, columns: list[Column]) -> Tensor:
    """Cells (n, columns) as rows (n, width): codes of categories, normal scores of numbers."""
    random = common.random_generator("ranks of equal numbers")
    blocks = []
    for values, column in zip(cells.T, columns, strict=True):
        if column.categories:
            blocks.append(category_codes(column)[values.long()])
        else:
            blocks.append(normal_scores(values, random).unsqueeze(1))
    return torch.cat(blocks, dim=1)


def normal_scores(values: Tensor, random: torch.Generator) -> Tensor:
    """The quantile of the normal distribution at the rank of each number (n,).

    Equal numbers have random ranks, and missing ones random scores.
    """
    scores = torch.randn(len(values), generator=random)
    present = (~values.isnan()).nonzero().flatten()
    shuffled = present[torch.randperm(len(present), generator=random)]
    ranked = shuffled[values[shuffled].argsort()]
    places = (torch.arange(len(ranked)).double() + 0.5) / len(ranked)
    scores[ranked] = torch.special.ndtri(places).float()
    return scores


def encode_like(known: Tensor, cells: Tensor, columns: list[Column]) -> Tensor:
    """Cells (n, columns) as rows (n, width), by the ranks of numbers among known ones (m, columns).

    So no row depends on the others, as in `encode`. Missing numbers stay NaN.
    """
    blocks = []
    for known_values, values, column in zip(known.T, cells.T, columns, strict=True):
        if column.categories:
            blocks.append(category_codes(column)[values.long()])
        else:
            blocks.append(scores_among(known_values, values).unsqueeze(1))
    return torch.cat(blocks, dim=1)


def scores_among(known: Tensor, values: Tensor) -> Tensor:
    """Normal scores (n,) of values (n,), interpolated between those of known numbers (m,)."""
    numbers, counts = known[~known.isnan()].unique(return_counts=True)
    if len(numbers) == 0:
        return torch.zeros(len(values))
    middles = (counts.cumsum(dim=0) - counts / 2) / counts.sum()
    places = torch.from_numpy(np.interp(values, numbers, middles))
    return torch.special.ndtri(places).float()


class Decoder(nn.Module):
    """Inverse of `encode`, (n, width) to (n, columns): numbers lie between those of the data.

    Rules that all rows of the data keep are applied.
    """

    def __init__(self, cells: Tensor, columns: list[Column]) -> None:
        super().__init__()
        self.columns = columns
        self.specials = find_specials(cells, columns)
        encoded_columns, _ = with_flags(columns, cells, self.specials)
        self.codes = [category_codes(column) for column in encoded_columns]
        self.widths = [column_codes.shape[1] for column_codes in self.codes]
        places = torch.linspace(0, 1, max(2, min(len(cells), 1000))).to(cells)
        quantiles = []
        for values, special in zip(cells.T, self.specials, strict=True):
            others = values[special_indices(values, special) == 0]
            quantiles.append(others.quantile(places, interpolation="nearest"))
        self.quantiles = nn.Buffer(torch.stack(quantiles))  # (columns, count)
        normal = torch.special.ndtri(places.clamp(1e-6, 1 - 1e-6)).float()
        self.scores = nn.Buffer(normal.repeat(len(columns), 1))  # (columns, count), of these
        # Between which of them nothing lies: where half the range is empty, or numbers repeat
        gaps = self.quantiles.diff()
        repeated = torch.tensor([[column.repeated] for column in columns])
        is_empty = gaps > gaps.sum(dim=1, keepdim=True) / 2
        self.empty = nn.Buffer(is_empty | repeated)  # (columns, count - 1)
        self.rules = find_rules(cells, columns)
        limits = cells.nan_to_num(nan=math.inf).amin(dim=0), cells.nan_to_num(nan=-math.inf).amax(0)
        self.limits = nn.Buffer(torch.stack(limits))  # (2, columns), for generate
        # (columns,), the condition that a number is missing, for generate; -1 if it never is
        self.missing = nn.Buffer(torch.full((len(columns),), -1))
        counts = torch.tensor([len(column.categories) for column in encoded_columns])
        last = counts.cumsum(dim=0)[len(columns) :] - 1
        with_flag = [i for i, special in enumerate(self.specials) if len(special) > 0]
        for i, condition in zip(with_flag, last, strict=True):
            if columns[i].missing is not None:
                self.missing[i] = condition

    def calibrate(self, rows: Tensor) -> None:
        """Let generated rows (n, width) have the numbers of the data, whatever their scores are."""
        blocks = rows.split(self.widths, dim=1)
        flags = iter(blocks[len(self.columns) :])
        places = torch.linspace(0, 1, self.scores.shape[1])
        for i, column in enumerate(self.columns):
            scores = blocks[i].flatten()
            if len(self.specials[i]) > 0:
                scores = scores[next(flags).argmax(dim=1) == 0]
            if not column.categories and len(scores) > 0:
                self.scores[i] = scores.quantile(places)

    def forward(self, rows: Tensor) -> Tensor:
        blocks = rows.split(self.widths, dim=1)
        flags = iter(blocks[len(self.columns) :])  # which numbers are special, see with_flags
        cells = []
        is_missing = []
        for i, column in enumerate(self.columns):
            missing = torch.zeros_like(blocks[i][:, 0])
            if column.categories:
                nearest = (blocks[i] @ self.codes[i].T).argmax(dim=1)
                cells.append(nearest.to(self.quantiles))
            else:
                numbers = self.decode_numbers(i, blocks[i].flatten())
                if len(self.specials[i]) > 0:
                    flag = next(flags).argmax(dim=1)
                    special = self.specials[i][flag - 1]
                    missing = (flag > 0) & special.isnan()
                    numbers = special.where((flag > 0) & ~missing, numbers)
                cells.append(numbers)
            is_missing.append(missing.to(self.quantiles))
        cells = apply_rules(self.rules, cells + is_missing)
        return torch.stack(cells[: len(self.columns)], dim=1)

    def decode_numbers(self, i: int, scores: Tensor) -> Tensor:
        """The numbers (n,) of column i that have these scores (n,)."""
        column = self.columns[i]
        known = self.scores[i]
        quantiles = self.quantiles[i]
        high = torch.searchsorted(known, scores.contiguous()).clamp(1, len(known) - 1)
        low = high - 1
        width = (known[high] - known[low]).clamp(min=1e-9)
        share = ((scores - known[low]) / width).clamp(0, 1).to(quantiles)
        share = share.round().where(self.empty[i, low], share)
        numbers = quantiles[low].lerp(quantiles[high], share)
        return column.nearest(numbers).clamp(quantiles[0], quantiles[-1])


# --- Conditions --------------------------------------------------------------------------------


class Conditions(nn.Module):
    """Each category of each column, as a condition for both networks (Xu et al. 2019)."""

    def __init__(self, columns: list[Column], counts: Tensor) -> None:
        """With the counts (conditions,) of all categories, column by column."""
        super().__init__()
        blocks = [category_codes(column) for column in columns]
        codes = torch.block_diag(*blocks)
        fixed = torch.block_diag(*[torch.ones_like(block) for block in blocks])
        self.sizes = [len(block) for block in blocks if len(block) > 0]  # categories of a column
        if not self.sizes:  # numbers alone: one condition, which fixes nothing
            codes = fixed = torch.zeros(1, codes.shape[1])
            self.sizes = [1]
        has_codes = fixed.any(dim=0)  # (width,)
        self.numeric = (~has_codes).nonzero().flatten()  # where rows have numbers
        self.codes = nn.Buffer(codes)  # (conditions, width): rows, zero but for a category
        self.fixed = nn.Buffer(fixed.bool())  # (conditions, width): where they are not
        self.inputs = nn.Buffer(codes[:, has_codes])  # (conditions, codes), for networks
        shares = counts.double() / counts.sum()
        # (conditions,), of the share of each; float32, as an Apple GPU has no float64
        self.upper = nn.Buffer(shares.cumsum(dim=0).float())
        self.bias = nn.Buffer(torch.zeros(len(codes)))  # (conditions,), see `calibrate`

    def choose(self, noise: Tensor) -> Tensor:
        """The indices (n,) of the conditions that normal noise (n,) chooses.

        They are of a random column, and each as often as its category in the data.
        """
        chosen = torch.searchsorted(self.upper, torch.special.ndtr(noise))
        return chosen.clamp(max=len(self.upper) - 1)

    def snap(self, rows: Tensor) -> Tensor:
        """Encoded rows (n, width), each generated code replaced by the nearest of a category."""
        by_column = zip(self.codes.split(self.sizes), self.bias.split(self.sizes), strict=True)
        for codes, bias in by_column:
            nearest = codes[(rows @ codes.T + bias).argmax(dim=1)]
            rows = torch.where(codes.any(dim=0), nearest, rows)
        return rows

    def calibrate(self, rows: Tensor, chosen: Tensor) -> None:
        """Let `snap` choose each category as often as it is in the data.

        Rare ones would become rarer. It is done with generated rows (n, width) before `snap`, and
        the conditions (n,) that they were told.
        """
        shares = self.upper.diff(prepend=self.upper.new_zeros(1)) * len(self.sizes)
        first = 0
        for size in self.sizes:
            conditions = slice(first, first + size)
            told = (chosen >= first) & (chosen < first + size)  # see Generator.forward
            likeness = rows[~told] @ self.codes[conditions].T
            self.bias[conditions] = find_bias(likeness, shares[conditions])
            first += size


def find_bias(likeness: Tensor, shares: Tensor) -> Tensor:
    """What to add to the likeness (n, categories) so that the largest ones have these shares."""
    bias = torch.zeros_like(shares)
    count = max(len(likeness), 1)
    for i in range(60):
        largest = (likeness + bias).argmax(dim=1)
        reached = largest.bincount(minlength=len(shares)) / count
        # One more of each, so that none is zero
        bias += 0.5 / (1 + i / 10) * ((shares + 1 / count) / (reached + 1 / count)).log()
    return bias


def condition_indices(cells: Tensor, columns: list[Column]) -> Tensor:
    """The indices (n, m) of the conditions that cells (n, columns) fulfil, m at least 1."""
    counts = torch.tensor([len(column.categories) for column in columns])
    if not counts.any():
        return torch.zeros(len(cells), 1, dtype=torch.int64)
    first = counts.cumsum(dim=0) - counts  # condition of each column
    return (cells + first)[:, counts > 0].long()


# --- Batches -----------------------------------------------------------------------------------

MAX_AUGMENTED = 4096  # rows: numbers of a larger table are not augmented
PULL = 0.6  # weight of a row's own numbers against the mean of its neighbours
SPREAD = 1.1  # width of the Gaussian, in standard deviations of the neighbours
CODE_NOISE = 0.4  # deviation of the noise on codes


class AugmentedBatches:
    """Endless batches of new rows (size, width), each with the index (size,) of its condition.

    A rare category is drawn more often than it occurs. Numbers come from a Gaussian fitted to a
    row's neighbours of the same category (Chapelle et al. 2000), as a small table would be
    memorised; codes of categories get noise.
    """

    def __init__(self, rows: Tensor, indices: Tensor, conditions: Conditions, size: int) -> None:
        """Around rows (n, width), which fulfil the conditions `indices` (n, m).

        Batches are on the device of the conditions.
        """
        common.require_count("batch_size", size)
        device = conditions.codes.device
        scores = rows[:, conditions.numeric]
        low, high = ranges(scores, indices)
        self.size = size
        self.conditions = conditions
        self.numeric = conditions.numeric.to(device)
        self.rows = rows.to(device)
        self.indices = indices.to(device)
        self.scores = scores.to(device)  # (n, numbers)
        self.low = low.to(device)  # (conditions, numbers)
        self.high = high.to(device)
        self.upper = upper_probabilities(indices)  # (m * n,), on the CPU
        self.neighbours = torch.arange(len(rows), device=device).unsqueeze(1)  # (n, neighbours)
        if len(rows) <= MAX_AUGMENTED:
            count = min(max(20, 3 * scores.shape[1] // 2), 100, len(rows))
            distances = torch.cdist(self.rows, self.rows)
            self.neighbours = distances.topk(count, largest=False).indices

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> tuple[Tensor, Tensor]:
        row, column = self.draw()
        condition = self.indices[row, column]
        scores = self.new_scores(row, column, condition)
        rows = self.rows[row]
        batch = rows + CODE_NOISE * torch.randn_like(rows)
        batch[:, self.numeric] = scores
        fixed = self.conditions.fixed[condition]
        return torch.where(fixed, self.conditions.codes[condition], batch), condition

    def draw(self) -> tuple[Tensor, Tensor]:
        """Random rows (size,), and for each the column of `indices` (size,) with its condition.

        They are evenly spread over all pairs of a row and a column.
        """
        places = torch.arange(self.size) + torch.rand(self.size)
        pairs = torch.searchsorted(self.upper, places.double() / self.size)
        pairs = pairs.clamp(max=len(self.upper) - 1).to(self.rows.device)
        return pairs % len(self.rows), pairs // len(self.rows)

    def new_scores(self, row: Tensor, column: Tensor, condition: Tensor) -> Tensor:
        """Normal scores (size, numbers) from a Gaussian around each row (size,).

        It is fitted to the neighbours that have the same category in the column (size,) of the
        condition (size,).
        """
        neighbours = self.neighbours[row]  # (size, neighbours)
        scores = self.scores[neighbours]  # (size, neighbours, numbers)
        alike = self.indices[neighbours, column.unsqueeze(1)] == condition.unsqueeze(1)
        share = alike / alike.sum(dim=1, keepdim=True)
        mean = torch.einsum("nk,nkw->nw", share, scores)
        # A sum of random multiples of differences has their covariance
        multiples = SPREAD * share.sqrt() * torch.randn_like(share)
        moves = torch.einsum("nk,nkw->nw", multiples, scores - mean.unsqueeze(1))
        moved = mean + PULL * (self.scores[row] - mean) + moves
        # Reflected into the range that numbers have under this condition
        low = self.low[condition]
        high = self.high[condition]
        moved = low + (moved - low).abs()
        return high - (high - moved).abs()


def upper_probabilities(indices: Tensor) -> Tensor:
    """Cumulated probabilities (m * n,) to draw a row for a condition that it fulfils.

    They are those of n rows for the first column of `indices` (n, m), then for the next one.
    Columns are drawn equally often, and categories by the logarithm of their counts.
    """
    counts = indices.flatten().bincount()
    weights = (counts.log1p() / counts)[indices].double()
    probabilities = weights / weights.sum(dim=0) / indices.shape[1]
    return probabilities.T.flatten().cumsum(dim=0)


def ranges(scores: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """The lowest and the highest scores (conditions, numbers) under each condition.

    These are the conditions `indices` (n, m) that rows with scores (n, numbers) fulfil.
    """
    fulfilled = indices.T.flatten()
    counts = fulfilled.bincount()
    by_condition = scores[fulfilled.argsort() % len(scores)]
    low = torch.segment_reduce(by_condition, "min", lengths=counts)
    high = torch.segment_reduce(by_condition, "max", lengths=counts)
    return low, high


# --- Verdict -----------------------------------------------------------------------------------

MIN_SHARE = 0.7  # of what is due to a category, unless it is too rare to tell
MAX_NOTED = 5  # rules
MIN_KEPT = 0.99  # share of generated rows that keep a rule
MAX_CLOSER = 0.75  # chance that a generated row is closer to a training row than a held-out row
MAX_AUC = 0.75  # of a forest that separates generated rows from held-out ones
LIMITS: dict[str, Any] = {
    "max_ratio": 1.1,  # of 1.0, two perfect generators in a hundred would fail
    "min_rows": 200,
    "min_precision": 0.8,
    "min_coverage": 0.95,
    "check_detail": False,  # a forest sees it
}


class TableTraining(Training):
    """A training on a table, which gives rows as DataFrames: `sample`.

    While it trains, data and samples are encoded rows (n, width). `finish` decodes them to cells
    (n, columns), and lets the generator do so.
    """

    def __init__(self, table: Table, *, seed: int | None, **settings: Any) -> None:
        super().__init__(table.rows, seed=seed, **settings)
        self.table = table
        self.held_out = hold_out(
            len(table.rows), self.metrics["seed"]
        )  # (n,): rows not to train on
        self.metrics["ids"] = table.ids

    def advice(self) -> str:
        """What to try if the samples are not good enough."""
        most = len(self.table.rows) / 10
        for column in self.table.columns:
            if len(column.categories) > most:
                return f"Is {column.name} an ID, a number or a date? See --types."
        return super().advice()

    def sample(
        self, n: int, where: Mapping[Any, Any] | None = None, *, seed: int = 0
    ) -> "pd.DataFrame":
        """`n` generated rows as a DataFrame with the columns and dtypes of the data, without IDs.

        With `where={column: wanted, ...}`, all rows are as wanted: a category, a number or a date,
        a range as (30, 40), "30..40" or ">30", None for missing, or a list of these, any of which
        will do. InputError if there is no such value, Failure if rows of that kind are too rare.
        Another `seed`, other rows.
        """
        common.require_count("n", n)
        conditions = list((where or {}).items())
        blocks = generate(self.generator, self.table.columns, n, conditions, seed)
        return to_frame(torch.cat(list(blocks)), self.table.columns, self.table.dtypes)

    def finish(self, generator: Any, noise: Tensor, **limits: Any) -> Self:
        """As Training.finish; then decode the samples, and check what only tables have.

        First, the generator gets the shares of categories right.
        """
        self.stopping.load_best(generator)
        generator.calibrate(noise)
        self.stopping.weights = generator.state_dict()
        super().finish(generator, noise, **limits)
        self.judge()
        return self

    def judge(self) -> None:
        """Decode the samples, and check them."""
        decoder = Decoder(self.table.cells, self.table.columns)
        decoder.calibrate(self.samples)
        self.decode(decoder)
        self.check_cells(decoder.rules)
        self.note_broken_sums()

    def check_cells(self, rules: list[Rule]) -> None:
        """Check categories, rules, near-copies, and the AUC of a forest."""
        self.check_categories()
        self.check_rules(rules)
        if self.held_out.sum() >= 10:
            self.check_copies()
            self.check_forest()

    def decode(self, decoder: Decoder) -> None:
        """Turn encoded rows into cells everywhere."""
        self.data = self.table.cells
        self.samples = decoder(self.samples)
        self.snapshots = [decoder(rows) for rows in self.snapshots]
        self.generator = nn.Sequential(self.generator, decoder).eval()
        description = list(to_json(self.table.columns))
        self.generator.register_buffer("columns", torch.tensor(description, dtype=torch.uint8))

    def check_categories(self) -> None:
        """Check for categories that are generated too rarely, special numbers among them.

        The data would have so many only by a chance of less than 1 in 100 for all categories.
        """
        columns, data = self.table.with_flags(self.data)
        _, samples = self.table.with_flags(self.samples)
        names = [f"{column.name} {value}" for column in columns for value in column.categories]
        if not names:
            return
        counts = condition_indices(data, columns).flatten().bincount(minlength=len(names))
        indices = condition_indices(samples, columns).flatten()
        share = (indices.bincount(minlength=len(names)) + 1) / len(samples)
        expected = share.double() * len(data)
        chance = torch.special.gammainc(counts.double(), expected)  # of Poisson
        too_rare = (chance < 0.01 / len(names)) & (expected < MIN_SHARE * counts)
        missing = [names[i] for i in too_rare.nonzero().flatten()]
        self.metrics["missing_values"] = missing
        listed = ", ".join(missing[:10])
        if len(missing) > 10:
            listed += ", ..."
        self.check(
            "categories left out",
            not missing,
            f"{len(missing):,}",
            "none",
            f"categories are left out or too rare: {listed}.",
        )

    def check_rules(self, rules: list[Rule]) -> None:
        """Check for rules that generated rows break, although they are applied in turn.

        Rules that are kept are noted.
        """
        kept = []
        for rule in rules:
            share = rule.kept(self.samples).double().mean().item()
            if share < MIN_KEPT:
                self.check(
                    rule.sentence,
                    False,
                    f"{share:.0%}",
                    f"at least {MIN_KEPT:.0%}",
                    f"a rule of the data is broken: {rule.sentence}.",
                )
            elif rule.apply is not hide:  # that would only say which columns have gaps
                kept.append(rule.sentence)
        if kept:
            more = f"; and {len(kept) - MAX_NOTED} more" if len(kept) > MAX_NOTED else ""
            self.notes.append(f"rules kept: {'; '.join(kept[:MAX_NOTED])}{more}")

    def note_broken_sums(self) -> None:
        """Note sums that a typo, say, keeps from being rules."""
        broken = find_broken_sums(self.table.cells, self.table.columns)
        for sentence, rows in broken[:MAX_NOTED]:
            numbers = ", ".join(str(i + 1) for i in rows)
            self.notes.append(f"not kept, as it is wrong in row {numbers}: {sentence}")

    def check_copies(self) -> None:
        """Check that generated cells are no copies of training rows."""
        columns, data = self.table.with_flags(self.data)
        _, samples = self.table.with_flags(self.samples[:2000])
        known = data[~self.held_out]
        # All by the ranks among training rows, which treats held-out rows and samples alike
        rows = [
            encode_like(known, cells, columns).nan_to_num()
            for cells in (known, data[self.held_out], samples)
        ]
        chance = chance_to_be_closer(*rows)
        self.check(
            "closer to a training row than a held-out row is",
            chance <= MAX_CLOSER,
            f"{chance:.0%}",
            f"at most {MAX_CLOSER:.0%}; 50% is right",
            "too many samples are near-copies of training rows.",
            "Try more rows, or fewer --epochs.",
        )
        self.metrics["copied"] = chance

    def check_forest(self) -> None:
        """Check that a forest cannot separate generated cells from held-out ones."""
        auc = two_sample_auc(self.data[self.held_out], self.samples)
        self.check(
            "AUC of a forest, samples against held-out rows",
            auc <= MAX_AUC,
            f"{auc:.2f}",
            f"at most {MAX_AUC}; 0.5 is right",
            "a forest can tell samples from rows it has not seen.",
        )
        self.metrics["auc"] = auc


def hold_out(n: int, seed: int) -> Tensor:
    """Mask (n,) of the rows that networks are not trained on: an eighth, at least 10 or half."""
    order = torch.randperm(n, generator=common.random_generator("held-out rows", seed))
    return order < min(max(n // 8, 10), n // 2, 2048)


def two_sample_auc(real: Tensor, generated: Tensor) -> float:
    """ROC AUC of a forest, generated rows (m, columns) against real ones (n, columns).

    It is cross-validated, of at most 2,000 rows (Lopez-Paz and Oquab 2017).
    """
    from sklearn.ensemble import RandomForestClassifier
    from sklearn.model_selection import StratifiedKFold, cross_val_score

    real = real[:2000]
    generated = generated[: min(2000, 10 * len(real))]
    rows = torch.cat([real, generated]).nan_to_num(nan=-1e30)
    is_real = np.arange(len(rows)) < len(real)
    forest = RandomForestClassifier(min_samples_leaf=3, class_weight="balanced", random_state=0)
    folds = StratifiedKFold(5, shuffle=True, random_state=0)
    scores = cross_val_score(forest, rows, is_real, scoring="roc_auc", cv=folds)
    return float(scores.mean())


def chance_to_be_closer(train: Tensor, held_out: Tensor, generated: Tensor) -> float:
    """How often a generated row (m, width) is closer to a training row than a held-out row is.

    Equal distances count half.
    """
    from sklearn.neighbors import NearestNeighbors

    nearest = NearestNeighbors(n_neighbors=1).fit(train)
    # Rounded, as that of equal rows may be just above 0
    real_distances = np.sort(nearest.kneighbors(held_out)[0].flatten().round(4))
    distances = nearest.kneighbors(generated)[0].flatten().round(4)
    closer = np.searchsorted(real_distances, distances, "left")
    not_further = np.searchsorted(real_distances, distances, "right")
    return float(1 - np.mean(closer + not_further) / 2 / len(held_out))


# --- Pictures ----------------------------------------------------------------------------------

MAX_NAME = 9  # characters of a name in a picture


def plot_table(training: TableTraining) -> Figure:
    """Plots up to 6 columns, real and generated, correlations, and the history."""
    return common.plot(training, functools.partial(draw_panels, training.table.columns))


def animate_table(training: TableTraining) -> bytes:
    """A GIF of the first two columns by epoch."""
    return common.animate(training, functools.partial(draw_two_columns, training.table.columns))


def draw_panels(columns: list[Column], axes: Any, data: Tensor, samples: Tensor) -> None:
    """Draws histograms of up to 6 columns, and correlations, in place of the axes."""
    across = 2 if len(columns) <= 4 else 3
    names = [str(i) for i in range(len(columns))] + ["."] * 6  # "." stays empty
    top = [*names[:across], "real"]
    bottom = [*names[across : 2 * across], "generated"]
    figure = axes.figure
    axes.remove()
    panels = figure.subplot_mosaic([top, bottom])
    for i, column in enumerate(columns[:6]):
        draw_histogram(panels[str(i)], column, data[:, i], samples[:, i])
    shown = f"6 of {len(columns)} columns" if len(columns) > 6 else ""
    figure.legend(
        *panels["0"].get_legend_handles_labels(), title=shown, loc="outside upper left", ncols=2
    )
    draw_correlations(panels["real"], columns, data, "real")
    draw_correlations(panels["generated"], columns, samples, "generated")


def draw_histogram(axes: Any, column: Column, data: Tensor, samples: Tensor) -> None:
    """Draws histograms of the cells (n,) of a column; of numbers, without those far out."""
    low, high = (0, len(column.categories)) if column.categories else histogram_range(data)
    values: list = [cells[(cells >= low) & (cells <= high)].numpy() for cells in (data, samples)]
    bins: Any = 20
    if column.date:
        values = [seconds.astype("datetime64[s]") for seconds in values]
        axes.margins(x=0)  # a margin could reach beyond the year 9999, which matplotlib refuses
    if column.categories:
        bins = np.arange(len(column.categories) + 1) - 0.5
        names = [str(value)[:MAX_NAME] for value in column.categories[:8]]
        axes.set_xticks(range(len(names)), names)
    axes.hist(values, bins, density=True, color=[REAL, GENERATED], label=["real", "generated"])
    axes.set(title=column.name[:20], yticks=[])
    if column.date or column.categories:
        for label in axes.get_xticklabels():
            label.set(rotation=45, ha="right", rotation_mode="anchor", size="small")


def histogram_range(data: Tensor) -> tuple[float, float]:
    """The range of numbers (n,) that leaves no others out but those far from 98 % of them.

    These may be spikes, as the year 9999, and would squeeze all others into one bar.
    """
    spikes = find_spikes(data)
    rest = data[special_indices(data, spikes) == 0]
    low, high = rest.nanquantile(torch.tensor([0.01, 0.99]).to(rest)).tolist()
    width = high - low
    numbers = data[(data >= low - width) & (data <= high + width)]
    return numbers.min().item(), numbers.max().item()


def draw_correlations(axes: Any, columns: list[Column], cells: Tensor, title: str) -> None:
    """Draws the correlations of cells (n, columns)."""
    correlations = pd.DataFrame(cells.numpy()).corr()
    image = axes.imshow(correlations, "RdBu", vmin=-1, vmax=1)
    axes.figure.colorbar(image)
    names = [column.name[:MAX_NAME] for column in columns]
    axes.set_xticks(range(len(names)), names, rotation=90, fontsize=6)
    axes.set_yticks(range(len(names)), names, fontsize=6)
    axes.set_title(f"correlations,\n{title}")


def draw_two_columns(columns: list[Column], axes: Any, data: Tensor, samples: Tensor) -> None:
    """Draws the first two columns of generated cells (m, columns) over real ones.

    With one column, it is a histogram.
    """
    if len(columns) == 1:
        draw_histogram(axes, columns[0], data.flatten(), samples.flatten())
    else:
        axes.scatter(*data[:1000, :2].T, s=4, color=REAL, linewidths=0, label="real")
        # All frames have the limits of the data
        axes.set(xlim=axes.get_xlim(), ylim=axes.get_ylim())
        axes.scatter(*samples[:1000, :2].T, s=4, color=GENERATED, linewidths=0, label="generated")
        axes.set(xlabel=columns[0].name, ylabel=columns[1].name)
    axes.legend(loc="upper left", markerscale=3)


# --- Command line ------------------------------------------------------------------------------


def parse_options(parser: cli.Parser, argv: list[str] | None) -> argparse.Namespace:
    """The options, with those of tables; `types` are a dict by the name of a column."""
    data = "learn the table in a CSV file with a header"
    kinds = f"correct what columns are taken for: {', '.join(KINDS)}"
    encoding = "how the characters of FILE are written, as cp1251 or gbk, if not in UTF-8"
    where = "generate only rows of a kind: also NAME>5, NAME=5..9, NAME=A|B, NAME= (missing)"
    parser.add_argument("--data", metavar="FILE", type=Path, help=data)
    parser.add_argument("--encoding", metavar="NAME", help=encoding)
    parser.add_argument("--types", metavar="NAME=KIND,...", default="", help=kinds)
    parser.add_argument("--where", metavar="NAME=VALUE", action="append", default=[], help=where)
    options = parser.parse_args(argv)
    require_packages()
    if options.where and not options.generate:
        raise InputError("--where chooses rows to generate; give --generate too")
    options.types = parse_types(options.types)
    return options


def parse_types(text: str) -> dict[str, str]:
    """The kinds in NAME=KIND,... by the name of the column."""
    types = {}
    for pair in text.split(","):
        if pair:
            name, _, kind = pair.rpartition("=")
            types[name.strip()] = kind.strip()
    return types


def use_saved(options: argparse.Namespace) -> int:
    """Serves --generate and --interpolate; returns the exit status."""
    cli.require_no_training_options(options)
    saved = SavedTable(options.out)
    generator, columns = saved.generator, saved.columns
    if options.generate:
        where = [split_condition(text, columns) for text in options.where]
        blocks = generate(generator, columns, options.generate, where, options.seed)
        for i, cells in enumerate(blocks):
            text = to_frame(cells, columns).to_csv(index=False, header=i == 0, lineterminator="\n")
            print(text, end="")
    if options.interpolate:
        names = [column.name for column in columns]
        cli.save_interpolation(options, generator, LATENT_DIM, names)
    return 0
