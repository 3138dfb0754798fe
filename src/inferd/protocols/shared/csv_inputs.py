"""Read CSV: its cells as tensors, and the tensors of a signature from rows without a header, whose columns are the
inputs' values in order.

Grammar: RFC 4180. An empty cell, or ``nan``, is NaN where the datatype has it.
"""

from __future__ import annotations

import csv
from collections.abc import Callable, Sequence
from io import StringIO
from math import prod
from typing import NoReturn

import numpy as np

from inferd.core.errors import InvalidRequest, MalformedRequest
from inferd.core.tensors import Signature, TensorSpec, describe
from inferd.protocols.shared.json_tensors import Doubt, is_float, narrow_float

_TRUTH = {"true": True, "1": True, "false": False, "0": False}


class CsvInputs:
    """The inputs of one signature whose rows are of known width. Safe to share between threads."""

    def __init__(self, signature: Signature, *, batchable: bool) -> None:
        self._specs = [spec for spec in signature.inputs if not spec.optional]
        self._reason = "" if batchable else "this model does not take rows; send it JSON"
        free = [spec for spec in self._specs if -1 in spec.shape[1:]]
        if free and (len(self._specs) > 1 or len(free[0].shape) > 2):
            self._reason = f"input {free[0].name!r} is {describe(free[0])}: CSV rows cannot hold it; send JSON or NPY"

    def read(self, body: bytes) -> dict[str, np.ndarray]:
        """The tensors of ``body``. Raises ``MalformedRequest`` for what is no CSV, else ``InvalidRequest`` naming row
        and column, both from 1."""
        if self._reason:
            raise InvalidRequest(self._reason)
        rows = read_rows(body)
        widths = [prod(spec.shape[1:]) for spec in self._specs]
        if rows and widths == [-1]:
            widths = [len(rows[0])]
        for number, row in enumerate(rows, 1):
            if len(row) != sum(widths):
                raise InvalidRequest(
                    f"row {number} has {len(row)} values where {sum(widths)} are expected",
                    path=f"row {number}",
                    got=f"{len(row)} values",
                    expected=f"{sum(widths)} values",
                )
        inputs, start = {}, 0
        for spec, width in zip(self._specs, widths, strict=True):
            cells = [cell for row in rows for cell in row[start : start + width]]
            shape = (len(rows), *(max(width, 0) if size == -1 else size for size in spec.shape[1:]))
            inputs[spec.name] = read_cells(cells, spec, _by_number(start, width)).reshape(shape)
            start += width
        return inputs


def read_rows(body: bytes) -> list[list[str]]:
    """The cells of each row that has any. Raises ``MalformedRequest`` for what is no CSV."""
    try:
        return [row for row in csv.reader(StringIO(body.decode(), newline=""), strict=True) if row]
    except UnicodeDecodeError as error:
        raise MalformedRequest(f"the body is not UTF-8 at byte {error.start}", offset=error.start) from None
    except csv.Error as error:
        raise MalformedRequest(f"the body is not CSV: {error}") from None


def read_cells(cells: Sequence[str], spec: TensorSpec, where: Callable[[int], str]) -> np.ndarray:
    """The cells as a vector of the datatype of ``spec``; ``where`` says where the cell of that position stands.
    Raises ``InvalidRequest`` for the first that does not fit."""
    try:
        return _convert(cells, spec)
    except (ValueError, OverflowError, KeyError, Doubt):
        _explain(cells, spec, where)


def _by_number(first_column: int, width: int) -> Callable[[int], str]:
    return lambda position: f"row {position // width + 1}, column {first_column + position % width + 1}"


def _convert(cells: Sequence[str], spec: TensorSpec) -> np.ndarray:
    if spec.datatype == "BYTES":
        array = np.empty(len(cells), dtype=object)
        array[:] = [cell.encode() for cell in cells]
        return array
    if any("_" in cell for cell in cells):  # Python reads 1_000 as a number, nobody else does
        raise Doubt
    if spec.datatype == "BOOL":
        return np.array([_TRUTH[cell.strip().lower()] for cell in cells], dtype=np.bool_)
    if not is_float(spec):
        return np.array([int(cell) for cell in cells], dtype=spec.dtype)
    return narrow_float(np.array([float(cell.strip() or "nan") for cell in cells], dtype=np.float64), spec)


def _explain(cells: Sequence[str], spec: TensorSpec, where: Callable[[int], str]) -> NoReturn:
    """Name the first cell that does not fit."""
    for position, cell in enumerate(cells):
        try:
            _convert([cell], spec)
        except (ValueError, OverflowError, KeyError, Doubt):
            raise InvalidRequest(
                f"{where(position)} is {cell[:40]!r} where {spec.datatype} is expected (input {spec.name!r})",
                tensor=spec.name,
                path=where(position),
                got=cell[:40],
                expected=spec.datatype,
            ) from None
    raise InvalidRequest(f"the rows do not fit input {spec.name!r}, {describe(spec)}", tensor=spec.name)
