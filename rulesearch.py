"""Which rules all rows of a table keep: what holds in every row, and would not hold by chance.

Copy this file along with rules.py, which says what a rule is. Each section finds the rules of one
kind and adds them to a Search. What chance would do is seen in rows whose values are paired with
those of the row before (paired_by_chance).
"""

import functools
import graphlib
import itertools
import math
from collections import defaultdict
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import torch
from torch import Tensor

import common
import rules
from columns import Column
from rules import PARTS_OF_DATES, SECONDS_OF_A_DAY, Levels, Relation, Rule, Scale

MIN_BROKEN = 10  # rows that would break a rule if chance paired its columns
MAX_COMPARED = 1.5e9  # numbers compared to find rules; larger tables are searched by a sample
FIRST_ROWS = (4, 30, 200)  # they break most rules that rows may keep, and save a look at the others
MAX_LEVELS = 300  # values of a column that are looked at one by one


def find_rules(cells: Tensor, columns: list[Column]) -> list[Rule]:
    """The rules that all rows (n, columns) keep, in the order in which they are to be applied.

    Rules that hold by chance are left out: those that fewer than 10 rows would break, or some more
    for many columns, if their columns were shuffled.
    """
    search = Search(cells, columns)
    orders = [*find_orders(search, "number"), *find_orders(search, "date")]
    add_missing(search)
    add_parts_of_dates(search)  # first: a year must not decide whether its date is missing
    add_decisions(search)
    add_sums(search, orders)
    add_ranges(search)
    add_orders(search, orders)
    add_pairs(search)
    return in_order(search.rules)


def in_order(found: list[Rule]) -> list[Rule]:
    """Rules sorted so that each comes after those that decide its sources.

    Of two rules for a target, the first comes first.
    """
    by_target = defaultdict(list)
    for k, rule in enumerate(found):
        if rule.applied:
            for i in rule.targets:
                by_target[i].append(k)
    sorter: graphlib.TopologicalSorter = graphlib.TopologicalSorter()
    for k, rule in enumerate(found):
        before = {other for i in rule.sources for other in by_target[i]}
        before |= {other for i in rule.targets for other in by_target[i] if other < k}
        sorter.add(k, *(before if rule.applied else []))
    return [found[k] for k in sorter.static_order()]


class Search:
    """The table, and the rules found so far; those that are applied never contradict each other."""

    def __init__(self, cells: Tensor, columns: list[Column]) -> None:
        random = common.random_generator("rules")
        order = torch.randperm(len(cells), generator=random)
        cells = cells.double()[order]
        self.columns = columns
        self.cells = torch.cat([cells, cells.isnan().double()], dim=1)  # (n, 2 * columns)
        self.min_broken = MIN_BROKEN + math.log(len(columns) ** 2)  # many rules are tried
        self.names = [column.name for column in columns]
        self.names += [f"{column.name} missing" for column in columns]
        self.sizes = [len(column.categories) for column in columns]  # 0: not of categories
        self.sizes += [0 if column.missing is None else 2 for column in columns]
        self.scales = [Scale(*pair) for pair in zip(columns, cells.T, strict=True)]
        self.rules: list[Rule] = []
        self.decided: set[int] = set()  # columns that are targets
        self.sources: dict[int, set[int]] = defaultdict(set)  # what a column depends on
        self.deciders: dict[int, int] = {}  # the category that decides a column
        self.related: set[tuple[int, int]] = set()  # pairs of columns that have a rule

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

    def may_decide(self, source: int, target: int) -> bool:
        """Whether a rule could still set a target from a source."""
        rule = Rule("", [target], [source], rules.hide)
        return target not in self.decided and not self.is_circular(rule)

    def root(self, i: int) -> int:
        """The category that decides a column, directly or not; else the column itself."""
        while i in self.deciders:
            i = self.deciders[i]
        return i

    def numbers(self, indices: list[int]) -> Tensor:
        """The numbers (n, m) of columns."""
        values = [self.scales[i].numbers(self.cells[:, i]) for i in indices]
        return torch.stack(values, dim=1) if values else self.cells[:, :0]

    def of_kinds(self, *kinds: str) -> list[int]:
        """The indices of the columns whose scales are of some kinds."""
        return [i for i, scale in enumerate(self.scales) if scale.kind in kinds]

    def listed(self, indices: list[int]) -> str:
        """The names of columns."""
        return ", ".join(self.names[i] for i in indices)


def paired_by_chance(values: Tensor) -> Tensor:
    """Values (..., n) of rows in random order, moved to the next row."""
    return values.roll(1, dims=-1)


# --- Missing numbers ---------------------------------------------------------------------------
#
# A number is missing where its flag says so.


def add_missing(search: Search) -> None:
    """Add the rule that hides missing numbers, of each column that has any."""
    count = len(search.columns)
    for i, column in enumerate(search.columns):
        if column.missing is not None:
            search.sources[i].add(count + i)
            sentence = f"{column.name} is missing"
            search.rules.append(Rule(sentence, [i], [count + i], rules.hide))


