"""What is kept of two answers that differ: the rows that do, with their inputs, as JSON of bounded size."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from math import isfinite
from typing import Any

import numpy as np
import orjson

from inferd.core.difference import Outputs
from inferd.core.tensors import datatype_name

MAX_ROWS = 5
MAX_VALUES = 64
"""Of one tensor in one row; of a larger one the first are kept."""
MAX_CHARACTERS = 200
"""Of one text, and of the reason."""
MAX_BYTES = 64 << 10


def describe(sides: Mapping[str, Outputs], rows: Sequence[int] | None, redact: Collection[str], **more: object) -> str:
    """JSON of ``more`` and of the first of ``rows`` of all tensors of all ``sides`` ("inputs", "control", "variant"),
    or of whole tensors where they are not made of the same rows. Of those named in ``redact`` only shape and datatype
    are told."""
    if rows is None or not _share_rows(sides):
        shown: list[dict[str, Any]] = [_side_by_side(sides, redact)]
    else:
        shown = [{"row": row, **_side_by_side(_row_of(sides, row), redact)} for row in rows[:MAX_ROWS]]
    described = {**more, "rows_that_differ": None if rows is None else len(rows), "rows": shown}
    while len(text := orjson.dumps(described)) > MAX_BYTES and shown:
        shown.pop()
    return text.decode()


def _share_rows(sides: Mapping[str, Outputs]) -> bool:
    lengths = {len(array) if array.ndim else None for side in sides.values() for array in side.values()}
    return len(lengths) == 1 and None not in lengths


def _row_of(sides: Mapping[str, Outputs], row: int) -> Mapping[str, Outputs]:
    return {name: {each: array[row : row + 1] for each, array in side.items()} for name, side in sides.items()}


def _side_by_side(sides: Mapping[str, Outputs], redact: Collection[str]) -> dict[str, Any]:
    return {
        name: {each: _shape(array) if each in redact else _values(array) for each, array in side.items()}
        for name, side in sides.items()
    }


def _shape(array: np.ndarray) -> dict[str, Any]:
    try:
        datatype = datatype_name(array.dtype)
    except ValueError:
        datatype = str(array.dtype)
    return {"datatype": datatype, "shape": list(array.shape)}


def _values(array: np.ndarray) -> Any:
    """As JSON has them, a row of one value without its brackets."""
    if array.size > MAX_VALUES:
        return {**_shape(array), "first": _plain(array.ravel()[:MAX_VALUES].tolist())}
    values = _plain(array.tolist())
    return values[0] if array.ndim and len(array) == 1 else values


def _plain(value: Any) -> Any:
    if isinstance(value, list):
        return [_plain(each) for each in value]
    if isinstance(value, bool | int):
        return value
    if isinstance(value, bytes):
        return value[: 4 * MAX_CHARACTERS].decode("utf-8", "replace")[:MAX_CHARACTERS]
    if isinstance(value, str):
        return value[:MAX_CHARACTERS].encode("utf-8", "replace").decode()
    number = float(value)  # BF16 has scalars of its own
    return number if isfinite(number) else str(number)
