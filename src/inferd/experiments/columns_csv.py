"""Read exposures and outcomes from CSV: ``unit``, ``variant``, the metrics' columns, and where they are known
``timestamp`` and what a server measures of each prediction."""

from __future__ import annotations

import csv
from array import array
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from math import isfinite, nan
from pathlib import Path

import numpy as np

from inferd.core.errors import MalformedRequest
from inferd.core.schema import suggestion
from inferd.experiments.automatic import measured
from inferd.experiments.columns import LABEL, Columns, automatic_names, is_measurable, value_names
from inferd.experiments.definition import Experiment

_TRUTH = {"true": 1.0, "false": 0.0}


def read_csv_columns(files: Sequence[Path], experiment: Experiment) -> Columns:
    """All rows of ``files``, which share one numbering of units.

    An empty cell says nothing; ``true`` and ``false`` are 1 and 0. Raises ``MalformedRequest`` naming file, line and
    column.
    """
    reader = _Reader(experiment)
    timed = [reader.read(file) for file in files]
    values = {name: np.array(column, np.float64) for name, column in reader.values.items()}
    unit, variant = (np.array(column, np.int64) for column in (reader.unit, reader.variant))
    time_s = np.array(reader.time_s) if timed and all(timed) else None
    return Columns(len(reader.units), unit, variant, values, time_s, label=np.array(reader.label, object))


class _Reader:
    """Collects rows; each kind of cell has one method, which raises ``ValueError`` with what the cell may hold."""

    def __init__(self, experiment: Experiment) -> None:
        self.units: dict[str, int] = {}
        self.variants = {variant.name: i for i, variant in enumerate(experiment.variants)}
        self.unit, self.variant, self.time_s = array("q"), array("q"), array("d")
        self.label: list[str | None] = []
        self._needed = ("unit", "variant", *value_names(experiment))
        self.values = {name: array("d") for name in (*value_names(experiment), *automatic_names(experiment))}
        self._proportions = {metric.column for metric in measured(experiment) if metric.kind == "proportion"}
        self._denominators = {metric.denominator for metric in experiment.metrics if metric.denominator}

    def read(self, file: Path) -> bool:
        """Add the rows of ``file``; says whether it has a column of times."""
        rows = csv_rows(file)
        _, header = next(rows, (1, []))
        header = [name.strip() for name in header]
        indices = self._indices(file, header)
        absent = [name for name in (*self.values, LABEL) if name not in indices]
        for line, row in rows:
            if len(row) != len(header):
                raise MalformedRequest(f"{file}, line {line}: {len(row)} values under {len(header)} columns")
            for name, index in indices.items():
                try:
                    self._add(name, row[index].strip())
                except ValueError as error:
                    raise MalformedRequest(f"{file}, line {line}, column {name!r}: {error}") from None
            for name in absent:
                self._add(name, "")
        return "timestamp" in indices

    def _indices(self, file: Path, header: list[str]) -> dict[str, int]:
        for name in self._needed:
            if name not in header:
                has = f"; the columns are {', '.join(header)}" if header else ""
                raise MalformedRequest(f"{file}, line 1: no column {name!r}{suggestion(name, header)}{has}")
        wanted = dict.fromkeys([*self._needed, *self.values, LABEL, "timestamp"])
        for name in wanted:
            if header.count(name) > 1:
                raise MalformedRequest(f"{file}, line 1: the column {name!r} is there twice")
        return {name: header.index(name) for name in wanted if name in header}

    def _add(self, name: str, cell: str) -> None:
        if name == "unit":
            self.unit.append(self._unit(cell))
        elif name == "variant":
            self.variant.append(self._variant(cell))
        elif name == "timestamp":
            self.time_s.append(csv_time_s(cell))
        elif name == LABEL:
            self.label.append(cell or None)
        else:
            self.values[name].append(self._value(name, cell))

    def _unit(self, cell: str) -> int:
        if not cell:
            raise ValueError("is empty: each row names its unit")
        return self.units.setdefault(cell, len(self.units))

    def _variant(self, cell: str) -> int:
        if cell not in self.variants:
            names = list(self.variants)
            raise ValueError(f"{cell!r} is no variant{suggestion(cell, names)}; the variants are {', '.join(names)}")
        return self.variants[cell]

    def _value(self, name: str, cell: str) -> float:
        if not cell:
            return nan
        value = _TRUTH[cell.lower()] if cell.lower() in _TRUTH else csv_number(cell)
        if name in self._proportions and value not in (0, 1):
            raise ValueError(f"{cell!r} is neither 0 nor 1, as a proportion's outcomes are")
        if name in self._denominators and value < 0:
            raise ValueError(f"{cell!r} is below 0, and a denominator may not be")
        if not is_measurable(value):
            raise ValueError(f"{cell!r} is too far from 1 to be analysed: write 0, or sizes from 1e-60 to 1e60")
        return value


def csv_rows(file: Path) -> Iterator[tuple[int, list[str]]]:
    """Each row that is not empty, with the line it ends on."""
    try:
        with file.open(newline="", encoding="utf-8-sig") as stream:
            reader = csv.reader(stream, strict=True)
            for row in reader:
                if row:
                    yield reader.line_num, row
    except (csv.Error, UnicodeDecodeError) as error:
        raise MalformedRequest(f"{file} is not readable CSV: {error}") from None


def csv_number(cell: str) -> float:
    """A finite number. Raises ``ValueError`` with what the cell may hold."""
    try:
        value = float(cell)
    except ValueError:
        value = nan
    if not isfinite(value):
        raise ValueError(f"{cell!r} is no finite number; leave the cell empty where there is no outcome")
    return value


def csv_time_s(cell: str) -> float:
    """Seconds since the epoch, or ISO 8601; without an offset it is taken as UTC."""
    try:
        return csv_number(cell)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(cell)
    except ValueError:
        raise ValueError(f"{cell!r} is neither ISO 8601 nor seconds since 1970") from None
    return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
