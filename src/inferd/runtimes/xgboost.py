"""Runs XGBoost models saved as JSON or UBJSON."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np

from inferd.abc import ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed, MissingExtra
from inferd.runtimes.boosting import BoostedModel, Ensemble, Task
from inferd.runtimes.configured import intra_op_threads, only_cpu

_FIRST_BYTES = re.compile(rb'\s*\{\s*"(learner|version)"')
_TREES = ("gbtree", "dart")


class XGBoostRuntime:
    """Loads ``.ubj`` files, and ``.json`` files that begin as XGBoost's do. The input is FP32, XGBoost's own datatype;
    a NaN is a missing value, and a category is its code.

    A model that stopped early is served up to its best iteration, as XGBoost's scikit-learn estimators do.
    """

    api_version = 1
    name = "xgboost"
    extra = "xgboost"
    takes = ".ubj, and .json that begins with 'learner' or 'version'"

    def claims(self, artefact: Path) -> bool:
        """By its suffix; JSON by its first key too, because many things are JSON."""
        suffix = artefact.suffix.lower()
        if suffix != ".json" or not artefact.is_file():
            return suffix == ".ubj"
        with artefact.open("rb") as file:
            return _FIRST_BYTES.match(file.read(64)) is not None

    def load(self, config: ModelConfig, artefact: Path, device: str) -> BoostedModel:
        """Load onto the CPU."""
        try:
            import xgboost
        except ImportError as error:
            raise MissingExtra(artefact.name, self.extra) from error
        only_cpu("XGBoost", device)
        if not artefact.is_file():
            raise LoadFailed(f"{artefact.name} does not exist")
        try:
            booster = xgboost.Booster({"nthread": intra_op_threads(config)}, model_file=artefact)
            learner = json.loads(booster.save_config())["learner"]
        except (xgboost.core.XGBoostError, ValueError) as error:
            # What XGBoost says is a line of its source code and a stack trace.
            raise LoadFailed(f"{artefact.name} is not a model that XGBoost {xgboost.__version__} can load") from error
        return BoostedModel(_ensemble(booster, learner), config)


def _ensemble(booster: Any, learner: Mapping[str, Any]) -> Ensemble:
    import xgboost

    objective = learner["objective"]["name"]
    if objective == "multi:softmax":  # the same trees; only what is made of their sums differs
        booster.set_param({"objective": "multi:softprob"})
    sizes = learner["learner_model_param"]
    columns = max(int(sizes["num_class"]), int(sizes.get("num_target", 1)), 1)
    kind = learner["gradient_booster"]["name"]
    metadata = ModelMetadata(
        runtime_version=xgboost.__version__,
        platform="xgboost",
        feature_names=tuple(booster.feature_names or ()),
        provenance={"objective": objective, "booster": kind, **booster.attributes()},
    )
    # Predicting with trees is documented to be thread-safe, with linear models it is not.
    predict = _predict(booster, kind)
    task = _task(objective, columns)
    return Ensemble(
        predict, task, booster.num_features(), columns, np.dtype(np.float32), metadata, concurrent=kind in _TREES
    )


def _task(objective: str, columns: int) -> Task:
    if objective in ("multi:softmax", "multi:softprob"):
        return "multiclass"
    if objective in ("binary:logistic", "binary:hinge"):
        return "binary" if columns == 1 else "multilabel"
    return "regression"


def _predict(booster: Any, kind: str) -> Callable[[np.ndarray], np.ndarray]:
    import xgboost

    best = booster.attr("best_iteration")
    rounds = (0, int(best) + 1) if best is not None else (0, 0)
    if kind in _TREES:
        return lambda matrix: booster.inplace_predict(matrix, iteration_range=rounds)  # type: ignore[no-any-return]
    return lambda matrix: booster.predict(xgboost.DMatrix(matrix, nthread=1))  # type: ignore[no-any-return]


RUNTIME = XGBoostRuntime()
