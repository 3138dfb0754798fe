"""Typed tensor contents to numpy arrays and back.

Format: Open Inference Protocol V2, "Tensor Contents": the field by datatype, the values flat in row-major order.
"""

from __future__ import annotations

from typing import Any

import numpy as np

from inferd.core.errors import ExecutionFailed, InvalidRequest
from inferd.protocols.oip.plan import TensorPlan

FIELDS = {
    "BOOL": "bool_contents",
    "INT8": "int_contents",
    "INT16": "int_contents",
    "INT32": "int_contents",
    "INT64": "int64_contents",
    "UINT8": "uint_contents",
    "UINT16": "uint_contents",
    "UINT32": "uint_contents",
    "UINT64": "uint64_contents",
    "FP32": "fp32_contents",
    "FP64": "fp64_contents",
    "BYTES": "bytes_contents",
}
"""FP16 and BF16 have none: they travel raw."""


def read_contents(tensor: TensorPlan, contents: Any) -> np.ndarray:
    """The tensor whose values are ``contents``, a message. Raises ``InvalidRequest``."""
    field = FIELDS.get(tensor.datatype)
    if field is None:
        raise InvalidRequest(
            f"{tensor.path}: {tensor.datatype} has no typed contents; send it in raw_input_contents", path=tensor.path
        )
    given = [descriptor.name for descriptor, _ in contents.ListFields()]
    if given not in ([], [field]):
        raise InvalidRequest(
            f"{tensor.path}: {tensor.datatype} values are expected in {field}, found {', '.join(given)}",
            path=tensor.path,
            got=given,
            expected=field,
        )
    values = getattr(contents, field)
    if len(values) != tensor.count:
        raise InvalidRequest(
            f"{tensor.path}: {field} has {len(values)} values, the shape {list(tensor.shape)} has {tensor.count}",
            path=tensor.path,
        )
    return _array(tensor, values, field).reshape(tensor.shape)


def _array(tensor: TensorPlan, values: Any, field: str) -> np.ndarray:
    if tensor.datatype == "BYTES":
        array = np.empty(tensor.count, dtype=object)
        array[:] = values
        return array
    if field not in ("int_contents", "uint_contents"):
        return np.array(values, dtype=tensor.dtype)
    wide = np.array(values, dtype=np.int64)
    bounds = np.iinfo(tensor.dtype)
    outside = (wide < bounds.min) | (wide > bounds.max)
    if outside.any():
        position = int(outside.argmax())
        raise InvalidRequest(
            f"{tensor.path}: {field}[{position}] is {wide[position]}, which is out of range for {tensor.datatype}",
            path=tensor.path,
        )
    return wide.astype(tensor.dtype)


def write_contents(contents: Any, datatype: str, array: np.ndarray, name: str) -> None:
    """Put the values of output ``name`` into the message ``contents``.

    Raises ``ExecutionFailed`` for a BYTES element that is neither bytes nor text.
    """
    values = array.reshape(-1).tolist()
    if datatype == "BYTES":
        values = [_element(value, name) for value in values]
    getattr(contents, FIELDS[datatype]).extend(values)


def _element(value: object, name: str) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, str):
        return value.encode()
    raise ExecutionFailed(f"output {name!r} holds {type(value).__name__} where bytes or text are expected")
