"""What came of shadows, in the database. Blocking; never called on the event loop."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import numpy as np
from sqlalchemy import Connection, Engine, Integer, Select, func, select

from inferd.core.difference import Agreement
from inferd.experiments.database import answering
from inferd.experiments.definition import Experiment
from inferd.experiments.events import ShadowOutcome
from inferd.experiments.shadow_report import ShadowRecord
from inferd.experiments.tables import DISAGREEMENTS, SHADOW_OUTCOMES


def insert_shadow_outcomes(connection: Connection, insert: Any, batch: Sequence[ShadowOutcome]) -> None:
    """Store each, and details where fewer than ``keep`` of the variant's are there."""
    if not batch:
        return
    connection.execute(insert(SHADOW_OUTCOMES).on_conflict_do_nothing(), [_row(each) for each in batch])
    detailed = [each for each in batch if each.details]
    room = {key: _kept(connection, *key) for key in {(each.experiment, each.variant) for each in detailed}}
    rows = []
    for each in detailed:
        key = each.experiment, each.variant
        if room[key] < each.keep:
            room[key] += 1
            rows.append(_details_row(each))
    if rows:
        connection.execute(insert(DISAGREEMENTS).on_conflict_do_nothing(), rows)


def read_shadows(engine: Engine, experiment: Experiment, since_ms: int) -> dict[str, ShadowRecord]:
    """What is known of each variant that anything is known of, by name. Raises ``StoreUnavailable``."""
    counts, values, kept = _queries(experiment.id, since_ms)
    with answering(), engine.connect() as connection:
        counted, valued, told = (connection.execute(query).all() for query in (counts, values, kept))
    names = {row.variant for row in counted}
    return {name: _record(_of(name, counted), _of(name, valued), _of(name, told)) for name in names}


def _queries(experiment: str, since_ms: int) -> tuple[Select[Any], Select[Any], Select[Any]]:
    """Sums by variant and outcome; what was measured of each request; what was kept."""
    outcome, kept = SHADOW_OUTCOMES.c, DISAGREEMENTS.c
    of_experiment = outcome.experiment == experiment, outcome.at_ms >= since_ms
    summed = (outcome.requests, outcome.label_agreeing, outcome.label_rows, outcome.top_agreeing, outcome.top_rows)
    sums = [func.sum(each).label(each.name) for each in summed]
    sums.append(func.sum(outcome.equal.cast(Integer)).label("equal"))
    key = outcome.variant, outcome.outcome
    return (
        select(*key, *sums).where(*of_experiment).group_by(*key),
        select(outcome.variant, outcome.largest, outcome.control_us, outcome.variant_us).where(
            *of_experiment, outcome.outcome == "ok"
        ),
        select(kept.variant, kept.prediction_id, kept.at_ms, kept.details)
        .where(kept.experiment == experiment, kept.at_ms >= since_ms)
        .order_by(kept.at_ms),
    )


def _of(variant: str, rows: Sequence[Any]) -> list[Any]:
    return [row for row in rows if row.variant == variant]


def _record(summed: Sequence[Any], values: Sequence[Any], told: Sequence[Any]) -> ShadowRecord:
    ok = next((row for row in summed if row.outcome == "ok"), None)
    return ShadowRecord(
        {row.outcome: int(row.requests) for row in summed},
        0 if ok is None else int(ok.equal),
        Agreement() if ok is None else Agreement(int(ok.label_agreeing), int(ok.label_rows)),
        Agreement() if ok is None else Agreement(int(ok.top_agreeing), int(ok.top_rows)),
        np.array([row.largest for row in values if row.largest is not None], np.float64),
        *_times(values),
        [{"prediction_id": row.prediction_id, "at_ms": row.at_ms, **json.loads(row.details)} for row in told],
    )


def _times(values: Sequence[Any]) -> tuple[np.ndarray, np.ndarray]:
    """Of the requests of which both are known."""
    both = [(row.control_us, row.variant_us) for row in values if None not in (row.control_us, row.variant_us)]
    control, variant = np.array(both, np.float64).reshape(-1, 2).T
    return control, variant


def _kept(connection: Connection, experiment: str, variant: str) -> int:
    kept = DISAGREEMENTS.c
    query = select(func.count()).where(kept.experiment == experiment, kept.variant == variant)
    return int(connection.scalar(query) or 0)


def _row(event: ShadowOutcome) -> dict[str, Any]:
    found = event.difference
    return {
        "prediction_id": event.prediction_id,
        "variant": event.variant,
        "experiment": event.experiment,
        "at_ms": event.at_ms,
        "outcome": event.outcome,
        "requests": event.requests,
        "equal": found and found.equal,
        "largest": found and found.largest,
        "label_agreeing": found and found.labels.agreeing,
        "label_rows": found and found.labels.rows,
        "top_agreeing": found and found.top_k.agreeing,
        "top_rows": found and found.top_k.rows,
        "control_us": event.control_us,
        "variant_us": event.variant_us,
    }


def _details_row(event: ShadowOutcome) -> dict[str, Any]:
    return {
        "prediction_id": event.prediction_id,
        "variant": event.variant,
        "experiment": event.experiment,
        "at_ms": event.at_ms,
        "details": event.details,
    }
