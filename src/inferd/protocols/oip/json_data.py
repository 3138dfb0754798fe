"""Hot: read the JSON array of one V2 tensor's ``data``, flat or nested, when it is proved to be just numbers.

A reader answers None for whatever it cannot prove; a slower one decides then. Figures: ``benchmarks/codec.py``.
"""

from __future__ import annotations

from math import prod
from struct import Struct

import numpy as np
import orjson

from inferd.core.tensors import TensorSpec
from inferd.protocols.shared.json_fast import STRUCT, FastRead, compile_fast

_SMALL_COUNT = 128
_SMALL_BYTES = 2048
_LETTER_U, _LETTER_L = b"ul"  # of true, false and null, which struct would take for numbers


def compile_data(datatype: str, shape: tuple[int, ...]) -> FastRead | None:
    """The reader of the array text of a tensor of exactly this shape, or None when there is no fast one."""
    if datatype not in STRUCT or not shape or prod(shape) == 0:
        return None
    large = _compile_large(datatype, shape)
    return _compile_small(datatype, shape, large) if prod(shape) <= _SMALL_COUNT else large


def _compile_small(datatype: str, shape: tuple[int, ...], large: FastRead) -> FastRead:
    """For a few numbers ``struct`` is faster than numpy. It checks their count, type and range by itself."""
    dtype = TensorSpec("", datatype, shape).dtype
    pack = Struct(f"={prod(shape)}{STRUCT[datatype]}").pack
    rows, width = (shape[0], shape[1]) if len(shape) == 2 else (-1, 0)
    pack_row = Struct(f"={width}{STRUCT[datatype]}").pack
    loads, ndarray = orjson.loads, np.ndarray

    def read(text: bytes) -> np.ndarray | None:
        if len(text) > _SMALL_BYTES:
            return large(text)
        if _LETTER_U in text or _LETTER_L in text:
            return None
        try:
            tree = loads(text)
            if type(tree[0]) is not list:
                return ndarray(shape, dtype, pack(*tree))
            if len(tree) == rows:
                return ndarray(shape, dtype, b"".join([pack_row(*row) for row in tree]))
        except Exception:  # whatever it was, the exact reader finds the words
            return None
        return None

    return read


def _compile_large(datatype: str, shape: tuple[int, ...]) -> FastRead:
    flat = compile_fast(TensorSpec("", datatype, (-1,)))
    nested = compile_fast(TensorSpec("", datatype, (-1, *shape[1:])))
    count = prod(shape)

    def read(text: bytes) -> np.ndarray | None:
        text = text.strip()
        is_nested = text[1:].lstrip(b" \t\r\n")[:1] == b"[" if text[1:2].isspace() else text[1:2] == b"["
        array = (nested if is_nested else flat)(text)  # type: ignore[misc]  # a datatype of STRUCT and no size of 0
        return array.reshape(shape) if array is not None and array.size == count else None

    return read
