"""How good table_gan.py is, beside CTGAN: results/tables.md, and the README's table.

python benchmarks/table_quality.py     half an hour on 2 cores; needs scikit-learn and ctgan
"""

import argparse
import functools
import itertools
import time
from collections.abc import Callable

import measure
import numpy as np
import pandas
import torch
from ctgan import CTGAN
from measure import RESULTS, mean_and_worst
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from torch import Tensor

import table_gan
from common import Standardize, one_hot_encode
from tables import Column

# --- Tables ------------------------------------------------------------------------------------

Table = tuple[Tensor, list[Column]]
Figures = dict[str, float]


def bundled(name: str) -> Table:
    """One of scikit-learn's tables, what it is about in the last column."""
    found = getattr(datasets, f"load_{name}")(**{"scaled": False} if name == "diabetes" else {})
    rows = np.column_stack([found.data, found.target])
    classes = [str(name) for name in getattr(found, "target_names", [])]
    columns = [*(Column(str(each)) for each in found.feature_names), Column("target", classes)]
    return torch.from_numpy(rows).float(), columns


def curve(function: Callable[[Tensor], Tensor], low: float, high: float) -> Table:
    """A thousand points on a curve."""
    x = low + (high - low) * torch.rand(1000)
    return torch.stack([x, function(x)], dim=1), [Column("x"), Column("y")]


def customers() -> Table:
    """A thousand rows: whole numbers, skewed ones, many zeros, categories that depend on them."""
    n = 1000
    age = (18 + 62 * torch.rand(n)).round()
    town = torch.multinomial(torch.tensor([0.5, 0.25, 0.15, 0.07, 0.03]), n, replacement=True)
    level = torch.tensor([1, 1.2, 0.8, 1.5, 0.6])[town] * (0.3 * torch.randn(n)).exp()
    income = (20 + 0.8 * age - 1.2 * (age - 50).clamp(min=0)) * level
    children = torch.poisson(torch.where(age < 30, 0.4, 1.6))
    owner = torch.rand(n) < ((income - 50) / 10 + (age - 45) / 15).sigmoid()
    spent = income * torch.rand(n) * (torch.rand(n) > 0.3)
    cents = [(100 * numbers).round() / 100 for numbers in (income, spent)]
    names = [*map(Column, ("age", "income", "spent", "children")), Column("town", list("ABCDE"))]
    rows = torch.stack([age, *cents, children, town, owner], dim=1)
    return rows, [*names, Column("owner", ["no", "yes"])]


def machines() -> Table:
    """Six hundred rows: what four kinds of machines measure, of other shape in each; some fail."""
    n, kind = 600, torch.randint(4, (600,))
    hours = 2000 * torch.rand(n) ** 2
    heat = 40 + 15 * kind + 20 * (hours / 300).sin() + (1 + 2 * kind) * torch.randn(n)
    speed = torch.where(kind < 2, 1500 - 6 * heat, 900 + 2 * heat) + 10 * torch.randn(n)
    fails = (torch.rand(n) < ((heat - 90) / 8).sigmoid()).long() * (1 + (speed < 1000))
    rows = torch.stack([hours.round(), (10 * heat).round() / 10, speed.round(), kind, fails], dim=1)
    names = [*map(Column, ("hours", "heat", "speed")), Column("kind", ["K1", "K2", "L", "M"])]
    return rows, [*names, Column("fault", ["none", "hot", "slow"])]


TABLES: dict[str, Callable[[], Table]] = {
    "iris": functools.partial(bundled, "iris"),
    "wine": functools.partial(bundled, "wine"),
    "breast cancer": functools.partial(bundled, "breast_cancer"),
    "diabetes": functools.partial(bundled, "diabetes"),
    "exponential": functools.partial(curve, functools.partial(torch.pow, 1.08), 0, 50),
    "sine": functools.partial(curve, torch.sin, -5, 5),
    "customers": customers,
    "machines": machines,
}


# --- What is measured --------------------------------------------------------------------------


def by_us(learned: Tensor, columns: list[Column], n: int, seed: int) -> Tensor:
    """By the script."""
    training = table_gan.train(learned, columns=columns, seed=seed, progress=False)
    return training.generator(torch.randn(n, table_gan.LATENT_DIM))


def by_ctgan(learned: Tensor, columns: list[Column], n: int, seed: int) -> Tensor:
    """With its own defaults; whole numbers are told to it as such."""
    frame = pandas.DataFrame(learned.double().numpy(), columns=[each.name for each in columns])
    for column in columns:
        if (frame[column.name] % 1 == 0).all():
            frame[column.name] = frame[column.name].astype(int)
    model = CTGAN(epochs=300, enable_gpu=False)
    model.set_random_state(seed)
    model.fit(frame, [column.name for column in columns if column.categories])
    return torch.from_numpy(model.sample(n).to_numpy(dtype=np.float32))


