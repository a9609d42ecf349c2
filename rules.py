"""Rules that all rows of a table keep, and how generated rows are changed to keep them.

rulesearch.py finds them. Copy both along with tables.py. Cells are (n, columns), as columns.py
reads them. Behind them stand as many flags: 1 where a number is missing, else 0. A rule has a
function that gets cells (n,) of its columns, the targets first, and returns right targets.
"""

import math
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from columns import MISSING, Column, looks_random

# torch 2.7 saves no infinite numbers of a network, nor NaN, but as tensors
FAR = 1e300
NAN = torch.tensor(math.nan, dtype=torch.float64)


class Rule(NamedTuple):
    """What all rows keep: columns, the targets, depend on others, the sources.

    Indices from the number of columns on are those of flags.
    """

    sentence: str
    targets: list[int]
    sources: list[int]
    apply: Callable[..., list[Tensor]]  # cells (n,) of targets, then sources, to right targets
    applied: bool = True  # False: follows from others, or contradicts them; it is only checked

    def kept(self, cells: Tensor) -> Tensor:
        """Whether each row (n, columns) keeps it."""
        count = cells.shape[1]
        values = [
            cells[:, i] if i < count else cells[:, i - count].isnan().to(cells)
            for i in self.targets + self.sources
        ]
        kept = torch.ones(len(cells), dtype=torch.bool)
        for value, right in zip(values, self.apply(*values), strict=False):
            kept &= torch.isclose(right, value, rtol=1e-9, equal_nan=True)
        return kept


def apply_rules(rules: list[Rule], cells: list[Tensor]) -> list[Tensor]:
    """The cells (n,) of columns and flags, changed so that they keep the rules."""
    cells = list(cells)
    for rule in rules:
        if rule.applied:
            right_targets = rule.apply(*[cells[i] for i in rule.targets + rule.sources])
            for i, right in zip(rule.targets, right_targets, strict=True):
                cells[i] = right
    return cells


# --- Numbers that cells stand for --------------------------------------------------------------
#
# Rules compare and add numbers. Categories may be numbers as well: 1, 2 and 3 rooms; no and yes.

MAX_NUMBERS = 10  # categories of a column that are numbers to compare and to add


class Scale:
    """The numbers that cells of a column stand for. Its `kind` is number, date, binary or ""."""

    def __init__(self, column: Column, cells: Tensor) -> None:
        self.kind = "date" if column.date else "number"
        self.grid = column.grid
        # Between numbers; 0 if they are not rounded
        self.step = column.grid.step / 10.0**column.grid.decimals if column.grid else 0.0
        self.levels: Tensor | None = None  # (categories,), the number of each category
        if column.categories:
            self.kind, self.levels = mark_or_blank(column) or category_numbers(column)
        elif column.grid and column.grid.origin:
            self.kind = ""  # its cells are differences
        numbers = self.numbers(cells) if self.kind else cells
        present = numbers[~numbers.isnan()]
        self.repeated = present.unique() if column.repeated and self.levels is None else None
        limits = present.aminmax() if len(present) else (0.0, 0.0)
        self.low, self.high = map(float, limits)

    def numbers(self, cells: Tensor) -> Tensor:
        """The numbers (n,) of cells (n,)."""
        return cells if self.levels is None else self.levels.to(cells)[cells.long()]

    def nearest(self, numbers: Tensor, *, limited: bool, stepped: bool) -> Tensor:
        """The cells (n,) nearest to numbers (n,): on the steps of the column, or on its decimals.

        With `limited`, they are in the range of the column.
        """
        if self.levels is not None:
            distances = (numbers.unsqueeze(1) - self.levels.to(numbers)).abs()
            return distances.nan_to_num(nan=FAR).argmin(dim=1).to(numbers)
        if limited:
            numbers = numbers.clamp(self.low, self.high)
        if self.grid is None:
            return numbers
        if stepped:
            return self.grid.nearest(numbers)
        unit = 10.0**self.grid.decimals
        return (numbers * unit).round() / unit

    def beyond(self, bounds: Tensor, *, up: bool) -> Tensor:
        """The cells (n,) nearest to bounds (n,) that are at least, or at most, as large."""
        sign = 1 if up else -1
        if self.levels is not None:
            excess = sign * (self.levels.to(bounds) - bounds.unsqueeze(1))
            return excess.masked_fill(~(excess >= 0), FAR).argmin(dim=1).to(bounds)
        if self.repeated is not None:
            values = self.repeated.to(bounds)
            index = torch.searchsorted(values, bounds.contiguous(), right=not up)
            index = index if up else index - 1
            return values[index.clamp(0, len(values) - 1)]
        if self.grid is None:
            return bounds
        nearest = self.grid.nearest(bounds)
        further = self.grid.nearest(bounds + sign * self.step)
        return further.where(sign * (nearest - bounds) < 0, nearest)


