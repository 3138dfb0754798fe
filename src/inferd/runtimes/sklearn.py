"""Runs fitted scikit-learn estimators: skops files, live objects, and pickles where those are allowed."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from inferd.abc import ModelMetadata
from inferd.core.config import ModelConfig
from inferd.core.errors import InvalidInput, LoadFailed, MissingExtra
from inferd.core.tensors import TensorSpec, datatype_name
from inferd.runtimes.configured import configured_signature, is_batchable, only_cpu, reason
from inferd.runtimes.skops_types import broken, trusted_types
from inferd.runtimes.text import as_tensor, decoded

Arrays = Mapping[str, np.ndarray]
_PICKLES = (".joblib", ".pkl", ".pickle")


class SklearnModel:
    """A fitted estimator. Predicting does not change it, so instances share it.

    Inputs are one of: ``x`` FP64[-1, n_features_in_]; ``text`` BYTES[-1], where the first step reads text; or each
    column by its name, [-1], where the first step is a ColumnTransformer fitted on a data frame. FP64 because an
    estimator does not say what it was fitted on; a configuration may say FP32. Outputs are ``label`` and
    ``probabilities`` (classifiers), ``label`` (clusterers and outlier detectors), ``predictions`` or ``transformed``.
    """

    concurrent = True

    def __init__(self, estimator: Any, config: ModelConfig, metadata: ModelMetadata, user_code: bool) -> None:
        self._functions = _functions(estimator)
        example, self._feed = _reading(estimator, config)
        self.signatures = configured_signature(_specs(example), self._probe(example), config)
        signature = next(iter(self.signatures.values()))
        self._names = signature.output_names
        self.batchable = is_batchable(signature, config)
        self.metadata = metadata
        self.user_code = user_code

    def _probe(self, example: Arrays) -> list[TensorSpec]:
        """Datatypes and widths of the outputs, by computing them for one row."""
        try:
            outputs = self.execute(example, tuple(self._functions), {}, "")
        except Exception as error:
            raise LoadFailed(f"the estimator fails on one row of example values: {error}") from error
        return _specs(outputs)

    def execute(self, inputs: Arrays, outputs: Sequence[str], parameters: Mapping[str, Any], signature: str) -> Arrays:
        """Compute only what is asked. Raises ``InvalidInput`` for rows scikit-learn's own validation refuses, such
        as a NaN or an unknown category."""
        features = self._feed(inputs)
        try:
            return {name: as_tensor(self._functions[name](features)) for name in outputs or self._names}
        except ValueError as error:
            raise InvalidInput(str(error).strip().split("\n")[0]) from error

    def close(self) -> None:
        """Let go of the estimator."""
        del self._functions, self._feed


def _specs(row: Arrays) -> list[TensorSpec]:
    """What tensors like these, with any number of rows, are called and look like."""
    return [TensorSpec(name, datatype_name(array.dtype), (-1, *array.shape[1:])) for name, array in row.items()]


class SklearnRuntime:
    """Loads ``.skops`` files, and pickles of estimators (``.joblib``, ``.pkl``, ``.pickle``) with ``allow_pickle``.

    Options: ``trusted``, a list of type names that skops may load besides those it knows; ``object``, a live fitted
    estimator, in which case the artefact is not read.
    """

    api_version = 1
    name = "sklearn"
    extra = "sklearn"
    takes = ".skops, .joblib, .pkl, .pickle"

    def claims(self, artefact: Path) -> bool:
        """By its suffix."""
        return artefact.suffix.lower() in (".skops", *_PICKLES)

    def load(self, config: ModelConfig, artefact: Path, device: str) -> SklearnModel:
        """Load onto the CPU, the only device scikit-learn has."""
        try:
            import sklearn
        except ImportError as error:
            raise MissingExtra(artefact.name, self.extra) from error
        only_cpu("scikit-learn", device)
        estimator, provenance = _read(config, artefact)
        if not any(hasattr(estimator, verb) for verb in ("predict", "transform")):
            raise LoadFailed(f"{artefact.name} holds a {type(estimator).__name__}, which is not an estimator")
        metadata = ModelMetadata(
            runtime_version=sklearn.__version__,
            platform="sklearn",
            classes=_classes(estimator),
            feature_names=tuple(map(str, getattr(estimator, "feature_names_in_", ()))),
            provenance={"estimator": type(estimator).__name__, **provenance},
        )
        # Only a skops file without types trusted by hand is sure to hold nothing but library code.
        library_only = artefact.suffix.lower() == ".skops" and not {"trusted", "object"} & config.options.keys()
        return SklearnModel(estimator, config, metadata, user_code=not library_only)


def _read(config: ModelConfig, artefact: Path) -> tuple[Any, dict[str, str]]:
    """The estimator, and what the file says of its origin."""
    if "object" in config.options:
        return config.options["object"], {}
    if artefact.suffix.lower() in _PICKLES:
        return _read_pickle(config, artefact), {}
    return _read_skops(config, artefact), _skops_provenance(artefact)


def _read_pickle(config: ModelConfig, artefact: Path) -> Any:
    if not config.allow_pickle:
        raise LoadFailed(
            f"{artefact.name} is a pickle, and loading a pickle runs any code that is in it: save the model with "
            f"skops.io.dump(model, '{artefact.stem}.skops'), or pass --allow-pickle if you trust where it came from",
            hint="--allow-pickle",
        )
    import joblib

    try:
        return joblib.load(artefact)
    except Exception as error:  # unpickling raises whatever the pickled code raises
        raise LoadFailed(f"{artefact.name} cannot be unpickled: {reason(error, artefact)}") from error


def _read_skops(config: ModelConfig, artefact: Path) -> Any:
    trusted = trusted_types(artefact, config)
    import skops.io

    try:
        return skops.io.load(artefact, trusted=trusted)
    except Exception as error:  # whatever a broken archive raises
        raise broken(artefact, error) from error


def _skops_provenance(artefact: Path) -> dict[str, str]:
    """Versions the file was saved with, from its schema."""
    with zipfile.ZipFile(artefact) as archive:
        schema = archive.read("schema.json").decode()
    found = {
        "skops_version": re.search(r'"_skops_version": *"([^"]+)"', schema),
        "sklearn_version": re.search(r'"_sklearn_version": *\{[^{}]*"content": *"\\"([^"\\]+)', schema),
    }
    return {key: match[1] for key, match in found.items() if match}


def _classes(estimator: Any) -> tuple[Any, ...]:
    """A classifier's labels; none where it has several outputs, each with labels of its own."""
    classes = getattr(estimator, "classes_", None)
    return tuple(classes.tolist()) if isinstance(classes, np.ndarray) else ()


