"""Hot: write one output tensor as JSON, by the model's policy for what is not a number."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import orjson

from inferd.core.config import NanPolicy
from inferd.core.errors import ExecutionFailed, NotFinite
from inferd.protocols.shared.json_tensors import to_json

NAN_HEADER = b"Inferd-Nan: null\r\n"
"""Owed by an answer in which a value that is no number was written as null."""
TEXT_KINDS = "OSUT"
_NUMPY = orjson.OPT_SERIALIZE_NUMPY


def output_of(outputs: Mapping[str, np.ndarray], name: str) -> np.ndarray:
    """The output of that name. Raises ``ExecutionFailed`` when the model returned none."""
    if name not in outputs:
        raise ExecutionFailed(f"the model returned no output {name!r}")
    return np.asarray(outputs[name])


def write_tensor(array: np.ndarray, name: str, nan: NanPolicy, *, bare: bool = False) -> bytes:
    """One tensor as nested JSON arrays; what is not finite as ``nan`` says, or, if it may be written at all, as a
    ``bare`` token.

    ``orjson`` writes null for what is not finite, which costs less to find than to prevent. Raises ``NotFinite``
    when the policy is "error" and something is not finite, ``ExecutionFailed`` for values that JSON cannot express.
    """
    try:
        if array.dtype.kind in TEXT_KINDS:
            return orjson.dumps(to_json(array))
        array = _plain(array)
        text = orjson.dumps(array if array.ndim else array[()], option=_NUMPY)
    except TypeError:
        raise ExecutionFailed(f"output {name!r} ({array.dtype}) holds values that JSON cannot express") from None
    if b"null" not in text or (nan == "null" and not bare):
        return text
    if nan != "error":
        return _spell(text, array, b"%b" if bare else b'"%b"')
    raise NotFinite(name)


def _plain(array: np.ndarray) -> np.ndarray:
    """In C order, native byte order and a type that ``orjson`` writes."""
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    return np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("=")).reshape(array.shape)


def _spell(text: bytes, array: np.ndarray, form: bytes) -> bytes:
    """``text`` with each null replaced by the name of the value it stands for, in C order."""
    strange = array[~np.isfinite(array)].tolist()
    words = [form % (b"NaN" if value != value else b"Infinity" if value > 0 else b"-Infinity") for value in strange]
    first, *rest = text.split(b"null")
    return first + b"".join(word + part for word, part in zip(words, rest, strict=True))