def mark_or_blank(column: Column) -> tuple[str, Tensor] | None:
    """As category_numbers, of a column with one value, as "x", and blanks: 1 and 0; else None."""
    is_present = [str(category).strip().lower() not in MISSING for category in column.categories]
    if sum(is_present) != 1 or all(is_present):
        return None
    return "binary", torch.tensor(is_present, dtype=torch.float64)


def category_numbers(column: Column) -> tuple[str, Tensor | None]:
    """The kind of a column of categories, and their numbers (categories,), NaN if missing.

    Two categories that are no numbers are 0 and 1.
    """
    texts = [str(category).strip() for category in column.categories]
    is_present = torch.tensor([text.lower() not in MISSING for text in texts])
    present = [value for value, here in zip(column.categories, is_present, strict=True) if here]
    numbers = numbers_of(present)
    kind = "number"
    if numbers is None:
        kind = "binary"
        numbers = [0.0, 1.0]
        if len(present) != 2:
            return "", None
    levels = torch.full((len(texts),), math.nan, dtype=torch.float64)
    levels[is_present] = torch.tensor(numbers, dtype=torch.float64)
    return kind, levels


def numbers_of(categories: list) -> list[float] | None:
    """Categories as finite numbers; None if there are many, or if they are no numbers."""
    if len(categories) > MAX_NUMBERS:
        return None
    try:
        numbers = [float(category) for category in categories]
    except (ValueError, TypeError):
        return None
    return numbers if all(map(math.isfinite, numbers)) else None


# --- Missing numbers ---------------------------------------------------------------------------
#
# A number is missing where its flag is 1, and a sum where one of its parts is.


def hide(target: Tensor, is_missing: Tensor) -> list[Tensor]:
    """The target, missing where the flag is 1."""
    return [torch.where(is_missing == 1, NAN.to(target), target)]


def any_missing(_: Tensor, *flags: Tensor) -> list[Tensor]:
    """1 where one of the flags is."""
    return [torch.stack(flags).amax(dim=0)]


# --- One value decides another -----------------------------------------------------------------
#
# A town decides its state, a date its month, an age whether one is a child.


def decide(values: Tensor, target: Tensor, source: Tensor) -> list[Tensor]:
    """The value for the index of each category, whatever the target is."""
    return [values.to(target)[source.long()]]


def classify(limits: Tensor, order: Tensor, target: Tensor, number: Tensor) -> list[Tensor]:
    """The categories, in their order, between whose limits the numbers (n,) lie."""
    category = order[torch.bucketize(number.contiguous(), limits.to(number))].to(target)
    return [target.where(number.isnan(), category)]


SECONDS_OF_A_DAY = 86400


def days(dates: Tensor) -> Tensor:
    """Whole days since 1970 of dates (n,), in seconds."""
    return dates.div(SECONDS_OF_A_DAY, rounding_mode="floor")