# --- A category decides a column ---------------------------------------------------------------
#
# All rows of a category have the same value in a column, or none: a town decides its state, and
# "married" whether the age of the spouse is missing.


def add_decisions(search: Search) -> None:
    """Add what categories decide; those of columns with many of them come first."""
    values = comparable(search.cells)
    all_others = (values != values[:, :1]).any(dim=1).nonzero().flatten()
    with_categories = [i for i in all_others.tolist() if search.sizes[i]]
    for i in sorted(with_categories, key=lambda i: -search.sizes[i]):
        others = all_others[all_others != i]
        for j in find_decided(search, values[i], values, others):
            add_decision(search, i, j)


def comparable(cells: Tensor) -> Tensor:
    """Cells (n, columns), as values (columns, n) of which missing ones are equal."""
    return cells.nan_to_num(nan=-math.inf).T.contiguous()


def find_decided(search: Search, categories: Tensor, values: Tensor, others: Tensor) -> list[int]:
    """Which other columns have one value (columns, n) in all rows of a category (n,)."""
    for rows in (*FIRST_ROWS, len(categories)):
        broken = broken_decisions(categories[:rows], values[others, :rows])
        others = others[broken == 0]
    broken_by_chance = broken_decisions(categories, paired_by_chance(values[others]))
    return others[broken_by_chance >= search.min_broken].tolist()


def broken_decisions(categories: Tensor, values: Tensor) -> Tensor:
    """In how many rows values (m, n) differ from those of a row of the same category (n,)."""
    categories = categories.long()
    rows = torch.arange(len(categories))
    row_of_category = torch.zeros(int(categories.max()) + 1, dtype=torch.int64)
    row_of_category[categories] = rows
    return (values != values[:, row_of_category[categories]]).sum(dim=1)


def add_decision(search: Search, i: int, j: int) -> None:
    """Category i decides column j, unless that follows from other decisions."""
    if search.root(i) == search.root(j):
        return
    decided_values = torch.zeros(search.sizes[i], dtype=torch.float64)
    decided_values[search.cells[:, i].long()] = search.cells[:, j]
    sentence = f"{search.names[i]} decides {search.names[j]}"
    search.add(Rule(sentence, [j], [i], functools.partial(rules.decide, decided_values)))
    if search.rules[-1].applied:
        search.deciders[j] = i


# --- A part of a date decides a column ---------------------------------------------------------
#
# All rows of a month, say, have the same value in a column, whatever that calls it: 3, "Mar".


def add_parts_of_dates(search: Search) -> None:
    """Add what the year, the quarter, the month or the weekday of a date decides."""
    values = comparable(search.cells[:, : len(search.columns)])
    several = (values != values[:, :1]).any(dim=1).nonzero().flatten().tolist()
    for i, name in itertools.product(search.of_kinds("date"), PARTS_OF_DATES):
        dates = search.cells[:, i]
        parts = PARTS_OF_DATES[name](dates[~dates.isnan()])
        first = int(parts.min())
        size = int(parts.max()) - first + 1
        indices = rules.part_indices(name, first, size, dates)
        others = torch.tensor(
            [j for j in several if j != i and j not in search.decided], dtype=torch.int64
        )
        for j in find_decided(search, indices, values, others):
            decided_values = torch.full((size + 1,), math.nan, dtype=torch.float64)
            decided_values[indices] = search.cells[:, j]
            apply = functools.partial(rules.decide_by_part, name, first, decided_values)
            sentence = f"the {name} of {search.names[i]} decides {search.names[j]}"
            search.add(Rule(sentence, [j], [i], apply))


# --- The range of a number decides a category --------------------------------------------------
#
# The numbers of categories do not overlap: an age below 13 is a child, one below 20 a teen.


def add_ranges(search: Search) -> None:
    """Add which categories, and which missing values, are decided by the range of a number."""
    indices = [i for i in search.of_kinds("number", "date") if not search.sizes[i]]
    if not indices:
        return
    numbers = search.cells[:, indices]
    present = ~numbers.isnan() & ~paired_by_chance(numbers.T).T.isnan()
    for j, size in enumerate(search.sizes):
        values = search.cells[:, j].long()
        different = values != paired_by_chance(values)
        if not 2 <= size <= MAX_LEVELS or different.sum() < search.min_broken:
            continue
        chosen = torch.arange(len(indices))
        for rows in (*FIRST_ROWS, len(numbers)):
            _, _, is_apart = find_ranges(values[:rows], size, numbers[:rows, chosen])
            chosen = chosen[is_apart]
        broken = (different.unsqueeze(1) & present[:, chosen]).sum(dim=0)
        for k in chosen[broken >= search.min_broken].tolist():
            add_range(search, indices[k], j)


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


