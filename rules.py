"""Rules that all rows of a table keep: found in its cells, and applied to generated ones.

Copy this file and columns.py along with tables.py. Cells are (n, columns), as columns.py reads
them. Behind them stand as many flags: 1 where a number is missing, else 0.
"""

import functools
import graphlib
import itertools
import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

import common
from columns import MISSING, Column, looks_random

# torch 2.7 saves no infinite numbers of a network, nor NaN, but as tensors
FAR = 1e300
NAN = torch.tensor(math.nan, dtype=torch.float64)
MIN_BROKEN = 10  # rows that would break a rule if chance paired its columns


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


def with_missing(cells: Tensor) -> Tensor:
    """Cells (n, columns) and, behind them, whether they are missing."""
    return torch.cat([cells, cells.isnan().to(cells)], dim=1)


def apply_rules(rules: list[Rule], cells: list[Tensor]) -> list[Tensor]:
    """The cells (n,) of columns and flags, changed so that they keep the rules."""
    cells = list(cells)
    for rule in rules:
        if rule.applied:
            right_targets = rule.apply(*[cells[i] for i in rule.targets + rule.sources])
            for i, right in zip(rule.targets, right_targets, strict=True):
                cells[i] = right
    return cells


# --- Numbers that a column may hold ------------------------------------------------------------

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

    def rounded(self, bounds: Tensor, *, up: bool) -> Tensor:
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
        further = self.grid.nearest(bounds + sign * self.grid.step / 10.0**self.grid.decimals)
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


# --- Search ------------------------------------------------------------------------------------

MAX_COMPARED = 1.5e9  # numbers compared to find rules; larger tables are searched by a sample
FIRST_ROWS = (30, 200)  # they break most rules that rows may keep, and save a look at the others


def find_rules(cells: Tensor, columns: list[Column]) -> list[Rule]:
    """The rules that all rows (n, columns) keep, in the order in which they are to be applied.

    Rules that hold by chance are left out: those that fewer than 10 rows would break, or some more
    for many columns, if their columns were shuffled.
    """
    search = Search(cells, columns)
    search.add_missing()
    search.add_decisions()
    search.add_sums()
    search.add_parts_of_dates()
    search.add_thresholds()
    search.add_orders()
    search.add_pairs()
    return in_order(search.rules)


def in_order(rules: list[Rule]) -> list[Rule]:
    """Rules sorted so that each comes after those that decide its sources.

    Of two rules for a target, the first comes first.
    """
    by_target = defaultdict(list)
    for k, rule in enumerate(rules):
        if rule.applied:
            for i in rule.targets:
                by_target[i].append(k)
    sorter: graphlib.TopologicalSorter = graphlib.TopologicalSorter()
    for k, rule in enumerate(rules):
        before = {other for i in rule.sources for other in by_target[i]}
        before |= {other for i in rule.targets for other in by_target[i] if other < k}
        sorter.add(k, *(before if rule.applied else []))
    return [rules[k] for k in sorter.static_order()]