def months(dates: Tensor) -> Tensor:
    """Months since the year 0 of dates (n,), in seconds.

    Counted are years that begin in March, so that a leap day is the last one of its year.
    """
    since_0 = days(dates) + 719_468  # since March 1 of the year 0
    eras = since_0.div(146_097, rounding_mode="floor")  # of 400 years
    day = since_0 - 146_097 * eras
    leap_days = day // 1460 - day // 36_524 + day // 146_096
    year = (day - leap_days) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    return 12 * (400 * eras + year) + month + 2


PARTS_OF_DATES: dict[str, Callable[[Tensor], Tensor]] = {
    "year": lambda dates: months(dates) // 12,
    "quarter": lambda dates: months(dates) % 12 // 3,
    "month": lambda dates: months(dates) % 12,
    "weekday": lambda dates: days(dates) % 7,
    "year and month": months,
}


def part_indices(name: str, first: int, size: int, dates: Tensor) -> Tensor:
    """A part of dates (n,) as indices, counted from the first one; `size` for missing dates."""
    parts = PARTS_OF_DATES[name](dates.nan_to_num()) - first
    return parts.clamp(0, size - 1).masked_fill(dates.isnan(), size).long()


def decide_by_part(
    name: str, first: int, values: Tensor, target: Tensor, dates: Tensor
) -> list[Tensor]:
    """The value for a part of each date; targets stay where the data have no such part."""
    right = values.to(target)[part_indices(name, first, len(values) - 1, dates)]
    return [target.where(right.isnan(), right)]


# --- Sums --------------------------------------------------------------------------------------
#
# Multiples of columns add up to a constant: total - net - tax = 0; coal + gas + wind = 100.


class Relation(NamedTuple):
    """Multiples of columns, the members, add up to a constant. The first is written as the sum."""

    members: list[int]
    coefficients: list[float]
    constant: float
    limits: tuple[float, float] = (0.0, 0.0)  # how far sums may be below and above the constant
    differences: Tensor | None = None  # (m,), quantiles of how far they are in the data

    @property
    def is_rounded(self) -> bool:
        """Whether it holds but for rounding."""
        return self.limits != (0.0, 0.0)

    @property
    def rounds_first(self) -> bool:
        """Whether the first member alone is rounded: it follows from the others."""
        return self.is_rounded and self.differences is None


def balance(scales: list[Scale], relation: Relation, targets: int, *cells: Tensor) -> list[Tensor]:
    """Cells of the first members, the targets, changed so that they have the relation to others.

    One target after the other is changed as far as its range allows; what remains changes the
    first. Rows that have the relation stay as they are, and those in which a member is missing.
    The others get differences like those of the data.
    """
    numbers = [scale.numbers(values) for scale, values in zip(scales, cells, strict=True)]
    terms = [
        coefficient * values
        for coefficient, values in zip(relation.coefficients, numbers, strict=True)
    ]
    excess = torch.stack(terms).sum(dim=0) - relation.constant
    low, high = relation.limits
    aim = torch.zeros_like(excess)
    if relation.differences is not None:
        places = looks_random(excess.nan_to_num()) * len(relation.differences)
        aim = relation.differences.to(excess)[places.long()]
    changed = list(cells[:targets])
    for step in range(targets + 1):
        k = step % targets
        is_last = step == targets
        if is_last:
            aim = torch.zeros_like(aim)
        wanted = numbers[k] - (excess - aim) / relation.coefficients[k]
        right = scales[k].nearest(wanted, limited=not is_last, stepped=relation.is_rounded)
        stays = excess.isnan() | ((excess >= low) & (excess <= high))
        changed[k] = changed[k].where(stays, right)
        before = numbers[k]
        numbers[k] = scales[k].numbers(changed[k])
        excess = excess + relation.coefficients[k] * (numbers[k] - before)
    return changed


# --- Orders ------------------------------------------------------------------------------------
#
# A column is at most another, or several are: low <= high; maths, art, english <= best.


