"""Small models of boosted trees for tests, trained on real data by each framework's own estimators."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inferd.core.config import ModelConfig
from model_builders import Built, iris_rows, objects

SPECIES = ("setosa", "versicolor", "virginica")
NAMED = ModelConfig("m", options={"classes": list(SPECIES)})
SMALL = {"n_estimators": 5, "n_jobs": 1}


def classified(model: Any, rows: np.ndarray) -> Mapping[str, np.ndarray]:
    """What a fitted classifier answers for ``rows``."""
    return {"label": model.predict(rows), "probabilities": model.predict_proba(rows)}


def diabetes() -> tuple[np.ndarray, np.ndarray]:
    """Ten measurements of each patient, and the disease's progress."""
    from sklearn.datasets import load_diabetes

    x, y = load_diabetes(return_X_y=True)
    return np.float32(x), y


# XGBoost


def xgboost_classes(folder: Path) -> Built:
    """Three species, named by an option, in UBJSON."""
    from xgboost import XGBClassifier

    x, y = iris_rows(150)
    model = XGBClassifier(**SMALL).fit(x, y)
    model.save_model(folder / "iris.ubj")
    rows = np.float32(x[::25])
    expected = {**classified(model, rows), "label": objects([SPECIES[index] for index in model.predict(rows)])}
    return Built(folder / "iris.ubj", {"x": rows}, expected, NAMED)


def xgboost_two_classes(folder: Path) -> Built:
    """Tumours, by named columns, in JSON; stopped early, so that not all trees count."""
    from sklearn.datasets import load_breast_cancer
    from xgboost import XGBClassifier

    x, y = load_breast_cancer(return_X_y=True, as_frame=True)
    model = XGBClassifier(n_estimators=50, n_jobs=1, early_stopping_rounds=2)
    model.fit(x[:400], y[:400], eval_set=[(x[400:], y[400:])], verbose=False)
    model.save_model(folder / "tumours.json")
    return Built(folder / "tumours.json", {"x": np.float32(x[::120])}, classified(model, x[::120]))


def xgboost_regressor(folder: Path) -> Built:
    """Two targets; every third measurement is missing."""
    from xgboost import XGBRegressor

    x, y = diabetes()
    model = XGBRegressor(**SMALL).fit(x, np.c_[y, -y])
    model.save_model(folder / "progress.ubj")
    rows = x[::90].copy()
    rows[:, ::3] = np.nan
    return Built(folder / "progress.ubj", {"x": rows}, {"predictions": model.predict(rows)})


def xgboost_linear(folder: Path) -> Built:
    from xgboost import XGBRegressor

    x, y = diabetes()
    model = XGBRegressor(booster="gblinear", **SMALL).fit(x, y)
    model.save_model(folder / "linear.json")
    return Built(folder / "linear.json", {"x": x[::90]}, {"predictions": model.predict(x[::90])})


# LightGBM


def lightgbm_classes(folder: Path) -> Built:
    """Three species, known to the estimator by name, which its text file forgets."""
    from lightgbm import LGBMClassifier

    x, y = iris_rows(150)
    model = LGBMClassifier(verbose=-1, **SMALL).fit(x, np.array(SPECIES)[y])
    model.booster_.save_model(folder / "iris.txt")
    expected = {**classified(model, x[::25]), "label": objects(model.predict(x[::25]))}
    return Built(folder / "iris.txt", {"x": x[::25]}, expected, NAMED)


def lightgbm_two_classes(folder: Path) -> Built:
    """Tumours, by named columns."""
    from lightgbm import LGBMClassifier
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True, as_frame=True)
    model = LGBMClassifier(verbose=-1, **SMALL).fit(x, y)
    model.booster_.save_model(folder / "tumours.lgb")
    return Built(folder / "tumours.lgb", {"x": x[::120].to_numpy()}, classified(model, x[::120]))


def lightgbm_regressor(folder: Path) -> Built:
    """Every third measurement is missing."""
    from lightgbm import LGBMRegressor

    x, y = diabetes()
    model = LGBMRegressor(verbose=-1, **SMALL).fit(x, y)
    model.booster_.save_model(folder / "progress.txt")
    rows = np.float64(x[::90])
    rows[:, ::3] = np.nan
    return Built(folder / "progress.txt", {"x": rows}, {"predictions": model.predict(rows)})


# CatBoost

FEW = {"iterations": 5, "thread_count": 1, "verbose": False, "allow_writing_files": False}


def catboost_classes(folder: Path) -> Built:
    """Three species by their names, which the file keeps."""
    from catboost import CatBoostClassifier

    x, y = iris_rows(150)
    model = CatBoostClassifier(**FEW).fit(x, np.array(SPECIES)[y])
    model.save_model(folder / "iris.cbm")
    rows = np.float32(x[::25])
    expected = {**classified(model, rows), "label": objects(model.predict(rows).ravel())}
    return Built(folder / "iris.cbm", {"x": rows}, expected)


def catboost_two_classes(folder: Path) -> Built:
    """Tumours, by named columns; one that is called benign must be nine times as likely to be."""
    from catboost import CatBoostClassifier
    from sklearn.datasets import load_breast_cancer

    x, y = load_breast_cancer(return_X_y=True, as_frame=True)
    model = CatBoostClassifier(**FEW).fit(x, y)
    model.set_probability_threshold(0.9)
    model.save_model(folder / "tumours.cbm")
    rows = np.float32(x[::12])
    assert (model.predict(rows) != (model.predict_proba(rows)[:, 1] > 0.5)).any()
    return Built(folder / "tumours.cbm", {"x": rows}, classified(model, rows))


def catboost_regressor(folder: Path) -> Built:
    """A count; every third measurement is missing."""
    from catboost import CatBoostRegressor

    x, y = diabetes()
    model = CatBoostRegressor(loss_function="Poisson", **FEW).fit(x, y)
    model.save_model(folder / "progress.cbm")
    rows = x[::90].copy()
    rows[:, ::3] = np.nan
    return Built(folder / "progress.cbm", {"x": rows}, {"predictions": model.predict(rows)})


def catboost_categories(folder: Path) -> Built:
    """Flowers by the names of their columns: a place and a code between two lengths, and what was noted of them."""
    import pandas
    from catboost import CatBoostClassifier

    x, y = iris_rows(150)
    places, notes = np.array(["hill", "moor", "wood"]), np.array(["a wet day", "dry", "a dry, dry day"])
    flowers = pandas.DataFrame({"place": places[y - (x[:, 1] > 3)], "length": x[:, 0], "code": y % 2, "width": x[:, 1]})
    flowers["note"] = notes[np.arange(150) % 3]
    model = CatBoostClassifier(cat_features=["place", "code"], text_features=["note"], **FEW).fit(flowers, y)
    model.save_model(folder / "flowers.cbm")
    some = flowers[::25]
    inputs = {name: objects(map(str, some[name])) for name in ("place", "code", "note")}
    inputs |= {name: np.float32(some[name]) for name in ("length", "width")}
    expected = {"label": model.predict(some).ravel(), "probabilities": model.predict_proba(some)}
    return Built(folder / "flowers.cbm", inputs, expected)
