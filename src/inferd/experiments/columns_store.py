"""Read an experiment's exposures, predictions and outcomes from the database. Blocking."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import numpy as np
from sqlalchemy import ColumnElement, Connection, Engine, select

from inferd.experiments.automatic import DISAGREEMENT, ERROR, LATENCY, REJECTED, REJECTIONS
from inferd.experiments.columns import SCORE, Columns, automatic_names, value_names
from inferd.experiments.database import answering
from inferd.experiments.definition import Experiment
from inferd.experiments.tables import FEEDBACK, PREDICTIONS, SHADOW_OUTCOMES, UNITS


def read_stored_columns(engine: Engine, experiment: Experiment, since_ms: int = 0) -> Columns:
    """Everything known of ``experiment`` since ``since_ms``: a row for each exposed unit, for each outcome told and for
    each prediction. Besides what is told there are ``error``, ``rejected`` (0 or 1), ``latency_us`` of those that were
    answered, ``label`` and ``score``, and ``disagreement`` (0 or 1) of those that control answered too.

    Raises ``StoreUnavailable``.
    """
    known = {variant.name: index for index, variant in enumerate(experiment.variants)}
    units, feedback, predictions, shadows = UNITS.c, FEEDBACK.c, PREDICTIONS.c, SHADOW_OUTCOMES.c
    with answering(), engine.connect() as connection:
        ask = partial(_columns, connection)
        unit, variant, first_ms = ask(
            units.unit, units.variant, units.first_ms, where=units.experiment == experiment.id
        )
        outcomes = ask(
            *(feedback.unit, feedback.at_ms, feedback.metric, feedback.value),
            where=(feedback.experiment == experiment.id) & (feedback.at_ms >= since_ms),
        )
        predicted = ask(
            *(predictions.unit, predictions.at_ms, predictions.outcome, predictions.latency_us),
            *(predictions.label, predictions.score),
            where=(predictions.experiment == experiment.id)
            & (predictions.outcome != "fallback")
            & (predictions.at_ms >= since_ms),
        )
        unit_shadowed, shadowed_ms, equal = ask(
            *(predictions.unit, predictions.at_ms, shadows.equal),
            where=(predictions.prediction_id == shadows.prediction_id)
            & (shadows.experiment == experiment.id)
            & (shadows.outcome == "ok")
            & (shadows.at_ms >= since_ms),
        )
    variants = {name: known[each] for name, each in zip(unit, variant, strict=True) if each in known}
    rows = _Rows(variants, [*value_names(experiment), *automatic_names(experiment)])
    recent = [(name, at_ms) for name, at_ms in zip(unit, first_ms, strict=True) if at_ms >= since_ms]
    rows.add([name for name, _ in recent], [at_ms for _, at_ms in recent], {})
    rows.add_outcomes(*outcomes)
    rows.add_predictions(*predicted)
    rows.add_outcomes(unit_shadowed, shadowed_ms, [DISAGREEMENT] * len(equal), [1.0 - each for each in equal])
    return rows.columns()


def _columns(connection: Connection, *columns: ColumnElement[Any], where: ColumnElement[bool]) -> list[Sequence[Any]]:
    """The columns of all rows that fit, one sequence each."""
    rows = connection.execute(select(*columns).where(where)).all()
    return [list(column) for column in zip(*rows, strict=True)] or [[] for _ in columns]


class _Rows:
    """Collects rows of the units whose variant is known, a block of them at a time, column by column."""

    def __init__(self, variants: Mapping[str, int], names: Sequence[str]) -> None:
        self._numbers = {unit: number for number, unit in enumerate(variants)}
        self._variant_of = np.array(list(variants.values()), np.int64)
        self._unit: list[np.ndarray] = []
        self._time_s: list[np.ndarray] = []
        self._label: list[np.ndarray] = []
        self._values: dict[str, list[np.ndarray]] = {name: [] for name in names}

    def add(
        self, units: Sequence[str], at_ms: Sequence[int], values: dict[str, np.ndarray], label: np.ndarray | None = None
    ) -> None:
        """Add a block; a column that is not among ``values`` says nothing."""
        unit = np.array([self._numbers.get(each, -1) for each in units], np.int64)
        keep = unit >= 0
        self._unit.append(unit[keep])
        self._time_s.append(np.array(at_ms, np.float64)[keep] / 1000)
        self._label.append(np.full(int(keep.sum()), None, object) if label is None else label[keep])
        nothing = np.full(int(keep.sum()), np.nan)
        for name, blocks in self._values.items():
            blocks.append(values[name][keep] if name in values else nothing)

    def add_outcomes(
        self, units: Sequence[str], at_ms: Sequence[int], metrics: Sequence[str], values: Sequence[float]
    ) -> None:
        """Add outcomes that were told, each in the column of its metric."""
        metric, value = np.array(metrics, object), np.array(values, np.float64)
        columns = {name: np.where(metric == name, value, np.nan) for name in self._values}
        self.add(units, at_ms, columns)

    def add_predictions(
        self,
        units: Sequence[str],
        at_ms: Sequence[int],
        outcomes: Sequence[str],
        latency_us: Sequence[int],
        labels: Sequence[str | None],
        scores: Sequence[float | None],
    ) -> None:
        """Add predictions and what is measured of each."""
        ok = np.array([each == "ok" for each in outcomes], bool)
        columns = {
            ERROR: np.where(ok, 0.0, 1.0),
            REJECTED: np.array([float(each in REJECTIONS) for each in outcomes], np.float64),
            LATENCY: np.where(ok, np.array(latency_us, np.float64), np.nan),
            SCORE: np.array([np.nan if each is None else each for each in scores], np.float64),
        }
        self.add(units, at_ms, columns, np.array(labels, object))

    def columns(self) -> Columns:
        """All rows."""
        unit = np.concatenate(self._unit)
        values = {name: np.concatenate(blocks) for name, blocks in self._values.items()}
        label, time_s = np.concatenate(self._label), np.concatenate(self._time_s)
        return Columns(len(self._numbers), unit, self._variant_of[unit], values, time_s, joined=False, label=label)