def bound(
    scale: Scale, sources: list[Scale], lower: int, target: Tensor, *bounds: Tensor
) -> list[Tensor]:
    """The target, raised above the first `lower` bounds, or lowered below the others.

    It goes as far beyond a bound as it was on the wrong side, as many would be equal to the bound
    otherwise; between bounds, and at the end of its range, it goes less far. Bounds that are
    missing have no effect, and a missing target stays missing.
    """
    numbers = [source.numbers(cells) for source, cells in zip(sources, bounds, strict=True)]
    for values, up in ((numbers[:lower], True), (numbers[lower:], False)):
        if values:
            sign = 1 if up else -1
            stacked = sign * torch.stack(values)
            nearest = sign * stacked.nan_to_num(nan=-FAR).amax(dim=0)
            distance = sign * (nearest - scale.numbers(target))
            aim = nearest
            if lower in (0, len(bounds)):
                reflected = (nearest + sign * distance).clamp(scale.low, scale.high)
                aim = sign * torch.maximum(sign * nearest, sign * reflected)
            target = scale.beyond(aim, up=up).where(distance > 0, target)
    return [target]


# --- Pairs of values ---------------------------------------------------------------------------
#
# Some values never go together: shirts are S, M or L, and shoes 40, 41 or 42.

UNLIKE = 1e3  # less likely than any count makes a level
NEVER = 1e6  # worse than all levels that are unlike


class Levels:
    """The `size` values of a column: categories, or numbers that repeat."""

    def __init__(self, size: int, numbers: Tensor | None, *, is_number: bool) -> None:
        self.size = size
        self.numbers = numbers  # (size,), of each level; None: they have no order
        self.is_number = is_number  # whether cells are numbers, not indices

    def indices(self, cells: Tensor) -> Tensor:
        """The index (n,) of the level nearest to each cell; `size` for a missing number."""
        if not self.is_number or self.numbers is None:
            return cells.long()
        limits = (self.numbers[1:] + self.numbers[:-1]) / 2
        nearest = torch.bucketize(cells.contiguous(), limits.to(cells))
        return nearest.masked_fill(cells.isnan(), self.size)

    def cells(self, indices: Tensor) -> Tensor:
        """The cells (n,) of levels."""
        if not self.is_number or self.numbers is None:
            return indices.double()
        return self.numbers[indices]

    def one_hot(self, cells: Tensor) -> Tensor:
        """The levels of cells (n,) as rows (n, size)."""
        return torch.eye(self.size + 1)[self.indices(cells), : self.size]

    def likeness(self) -> Tensor:
        """How much each level, and a missing one, is like others (size + 1, size)."""
        if self.numbers is None:
            like = torch.eye(self.size)
        else:
            ranks = self.numbers.argsort().argsort()
            like = -(ranks.unsqueeze(1) - ranks).abs()
        return UNLIKE * torch.cat([like, torch.zeros(1, self.size)]).double()


def pair_scores(counts: Tensor) -> Tensor:
    """How well levels go with those of a partner, or a missing one (partner's size + 1, size).

    From the counts (partner's size, size) of the pairs in the data.
    """
    scores = counts.log().clamp(min=-NEVER)
    return torch.cat([scores, torch.zeros(1, counts.shape[1]).to(scores)])


def pair(
    own: Levels,
    likeness: Tensor,
    partners: list[Levels],
    tables: list[Tensor],
    target: Tensor,
    *sources: Tensor,
) -> list[Tensor]:
    """The target, or the level most like it that occurs with those of all partners."""
    index = own.indices(target)
    scores = likeness[index]  # (n, size)
    for partner, table, source in zip(partners, tables, sources, strict=True):
        scores = scores + table[partner.indices(source)]
    best = scores.argmax(dim=1)
    stays = (best == index) | target.isnan()
    return [target.where(stays, own.cells(best).to(target))]
