"""What MLflow's model signatures say, in tensors: the specs of columns and tensors, and the values to and from them.

Format: MLflow, "Model Signatures and Input Examples".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from inferd.core.config import ModelConfig
from inferd.core.errors import ExecutionFailed, InvalidInput, LoadFailed
from inferd.core.tensors import Signature, TensorSpec, datatype_name, example_inputs
from inferd.runtimes.text import as_tensor, decoded

Arrays = Mapping[str, np.ndarray]
_DATATYPES = {
    "boolean": "BOOL",
    "integer": "INT32",
    "long": "INT64",
    "float": "FP32",
    "double": "FP64",
    "string": "BYTES",
    "binary": "BYTES",
    "datetime": "BYTES",
}
UNNAMED = "predictions"
"""The output of a function whose answer has no names."""


@dataclass(frozen=True, slots=True)
class Reading:
    """The inputs, and how the function takes them: ``read`` makes its argument from tensors, ``write`` makes tensors
    of such an argument. ``dates`` are those whose text must be a date and time, ``binary`` those that are no text."""

    specs: tuple[TensorSpec, ...]
    read: Callable[[Arrays], Any]
    write: Callable[[Any], Arrays]
    dates: tuple[str, ...] = ()
    binary: tuple[str, ...] = ()

    def made_up(self) -> dict[str, np.ndarray]:
        """Two rows that the function takes, if it looks at types only."""
        rows = example_inputs(Signature(self.specs, ()), rows=2)
        return rows | {name: np.full(2, b"2000-01-01", dtype=object) for name in self.dates if name in rows}


def reading(meta: Any, config: ModelConfig) -> Reading:
    """By the signature in ``meta``; without one, by the configuration. Raises ``LoadFailed`` for what no tensor holds
    and where nobody says what the inputs are."""
    schema = meta.get_input_schema()
    if schema is None:
        if not config.inputs:
            raise LoadFailed(
                "the model has no signature: save it with one (mlflow.models.infer_signature), or declare its inputs "
                "in model.toml"
            )
        if all(spec.shape == (-1,) for spec in config.inputs):
            return _frame({spec.name: spec.name for spec in config.inputs}, config.inputs, {})
        return _tensors(config.inputs, {}, named=len(config.inputs) > 1)
    if schema.is_tensor_spec():
        return _by_tensors(schema)
    return _by_columns(schema, as_list=meta._is_signature_from_type_hint())


def _by_tensors(schema: Any) -> Reading:
    named = schema.has_input_names()
    specs = []
    for spec in schema:
        try:
            datatype = datatype_name(np.dtype(spec.type))
        except ValueError as error:
            raise LoadFailed(f"input {spec.name!r} is of {spec.type}, which no tensor holds") from error
        specs.append(TensorSpec(spec.name or "x", datatype, tuple(spec.shape), not spec.required))
    return _tensors(specs, {made.name: np.dtype(spec.type) for made, spec in zip(specs, schema, strict=True)}, named)


def _tensors(specs: Sequence[TensorSpec], dtypes: Mapping[str, np.dtype], named: bool) -> Reading:
    """One array, or several by name."""

    def one(name: str, array: np.ndarray) -> np.ndarray:
        if array.dtype != object or dtypes.get(name, np.dtype(str)).kind == "S":
            return np.require(array, dtypes.get(name), ["A", "C"])
        texts = np.empty(array.shape, dtype=object)
        texts.ravel()[:] = decoded(array.ravel())
        return texts.astype(dtypes.get(name, object))

    def read(inputs: Arrays) -> Any:
        arrays = {name: one(name, array) for name, array in inputs.items()}
        return arrays if named else arrays[specs[0].name]

    def write(saved: Any) -> Arrays:
        given = saved if named else {specs[0].name: saved}
        return {spec.name: as_tensor(given[spec.name]).astype(spec.dtype) for spec in specs}

    return Reading(tuple(specs), read, write)


def _by_columns(schema: Any, as_list: bool) -> Reading:
    """One input a column. Columns without names are called by their numbers, a single one ``x``."""
    specs, kinds, keys = [], {}, {}
    for position, column in enumerate(schema):
        key = column.name if column.name is not None else position
        name = str(column.name) if column.name is not None else "x" if len(schema) == 1 else str(position)
        kind, rank = _kind(column.type, name)
        specs.append(TensorSpec(name, _DATATYPES[kind], (-1,) * (rank + 1), not column.required))
        kinds[name], keys[name] = kind, key
    made = _frame(keys, specs, kinds)
    if not as_list:
        return made
    name = specs[0].name
    return Reading(
        tuple(specs),
        lambda inputs: _python(inputs[name], kinds[name]),
        lambda saved: {name: as_tensor(saved).astype(specs[0].dtype)},
    )


def _kind(column_type: Any, name: str) -> tuple[str, int]:
    """The name of a column's plain type, and in how many arrays it lies."""
    rank = 0
    while type(column_type).__name__ == "Array":
        column_type, rank = column_type.dtype, rank + 1
    kind = getattr(column_type, "name", "")
    if kind not in _DATATYPES:
        raise LoadFailed(f"column {name!r} is of {column_type!r}, which no tensor holds; flatten it into plain columns")
    return kind, rank