def add_range(search: Search, i: int, j: int) -> None:
    """The range of number i decides category j, unless another rule has both."""
    if search.root(i) == search.root(j) or (i, j) in search.related:
        return
    low, high, _ = find_ranges(search.cells[:, j].long(), search.sizes[j], search.cells[:, [i]])
    order = low.flatten().argsort()
    order = order[low.flatten()[order].isfinite()]  # of categories that have numbers
    limits = (high[order[:-1], 0] + low[order[1:], 0]) / 2
    sentence = f"{search.names[i]} decides {search.names[j]}"
    search.add(Rule(sentence, [j], [i], functools.partial(rules.classify, limits, order)))


# --- Sums --------------------------------------------------------------------------------------
#
# Multiples of columns add up to a constant, exactly or but for rounding: total = net + tax,
# vat = 0.19 net, coal + gas + wind = 100. Columns are searched by windows; in each, a column that
# is explained by those before it may be a sum.

MIN_CHANGES = 4  # rows in which chance would change a member: two have another number than the rest


def add_sums(search: Search, orders: list[tuple[int, int]]) -> None:
    """Add the relations of columns, exact ones first."""
    relations = find_all_relations(search)
    uses = count_uses(relations, len(search.columns))
    for relation in sorted(relations, key=lambda relation: relation.is_rounded):
        parts = set(relation.members[1:])
        has_order = any(parts.issuperset(order) for order in orders)
        add_sum(search, relation, uses, has_order)
        add_missing_sum(search, relation.members[0], relation.members[1:])


def count_uses(relations: list[Relation], columns: int) -> Tensor:
    """In how many relations each of so many columns is (columns,).

    A rounded number that is in no other relation follows its sources, and does not count as a use
    of these: vat = 0.19 net. In gross = net + vat it is used, so net cannot be changed.
    """
    members = torch.tensor([i for relation in relations for i in relation.members])
    counts = members.long().bincount(minlength=columns)
    uses = torch.zeros(columns, dtype=torch.int64)
    for relation in relations:
        first = relation.members[:1]
        follows = relation.rounds_first and counts[first] == 1
        uses[first if follows else relation.members] += 1
    return uses


def find_all_relations(search: Search) -> list[Relation]:
    """The relations of the table, at most one of a kind for each last member: find_relations."""
    kinds = search.of_kinds("number", "date", "binary")
    numbers = search.numbers(kinds)
    steps = torch.tensor([search.scales[i].step for i in kinds], dtype=torch.float64)
    changes = (paired_by_chance(numbers.T) != numbers.T).sum(dim=1)
    usable = (changes >= MIN_CHANGES).nonzero().flatten()
    relations: dict[tuple[int, bool], Relation] = {}
    for window in windows(len(usable)):
        chosen = usable[window]
        for last, relation in find_relations(numbers[:, chosen], steps[chosen]):
            positions = chosen[relation.members]
            members = [kinds[k] for k in positions.tolist()]
            follows = len({search.root(i) for i in members}) == 1
            if not follows and changes[positions].max() >= search.min_broken:
                key = (int(chosen[last]), relation.is_rounded)
                relations.setdefault(key, relation._replace(members=members))
    return list(relations.values())


