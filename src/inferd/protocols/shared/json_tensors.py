"""Plain JSON values to numpy arrays and back, by one set of rules for every JSON protocol.

Numbers: a float column takes integers and floats that its datatype can hold; an integer column takes integers in
range and never a float (1.0 neither); BOOL takes true and false only. BYTES takes strings (their UTF-8 bytes) and
``{"b64": "..."}``. What is not a number travels as the model's NaN policy says.
"""

from __future__ import annotations

import base64
import binascii
import json
from collections.abc import Callable
from itertools import chain
from typing import Any, NoReturn

import numpy as np

from inferd.core.config import NanPolicy
from inferd.core.errors import InvalidRequest
from inferd.core.tensors import TensorSpec, describe
from inferd.protocols.shared.json_exact import TooLarge

NON_FINITE = {"NaN": float("nan"), "Infinity": float("inf"), "-Infinity": float("-inf")}
_NUMBERS = {int, float}
_NON_FINITE_TYPES: dict[NanPolicy, set[type]] = {"error": set(), "null": {type(None)}, "string": {str}}
_FLOAT_BITS = {"FP16": (11, 15), "BF16": (8, 127), "FP32": (24, 127)}
_FP32_SQUARE = 1.15e77
"""A sum of squares below this leaves no value that is not finite or not in float32's range."""
_ONE_THREAD = 8192
"""Up to this many values BLAS sums in the calling thread; beyond, it may wait for a core that is not free."""
_KINDS = {dict: "an object", list: "an array", str: "a string", bool: "a boolean", type(None): "null"}

Path = Callable[[tuple[int, ...]], str]
"""From an index into a tensor to where that element stands in the body."""


class Doubt(Exception):
    """The value does not fit; ``explain`` says why."""


def float_bound(datatype: str) -> float:
    """The least magnitude that rounds to infinity in a float datatype; infinity for FP64."""
    if datatype not in _FLOAT_BITS:
        return float("inf")
    bits, exponent = _FLOAT_BITS[datatype]
    return (2.0 - 2.0**-bits) * 2.0**exponent


def is_float(spec: TensorSpec) -> bool:
    """Whether ``spec`` is of a floating-point datatype."""
    return spec.datatype in ("FP16", "BF16", "FP32", "FP64")


def to_array(tree: Any, spec: TensorSpec, nan: NanPolicy) -> np.ndarray:
    """The tensor of a tree of lists. Raises ``Doubt`` unless it fits ``spec`` in shape, type and range."""
    flat, shape = [tree], []
    for want in spec.shape:
        if not {list}.issuperset(map(type, flat)):
            raise Doubt
        sizes = set(map(len, flat))
        size = sizes.pop() if sizes else max(want, 0)
        if sizes or (want != -1 and size != want):
            raise Doubt
        shape.append(size)
        flat = list(chain.from_iterable(flat))
    try:
        return _column(flat, spec, nan).reshape(shape)
    except (ValueError, OverflowError, TypeError) as error:
        raise Doubt from error


def _column(flat: list[Any], spec: TensorSpec, nan: NanPolicy) -> np.ndarray:
    """The flat array of scalars, or ``Doubt``. Types are looked at before numpy, which would convert silently."""
    types = set(map(type, flat))
    if spec.datatype == "BYTES":
        array = np.empty(len(flat), dtype=object)
        array[:] = [_bytes(item) for item in flat]
        return array
    if is_float(spec):
        if not types <= _NUMBERS:
            if not types <= _NUMBERS | _NON_FINITE_TYPES[nan]:
                raise Doubt
            flat = [_non_finite(item) for item in flat]
        return narrow_float(np.array(flat, dtype=np.float64), spec)
    if types and types != ({bool} if spec.datatype == "BOOL" else {int}):
        raise Doubt
    return np.array(flat, dtype=spec.dtype)