class Search:
    """The rules found so far; those that are applied never contradict each other."""

    def __init__(self, cells: Tensor, columns: list[Column]) -> None:
        random = common.random_generator("rules")
        order = torch.randperm(len(cells), generator=random)
        self.columns = columns
        self.cells = with_missing(cells.double())[order]  # (n, 2 * columns)
        self.min_broken = MIN_BROKEN + math.log(len(columns) ** 2)  # many rules are tried
        self.names = [column.name for column in columns]
        self.names += [f"{column.name} missing" for column in columns]
        self.sizes = [len(column.categories) for column in columns]  # 0: not of categories
        self.sizes += [0 if column.missing is None else 2 for column in columns]
        self.scales = [Scale(*pair) for pair in zip(columns, self.cells.T, strict=False)]
        self.rules: list[Rule] = []
        self.decided: set[int] = set()  # columns that are targets
        self.sources: dict[int, set[int]] = defaultdict(set)  # what a column depends on
        self.deciders: dict[int, int] = {}  # the category that decides a column
        self.related: set[tuple[int, int]] = set()  # pairs of columns that have a rule
        self.orders = [*self.find_orders("number"), *self.find_orders("date")]

    def add(self, rule: Rule) -> None:
        """Add a rule, to be applied if its targets are free and no source depends on them."""
        free = self.decided.isdisjoint(rule.targets) and not self.is_circular(rule)
        rule = rule._replace(applied=rule.applied and free)
        self.rules.append(rule)
        if rule.applied:
            self.decided.update(rule.targets)
            for i in rule.targets:
                self.sources[i].update(rule.sources)
                self.sources[i].update(j for j in rule.targets if j != i)
            for i, j in itertools.product(rule.targets, rule.targets + rule.sources):
                self.related.update([(i, j), (j, i)])

    def is_circular(self, rule: Rule) -> bool:
        """Whether a source of a rule, or of a target, depends on one of its targets."""
        seen = set(rule.sources).union(*[self.sources[i] for i in rule.targets])
        open_columns = list(seen)
        while open_columns:
            new = self.sources[open_columns.pop()] - seen
            seen |= new
            open_columns.extend(new)
        return not seen.isdisjoint(rule.targets)

    def root(self, i: int) -> int:
        """The category that decides a column, directly or not; else the column itself."""
        while i in self.deciders:
            i = self.deciders[i]
        return i

    def numbers(self, indices: list[int], rows: int | None = None) -> Tensor:
        """The numbers (rows, m) of columns."""
        values = [self.scales[i].numbers(self.cells[:rows, i]) for i in indices]
        return torch.stack(values, dim=1)

    def of_kinds(self, *kinds: str) -> list[int]:
        """The indices of the columns whose scales are of some kinds."""
        return [i for i, scale in enumerate(self.scales) if scale.kind in kinds]

    def add_missing(self) -> None:
        """A number is missing where its flag says so."""
        count = len(self.columns)
        for i, column in enumerate(self.columns):
            if column.missing is not None:
                self.sources[i].add(count + i)
                self.rules.append(Rule(f"{column.name} is missing", [i], [count + i], hide))

    # --- A category decides a column ---

    def add_decisions(self) -> None:
        """A category decides another column, or whether it is missing."""
        several = (self.cells != self.cells[0]).any(dim=0) & ~self.cells.isnan().all(dim=0)
        values = self.cells.nan_to_num(nan=-math.inf).T.contiguous()  # (2 * columns, n)
        all_others = several.nonzero().flatten()
        with_categories = [i for i in all_others.tolist() if self.sizes[i]]
        for i in sorted(with_categories, key=lambda i: -self.sizes[i]):
            others = all_others[all_others != i]
            for rows in (*FIRST_ROWS, len(self.cells)):
                others = others[broken_decisions(values[i, :rows], values[others, :rows]) == 0]
            by_chance = paired_by_chance(values[others])
            others = others[broken_decisions(values[i], by_chance) >= self.min_broken]
            for j in others.tolist():
                self.add_decision(i, j)

    def add_decision(self, i: int, j: int) -> None:
        """Category i decides column j, unless that follows from other decisions."""
        if self.root(i) == self.root(j):
            return
        decided_values = torch.zeros(self.sizes[i], dtype=torch.float64)
        decided_values[self.cells[:, i].long()] = self.cells[:, j]
        sentence = f"{self.names[i]} decides {self.names[j]}"
        self.add(Rule(sentence, [j], [i], functools.partial(decide, decided_values)))
        if self.rules[-1].applied:
            self.deciders[j] = i

    # --- Sums ---

    def add_sums(self) -> None:
        """A column is a sum of multiples of others, and of a constant, exactly or rounded."""
        kinds = self.of_kinds("number", "date", "binary")
        numbers = self.numbers(kinds) if kinds else self.cells[:, :0]
        changes = (paired_by_chance(numbers.T) != numbers.T).sum(dim=1)
        usable = (changes >= MIN_CHANGES).nonzero().flatten()
        steps = torch.tensor([self.scales[i].step for i in kinds], dtype=torch.float64)
        relations: dict[int, Relation] = {}  # by the last member
        for window in windows(len(usable)):
            chosen = usable[window]
            for last, relation in find_relations(numbers[:, chosen], steps[chosen]):
                positions = chosen[relation.members]
                members = [kinds[k] for k in positions.tolist()]
                follows = len({self.root(i) for i in members}) == 1
                if not follows and changes[positions].max() >= self.min_broken:
                    last_member = kinds[int(chosen[last])]
                    relations.setdefault(last_member, relation._replace(members=members))
        uses = torch.zeros(len(self.columns), dtype=torch.int64)
        for relation in relations.values():
            uses[relation.members[:1] if relation.rounds_first else relation.members] += 1
        for relation in sorted(relations.values(), key=lambda relation: relation.is_rounded):
            self.add_sum(relation, uses)

    def add_sum(self, relation: "Relation", uses: Tensor) -> None:
        """Add the rule of a relation. Its targets are members that no other one needs."""
        own = [k for k, i in enumerate(relation.members) if uses[i] == 1 and i not in self.decided]
        targets = sorted(own or [0], key=lambda k: self.sizes[relation.members[k]] > 0)
        parts = set(relation.members[1:])
        has_order = any(parts.issuperset(order) for order in self.orders)
        if not relation.constant and has_order:
            targets = targets[:1]  # parts have an order of their own to keep
        if relation.rounds_first and relation.members[0] not in self.decided:
            targets = [0]
        order = targets + [k for k in range(len(relation.members)) if k not in targets]
        members = [relation.members[k] for k in order]
        relation_in_order = relation._replace(
            members=members, coefficients=[relation.coefficients[k] for k in order]
        )
        scales = [self.scales[i] for i in members]
        apply = functools.partial(balance, scales, relation_in_order, len(targets))
        sentence = relation.sentence(self.columns)
        self.add(Rule(sentence, members[: len(targets)], members[len(targets) :], apply))
        self.add_missing_sum(relation.members[0], relation.members[1:])

    def add_missing_sum(self, total: int, parts: list[int]) -> None:
        """A sum is missing where one of several parts is."""
        count = len(self.columns)
        flags = [count + i for i in parts if self.sizes[count + i]]
        if len(flags) > 1 and self.sizes[count + total]:
            one_missing = self.cells[:, flags].amax(dim=1)
            if (self.cells[:, count + total] == one_missing).all():
                sentence = f"{self.names[total]} is missing where {self.listed(parts)} are"
                self.add(Rule(sentence, [count + total], flags, one_of))

    # --- A date decides its year, its month, its weekday ---

    def add_parts_of_dates(self) -> None:
        """A part of a date decides another column, whatever that calls it."""
        values = self.cells[:, : len(self.columns)].T.nan_to_num(nan=-math.inf).contiguous()
        several = (values != values[:, :1]).any(dim=1)
        for i, name in itertools.product(self.of_kinds("date"), PARTS_OF_DATES):
            free = [j for j in several.nonzero().flatten().tolist() if j not in self.decided]
            others = torch.tensor([j for j in free if j != i], dtype=torch.int64)
            dates = self.cells[:, i]
            parts = PARTS_OF_DATES[name](dates[~dates.isnan()])
            first = int(parts.min())
            size = int(parts.max()) - first + 1
            indices = part_indices(name, first, size, dates)
            others = others[broken_decisions(indices, values[others]) == 0]
            by_chance = paired_by_chance(values[others])
            others = others[broken_decisions(indices, by_chance) >= self.min_broken]
            for j in others.tolist():
                decided_values = torch.full((size + 1,), math.nan, dtype=torch.float64)
                decided_values[indices] = self.cells[:, j]
                apply = functools.partial(decide_by_part, name, first, decided_values)
                sentence = f"the {name} of {self.names[i]} decides {self.names[j]}"
                self.add(Rule(sentence, [j], [i], apply))

    # --- A number decides a category ---

    def add_thresholds(self) -> None:
        """The range in which a number lies decides a category, or whether a column is missing."""
        indices = self.of_kinds("number", "date")
        indices = [i for i in indices if not self.sizes[i]]
        if not indices:
            return
        numbers = self.cells[:, indices]
        present = ~numbers.isnan() & ~paired_by_chance(numbers.T).T.isnan()
        for j, size in enumerate(self.sizes):
            values = self.cells[:, j].long()
            different = values != paired_by_chance(values)
            if not 2 <= size <= MAX_LEVELS or different.sum() < self.min_broken:
                continue
            chosen = torch.arange(len(indices))
            for rows in (*FIRST_ROWS, len(numbers)):
                apart = find_ranges(values[:rows], size, numbers[:rows, chosen])[2]
                chosen = chosen[apart]
            broken = (different.unsqueeze(1) & present[:, chosen]).sum(dim=0)
            for k in chosen[broken >= self.min_broken].tolist():
                self.add_threshold(indices[k], j)

    def add_threshold(self, i: int, j: int) -> None:
        """The range of number i decides category j."""
        if self.root(i) == self.root(j) or (i, j) in self.related:
            return
        low, high, _ = find_ranges(self.cells[:, j].long(), self.sizes[j], self.cells[:, [i]])
        order = low.flatten().argsort()
        order = order[low.flatten()[order].isfinite()]  # of categories that have numbers
        limits = (high[order[:-1], 0] + low[order[1:], 0]) / 2
        sentence = f"{self.names[i]} decides {self.names[j]}"
        self.add(Rule(sentence, [j], [i], functools.partial(classify, limits, order)))

    # --- Orders ---

    def find_orders(self, kind: str) -> list[tuple[int, int]]:
        """Pairs of columns of a kind, the first at most the second, without those that follow."""
        indices = self.of_kinds(kind)
        if len(indices) < 2:
            return []
        rows = max(int(MAX_COMPARED / len(indices) ** 2), 200)
        numbers = self.numbers(indices).T.contiguous()  # (m, n)
        at_most = torch.zeros(len(indices), len(indices), dtype=torch.bool)
        never_larger = torch.zeros_like(at_most)
        for j, larger in enumerate(numbers):
            smaller = torch.arange(len(indices))
            for count in (*FIRST_ROWS, len(larger)):
                smaller = smaller[~(numbers[smaller, :count] > larger[:count]).any(dim=1)]
            never_larger[smaller, j] = True
            by_chance = larger[:rows].clone()
            present = ~by_chance.isnan()
            by_chance[present] = paired_by_chance(by_chance[present])
            broken = (numbers[smaller, :rows] > by_chance).sum(dim=1)
            at_most[smaller[broken >= self.min_broken], j] = True
        at_most &= ~at_most.T  # equal columns have a rule of their own
        complete = ~numbers.isnan().any(dim=1)
        at_most |= never_larger & through(at_most, ~complete)
        pairs = (at_most & ~through(at_most, complete)).nonzero()  # (m, 2)
        means = numbers.nanmean(dim=1)
        largest_first = means[pairs[:, 1]].argsort(descending=True, stable=True)
        return [(indices[i], indices[j]) for i, j in pairs[largest_first].tolist()]

    def add_orders(self) -> None:
        """Columns of numbers, or of dates, are at most others.

        The larger one is raised to the smaller ones. Below columns that others decide, the smaller
        one is lowered.
        """
        lower: dict[int, list[int]] = defaultdict(list)  # by target
        upper: dict[int, list[int]] = defaultdict(list)
        below = set(self.decided)
        for i, j in self.orders:  # the largest ones first
            if self.root(i) == self.root(j):
                continue
            if j in below and self.is_free(i, j):
                upper[i].append(j)
                below.add(i)
            elif self.is_free(j, i):
                lower[j].append(i)
            else:
                self.add_bound(j, [i], [], applied=False)
        for target in [*upper, *(j for j in lower if j not in upper)]:
            self.add_bound(target, lower[target], upper[target])

    def add_bound(
        self, target: int, lower: list[int], upper: list[int], applied: bool = True
    ) -> None:
        """Column `target` is at least some columns, and at most some others."""
        sentences = []
        if lower:
            sentences.append(f"{self.listed(lower)} <= {self.names[target]}")
        if upper:
            sentences.append(f"{self.names[target]} <= {self.listed(upper)}")
        sources = lower + upper
        scales = [self.scales[i] for i in sources]
        apply = functools.partial(bound, self.scales[target], scales, len(lower))
        self.add(Rule(" and ".join(sentences), [target], sources, apply, applied))

    def listed(self, indices: list[int]) -> str:
        """The names of columns."""
        return ", ".join(self.names[i] for i in indices)

    # --- Pairs of values ---

    def add_pairs(self) -> None:
        """Some values of a column never occur with some of another, although chance would have it.

        Columns are categories, flags, and numbers of few values.
        """
        levels = self.find_levels()
        if not levels:
            return
        found = []
        for i, j in self.find_pairs(levels):
            counts = count_pairs(levels[i], self.cells[:, i], levels[j], self.cells[:, j])
            unseen = expected_unseen(counts)
            if unseen >= self.min_broken and (counts == 1).sum() <= unseen / 10:
                found.append((unseen, i, j, counts))
        found.sort(key=lambda pair: -pair[0])

        partners: dict[int, list[tuple[int, Tensor]]] = defaultdict(list)  # by target
        for _, i, j, counts in found:
            if self.is_free(j, i):
                partners[j].append((i, counts))
                self.sources[j].add(i)
            elif self.is_free(i, j):
                partners[i].append((j, counts.T))
                self.sources[i].add(j)
            else:
                self.add_pairing(levels, j, [(i, counts)], applied=False)
        for target, its_partners in partners.items():
            self.add_pairing(levels, target, its_partners)
            for partner in its_partners if len(its_partners) > 1 else []:
                self.add_pairing(levels, target, [partner], applied=False)

    def is_free(self, target: int, source: int) -> bool:
        """Whether a source may decide a target."""
        rule = Rule("", [target], [source], hide)
        return target not in self.decided and not self.is_circular(rule)

    def find_levels(self) -> "dict[int, Levels]":
        """The levels of the columns that have few, by index."""
        levels = {}
        for i, size in enumerate(self.sizes):
            numbers = None
            if i < len(self.columns):
                column = self.columns[i]
                numbers = self.scales[i].levels if self.scales[i].kind == "number" else None
                if column.repeated and not column.categories:
                    present = self.cells[~self.cells[:, i].isnan(), i]
                    numbers = present.unique()
                    size = len(numbers)
            if 2 <= size <= MAX_LEVELS:
                levels[i] = Levels(size, numbers, is_number=self.sizes[i] == 0)
        return levels

    def find_pairs(self, levels: "dict[int, Levels]") -> list[tuple[int, int]]:
        """Pairs of columns that may have such a rule, as a sample tells."""
        indices = list(levels)
        sizes = torch.tensor([levels[i].size for i in indices])
        total = int(sizes.sum())
        rows = max(int(min(3e7 / total, MAX_COMPARED * 20 / total**2)), 300)
        sample = self.cells[:rows]
        codes = torch.cat([levels[i].one_hot(sample[:, i]) for i in indices], dim=1)
        starts = (sizes.cumsum(dim=0) - sizes).tolist()
        column = torch.arange(len(indices)).repeat_interleave(sizes)
        likely = []  # tensors (3, m): in how many rows broken by chance, and the two columns
        for k, i in enumerate(indices):
            own = codes[:, starts[k] : starts[k] + levels[i].size]
            others = codes[:, starts[k] :]
            counts = own.T @ others
            expected = own.sum(dim=0).outer(others.sum(dim=0)) / len(sample)
            totals = torch.stack([expected * (counts == 0), counts == 1]).sum(dim=1)
            unseen, once = torch.zeros(2, len(indices)).index_add(1, column[starts[k] :], totals)
            chosen = (unseen >= self.min_broken) & (once <= unseen / 10)
            chosen[k] = False
            first = torch.full_like(unseen, k)
            likely.append(torch.stack([unseen, first, torch.arange(len(indices))])[:, chosen])
        pairs = torch.cat(likely, dim=1)
        pairs = pairs[1:, pairs[0].argsort(descending=True)].T.long()
        new = ((indices[k], indices[other]) for k, other in pairs.tolist())
        return list(itertools.islice(filter(self.is_new, new), MAX_PAIRS))

    def is_new(self, pair: tuple[int, int]) -> bool:
        """Whether columns have no rule yet, and are not both numbers or decided by one category."""
        i, j = pair
        are_numbers = self.sizes[i] == self.sizes[j] == 0
        return pair not in self.related and self.root(i) != self.root(j) and not are_numbers

    def add_pairing(
        self,
        levels: "dict[int, Levels]",
        target: int,
        partners: list[tuple[int, Tensor]],
        applied: bool = True,
    ) -> None:
        """Column `target` only has values that occur with those of its partners.

        These have the counts (partner's levels, target's levels) of pairs.
        """
        sources = [i for i, _ in partners]
        tables = [pair_scores(counts) for _, counts in partners]
        own = levels[target]
        apply = functools.partial(pair, own, own.likeness(), [levels[i] for i in sources], tables)
        sentence = f"pairs of {self.listed([*sources, target])}"
        self.add(Rule(sentence, [target], sources, apply, applied))


