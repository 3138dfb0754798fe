"""Ensembles of boosted trees, whoever grew them: features in; label and probabilities, or predictions, out."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

import numpy as np

from inferd.abc import ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.errors import LoadFailed
from inferd.core.tensors import TensorSpec, datatype_name
from inferd.runtimes.configured import configured_signature, is_batchable

Arrays = Mapping[str, np.ndarray]
Task = Literal["binary", "multiclass", "multilabel", "regression"]


@dataclass(frozen=True, slots=True)
class Ensemble:
    """What a file turned out to hold.

    ``predict`` takes an aligned matrix of ``dtype``, [rows, ``features``], and answers, by ``task``: the second
    class's probability [rows] ("binary"), each class's [rows, ``columns``] ("multiclass", "multilabel"), or values
    [rows] or [rows, ``columns``] ("regression"). ``columns`` is 1 for vectors. Where features are not all numbers,
    ``named`` has an input for each, and ``predict`` takes them by name.

    ``classes`` are those that the file has names for. Above ``threshold`` a row is of the second of two.
    """

    predict: Callable[[Any], np.ndarray]
    task: Task
    features: int
    columns: int
    dtype: np.dtype
    metadata: ModelMetadata
    concurrent: bool
    named: tuple[TensorSpec, ...] = ()
    classes: tuple[Any, ...] = ()
    threshold: float = 0.5


class BoostedModel:
    """Serves an ensemble. Input ``x`` [-1, features] of the ensemble's datatype, or as one configured input says; or
    each feature by its name.

    Outputs are ``label`` and ``probabilities`` for classifiers, ``predictions`` for all else. Most files know classes
    as 0, 1, 2… only: option ``classes`` names them, and ``label`` then answers names.
    """

    user_code = False

    def __init__(self, ensemble: Ensemble, config: ModelConfig) -> None:
        self._ensemble = ensemble
        self.concurrent = ensemble.concurrent
        self._classes = _classes(ensemble, config)
        self._functions = _functions(ensemble, self._classes)
        specs = ensemble.named or (_matrix(ensemble, config),)
        self._input = specs[0].name
        self.signatures = configured_signature(specs, self._outputs(specs), config)
        signature = next(iter(self.signatures.values()))
        self._names = signature.output_names
        self.batchable = is_batchable(signature, config)
        labels = [label.decode() if isinstance(label, bytes) else label for label in self._classes.tolist()]
        self.metadata = replace(ensemble.metadata, classes=tuple(labels))

    def _outputs(self, specs: Sequence[TensorSpec]) -> list[TensorSpec]:
        """Datatypes and widths of the outputs, by computing them for one row."""
        widths = (1,) if self._ensemble.named else (1, self._ensemble.features)
        row = {spec.name: np.full(widths, b"" if spec.datatype == "BYTES" else 0, spec.dtype) for spec in specs}
        outputs = self.execute(row, tuple(self._functions), {}, "")
        return [TensorSpec(name, datatype_name(array.dtype), (-1, *array.shape[1:])) for name, array in outputs.items()]

    def execute(self, inputs: Arrays, outputs: Sequence[str], parameters: Mapping[str, Any], signature: str) -> Arrays:
        """One pass through the trees, whatever is asked of its scores."""
        ensemble = self._ensemble
        features: Any = inputs
        if not ensemble.named:
            features = np.require(inputs[self._input], ensemble.dtype, ["A", "C"])
        scores = ensemble.predict(features)
        if ensemble.columns > 1:  # some frameworks drop the second dimension when there are no rows
            scores = scores.reshape(-1, ensemble.columns)
        return {name: self._functions[name](scores) for name in outputs or self._names}

    def close(self) -> None:
        """Let go of the trees."""
        del self._ensemble


def _matrix(ensemble: Ensemble, config: ModelConfig) -> TensorSpec:
    """The one input that holds all features. Raises ``LoadFailed`` for a configured one that cannot."""
    given = config.inputs[0] if len(config.inputs) == 1 else None
    spec = given or TensorSpec("x", datatype_name(ensemble.dtype), (-1, ensemble.features))
    if len(spec.shape) != 2 or spec.shape[1] not in (-1, ensemble.features) or spec.datatype == "BYTES":
        raise LoadFailed(f"input {spec.name!r} must be numbers [-1, {ensemble.features}]: one column a feature")
    return spec


def _functions(ensemble: Ensemble, classes: np.ndarray) -> dict[str, Callable[[np.ndarray], np.ndarray]]:
    """What can be made of the scores, by the name of the output."""
    task, threshold = ensemble.task, ensemble.threshold
    if task == "regression":
        return {"predictions": np.asarray}
    if task == "multilabel":
        return {"label": lambda scores: (scores > 0.5).astype(np.int64), "probabilities": np.asarray}
    if task == "multiclass":
        return {"label": lambda scores: classes[scores.argmax(axis=1)], "probabilities": np.asarray}
    return {
        "label": lambda scores: classes[(scores > threshold).astype(np.int64)],
        "probabilities": lambda scores: np.stack((1 - scores, scores), axis=1),
    }


def _classes(ensemble: Ensemble, config: ModelConfig) -> np.ndarray:
    """What ``label`` answers for each index: option ``classes`` (text as ``bytes``), else what the file says, else the
    index itself. Empty where a row does not have one class."""
    count = {"binary": 2, "multiclass": ensemble.columns}.get(ensemble.task, 0)
    given = config.options.get("classes", ensemble.classes or None)
    if given is None:
        return np.arange(count)
    if not isinstance(given, (list, tuple)) or len(given) != count:
        raise LoadFailed(f"options.classes must be a list of {count} labels, in the order of the model's classes")
    if any(isinstance(label, str) for label in given):
        return np.array([str(label).encode() for label in given], dtype=object)
    return np.array(given)
