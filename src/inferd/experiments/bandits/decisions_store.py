"""Read an experiment's decisions and what came of them from the database. Blocking."""

from __future__ import annotations

import json
from collections.abc import Sequence
from math import isnan, nan
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, select

from inferd.experiments.automatic import ERROR, LATENCY, REJECTED, REJECTIONS
from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.database import answering
from inferd.experiments.definition import Experiment, Metric
from inferd.experiments.tables import FEEDBACK, PREDICTIONS


def context_text(context: tuple[float, ...]) -> str | None:
    """As the database keeps it."""
    return json.dumps([None if isnan(each) else each for each in context]) if context else None


def read_stored_decisions(engine: Engine, experiment: Experiment, metrics: Sequence[Metric]) -> Decisions:
    """Every prediction of ``experiment`` that its own variant answered and whose propensity is known, with what was
    told of it: of each metric the average of its outcomes. One told of a unit is of the unit's first prediction.

    Raises ``StoreUnavailable``.
    """
    arms = {variant.name: arm for arm, variant in enumerate(experiment.variants)}
    with answering(), engine.connect() as connection:
        rows = [row for row in _predictions(connection, experiment.id) if row.variant in arms]
        outcomes = _outcomes(connection, experiment.id)
    units = {unit: number for number, unit in enumerate(dict.fromkeys(row.unit for row in rows))}
    told = _told(rows, outcomes, [metric.column for metric in metrics])
    values = {metric.name: _measured(metric.column, rows) for metric in metrics}
    for metric in metrics:
        found = told[metric.column]
        values[metric.name] = np.where(np.isnan(found), values[metric.name], found)
    width = 0 if experiment.bandit is None else len(experiment.bandit.context)
    return Decisions(
        np.array([units[row.unit] for row in rows], np.int64),
        np.array([arms[row.variant] for row in rows], np.int64),
        np.array([row.propensity for row in rows], np.float64),
        values,
        np.array([_context(row.context, width) for row in rows], np.float64).reshape(len(rows), width),
        np.array([row.at_ms for row in rows], np.float64) / 1000,
    )


def _predictions(connection: Connection, experiment: str) -> Sequence[Any]:
    """In the order in which they were made, the same for everyone who asks."""
    each = PREDICTIONS.c
    columns = (
        each.prediction_id,
        each.unit,
        each.variant,
        each.propensity,
        each.at_ms,
        each.outcome,
        each.latency_us,
        each.context,
    )
    query = select(*columns).where(
        each.experiment == experiment, each.outcome != "fallback", each.propensity.is_not(None)
    )
    return connection.execute(query.order_by(each.at_ms, each.prediction_id)).all()


def _outcomes(connection: Connection, experiment: str) -> Sequence[Any]:
    each = FEEDBACK.c
    query = select(each.prediction_id, each.unit, each.metric, each.value).where(each.experiment == experiment)
    return connection.execute(query.order_by(each.key)).all()


def _told(rows: Sequence[Any], outcomes: Sequence[Any], columns: Sequence[str]) -> dict[str, np.ndarray]:
    """FP64[rows] for each of ``columns``: the average of the outcomes told under that name."""
    predictions = {row.prediction_id: number for number, row in enumerate(rows)}
    firsts: dict[str, int] = {}
    if not all(each.prediction_id for each in outcomes):
        firsts = {row.unit: number for number, row in reversed(list(enumerate(rows)))}
    places: dict[str, list[int]] = {column: [] for column in columns}
    values: dict[str, list[float]] = {column: [] for column in columns}
    for told_of, unit, column, value in outcomes:
        place = predictions.get(told_of) if told_of else firsts.get(unit)
        if place is not None and column in places:
            places[column].append(place)
            values[column].append(value)
    return {column: _average(places[column], values[column], len(rows)) for column in columns}


def _average(places: list[int], values: list[float], rows: int) -> np.ndarray:
    """FP64[rows] of the values at each place; not a number where there is none."""
    owner = np.array(places, np.int64)
    count = np.bincount(owner, minlength=rows)
    total = np.bincount(owner, np.array(values, np.float64), minlength=rows)
    return np.where(count > 0, total / np.maximum(count, 1), np.nan)


def _measured(column: str, rows: Sequence[Any]) -> np.ndarray:
    """FP64[rows]: what each prediction has without being told."""
    if column == ERROR:
        return np.array([float(row.outcome != "ok") for row in rows], np.float64)
    if column == REJECTED:
        return np.array([float(row.outcome in REJECTIONS) for row in rows], np.float64)
    if column == LATENCY:
        return np.array([row.latency_us if row.outcome == "ok" else nan for row in rows], np.float64)
    return np.full(len(rows), np.nan)


def _context(text: str | None, width: int) -> list[float]:
    """One of another width was logged under another definition."""
    found = json.loads(text) if text else []
    return [nan if each is None else each for each in found] if len(found) == width else [nan] * width
