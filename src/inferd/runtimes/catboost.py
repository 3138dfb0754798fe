"""Runs CatBoost models in its binary format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inferd.abc import ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed, MissingExtra
from inferd.core.tensors import TensorSpec, describe
from inferd.runtimes.boosting import BoostedModel, Ensemble, Task
from inferd.runtimes.configured import intra_op_threads, only_cpu
from inferd.runtimes.text import decoded

_FIRST_BYTES = b"CBM1"
_MULTILABEL = ("MultiLogloss", "MultiCrossEntropy")
# What CatBoostRegressor makes of the trees' sums; all others answer the sums.
_KINDS = {"Poisson": "Exponent", "Tweedie": "Exponent", "RMSEWithUncertainty": "RMSEWithUncertainty"}


class CatBoostRuntime:
    """Loads ``.cbm`` files. The input is FP32, CatBoost's own datatype, where a NaN is a missing value. A model with
    categories or text takes each feature by its name instead: these as BYTES, numbers as FP32.

    A category that was a whole number in training is the same as its digits; a configuration may declare it as such.
    """

    api_version = 1
    name = "catboost"
    extra = "catboost"
    takes = ".cbm"

    def claims(self, artefact: Path) -> bool:
        """By its suffix."""
        return artefact.suffix.lower() == ".cbm"

    def load(self, config: ModelConfig, artefact: Path, device: str) -> BoostedModel:
        """Load onto the CPU."""
        try:
            import catboost
        except ImportError as error:
            raise MissingExtra(artefact.name, self.extra) from error
        only_cpu("CatBoost", device)
        check_length(artefact)
        try:
            model = catboost.CatBoost().load_model(artefact)
        except catboost.CatBoostError as error:
            # What CatBoost says is a line of its source code.
            raise LoadFailed(
                f"{artefact.name} is not a model that CatBoost {catboost.__version__} can load; was it copied whole?"
            ) from error
        return BoostedModel(_ensemble(model, config), config)


def check_length(artefact: Path) -> None:
    """Raise ``LoadFailed`` unless the file is as long as its head says: CatBoost believes any length, and asks for that
    much memory."""
    try:
        with artefact.open("rb") as file:
            head = file.read(8)
            size_bytes = file.seek(0, 2)
    except OSError as error:
        raise LoadFailed(f"{artefact.name} is not a file that can be read") from error
    if not head.startswith(_FIRST_BYTES):
        raise LoadFailed(f"{artefact.name} is not a model in CatBoost's binary format: save it with format='cbm'")
    if size_bytes < 8 + int.from_bytes(head[4:], "little"):
        raise LoadFailed(f"{artefact.name} is shorter than it says; was it copied whole?")


def _ensemble(model: Any, config: ModelConfig) -> Ensemble:
    import catboost

    if model.get_embedding_feature_indices():
        raise LoadFailed(
            "the model has embeddings among its features, which are not served: its file does not tell how wide they "
            "are, and CatBoost reads past the end of one that is too short"
        )
    notes = model.get_metadata()
    objective = _objective(notes)
    classes = tuple(model.classes_.tolist())
    names = tuple(model.feature_names_)
    texts = {*model.get_cat_feature_indices(), *model.get_text_feature_indices()}
    named = _columns(names, texts, config) if texts else ()
    kind = "Probability" if classes else _KINDS.get(objective, "RawFormulaVal")
    row = [["" if at in texts else 0.0 for at in range(len(names))]]
    width = _scores(model.predict(row, prediction_type=kind, thread_count=1)).shape[1]
    metadata = ModelMetadata(
        runtime_version=catboost.__version__,
        platform="catboost",
        feature_names=() if names == tuple(map(str, range(len(names)))) else names,
        provenance={"objective": objective or "unknown", "trained": notes.get("train_finish_time") or ""},
    )
    task = _task(objective, classes)
    return Ensemble(
        _predict(model, kind, width, task, config, [spec.name for spec in named]),
        task,
        len(names),
        1 if task == "binary" else width,
        np.dtype(np.float32),
        metadata,
        concurrent=True,
        named=named,
        classes=classes if task in ("binary", "multiclass") else (),
        threshold=float(notes.get("binclass_probability_threshold") or 0.5),
    )


def _objective(notes: Any) -> str:
    """The loss function's name; "" where the file does not tell. Models that were added up keep it elsewhere."""
    trained = notes.get("params")
    told: Any = json.loads(trained)["loss_function"] if trained else json.loads(notes.get("loss_function") or "{}")
    return str(told.get("type", ""))


def _task(objective: str, classes: tuple[Any, ...]) -> Task:
    if objective in _MULTILABEL:
        return "multilabel"
    if not classes:
        return "regression"
    return "binary" if len(classes) == 2 and not objective.startswith("MultiClass") else "multiclass"


def _columns(names: Sequence[str], texts: set[int], config: ModelConfig) -> tuple[TensorSpec, ...]:
    """An input for each feature. Raises ``LoadFailed`` for a configured one that cannot hold its feature."""
    for given in config.inputs:
        is_text = given.name in names and names.index(given.name) in texts
        kinds = "OiuS" if is_text else "fiub"
        if given.shape != (-1,) or given.dtype.kind not in kinds:
            wanted = "a category, BYTES or whole numbers, [-1]" if is_text else "numbers [-1]"
            raise LoadFailed(f"input {given.name!r} is {describe(given)} and must be {wanted}")
    return tuple(TensorSpec(name, "BYTES" if at in texts else "FP32", (-1,)) for at, name in enumerate(names))


def _predict(
    model: Any, kind: str, width: int, task: Task, config: ModelConfig, columns: Sequence[str]
) -> Callable[[Any], np.ndarray]:
    threads = intra_op_threads(config)

    def predict(features: Any) -> np.ndarray:
        rows = _rows(features, columns) if columns else features
        if not len(rows):  # CatBoost warns, and drops the second dimension
            return np.zeros((0,) if width == 1 or task == "binary" else (0, width))
        scores = _scores(model.predict(rows, prediction_type=kind, thread_count=threads))
        return scores[:, 1] if task == "binary" else scores if width > 1 else scores[:, 0]

    return predict


def _scores(scores: np.ndarray) -> np.ndarray:
    """Always [rows, columns]."""
    return scores.reshape(len(scores), -1)


def _rows(inputs: Mapping[str, np.ndarray], columns: Sequence[str]) -> np.ndarray:
    """One matrix of objects: a fourth of the cost of a data frame for one row, and less for a thousand."""
    rows = np.empty((len(inputs[columns[0]]), len(columns)), dtype=object)
    for at, name in enumerate(columns):
        array = inputs[name]
        rows[:, at] = decoded(array) if array.dtype == object else array.tolist()
    return rows


RUNTIME = CatBoostRuntime()
