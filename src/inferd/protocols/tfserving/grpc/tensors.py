"""Hot: ``TensorProto`` to numpy arrays and back.

Format: tensorflow/core/framework/tensor.proto: values stand in ``tensor_content``, or in the field of their datatype,
where the last one also stands for all that are missing.
"""

from __future__ import annotations

from functools import cache, lru_cache
from math import prod
from typing import Any

import numpy as np

from inferd.core.errors import ExecutionFailed, InvalidRequest, MalformedRequest
from inferd.core.tensors import datatype_name, numpy_dtype
from inferd.protocols.grpc.schema import message_class
from inferd.protocols.grpc.wire import length_field, varint
from inferd.protocols.tfserving.describe import DTYPES

TENSOR = "tensorflow.TensorProto"
MAX_FILLED_BYTES = 64 << 20
"""The largest tensor that one value may stand for."""
_MAX_RANK = 32
_FIELDS = {
    "FP16": "half_val",
    "BF16": "half_val",
    "FP32": "float_val",
    "FP64": "double_val",
    "INT8": "int_val",
    "INT16": "int_val",
    "INT32": "int_val",
    "INT64": "int64_val",
    "UINT8": "int_val",
    "UINT16": "int_val",
    "UINT32": "uint32_val",
    "UINT64": "uint64_val",
    "BOOL": "bool_val",
    "BYTES": "string_val",
}
_PACKED = {"FP32": 5, "FP64": 6}
"""Fields whose packed form is the array's own memory."""


@cache
def numbers() -> dict[str, int]:
    """The numbers of TensorFlow's data types by our datatypes."""
    values = message_class(TENSOR).DESCRIPTOR.fields_by_name["dtype"].enum_type.values_by_name
    return {ours: values[theirs].number for ours, theirs in DTYPES.items()}


@cache
def _datatypes() -> dict[int, str]:
    return {number: ours for ours, number in numbers().items()}


def read_tensor(tensor: Any, name: str) -> np.ndarray:
    """The array of a ``TensorProto``. Raises ``InvalidRequest`` and ``MalformedRequest`` about input ``name``."""
    datatype = _datatypes().get(tensor.dtype)
    if datatype is None:
        raise InvalidRequest(f"input {name!r} has dtype {tensor.dtype}, which is not served here", tensor=name)
    shape = tuple([dim.size for dim in tensor.tensor_shape.dim])
    if tensor.tensor_shape.unknown_rank or len(shape) > _MAX_RANK or min(shape, default=0) < 0:
        raise InvalidRequest(f"input {name!r} has no definite shape of at most {_MAX_RANK} dimensions", tensor=name)
    count = prod(shape)
    dtype = numpy_dtype(datatype)
    content = tensor.tensor_content
    if not content:
        return _from_values(getattr(tensor, _FIELDS[datatype]), datatype, dtype, count, name).reshape(shape)
    if datatype == "BYTES":
        raise InvalidRequest(f"input {name!r}: send text in string_val, not in tensor_content", tensor=name)
    if len(content) != count * dtype.itemsize:
        raise MalformedRequest(
            f"input {name!r}: its tensor_content has {len(content)} bytes, {datatype} of shape {list(shape)} has "
            f"{count * dtype.itemsize}",
            tensor=name,
        )
    return np.frombuffer(content, dtype).reshape(shape)


def _from_values(values: Any, datatype: str, dtype: np.dtype, count: int, name: str) -> np.ndarray:
    given = len(values)
    if given > count or count * dtype.itemsize > MAX_FILLED_BYTES >= given * dtype.itemsize:
        raise MalformedRequest(
            f"input {name!r}: {_FIELDS[datatype]} has {given} values, the shape has {count}", tensor=name
        )
    array = _typed(values, datatype, dtype, name)
    if given == count:
        return array
    filled = np.empty(count, dtype)
    filled[:given] = array
    filled[given:] = array[-1] if given else (b"" if datatype == "BYTES" else 0)
    return filled


def _typed(values: Any, datatype: str, dtype: np.dtype, name: str) -> np.ndarray:
    if datatype == "BYTES":
        array = np.empty(len(values), dtype=object)
        array[:] = values
        return array
    if datatype in ("FP16", "BF16"):  # the bits of each, as a number
        wide = np.array(values, np.int64)
        _check_range(wide, 0, 0xFFFF, name)
        return wide.astype(np.uint16).view(dtype)
    if _FIELDS[datatype] == "int_val":
        wide = np.array(values, np.int64)
        _check_range(wide, np.iinfo(dtype).min, np.iinfo(dtype).max, name)
        return wide.astype(dtype)
    return np.array(values, dtype)


def _check_range(wide: np.ndarray, low: int, high: int, name: str) -> None:
    outside = (wide < low) | (wide > high)
    if outside.any():
        raise InvalidRequest(
            f"input {name!r} holds {wide[int(outside.argmax())]}, which is out of range for its dtype", tensor=name
        )


def write_tensor(array: np.ndarray, name: str) -> bytes:
    """``array`` as an encoded ``TensorProto``, its values in the field of their datatype, where clients look.

    Raises ``ExecutionFailed`` for what TensorFlow has no type for.
    """
    try:
        datatype = datatype_name(array.dtype)
    except ValueError:
        raise ExecutionFailed(f"output {name!r} has dtype {array.dtype}, which TensorFlow cannot express") from None
    head = _head(datatype, array.shape)
    if datatype in _PACKED:
        little = np.ascontiguousarray(array, array.dtype.newbyteorder("<"))
        return head + length_field(_PACKED[datatype], little.tobytes())
    values = message_class(TENSOR)()
    getattr(values, _FIELDS[datatype]).extend(_plain(array, datatype, name))
    body: bytes = values.SerializeToString()
    return head + body


def _plain(array: np.ndarray, datatype: str, name: str) -> list[Any]:
    if datatype in ("FP16", "BF16"):
        return np.ascontiguousarray(array).view(np.uint16).ravel().tolist()  # type: ignore[no-any-return]
    values = array.ravel().tolist()
    if datatype != "BYTES":
        return values  # type: ignore[no-any-return]
    texts = [value.encode() if type(value) is str else value for value in values]
    if not all(isinstance(text, bytes) for text in texts):
        raise ExecutionFailed(f"output {name!r} holds something else than bytes or text")
    return texts


@lru_cache(1024)
def _head(datatype: str, shape: tuple[int, ...]) -> bytes:
    """``dtype`` and ``tensor_shape``, encoded."""
    dims = b"".join([length_field(2, b"\x08" + varint(size)) for size in shape])
    return b"\x08" + varint(numbers()[datatype]) + length_field(2, dims)