# --- A number is missing -----------------------------------------------------------------------


def hide(target: Tensor, is_missing: Tensor) -> list[Tensor]:
    """The target, missing where the flag is 1."""
    return [torch.where(is_missing == 1, NAN.to(target), target)]


# --- A category decides a column ---------------------------------------------------------------


def decide(values: Tensor, target: Tensor, source: Tensor) -> list[Tensor]:
    """The value for the index of each category, whatever the target is."""
    return [values.to(target)[source.long()]]


def paired_by_chance(values: Tensor) -> Tensor:
    """Values (..., n) of rows in random order, moved to the next row."""
    return values.roll(1, dims=-1)


def broken_decisions(categories: Tensor, values: Tensor) -> Tensor:
    """In how many rows values (m, n) differ from those of a row of the same category (n,)."""
    categories = categories.long()
    rows = torch.arange(len(categories))
    row_of_category = torch.zeros(int(categories.max()) + 1, dtype=torch.int64)
    row_of_category[categories] = rows
    return (values != values[:, row_of_category[categories]]).sum(dim=1)


# --- Sums --------------------------------------------------------------------------------------

MIN_CHANGES = 4  # rows in which chance would change a member: two have another number than the rest
MIN_SHARE = 1e-7  # of a sum, in standard deviations; less is an error of float64
MAX_NOISE = 0.05  # of a rounded sum, in standard deviations
MAX_DECIMALS = 6  # of the coefficients of a rounded sum
MIN_ROWS = 10  # for each digit of the coefficients of a rounded sum
MAX_COEFFICIENT = 1e5
SECONDS_OF_A_DAY = 86400
QUANTILES = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)


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

    def sentence(self, columns: list[Column]) -> str:
        """The relation as text."""
        end = ", rounded" if self.is_rounded else ""
        if self.constant and len(set(self.coefficients)) == 1:
            names = [columns[i].name for i in sorted(self.members)]
            return f"{' + '.join(names)} = {self.constant:g}{end}"
        multiples = list(zip(self.members, self.coefficients, strict=True))
        if len(multiples) == 2 and abs(self.coefficients[1]) == 1:
            multiples.sort(key=lambda multiple: abs(multiple[1]))  # minutes = 60 hours
        (total, factor), *parts = multiples
        sign = math.copysign(1, factor)
        text = ""
        for i, coefficient in sorted(parts, key=lambda part: (sign * part[1] > 0, part[0])):
            text += " + " if sign * coefficient < 0 else " - "
            is_duration = columns[total].date and not columns[i].date
            if is_duration and abs(coefficient) == SECONDS_OF_A_DAY:
                text += f"{columns[i].name} days"
            else:
                text += multiple(coefficient, columns[i].name)
        if self.constant:
            text += " + " if sign * self.constant > 0 else " - "
            if columns[total].date:
                text += f"{abs(self.constant) / SECONDS_OF_A_DAY:g} days"
            else:
                text += f"{abs(self.constant):g}"
        return f"{multiple(factor, columns[total].name)} = {text.removeprefix(' + ').strip()}{end}"


