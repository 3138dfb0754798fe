"""Read decisions and what came of them from CSV: variant, propensity and reward, with unit, timestamp and context where
those are known."""

from __future__ import annotations

from collections.abc import Sequence
from math import nan
from pathlib import Path

import numpy as np

from inferd.core.errors import MalformedRequest
from inferd.core.schema import suggestion
from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.columns import is_measurable
from inferd.experiments.columns_csv import csv_number, csv_rows, csv_time_s
from inferd.experiments.definition import Experiment, Metric


def read_csv_decisions(files: Sequence[Path], experiment: Experiment, metric: Metric) -> Decisions:
    """All rows of ``files``. A row without ``unit`` is of its own; an empty reward is not known yet. Rows count as
    decided in their order, or in that of ``timestamp`` where all have one.

    Raises ``MalformedRequest`` naming file, line and column.
    """
    reader = _Reader(experiment, metric)
    for file in files:
        reader.read(file)
    return reader.decisions()


class _Reader:
    """Collects rows; each kind of cell has one method, which raises ``ValueError`` with what the cell may hold."""

    def __init__(self, experiment: Experiment, metric: Metric) -> None:
        self._metric = metric
        self._arms = {variant.name: arm for arm, variant in enumerate(experiment.variants)}
        self._contexts = [source.partition(":")[2] for source in experiment.bandit.context] if experiment.bandit else []
        self._units: dict[str, int] = {}
        self._rows: list[tuple[int, int, float, float, float, list[float]]] = []

    def read(self, file: Path) -> None:
        """Add the rows of ``file``."""
        rows = csv_rows(file)
        _, header = next(rows, (1, []))
        header = [name.strip() for name in header]
        for name in ("variant", "propensity", self._metric.column):
            if header.count(name) != 1:
                has = f"; the columns are {', '.join(header)}" if header else ""
                wrong = "is there twice" if name in header else f"is missing{suggestion(name, header)}{has}"
                raise MalformedRequest(f"{file}, line 1: the column {name!r} {wrong}")
        for line, row in rows:
            if len(row) != len(header):
                raise MalformedRequest(f"{file}, line {line}: {len(row)} values under {len(header)} columns")
            try:
                self._add({name: cell.strip() for name, cell in zip(header, row, strict=True)})
            except ValueError as error:
                raise MalformedRequest(f"{file}, line {line}: {error}") from None

    def _add(self, cells: dict[str, str]) -> None:
        unit = cells.get("unit") or f"\0{len(self._rows)}"
        self._rows.append(
            (
                self._units.setdefault(unit, len(self._units)),
                self._arm(cells["variant"]),
                self._propensity(cells["propensity"]),
                self._reward(cells[self._metric.column]),
                csv_time_s(cells["timestamp"]) if cells.get("timestamp") else nan,
                [csv_number(cells[name]) if cells.get(name) else nan for name in self._contexts],
            )
        )

    def _arm(self, cell: str) -> int:
        if cell not in self._arms:
            raise ValueError(f"{cell!r} is no variant{suggestion(cell, list(self._arms))}")
        return self._arms[cell]

    def _propensity(self, cell: str) -> float:
        value = csv_number(cell)
        if not 0 < value <= 1:
            raise ValueError(f"propensity {cell!r} is no chance above 0, up to 1")
        return value

    def _reward(self, cell: str) -> float:
        if not cell:
            return nan
        value = {"true": 1.0, "false": 0.0}.get(cell.lower())
        value = csv_number(cell) if value is None else value
        if not is_measurable(value):
            raise ValueError(f"{self._metric.column} {cell!r} is too far from 1 to be analysed")
        return value

    def decisions(self) -> Decisions:
        """All rows."""
        unit, arm, propensity, reward, time_s, context = zip(*self._rows, strict=True) if self._rows else [()] * 6
        times = np.array(time_s, np.float64)
        timed = bool(times.size) and not np.isnan(times).any()
        found = Decisions(
            np.array(unit, np.int64),
            np.array(arm, np.int64),
            np.array(propensity, np.float64),
            {self._metric.name: np.array(reward, np.float64)},
            np.array(context, np.float64).reshape(len(self._rows), len(self._contexts)),
            times if timed else None,
        )
        return found.where(np.argsort(times, kind="stable")) if timed else found