def windows(count: int) -> Iterator[slice]:
    """Overlapping parts of `count` columns; narrow ones as well, where fewer values are missing."""
    for width in (256, 64, 16):
        for start in range(0, max(count - width // 2, 1), width // 2):
            yield slice(start, start + width)


def add_sum(search: Search, relation: Relation, uses: Tensor, has_order: bool) -> None:
    """Add the rule of a relation. Its targets are members that no other relation needs.

    Only one of them is, where the parts have an order of their own to keep.
    """
    members = relation.members
    free = [k for k, i in enumerate(members) if uses[i] == 1 and i not in search.decided]
    targets = sorted(free or [0], key=lambda k: search.sizes[members[k]] > 0)
    if has_order and not relation.constant:
        targets = targets[:1]
    if relation.rounds_first and members[0] not in search.decided:
        targets = [0]
    order = targets + [k for k in range(len(members)) if k not in targets]
    ordered = relation._replace(
        members=[members[k] for k in order],
        coefficients=[relation.coefficients[k] for k in order],
    )
    scales = [search.scales[i] for i in ordered.members]
    apply = functools.partial(rules.balance, scales, ordered, len(targets))
    sources = ordered.members[len(targets) :]
    sentence = describe(relation, search.columns)
    search.add(Rule(sentence, ordered.members[: len(targets)], sources, apply))


def add_missing_sum(search: Search, total: int, parts: list[int]) -> None:
    """A sum is missing where one of several parts is."""
    count = len(search.columns)
    flags = [count + i for i in parts if search.sizes[count + i]]
    if len(flags) > 1 and search.sizes[count + total]:
        one_missing = search.cells[:, flags].amax(dim=1)
        if (search.cells[:, count + total] == one_missing).all():
            sentence = f"{search.names[total]} is missing where {search.listed(parts)} are"
            search.add(Rule(sentence, [count + total], flags, rules.any_missing))


def describe(relation: Relation, columns: list[Column]) -> str:
    """A relation as text: "total = net + tax"."""
    end = ", rounded" if relation.is_rounded else ""
    multiples, constant = plainest_multiples(relation)
    if constant and len({coefficient for _, coefficient in multiples}) == 1:
        names = [columns[i].name for i in sorted(relation.members)]
        return f"{' + '.join(names)} = {constant:g}{end}"
    (subject, factor), *parts = subject_first(multiples)
    is_date = columns[subject].date is not None
    sign = math.copysign(1, factor)
    text = ""
    for i, coefficient in sorted(parts, key=lambda part: (sign * part[1] > 0, part[0])):
        text += " + " if sign * coefficient < 0 else " - "
        is_duration = is_date and columns[i].date is None
        if is_duration and abs(coefficient) == SECONDS_OF_A_DAY:
            text += f"{columns[i].name} days"
        else:
            text += multiple(coefficient, columns[i].name)
    if constant:
        text += " + " if sign * constant > 0 else " - "
        size = abs(constant)
        text += f"{size / SECONDS_OF_A_DAY:g} days" if is_date else f"{size:g}"
    return f"{multiple(factor, columns[subject].name)} = {text.removeprefix(' + ').strip()}{end}"


def plainest_multiples(relation: Relation) -> tuple[list[tuple[int, float]], float]:
    """The members with their coefficients, and the constant: tax = 0.2 net, not net = 5 tax."""
    coefficients = relation.coefficients
    inverse = 1 / coefficients[0]
    if relation.rounds_first and len(coefficients) == 2 and count_digits(inverse) <= 4:
        first, second = relation.members
        return [(first, 1.0), (second, inverse * coefficients[1])], inverse * relation.constant
    return list(zip(relation.members, coefficients, strict=True)), relation.constant


def subject_first(multiples: list[tuple[int, float]]) -> list[tuple[int, float]]:
    """The members with their coefficients, the subject of the sentence first."""
    if len(multiples) > 2:  # that of a sign of its own: total = net + tax
        signs = [coefficient > 0 for _, coefficient in multiples]
        return sorted(multiples, key=lambda multiple: signs.count(multiple[1] > 0) > 1)
    if abs(multiples[1][1]) == 1:  # minutes = 60 hours
        return sorted(multiples, key=lambda multiple: abs(multiple[1]))
    return multiples


def multiple(coefficient: float, name: str) -> str:
    """A multiple of a column as text, without its sign."""
    return name if abs(coefficient) == 1 else f"{abs(coefficient):g} {name}"


# --- Sums that nearly all rows have ------------------------------------------------------------
#
# A typo breaks them. They are searched in parts of the rows: of few wrong rows, a part has none.

PARTS = 5
MAX_WRONG = 5  # rows; more are no typos
MAX_WRONG_SHARE = 0.01  # of the rows


def find_broken_sums(cells: Tensor, columns: list[Column]) -> list[tuple[str, list[int]]]:
    """Exact sums that all rows (n, columns) have but a few, and the indices of these rows."""
    random = common.random_generator("parts")
    order = torch.randperm(len(cells), generator=random)
    relations: dict[str, Relation] = {}
    for part in order.tensor_split(PARTS):
        for relation in find_all_relations(Search(cells[part], columns)):
            if not relation.is_rounded:
                relations.setdefault(describe(relation, columns), relation)
    broken = []
    for sentence, relation in relations.items():
        wrong = rows_without(relation, cells.double(), columns)
        if 0 < len(wrong) <= min(MAX_WRONG, MAX_WRONG_SHARE * len(cells)):
            broken.append((sentence, wrong))
    return broken


def rows_without(relation: Relation, cells: Tensor, columns: list[Column]) -> list[int]:
    """The indices of the rows (n, columns) that do not have an exact relation.

    Rows in which a member is missing are not among them.
    """
    numbers = [Scale(columns[i], cells[:, i]).numbers(cells[:, i]) for i in relation.members]
    coefficients = torch.tensor(relation.coefficients, dtype=torch.float64)
    terms = torch.stack(numbers, dim=1) * coefficients
    excess = terms.sum(dim=1) - relation.constant
    return (excess.abs() > tolerances(terms)).nonzero().flatten().tolist()


def tolerances(terms: Tensor) -> Tensor:
    """How far the sums of terms (n, m) may be from a constant: by errors of float64 (n,)."""
    return 1e-9 * terms.abs().sum(dim=1)


# --- Sums: which columns may have a relation ---------------------------------------------------
#
# A column may be a sum if columns with smaller numbers explain all of it: but for errors of float64
# in an exact sum, as total = net + tax, or but for errors of rounding, as vat = 0.19 net.

MIN_SHARE = 1e-7  # of a sum, in standard deviations; less is an error of float64
MAX_NOISE = 0.2  # of a rounded sum, in standard deviations
MAX_STEPS = 1.0  # the same, in steps of its least precise member
LEEWAY = 1.3  # of noise, compared with what is expected, while coefficients are known only nearly


class Sample(NamedTuple):
    """Complete rows of the columns that vary, in the order of a measure of them."""

    columns: Tensor  # (m,), their indices
    deviations: Tensor  # (m,), standard deviations
    scores: Tensor  # (n, m), standardized numbers
    noise: Tensor  # (m,), of scores: what the columns before do not explain

    def select_members(self, k: int, parts: Tensor) -> list[int]:
        """The indices of column k and of its parts (m,)."""
        return self.columns[torch.cat([torch.tensor([k]), parts])].tolist()

    def multiples(self, k: int, parts: Tensor, shares: Tensor) -> Tensor:
        """By how much column k grows with each part (m,), from shares (m,) of their scores."""
        return shares * self.deviations[k] / self.deviations[parts]


def take_sample(complete: Tensor, measure: Tensor) -> Sample:
    """A sample of rows (n, columns) without missing numbers, by a measure (columns,)."""
    numbers = complete[:2000]
    order = measure.argsort()
    order = order[numbers.std(dim=0)[order] > 0]
    deviations = numbers.std(dim=0)[order]
    scores = (numbers[:, order] - numbers[:, order].mean(dim=0)) / deviations
    # A column that depends on those before it leaves nothing on the diagonal
    triangle = torch.linalg.qr(scores, mode="r").R
    noise = triangle.diagonal().abs() / len(numbers) ** 0.5
    return Sample(order, deviations, scores, noise)


def find_relations(numbers: Tensor, steps: Tensor) -> Iterator[tuple[int, Relation]]:
    """Relations of columns (n, columns) that hold in all rows in which no member is missing.

    With each comes the last of its members: in an exact sum that with the largest numbers, as these
    are sums of others; in a rounded one the least precise. Columns have `steps` (columns,) between
    their numbers.
    """
    complete = numbers[~numbers.isnan().any(dim=1)]
    if len(complete) < 3 * numbers.shape[1] or numbers.shape[1] < 2:
        return
    yield from find_exact_relations(numbers, take_sample(complete, complete.abs().mean(dim=0)))
    relative_steps = steps / complete.std(dim=0)
    yield from find_rounded_relations(numbers, take_sample(complete, relative_steps), steps)


def find_exact_relations(numbers: Tensor, sample: Sample) -> Iterator[tuple[int, Relation]]:
    """The exact ones of find_relations."""
    for k in (sample.noise < MIN_SHARE).nonzero().flatten().tolist():
        parts = (sample.noise[:k] >= MIN_SHARE).nonzero().flatten()
        shares = torch.linalg.lstsq(sample.scores[:, parts], sample.scores[:, k]).solution
        parts, shares = largest_shares(parts, shares, MIN_SHARE)
        members = sample.select_members(k, parts)
        multiples = sample.multiples(k, parts, shares)
        relation = exact_relation(numbers, members, multiples.tolist())
        if relation:
            yield members[0], relation


def find_rounded_relations(
    numbers: Tensor, sample: Sample, steps: Tensor
) -> Iterator[tuple[int, Relation]]:
    """The rounded ones of find_relations, of columns with so little noise that rounding makes it.

    All columns are explained by the same independent ones, in one go.
    """
    noise = sample.noise
    most = (MAX_STEPS * steps[sample.columns] / sample.deviations).clamp(max=MAX_NOISE)
    independent = (noise > most).nonzero().flatten()
    nearly = ((noise >= MIN_SHARE) & (noise <= most)).nonzero().flatten()
    all_shares = torch.linalg.lstsq(
        sample.scores[:, independent], sample.scores[:, nearly]
    ).solution
    for k, shares in zip(nearly.tolist(), all_shares.T, strict=True):
        parts, shares = largest_shares(independent, shares, noise[k].item())
        members = sample.select_members(k, parts)
        multiples = sample.multiples(k, parts, shares)
        coefficients = torch.cat([torch.ones(1).to(multiples), multiples])
        expected = noise_of_rounding(coefficients, steps[members])
        if noise[k] * sample.deviations[k] <= LEEWAY * expected:
            relation = rounded_relation(numbers, members, steps[members])
            if relation:
                yield members[0], relation


def largest_shares(parts: Tensor, shares: Tensor, least: float) -> tuple[Tensor, Tensor]:
    """The columns with shares of a sum (m,) above the least, and these, the largest ones first."""
    order = shares.abs().argsort(descending=True)
    order = order[shares.abs()[order] > least]
    return parts[order], shares[order]


def noise_of_rounding(coefficients: Tensor, steps: Tensor) -> Tensor:
    """The standard deviation of a sum of multiples (m,) of numbers rounded to these steps (m,)."""
    return (coefficients * steps).norm() / 12**0.5


# --- Sums: an exact relation -------------------------------------------------------------------
#
# Its coefficients are those of a regression, as fractions: 1/3 for 0.33333333.


def exact_relation(numbers: Tensor, members: list[int], multiples: list[float]) -> Relation | None:
    """The relation of some columns (n, columns), the first a sum of multiples of the others."""
    coefficients = [1.0, *(-simplified(multiple) for multiple in multiples)]
    terms = numbers[:, members] * torch.tensor(coefficients, dtype=torch.float64)
    terms = terms[~terms.isnan().any(dim=1)]
    totals = terms.sum(dim=1)
    tolerance = tolerances(terms)
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


# --- Sums: a relation that holds but for rounding ----------------------------------------------
#
# Its coefficients are known only nearly, from a regression. Rounded to the fewest decimals with
# which all rows hold they are right: vat = 0.19 net, and not net = 5.263158 vat.

MAX_DECIMALS = 6  # of its coefficients
MAX_COEFFICIENT = 1e5
MIN_ROWS = 10  # for each digit of its coefficients, as many digits fit any few rows
MAX_EXCESS = 1.2  # of its noise, compared with that of rounding; more is noise of another kind
FUZZ = 1e-9  # of the largest error: errors of float64
QUANTILES = torch.linspace(0.005, 0.995, 100, dtype=torch.float64)


def rounded_relation(numbers: Tensor, members: list[int], steps: Tensor) -> Relation | None:
    """The simplest relation of some columns (n, columns) that holds but for rounding to `steps`.

    Each member in turn has the coefficient 1.
    """
    values = numbers[:, members]
    values = values[~values.isnan().any(dim=1)]
    deviations = values.std(dim=0)
    scores = (values - values.mean(dim=0)) / deviations
    shares = torch.linalg.lstsq(scores[:, 1:], scores[:, 0]).solution
    noise = (scores[:, 0] - scores[:, 1:] @ shares).std()
    coefficients = torch.cat([torch.ones(1).to(shares), -shares]) / deviations
    noises = noise / coefficients.abs()  # (m,), where each member has the coefficient 1
    for decimals in range(-4, MAX_DECIMALS + 1):
        # (m, m): a row of coefficients for each member
        candidates = rounded_to(coefficients / coefficients.unsqueeze(1), decimals)
        totals = values @ candidates.T  # (n, m)
        has_enough_decimals = totals.std(dim=0) <= LEEWAY * noises
        for k in has_enough_decimals.nonzero().flatten().tolist():
            relation = relation_but_for_rounding(members, candidates[k], steps, totals[:, k])
            if relation:
                return relation
    return None


def rounded_to(numbers: Tensor, decimals: int) -> Tensor:
    """Numbers rounded; to tens, hundreds, ... only those that are not 0 then."""
    coarse = numbers.round(decimals=decimals)
    return coarse.where(coarse != 0, numbers.round(decimals=max(decimals, 0)))


def relation_but_for_rounding(
    members: list[int], coefficients: Tensor, steps: Tensor, totals: Tensor
) -> Relation | None:
    """The relation with these coefficients (m,), if sums (n,) differ by no more than rounding."""
    used = coefficients.nonzero().flatten()
    members = [members[k] for k in used.tolist()]
    coefficients = coefficients[used]
    steps = steps[used]
    if len(used) < 2 or fits_otherwise(coefficients, steps, totals):
        return None
    errors = coefficients.abs() * steps / 2  # (m,), the largest ones of rounding
    fuzz = FUZZ * errors.max().item()
    allowed = errors.sum().item() + fuzz
    constant = number_between(totals.max().item() - allowed, totals.min().item() + allowed)
    if constant is None:
        return None
    relation = Relation(members, coefficients.tolist(), constant)
    return with_limits(relation, errors, totals - constant, fuzz)


def fits_otherwise(coefficients: Tensor, steps: Tensor, totals: Tensor) -> bool:
    """Whether coefficients (m,) fit sums (n,) by chance, or but for noise other than rounding."""
    multiples = (coefficients * steps).abs()
    if len(multiples) == 2 and multiples[0].isclose(multiples[1], rtol=0.01):
        return True  # they would be equal: columns with the same steps need no rounding
    if totals.std() > MAX_EXCESS * noise_of_rounding(coefficients, steps):
        return True
    digits = sum(map(count_digits, coefficients.tolist()))
    return len(totals) < MIN_ROWS * digits or bool(coefficients.abs().max() > MAX_COEFFICIENT)


def count_digits(number: float) -> int:
    """How many digits a number has, without zeros around them."""
    digits = f"{abs(number):.12f}".replace(".", "")
    return len(digits.strip("0"))


def number_between(low: float, high: float) -> float | None:
    """The number of the fewest decimals in a range, 0 if it is there; None if it is empty."""
    if low <= 0 <= high:
        return 0.0
    for decimals in range(-9, MAX_DECIMALS + 1):
        number = round((low + high) / 2, decimals)
        if low <= number <= high:
            return number
    return None


def with_limits(relation: Relation, errors: Tensor, differences: Tensor, fuzz: float) -> Relation:
    """A rounded relation with what its sums may differ by, as in the data (n,).

    If the error (m,) of one member explains that, this member alone is rounded, and comes first.
    """
    explains = errors >= differences.abs().max() - fuzz
    if not explains.any():
        limits = (differences.min().item() - fuzz, differences.max().item() + fuzz)
        return relation._replace(limits=limits, differences=differences.quantile(QUANTILES))
    first = int(errors.where(explains, math.inf).argmin())
    order = [first, *(k for k in range(len(errors)) if k != first)]
    limit = errors[first].item() + fuzz
    return relation._replace(
        members=[relation.members[k] for k in order],
        coefficients=[relation.coefficients[k] for k in order],
        limits=(-limit, limit),
    )


# --- Orders ------------------------------------------------------------------------------------
#
# A column is at most another, in numbers or in dates: low <= high, ordered <= delivered.


def find_orders(search: Search, kind: str) -> list[tuple[int, int]]:
    """Pairs of columns of a kind, the first at most the second, without those that follow.

    Pairs with the largest second column come first.
    """
    indices = search.of_kinds(kind)
    if len(indices) < 2:
        return []
    numbers = search.numbers(indices).T.contiguous()  # (m, n)
    at_most, is_never_larger = compare(numbers, search.min_broken)
    at_most &= ~at_most.T  # equal columns have a rule of their own
    complete = ~numbers.isnan().any(dim=1)
    at_most |= is_never_larger & through(at_most, ~complete)
    pairs = (at_most & ~through(at_most, complete)).nonzero()  # (pairs, 2)
    means = numbers.nanmean(dim=1)
    largest_first = means[pairs[:, 1]].argsort(descending=True, stable=True)
    return [(indices[i], indices[j]) for i, j in pairs[largest_first].tolist()]


def compare(numbers: Tensor, min_broken: float) -> tuple[Tensor, Tensor]:
    """Whether a column is at most another (m, m), which chance would break; and without chance.

    Numbers are (m, n).
    """
    rows = max(int(MAX_COMPARED / len(numbers) ** 2), 200)
    at_most = torch.zeros(len(numbers), len(numbers), dtype=torch.bool)
    is_never_larger = torch.zeros_like(at_most)
    for j, larger in enumerate(numbers):
        smaller = torch.arange(len(numbers))
        for count in (*FIRST_ROWS, len(larger)):
            smaller = smaller[~(numbers[smaller, :count] > larger[:count]).any(dim=1)]
        is_never_larger[smaller, j] = True
        by_chance = larger[:rows].clone()
        present = ~by_chance.isnan()
        by_chance[present] = paired_by_chance(by_chance[present])
        broken = (numbers[smaller, :rows] > by_chance).sum(dim=1)
        at_most[smaller[broken >= min_broken], j] = True
    return at_most, is_never_larger


def through(at_most: Tensor, columns: Tensor) -> Tensor:
    """Which columns are at most others (m, m) as one of some columns (m,) lies between them."""
    return at_most[:, columns].float() @ at_most[columns].float() > 0


def add_orders(search: Search, orders: list[tuple[int, int]]) -> None:
    """Add orders of columns, the largest ones first.

    The larger one is raised to the smaller ones. Below columns that others decide, the smaller
    one is lowered.
    """
    lower: dict[int, list[int]] = defaultdict(list)  # by target
    upper: dict[int, list[int]] = defaultdict(list)
    below = set(search.decided)
    for i, j in orders:
        if search.root(i) == search.root(j):
            continue
        if j in below and search.may_decide(j, i):
            upper[i].append(j)
            below.add(i)
        elif search.may_decide(i, j):
            lower[j].append(i)
        else:
            add_bound(search, j, [i], [], applied=False)
    for target in [*upper, *(j for j in lower if j not in upper)]:
        add_bound(search, target, lower[target], upper[target])


def add_bound(
    search: Search, target: int, lower: list[int], upper: list[int], applied: bool = True
) -> None:
    """Column `target` is at least some columns, and at most some others."""
    sentences = []
    if lower:
        sentences.append(f"{search.listed(lower)} <= {search.names[target]}")
    if upper:
        sentences.append(f"{search.names[target]} <= {search.listed(upper)}")
    sources = lower + upper
    scales = [search.scales[i] for i in sources]
    apply = functools.partial(rules.bound, search.scales[target], scales, len(lower))
    search.add(Rule(" and ".join(sentences), [target], sources, apply, applied))


# --- Pairs of values ---------------------------------------------------------------------------
#
# Some values of a column never occur with some of another, although chance would have it: shirts
# are S, M or L, and shoes 40, 41 or 42. Values are categories, flags, and numbers that repeat.

MAX_PAIRS = 500  # of columns; those that chance would break most often


def add_pairs(search: Search) -> None:
    """Add which values go together; first those of columns that chance would break most often."""
    levels = find_levels(search)
    partners: dict[int, list[tuple[int, Tensor]]] = defaultdict(list)  # by target
    for i, j, counts in find_pairs(search, levels):
        if search.may_decide(i, j):
            partners[j].append((i, counts))
            search.sources[j].add(i)
        elif search.may_decide(j, i):
            partners[i].append((j, counts.T))
            search.sources[i].add(j)
        else:
            add_pairing(search, levels, j, [(i, counts)], applied=False)
    for target, its_partners in partners.items():
        add_pairing(search, levels, target, its_partners)
        for partner in its_partners if len(its_partners) > 1 else []:
            add_pairing(search, levels, target, [partner], applied=False)


def find_levels(search: Search) -> dict[int, Levels]:
    """The levels of the columns that have few, by index."""
    levels = {}
    for i, size in enumerate(search.sizes):
        numbers = None
        if i < len(search.columns):
            column = search.columns[i]
            numbers = search.scales[i].levels if search.scales[i].kind == "number" else None
            if column.repeated and not column.categories:
                present = search.cells[~search.cells[:, i].isnan(), i]
                numbers = present.unique()
                size = len(numbers)
        if 2 <= size <= MAX_LEVELS:
            levels[i] = Levels(size, numbers, is_number=search.sizes[i] == 0)
    return levels


def find_pairs(search: Search, levels: dict[int, Levels]) -> list[tuple[int, int, Tensor]]:
    """Pairs of columns with such a rule, and how often their levels are in a row together."""
    found = []
    for i, j in find_likely_pairs(search, levels) if levels else []:
        counts = count_pairs(levels[i], search.cells[:, i], levels[j], search.cells[:, j])
        unseen = expected_unseen(counts)
        if differs_from_chance(unseen, (counts == 1).sum(), search.min_broken):
            found.append((unseen, i, j, counts))
    found.sort(key=lambda pair: -pair[0])
    return [(i, j, counts) for _, i, j, counts in found]


def differs_from_chance(unseen: Tensor, once: Tensor, min_broken: float) -> Tensor:
    """Whether so many rows are expected with pairs that are never seen, and few are seen once."""
    return (unseen >= min_broken) & (once <= unseen / 10)


def find_likely_pairs(search: Search, levels: dict[int, Levels]) -> list[tuple[int, int]]:
    """Pairs of columns that may have such a rule, as a sample tells."""
    indices = list(levels)
    sizes = torch.tensor([levels[i].size for i in indices])
    total = int(sizes.sum())
    rows = max(int(min(3e7 / total, MAX_COMPARED * 20 / total**2)), 300)
    sample = search.cells[:rows]
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
        chosen = differs_from_chance(unseen, once, search.min_broken)
        chosen[k] = False
        first = torch.full_like(unseen, k)
        likely.append(torch.stack([unseen, first, torch.arange(len(indices))])[:, chosen])
    pairs = torch.cat(likely, dim=1)
    pairs = pairs[1:, pairs[0].argsort(descending=True)].T.long()
    all_pairs = ((indices[k], indices[other]) for k, other in pairs.tolist())
    new_pairs = (pair for pair in all_pairs if is_new(search, *pair))
    return list(itertools.islice(new_pairs, MAX_PAIRS))


def is_new(search: Search, i: int, j: int) -> bool:
    """Whether columns have no rule yet, and are not both numbers or decided by one category."""
    are_numbers = search.sizes[i] == search.sizes[j] == 0
    return (i, j) not in search.related and search.root(i) != search.root(j) and not are_numbers


def count_pairs(a: Levels, a_cells: Tensor, b: Levels, b_cells: Tensor) -> Tensor:
    """How often each level of a column is in a row with each level of another (a, b)."""
    pairs = a.indices(a_cells) * (b.size + 1) + b.indices(b_cells)
    counts = pairs.bincount(minlength=(a.size + 1) * (b.size + 1))
    return counts.reshape(a.size + 1, b.size + 1)[:-1, :-1].double()


def expected_unseen(counts: Tensor) -> Tensor:
    """In how many rows chance would have paired levels that are in no row together (a, b)."""
    expected = counts.sum(dim=1).outer(counts.sum(dim=0)) / counts.sum()
    return expected[counts == 0].sum()


def add_pairing(
    search: Search,
    levels: dict[int, Levels],
    target: int,
    partners: list[tuple[int, Tensor]],
    applied: bool = True,
) -> None:
    """Column `target` only has values that occur with those of its partners.

    These have the counts (partner's levels, target's levels) of pairs.
    """
    sources = [i for i, _ in partners]
    tables = [rules.pair_scores(counts) for _, counts in partners]
    own = levels[target]
    its_levels = [levels[i] for i in sources]
    apply = functools.partial(rules.pair, own, own.likeness(), its_levels, tables)
    sentence = f"only pairs of {search.listed([*sources, target])} that the data have"
    search.add(Rule(sentence, [target], sources, apply, applied))