def drawn_again(learned: Tensor, _: list[Column], n: int, seed: int) -> Tensor:
    """Learned rows: what tells copies from new rows."""
    return learned[torch.randint(len(learned), (n,), generator=torch.Generator().manual_seed(seed))]


METHODS = {"table_gan.py": by_us, "CTGAN": by_ctgan, "drawn again": drawn_again}


def auc(real: Tensor, generated: Tensor, seed: int) -> float:
    """Of a forest, cross-validated, that tells generated rows (n, columns) from real ones."""
    rows, is_real = torch.cat([real, generated]).numpy(), np.arange(2 * len(real)) < len(real)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    forest = RandomForestClassifier(random_state=seed)
    told = cross_val_predict(forest, rows, is_real, cv=folds, method="predict_proba")
    return float(roc_auc_score(is_real, told[:, 1]))


def right(learned: Tensor, test: Tensor, seed: int) -> float:
    """Accuracy of a forest that has learned the last column from the others."""
    forest = RandomForestClassifier(random_state=seed).fit(learned[:, :-1], learned[:, -1])
    return float(forest.score(test[:, :-1], test[:, -1]))


def near_copies(learned: Tensor, test: Tensor, generated: Tensor, columns: list[Column]) -> float:
    """Share of generated rows as near to a learned one as the nearest 5 % of the test's rows."""

    def nearest(rows: Tensor) -> Tensor:
        return torch.cdist(features(rows), features(learned)).amin(dim=1)

    def features(rows: Tensor) -> Tensor:
        scaled = Standardize(learned)(rows)
        return torch.cat(
            [
                one_hot_encode(cells.long(), len(column.categories))
                if column.categories
                else some[:, None]
                for cells, some, column in zip(rows.T, scaled.T, columns, strict=True)
            ],
            dim=1,
        )

    return (nearest(generated) <= nearest(test).quantile(0.05)).double().mean().item()


def measured(job: tuple[str, int]) -> dict[str, Figures]:
    """The figures of each method: half of the table is learned, half is for judging."""
    name, seed = job
    torch.set_num_threads(1)
    torch.manual_seed(seed)
    rows, columns = TABLES[name]()
    learned, test = rows[torch.randperm(len(rows))].tensor_split(2)
    found = {}
    for method, generate in METHODS.items():
        start = time.perf_counter()
        generated = generate(learned, columns, len(test), seed)
        seconds = time.perf_counter() - start
        found[method] = {
            "AUC": auc(test, generated, seed),
            "near-copies": near_copies(learned, test, generated, columns),
            "seconds": seconds,
        }
        if columns[-1].categories:
            found[method]["accuracy"] = right(generated, test, seed)
            found[method]["real accuracy"] = right(learned, test, seed)
    return found


def main() -> None:
    """Measure, and write the results."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, default=5, help="(%(default)s)")
    options = parser.parse_args()
    jobs = list(itertools.product(TABLES, range(options.seeds)))
    runs: dict[tuple[str, str], list[Figures]] = {}
    for (name, seed), found in zip(jobs, measure.in_parallel(measured, jobs), strict=True):
        for method, figures in found.items():
            print(name, seed, method, figures, flush=True)
            runs.setdefault((name, method), []).append(figures)
            runs.setdefault(("all", method), []).append(figures)
    keys = ["AUC", "near-copies", "accuracy", "real accuracy", "seconds"]
    lines = {
        (name, method): [
            name,
            method,
            *(mean_and_worst(runs[name, method], key, 3) for key in keys),
        ]
        for name in (*TABLES, "all")
        for method in METHODS
    }
    head = ["table", "generated by", *keys]
    text = f"""# Tables

Half of each table is learned, half is for judging. Mean / worst of {options.seeds} seeds:

{measure.table(head, lines.values())}
AUC: of a random forest, cross-validated, that tells generated rows from real ones; 0.5: it cannot.
Near-copies: the share of generated rows that are as near to a learned row as the nearest 5 % of
real ones are; up to 0.05 is right. Accuracy: of a forest that has learned the last column from
generated rows, tested on real ones; real accuracy: that has learned it from real ones. CTGAN (Xu et
al. 2019) has its own defaults and 300 epochs; drawn again: learned rows, with no model. One thread
each.

{measure.circumstances("table_quality.py")}"""
    (RESULTS / "tables.md").write_text(text)
    both = [lines["all", method][1:] for method in ("table_gan.py", "CTGAN")]
    measure.write_into_readme("tables", measure.table(head[1:], both))


if __name__ == "__main__":
    main()
