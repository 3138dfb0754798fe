"""Write a model's outputs for one ``/invocations`` caller: a line of JSON or of CSV for each row."""

from __future__ import annotations

import csv
from collections.abc import Mapping
from io import StringIO
from math import prod
from typing import Any

import numpy as np
import orjson

from inferd.core.config import NanPolicy
from inferd.core.errors import ExecutionFailed
from inferd.protocols.shared.json_reply import cut_rows
from inferd.protocols.shared.json_tensors import to_json
from inferd.protocols.shared.json_write import TEXT_KINDS, output_of, write_tensor


class JsonLinesReply:
    """JSON Lines: the value of the one output, or an object by output name, for each row."""

    __slots__ = ("_names", "_nan", "_template", "content_type")

    def __init__(self, names: tuple[str, ...], nan: NanPolicy) -> None:
        self.content_type = b"application/jsonlines"
        self._names = names
        self._nan = nan
        keys = [orjson.dumps(name).replace(b"%", b"%%") for name in names]
        self._template = b"%b" if len(names) == 1 else b"{" + b",".join([key + b":%b" for key in keys]) + b"}"

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        arrays = rows_of(outputs, self._names)
        columns = [
            cut_rows(array, write_tensor(array, name, self._nan))
            for array, name in zip(arrays, self._names, strict=True)
        ]
        return b"".join([self._template % row + b"\n" for row in zip(*columns, strict=True)]), b""


class CsvReply:
    """CSV without a header: the values of all outputs, in order, for each row."""

    __slots__ = ("_names", "content_type")

    def __init__(self, names: tuple[str, ...]) -> None:
        self.content_type = b"text/csv; charset=utf-8"
        self._names = names

    def encode(self, outputs: Mapping[str, np.ndarray]) -> tuple[bytes, bytes]:
        """See ``Reply`` of the shared endpoint."""
        columns = [_cells(array) for array in rows_of(outputs, self._names)]
        text = StringIO()
        rows = zip(*columns, strict=True)
        csv.writer(text, lineterminator="\n").writerows([cell for part in row for cell in part] for row in rows)
        return text.getvalue().encode(), b""


def rows_of(outputs: Mapping[str, np.ndarray], names: tuple[str, ...]) -> list[np.ndarray]:
    """The outputs, each with one entry per row. Raises ``ExecutionFailed`` unless they have as many."""
    arrays = [output_of(outputs, name) for name in names]
    if any(array.ndim == 0 or len(array) != len(arrays[0]) for array in arrays):
        raise ExecutionFailed("the outputs do not have one entry per row; accept application/json")
    return arrays


def _cells(array: np.ndarray) -> list[list[Any]]:
    flat = array.reshape(len(array), prod(array.shape[1:]))
    if array.dtype.kind in TEXT_KINDS:
        return [[_text(item) for item in row] for row in to_json(flat)]
    # As text, numpy writes the shortest number that reads back the same, whatever its width.
    rows: list[list[Any]] = flat.astype(str).tolist()
    return rows


def _text(item: Any) -> str:
    return str(item["b64"]) if isinstance(item, dict) else str(item)