def _functions(estimator: Any) -> dict[str, Callable[[Any], Any]]:
    """What the estimator can compute, by the name of the output."""
    from sklearn.base import is_classifier, is_clusterer, is_outlier_detector

    if is_classifier(estimator):
        functions = {"label": estimator.predict}
        if hasattr(estimator, "predict_proba") and _classes(estimator):
            functions["probabilities"] = estimator.predict_proba
        return functions
    if hasattr(estimator, "predict"):
        labels = is_clusterer(estimator) or is_outlier_detector(estimator)
        return {"label" if labels else "predictions": estimator.predict}
    return {"transformed": estimator.transform}


def _reading(estimator: Any, config: ModelConfig) -> tuple[dict[str, np.ndarray], Callable[[Arrays], Any]]:
    """One example row by input name, and the function that makes what the estimator reads from the inputs."""
    first = _first_step(estimator)
    names = getattr(estimator, "feature_names_in_", None)
    if hasattr(first, "build_analyzer"):
        return {"text": np.array([b"text"], dtype=object)}, lambda inputs: decoded(inputs["text"])
    if names is not None and hasattr(first, "transformers_"):
        return _example_columns(first, names), _frame(names)
    if not hasattr(estimator, "n_features_in_") and len(config.inputs) != 1:
        raise LoadFailed(f"this {type(estimator).__name__} is not fitted: it does not know its number of features")
    given = config.inputs[0] if config.inputs else TensorSpec("x", "FP64", (-1, estimator.n_features_in_))
    shape = tuple(max(size, 1) for size in given.shape)
    return {given.name: np.zeros(shape, given.dtype)}, _matrix(given.name)


def _first_step(estimator: Any) -> Any:
    """The step that meets the inputs, inside pipelines and searches."""
    while True:
        if hasattr(estimator, "steps"):
            estimator = estimator.steps[0][1]
        elif hasattr(estimator, "best_estimator_"):
            estimator = estimator.best_estimator_
        else:
            return estimator


def _matrix(name: str) -> Callable[[Arrays], np.ndarray]:
    def read(inputs: Arrays) -> np.ndarray:
        return np.require(inputs[name], requirements="A")

    return read


def _frame(names: np.ndarray) -> Callable[[Arrays], Any]:
    try:
        import pandas  # type: ignore[import-untyped]  # not a dependency, so its stubs are not one either
    except ImportError as error:
        raise LoadFailed("this model takes its columns by name, which needs pandas: pip install pandas") from error

    def read(inputs: Arrays) -> Any:
        columns = {name: inputs[name] for name in names}
        return pandas.DataFrame({k: decoded(a) if a.dtype == object else a for k, a in columns.items()})

    return read


def _example_columns(transformer: Any, names: np.ndarray) -> dict[str, np.ndarray]:
    """A value for each column of a ColumnTransformer: the first known category, a text, or the number 0."""
    example = {str(name): np.zeros(1) for name in names}
    for _, step, columns in transformer.transformers_:
        first = _first_step(step)
        if hasattr(first, "build_analyzer"):
            example[columns] = np.array([b"text"], dtype=object)
        elif hasattr(first, "categories_"):
            by_name = not isinstance(columns, slice) and all(isinstance(column, str) for column in columns)
            for name, known in zip(columns if by_name else names[columns], first.categories_, strict=True):
                example[name] = as_tensor(known[:1])
    return example


RUNTIME = SklearnRuntime()
