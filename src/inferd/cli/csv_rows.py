"""CSV rows as batches of named tensors: columns are found by feature name, by input name, or by their order."""

from __future__ import annotations

import csv
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from inferd.core.errors import MalformedRequest
from inferd.core.tensors import Signature, TensorSpec, describe
from inferd.protocols.shared.json_tensors import Doubt, to_array

_TRUTH = {"true": True, "1": True, "false": False, "0": False}
_Columns = list[tuple[TensorSpec, list[int]]]


def csv_count(file: Path) -> int:
    """Rows below the header."""
    return max(0, sum(1 for row in _read(file) if row) - 1)


def csv_batches(
    file: Path, signature: Signature, feature_names: Sequence[str], size: int
) -> Iterator[Mapping[str, np.ndarray]]:
    """The rows of ``file``, ``size`` at a time. Raises ``MalformedRequest`` naming row and column."""
    rows = (row for row in _read(file) if row)
    header = [name.strip() for name in next(rows, [])]
    columns = _columns(header, signature, feature_names)
    done = 0
    while batch := list(islice(rows, size)):
        for number, row in enumerate(batch, done + 1):
            if len(row) != len(header):
                raise MalformedRequest(f"{file}, row {number}: {len(row)} values under {len(header)} columns")
        yield {spec.name: _tensor(file, batch, spec, indices, header, done) for spec, indices in columns}
        done += len(batch)


def _read(file: Path) -> Iterator[list[str]]:
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            yield from csv.reader(stream, strict=True)
    except (csv.Error, UnicodeDecodeError) as error:
        raise MalformedRequest(f"{file} is not readable CSV: {error}") from None


def _columns(header: list[str], signature: Signature, feature_names: Sequence[str]) -> _Columns:
    """Which columns make which input. A model that knows its features gets them by name, whatever their order."""
    specs = signature.inputs
    for spec in specs:
        if len(spec.shape) > 2:
            raise MalformedRequest(f"input {spec.name!r} is {describe(spec)}: CSV rows cannot hold it; use NPY or NPZ")
    if len(specs) == 1 and len(specs[0].shape) == 2 and specs[0].name not in header:
        return [(specs[0], _features(header, specs[0], feature_names))]
    names = [spec.name for spec in specs if not spec.optional or spec.name in header]
    if missing := [name for name in names if name not in header]:
        if len(specs) == len(header) == 1:
            return [(specs[0], [0])]
        raise MalformedRequest(f"the CSV lacks the columns {', '.join(missing)}; it has {', '.join(header)}")
    return [(spec, [header.index(spec.name)]) for spec in specs if spec.name in names]


def _features(header: list[str], spec: TensorSpec, feature_names: Sequence[str]) -> list[int]:
    if missing := [name for name in feature_names if name not in header]:
        raise MalformedRequest(f"the CSV lacks the columns {', '.join(missing)}; it has {', '.join(header)}")
    if feature_names:
        return [header.index(name) for name in feature_names]
    if spec.shape[1] not in (-1, len(header)):
        raise MalformedRequest(f"the CSV has {len(header)} columns, input {spec.name!r} is {describe(spec)}")
    return list(range(len(header)))


def _tensor(
    file: Path, batch: list[list[str]], spec: TensorSpec, indices: list[int], header: list[str], done: int
) -> np.ndarray:
    cells = [[row[index] for index in indices] for row in batch]
    try:
        values = [[_value(cell, spec) for cell in row] for row in cells]
        return to_array(values if len(spec.shape) == 2 else [row[0] for row in values], spec, "error")
    except (ValueError, Doubt):
        _explain(file, cells, spec, [header[index] for index in indices], done)


def _value(cell: str, spec: TensorSpec) -> Any:
    """One cell by the input's datatype; an empty cell is NaN where that exists."""
    if spec.datatype == "BYTES":
        return cell
    cell = cell.strip()
    if spec.datatype == "BOOL":
        return _TRUTH.get(cell.lower(), cell)
    return int(cell) if spec.dtype.kind in "iu" else float(cell or "nan")


def _explain(file: Path, cells: list[list[str]], spec: TensorSpec, names: list[str], done: int) -> NoReturn:
    """Name the first cell that does not fit."""
    scalar = TensorSpec(spec.name, spec.datatype, ())
    for number, row in enumerate(cells, done + 1):
        for name, cell in zip(names, row, strict=True):
            try:
                to_array(_value(cell, spec), scalar, "error")
            except (ValueError, Doubt):
                where = f"{file}, row {number}, column {name!r}"
                raise MalformedRequest(f"{where}: {cell!r} is no {spec.datatype} value") from None
    raise MalformedRequest(f"{file}: the rows do not fit input {spec.name!r}, {describe(spec)}")