def narrow_float(wide: np.ndarray, spec: TensorSpec) -> np.ndarray:
    """``wide`` (float64) in the datatype of ``spec``. Raises ``Doubt`` when a finite value would become infinite."""
    if spec.datatype == "FP64":
        return wide
    if not _all_small(wide, spec.datatype):
        size = np.abs(wide)
        if ((size >= float_bound(spec.datatype)) & (size != np.inf)).any():
            raise Doubt
    return wide.astype(spec.dtype)


def _all_small(wide: np.ndarray, datatype: str) -> bool:
    """Whether every value is surely in range; a sum of squares proves it in one pass, at a third of the cost."""
    if datatype == "FP32" and wide.size <= _ONE_THREAD:
        return bool(np.vdot(wide, wide) < _FP32_SQUARE)
    bound = float_bound(datatype)
    return wide.size == 0 or bool(-bound < wide.min() and wide.max() < bound)


def _non_finite(item: int | float | str | None) -> int | float:
    if item is None:
        return NON_FINITE["NaN"]
    if type(item) is not str:
        return item  # type: ignore[return-value]  # the caller saw that nothing else is there
    if item not in NON_FINITE:
        raise Doubt
    return NON_FINITE[item]


def _bytes(item: Any) -> bytes:
    if type(item) is str:
        return item.encode()
    if type(item) is dict and item.keys() == {"b64"} and type(item["b64"]) is str:
        return base64.b64decode(item["b64"], validate=True)
    raise Doubt


def explain(tree: Any, spec: TensorSpec, nan: NanPolicy, path: Path) -> NoReturn:
    """Raise ``InvalidRequest`` for the first place where ``tree`` does not fit ``spec``."""
    _explain_level(tree, spec, nan, path, (), list(spec.shape))
    raise InvalidRequest(
        f"input {spec.name!r} does not fit {describe(spec)}", tensor=spec.name, path=path(()), expected=describe(spec)
    )


def _explain_level(
    tree: Any, spec: TensorSpec, nan: NanPolicy, path: Path, index: tuple[int, ...], sizes: list[int]
) -> None:
    """Nothing when ``tree`` fits; then ``sizes`` has the size of each free dimension, which the rest must share."""
    axis = len(index)
    array = _try(tree, spec, sizes[axis:], nan)
    if array is not None:
        sizes[axis:] = array.shape
        return
    if axis == len(spec.shape):
        _explain_scalar(tree, spec, nan, path(index))
    if type(tree) is not list:
        _refuse(spec, path(index), f"is {kind_of(tree)} where an array is expected", show(tree), "an array")
    if sizes[axis] not in (-1, len(tree)):
        _refuse_size(spec, path(index), len(tree), sizes[axis], axis)
    _explain_level(tree[0], spec, nan, path, (*index, 0), sizes)
    low, high = 0, len(tree)
    while high - low > 1:  # halving keeps the search linear in the size of the body
        middle = (low + high) // 2
        if _try(tree[low:middle], spec, [-1, *sizes[axis + 1 :]], nan) is not None:
            low = middle
        else:
            high = middle
    _explain_level(tree[low], spec, nan, path, (*index, low), sizes)


def _try(tree: Any, spec: TensorSpec, shape: list[int], nan: NanPolicy) -> np.ndarray | None:
    try:
        return to_array(tree, TensorSpec(spec.name, spec.datatype, tuple(shape)), nan)
    except Doubt:
        return None


def _refuse_size(spec: TensorSpec, where: str, got: int, expected: int, axis: int) -> NoReturn:
    reason = "the model takes" if spec.shape[axis] != -1 else "those before it have"
    what = f"has {got} value{'' if got == 1 else 's'} where {reason} {expected}"
    _refuse(spec, where, what, f"{got} values", f"{expected} values")


def _explain_scalar(item: Any, spec: TensorSpec, nan: NanPolicy, where: str) -> NoReturn:
    if type(item) is list:
        _refuse(spec, where, "is nested too deep: an array where one value is expected", show(item), "one value")
    _refuse(spec, where, _reason(item, spec), show(item), _wanted(spec, nan), hint=_hint(item, spec))