def _frame(keys: Mapping[str, Any], specs: Sequence[TensorSpec], kinds: Mapping[str, str]) -> Reading:
    """A data frame; ``keys`` are its columns by the inputs' names."""
    import pandas  # type: ignore[import-untyped]  # not a dependency, so its stubs are not one either

    def read(inputs: Arrays) -> Any:
        return pandas.DataFrame(
            {keys[name]: _column(inputs[name], kinds.get(name, "")) for name in keys if name in inputs}
        )

    def write(saved: Any) -> Arrays:
        frame = pandas.DataFrame(saved)
        present = [spec for spec in specs if not spec.optional or keys[spec.name] in frame]
        return {spec.name: _values(frame[keys[spec.name]]).astype(spec.dtype) for spec in present}

    dates, binary = (tuple(name for name in keys if kinds.get(name) == kind) for kind in ("datetime", "binary"))
    return Reading(tuple(specs), read, write, dates, binary)


def _column(array: np.ndarray, kind: str) -> Any:
    """A column of a data frame."""
    if kind == "datetime":
        import pandas

        try:
            return pandas.to_datetime(decoded(array), format="ISO8601").as_unit("ns")
        except ValueError as error:
            raise InvalidInput(f"not a date and time of ISO 8601: {str(error).splitlines()[0]}") from error
    if array.ndim == 1 and array.dtype != object:
        return np.require(array, requirements="A")
    return _python(array, kind)


def _python(array: np.ndarray, kind: str) -> list[Any]:
    """Nested lists of Python values; text as ``str``."""
    if array.dtype != object or kind == "binary":
        plain: list[Any] = array.tolist()
        return plain
    if array.ndim == 1:
        return list(decoded(array))
    return [_python(part, kind) for part in array]


def declared_outputs(schema: Any) -> tuple[TensorSpec, ...]:
    """The outputs that a signature declares; none where it declares what no tensor holds."""
    specs = []
    for position, each in enumerate(schema or ()):
        name = str(each.name) if each.name is not None else UNNAMED if len(schema) == 1 else str(position)
        try:
            if schema.is_tensor_spec():
                specs.append(TensorSpec(name, datatype_name(np.dtype(each.type)), tuple(each.shape)))
            else:
                kind, rank = _kind(each.type, name)
                specs.append(TensorSpec(name, _DATATYPES[kind], (-1,) * (rank + 1)))
        except (LoadFailed, ValueError):
            return ()
    return tuple(specs)


def tensors_of(answer: Any) -> dict[str, np.ndarray]:
    """A function's answer as tensors by name. Raises ``ExecutionFailed`` for one that no tensors hold."""
    return {name: _values(values) for name, values in _named(answer).items()}


def binary_names(answer: Any) -> tuple[str, ...]:
    """The parts of a function's answer that are bytes, not text."""
    return tuple(
        name
        for name, values in _named(answer).items()
        if (items := np.asarray(values, dtype=object).ravel().tolist()) and all(type(item) is bytes for item in items)
    )


def _named(answer: Any) -> dict[str, Any]:
    import pandas

    if isinstance(answer, list) and answer and all(isinstance(row, dict) for row in answer):
        answer = pandas.DataFrame(answer)
    if isinstance(answer, pandas.Series):
        answer = {UNNAMED if answer.name is None else answer.name: answer}
    if not isinstance(answer, (dict, pandas.DataFrame)):
        answer = {UNNAMED: answer}
    return {str(name): values for name, values in answer.items()}


def _values(values: Any) -> np.ndarray:
    """Dense; text, dates and times as text; arrays in cells stacked."""
    array = values.to_numpy() if hasattr(values, "to_numpy") else values
    array = array.toarray() if hasattr(array, "toarray") else np.asarray(array)
    if array.dtype.kind == "M":
        array = np.datetime_as_string(array)
    if array.dtype == object:
        items = array.tolist()
        kinds = set(map(type, items)) if array.ndim == 1 else {str}
        if kinds <= {list, np.ndarray} or kinds <= {int, float, bool}:
            array = np.asarray(items)
        elif not all(issubclass(kind, (str, bytes, np.generic)) for kind in kinds):
            raise ExecutionFailed(
                f"the model answers {', '.join(sorted(k.__name__ for k in kinds))}, which no tensor holds"
            )
    return as_tensor(array)
