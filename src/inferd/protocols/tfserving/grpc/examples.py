"""Read the ``tensorflow.Example`` messages of ``Classify``, ``Regress`` and ``MultiInference`` to a signature's inputs.

Format: tensorflow/core/example/feature.proto and tensorflow_serving/apis/input.proto. A feature is the input of its
name, flat in row-major order. A signature whose only input takes text and that no feature is named after gets each
example encoded, as models that parse examples themselves do.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from inferd.core.errors import InvalidRequest
from inferd.core.tensors import Signature, TensorSpec, explain_names

_KINDS = {"f": "float_list", "i": "int64_list", "u": "int64_list", "b": "int64_list", "O": "bytes_list"}
"""By the kind of an input's numpy dtype."""


def read_examples(request_input: Any, signature: Signature) -> dict[str, np.ndarray]:
    """The inputs in an ``Input`` message; what an example has goes before the context. Raises ``InvalidRequest``."""
    kind = request_input.WhichOneof("kind")
    examples = getattr(request_input, kind).examples if kind else ()
    if not examples:
        raise InvalidRequest("the request has no examples")
    shared = request_input.example_list_with_context.context if kind == "example_list_with_context" else None
    rows = [_with_context(example, shared) for example in examples]
    only = signature.inputs[0]
    if len(signature.inputs) == 1 and only.datatype == "BYTES" and only.name not in rows[0].features.feature:
        return {only.name: _vector([row.SerializeToString() for row in rows])}
    features = [row.features.feature for row in rows]
    for position, row in enumerate(features):
        explain_names(signature, row)
        if row.keys() != features[0].keys():
            raise InvalidRequest(f"example {position} and those before it differ in their optional features")
    return {spec.name: _column(features, spec) for spec in signature.inputs if spec.name in features[0]}


def _with_context(example: Any, shared: Any) -> Any:
    if shared is None:
        return example
    row = type(example)()
    row.CopyFrom(shared)
    row.MergeFrom(example)  # of a map's entries the latter wins
    return row


def _column(rows: Sequence[Mapping[str, Any]], spec: TensorSpec) -> np.ndarray:
    wanted = _KINDS[spec.dtype.kind if spec.datatype != "BF16" else "f"]
    columns = [_values(row[spec.name], wanted, spec, position) for position, row in enumerate(rows)]
    tail = spec.shape[1:]
    if tail.count(-1) > 1 or len({len(values) for values in columns}) > 1:
        raise InvalidRequest(f"feature {spec.name!r} has not the same number of values in each example")
    try:
        flat = [value for values in columns for value in values]
        array = _vector(flat) if spec.datatype == "BYTES" else np.array(flat, _wide(spec)).astype(spec.dtype)
        return array.reshape(len(rows), *tail)
    except ValueError:
        raise InvalidRequest(
            f"feature {spec.name!r} has {len(columns[0])} values, the model takes {list(tail)} for each example",
            tensor=spec.name,
        ) from None


def _values(feature: Any, wanted: str, spec: TensorSpec, position: int) -> Sequence[Any]:
    kind = feature.WhichOneof("kind")
    if kind != wanted:
        raise InvalidRequest(
            f"feature {spec.name!r} of example {position} is {kind or 'empty'} where {spec.datatype} takes {wanted}",
            tensor=spec.name,
        )
    values: Sequence[Any] = getattr(feature, wanted).value
    if wanted == "int64_list" and spec.datatype != "INT64" and values:
        low, high = (0, 1) if spec.datatype == "BOOL" else (np.iinfo(spec.dtype).min, np.iinfo(spec.dtype).max)
        if min(values) < low or max(values) > high:
            raise InvalidRequest(f"feature {spec.name!r} of example {position} is out of range for {spec.datatype}")
    return values


def _wide(spec: TensorSpec) -> type:
    return np.float32 if spec.datatype in ("FP16", "BF16", "FP32", "FP64") else np.int64


def _vector(items: list[bytes]) -> np.ndarray:
    array = np.empty(len(items), dtype=object)
    array[:] = items
    return array