def _reason(item: Any, spec: TensorSpec) -> str:
    number = isinstance(item, int | float | TooLarge) and type(item) is not bool
    if number and is_float(spec):
        return f"is {show(item)}, out of the range of {spec.datatype}"
    if type(item) is int and spec.datatype != "BOOL" and spec.datatype != "BYTES":
        return f"is {show(item)}, out of the range of {spec.datatype}"
    if number and spec.dtype.kind in "iu":
        return f"is {show(item)}, a float, where {spec.datatype} takes integers"
    if spec.datatype == "BYTES" and type(item) is dict and item.keys() == {"b64"} and type(item["b64"]) is str:
        return f"is {show(item['b64'])}, which is not base64"
    return f"is {kind_of(item)} where {spec.datatype} is expected"


def _wanted(spec: TensorSpec, nan: NanPolicy) -> str:
    if spec.datatype == "BOOL":
        return "true or false"
    if spec.datatype == "BYTES":
        return 'a string, or {"b64": "..."} with base64'
    if spec.dtype.kind in "iu":
        limits = np.iinfo(spec.dtype)
        return f"an integer from {limits.min} to {limits.max}"
    also = {"error": "", "null": ", or null for NaN", "string": ', or "NaN", "Infinity", "-Infinity"'}[nan]
    bound = float_bound(spec.datatype)
    return f"a number of magnitude below {min(bound, np.finfo(np.float64).max):.8g}{also}"


def _hint(item: Any, spec: TensorSpec) -> str:
    if type(item) is float and spec.dtype.kind in "iu" and item.is_integer():
        return f"write {int(item)} without a fraction"
    if type(item) is bool and (spec.dtype.kind in "iu" or is_float(spec)):
        return f"write {int(item)}"
    if is_float(spec) and (item is None or (type(item) is str and item in NON_FINITE)):
        policy = "null" if item is None else "string"
        return f'set nan = "{policy}" in the model\'s model.toml, or serve with --nan {policy}, to accept it'
    if type(item) is str and is_float(spec):
        return "write the number without quotes"
    return ""


def _refuse(spec: TensorSpec, where: str, what: str, got: str, expected: str, hint: str = "") -> NoReturn:
    details = {"hint": hint} if hint else {}
    raise InvalidRequest(
        f"{where} {what} (input {spec.name!r} is {describe(spec)})",
        tensor=spec.name,
        path=where,
        got=got,
        expected=expected,
        **details,
    )


def kind_of(item: Any) -> str:
    """A JSON value's type in words, with its article."""
    return _KINDS.get(type(item), "a number")


def show(item: Any, limit: int = 60) -> str:
    """A JSON value as text of at most ``limit`` characters; an array or object by its size."""
    if type(item) is list or type(item) is dict:
        return f"{kind_of(item)} of {len(item)}"
    try:
        text = item.text if type(item) is TooLarge else json.dumps(item)
    except ValueError:
        text = "an integer of many digits"
    return text if len(text) <= limit else text[: limit - 1] + "…"


def to_json(array: np.ndarray) -> Any:
    """``array`` as plain Python values that ``orjson`` writes. BYTES elements that are UTF-8 become strings, others
    ``{"b64": ...}``; floats that are not finite stay as they are."""
    if array.dtype.kind in "OSUT":
        return _text_tree(array.tolist())
    if array.dtype.name == "bfloat16":
        array = array.astype(np.float32)
    return array.tolist()


def _text_tree(item: Any) -> Any:
    if type(item) is list:
        return [_text_tree(part) for part in item]
    if isinstance(item, bytes):
        try:
            return item.decode()
        except UnicodeDecodeError:
            return {"b64": binascii.b2a_base64(item, newline=False).decode()}
    return item.item() if isinstance(item, np.generic) else item