def multiple(coefficient: float, name: str) -> str:
    """A multiple of a column as text, without its sign."""
    return name if abs(coefficient) == 1 else f"{abs(coefficient):g} {name}"


def windows(count: int) -> Iterator[slice]:
    """Overlapping parts of `count` columns; narrow ones as well, where fewer values are missing."""
    for width in (256, 64, 16):
        for start in range(0, max(count - width // 2, 1), width // 2):
            yield slice(start, start + width)


def find_relations(numbers: Tensor, steps: Tensor) -> Iterator[tuple[int, Relation]]:
    """Relations of columns (n, columns) that hold in all rows in which no member is missing.

    With each comes the last of its members, in the order of the mean: columns with the largest
    numbers are the sums of others. Columns have `steps` (columns,) between their numbers.
    """
    complete = numbers[~numbers.isnan().any(dim=1)]
    if len(complete) < 3 * numbers.shape[1] or numbers.shape[1] < 2:
        return
    sample = complete[:2000]
    order = sample.abs().mean(dim=0).argsort()
    order = order[sample.std(dim=0)[order] > 0]
    deviations = sample.std(dim=0)[order]
    scores = (sample[:, order] - sample[:, order].mean(dim=0)) / deviations
    # A column that depends on those before it leaves nothing on the diagonal
    triangle = torch.linalg.qr(scores, mode="r").R
    noise = triangle.diagonal().abs() / len(sample) ** 0.5  # in standard deviations
    for k in (noise < MIN_SHARE).nonzero().flatten().tolist():
        parts = (noise[:k] >= MIN_SHARE).nonzero().flatten()
        shares = torch.linalg.lstsq(scores[:, parts], scores[:, k]).solution
        parts, shares = largest_shares(parts, shares, MIN_SHARE)
        multiples = shares * deviations[k] / deviations[parts]
        members = [int(order[k]), *order[parts].tolist()]
        relation = exact_relation(numbers, members, multiples.tolist())
        if relation:
            yield members[0], relation

    independent = (noise >= MAX_NOISE).nonzero().flatten()
    nearly = ((noise >= MIN_SHARE) & (noise < MAX_NOISE)).nonzero().flatten()
    shares_of_all = torch.linalg.lstsq(scores[:, independent], scores[:, nearly]).solution
    for k, shares in zip(nearly.tolist(), shares_of_all.T, strict=True):
        parts, shares = largest_shares(independent, shares, noise[k].item())
        members = [int(order[k]), *order[parts].tolist()]
        multiples = shares * deviations[k] / deviations[parts]
        rounding = steps[members[0]] + multiples.abs() @ steps[members[1:]]
        if noise[k] * deviations[k] <= rounding:
            relation = rounded_relation(numbers, members, steps)
            if relation:
                yield members[0], relation


def largest_shares(parts: Tensor, shares: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """The columns with shares of a sum (m,) above the least, and these, the largest ones first."""
    order = shares.abs().argsort(descending=True)
    order = order[shares.abs()[order] > least]
    return parts[order], shares[order]


def exact_relation(numbers: Tensor, members: list[int], multiples: list[float]) -> Relation | None:
    """The relation of some columns (n, columns), the first a sum of multiples of the others."""
    coefficients = [1.0, *(-simplified(multiple) for multiple in multiples)]
    terms = numbers[:, members] * torch.tensor(coefficients, dtype=torch.float64)
    terms = terms[~terms.isnan().any(dim=1)]
    totals = terms.sum(dim=1)
    tolerance = 1e-9 * terms.abs().sum(dim=1)
    constant = simplified(totals.mean().item())
    if abs(constant) <= tolerance.max():
        constant = 0.0
    if ((totals - constant).abs() <= tolerance).all():
        return Relation(members, coefficients, constant)
    return None


def simplified(number: float) -> float:
    """A fraction of small whole numbers if it is nearly that."""
    fraction = float(Fraction(number).limit_denominator(1000))
    return fraction if math.isclose(number, fraction, rel_tol=1e-8) else number


def rounded_relation(numbers: Tensor, members: list[int], steps: Tensor) -> Relation | None:
    """The simplest relation of some columns (n, columns) that holds but for rounding to `steps`.

    All rows must hold with coefficients of few decimals: vat = 0.19 net, not net = 5.263158 vat.
    """
    values = numbers[:, members]
    values = values[~values.isnan().any(dim=1)]
    half_steps = steps[members] / 2
    scores = (values - values.mean(dim=0)) / values.std(dim=0)
    shares = torch.linalg.lstsq(scores[:, 1:], scores[:, 0]).solution
    coefficients = torch.cat([torch.ones(1).to(shares), -shares]) / values.std(dim=0)
    noise = (scores[:, 0] - scores[:, 1:] @ shares).std()
    if noise > (coefficients.abs() * half_steps).sum():
        return None
    for decimals, k in itertools.product(range(-4, MAX_DECIMALS + 1), range(len(members))):
        simple = rounded_to(coefficients / coefficients[k], decimals)
        expected_noise = noise / coefficients[k].abs()
        totals = values @ simple
        if totals.std() > 1.3 * expected_noise:
            continue  # too few decimals
        relation = relation_but_for_rounding(members, simple, half_steps, totals)
        if relation:
            return relation
    return None


def rounded_to(numbers: Tensor, decimals: int) -> Tensor:
    """Numbers (m,) rounded; to tens, hundreds, ... only those that are not 0 then."""
    coarse = numbers.round(decimals=decimals)
    return coarse.where(coarse != 0, numbers.round(decimals=max(decimals, 0)))


def count_digits(number: float) -> int:
    """How many digits a number has, without zeros around them."""
    digits = f"{abs(number):.12f}".replace(".", "")
    return len(digits.strip("0"))


def relation_but_for_rounding(
    members: list[int], coefficients: Tensor, half_steps: Tensor, totals: Tensor
) -> Relation | None:
    """The relation with these coefficients (m,), if sums (n,) differ by no more than rounding."""
    errors = coefficients.abs() * half_steps  # (m,)
    used = coefficients.nonzero().flatten()
    if len(used) == 2 and errors[used[0]].isclose(errors[used[1]], rtol=0.01):
        return None  # on the same steps, they would be equal
    fuzz = 1e-9 * errors.max().item()
    low = totals.max().item() - errors.sum().item() - fuzz
    high = totals.min().item() + errors.sum().item() + fuzz
    constant = number_between(low, high)
    if len(used) < 2 or constant is None:
        return None
    digits = sum(map(count_digits, coefficients.tolist()))
    if len(totals) < MIN_ROWS * digits or coefficients.abs().max() > MAX_COEFFICIENT:
        return None  # so many digits fit by chance
    if totals.std() > 1.2 * errors.norm() / 3**0.5:
        return None  # there is noise as well
    sign = coefficients[used[0]].sign()
    differences = totals - constant
    explains = (errors >= differences.abs().max() - fuzz) & (coefficients != 0)
    if explains.any():
        first = errors.where(explains, math.inf).argmin()
        used = torch.cat([first.unsqueeze(0), used[used != first]])
        sign = coefficients[first].sign()
        limit = errors[first].item() + fuzz
        limits = (-limit, limit)
        quantiles = None
    else:
        quantiles = (sign * differences).quantile(QUANTILES)
        limits = (
            (sign * differences).min().item() - fuzz,
            (sign * differences).max().item() + fuzz,
        )
    return Relation(
        [members[k] for k in used.tolist()],
        (sign * coefficients[used]).tolist(),
        sign.item() * constant,
        limits,
        quantiles,
    )


def number_between(low: float, high: float) -> float | None:
    """The number of the fewest decimals in a range, 0 if it is there; None if it is empty."""
    if low <= 0 <= high:
        return 0.0
    for decimals in range(-9, MAX_DECIMALS + 1):
        number = round((low + high) / 2, decimals)
        if low <= number <= high:
            return number
    return None


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


def one_of(_: Tensor, *flags: Tensor) -> list[Tensor]:
    """Whether one of the flags is 1."""
    return [torch.stack(flags).amax(dim=0)]


# --- A date decides its year, its month, its weekday -------------------------------------------


def days(dates: Tensor) -> Tensor:
    """Whole days since 1970 of dates (n,), in seconds."""
    return dates.div(SECONDS_OF_A_DAY, rounding_mode="floor")


def months(dates: Tensor) -> Tensor:
    """Months since the year 0 of dates (n,), in seconds. Years begin in March, after leap days."""
    since_0 = days(dates) + 719_468  # since March 1 of the year 0
    centuries = since_0.div(146_097, rounding_mode="floor")  # four of them each
    day = since_0 - 146_097 * centuries
    leap_days = day // 1460 - day // 36_524 + day // 146_096
    year = (day - leap_days) // 365
    day_of_year = day - (365 * year + year // 4 - year // 100)
    month = (5 * day_of_year + 2) // 153
    return 12 * (400 * centuries + year) + month + 2


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


# --- A number decides a category ---------------------------------------------------------------


def find_ranges(categories: Tensor, size: int, numbers: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """The lowest and highest numbers (size, m) of categories (n,), and whether none overlap (m,).

    Categories without numbers have infinite ones.
    """
    index = categories.unsqueeze(1).expand_as(numbers)
    shape = (size, numbers.shape[1])
    low = numbers.new_full(shape, math.inf)
    low.scatter_reduce_(0, index, numbers.nan_to_num(nan=math.inf), "amin")
    high = numbers.new_full(shape, -math.inf)
    high.scatter_reduce_(0, index, numbers.nan_to_num(nan=-math.inf), "amax")
    ordered, order = low.sort(dim=0)
    return low, high, (high.gather(0, order)[:-1] < ordered[1:]).all(dim=0)


def classify(limits: Tensor, order: Tensor, target: Tensor, number: Tensor) -> list[Tensor]:
    """The categories, in their order, between whose limits the numbers (n,) lie."""
    category = order[torch.bucketize(number.contiguous(), limits.to(number))].to(target)
    return [target.where(number.isnan(), category)]


# --- Orders ------------------------------------------------------------------------------------


def through(at_most: Tensor, columns: Tensor) -> Tensor:
    """Which columns are at most others (m, m) as one of some columns (m,) lies between them."""
    return at_most[:, columns].float() @ at_most[columns].float() > 0


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
            target = scale.rounded(aim, up=up).where(distance > 0, target)
    return [target]


# --- Pairs of values ---------------------------------------------------------------------------

MAX_LEVELS = 300
MAX_PAIRS = 500  # of columns; those that chance would break most often
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


def count_pairs(a: Levels, a_cells: Tensor, b: Levels, b_cells: Tensor) -> Tensor:
    """How often each level of a column is in a row with each level of another (a, b)."""
    pairs = a.indices(a_cells) * (b.size + 1) + b.indices(b_cells)
    counts = pairs.bincount(minlength=(a.size + 1) * (b.size + 1))
    return counts.reshape(a.size + 1, b.size + 1)[:-1, :-1].double()


def expected_unseen(counts: Tensor) -> float:
    """In how many rows chance would have paired levels that are in no row together (a, b)."""
    expected = counts.sum(dim=1).outer(counts.sum(dim=0)) / counts.sum()
    return expected[counts == 0].sum().item()


def pair_scores(counts: Tensor) -> Tensor:
    """How well levels go with those of a partner, or a missing one (partner's size + 1, size)."""
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
