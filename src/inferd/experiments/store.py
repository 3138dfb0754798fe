"""Events and feedback in a database: SQLite by default, PostgreSQL for several servers. Blocking; never called on the
event loop."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from operator import attrgetter
from typing import Any, Literal

from sqlalchemy import Connection, Engine, select, tuple_
from sqlalchemy.dialects.postgresql import insert as insert_postgresql
from sqlalchemy.dialects.sqlite import insert as insert_sqlite
from sqlalchemy.exc import DataError

from inferd.core.errors import StoreUnavailable
from inferd.experiments.bandits.decisions import Decisions
from inferd.experiments.bandits.decisions_store import context_text, read_stored_decisions
from inferd.experiments.columns import Columns
from inferd.experiments.columns_store import read_stored_columns
from inferd.experiments.database import RETRY_AFTER_S, answering, open_database
from inferd.experiments.definition import Experiment, Metric
from inferd.experiments.events import Event, Exposure, Feedback, ShadowOutcome, UnstorableEvents
from inferd.experiments.shadow_report import ShadowRecord
from inferd.experiments.shadow_store import insert_shadow_outcomes, read_shadows
from inferd.experiments.tables import FEEDBACK, PREDICTIONS, UNITS

Result = Literal["stored", "duplicate", "unknown", "expired"]
_IN_ORDER = attrgetter("experiment", "unit")  # one order for all servers: no two wait for each other


class Store:
    """One database. Any thread may call it, several servers may share it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._insert: Any = insert_postgresql if engine.dialect.name == "postgresql" else insert_sqlite

    @staticmethod
    def open(url: str) -> Store:
        """See ``open_database``."""
        return Store(open_database(url))

    def add_events(self, batch: Sequence[Event]) -> None:
        """Store each, or none; of a unit's exposures the first decides its variant. Raises ``StoreUnavailable``, and
        ``UnstorableEvents`` for what the database will never take."""
        with answering(), _judging(), self._engine.begin() as connection:
            self._insert_exposures(connection, [each for each in batch if isinstance(each, Exposure)])
            shadows = [each for each in batch if isinstance(each, ShadowOutcome)]
            insert_shadow_outcomes(connection, self._insert, shadows)

    def _insert_exposures(self, connection: Connection, batch: Sequence[Exposure]) -> None:
        if not batch:
            return
        rows = [
            {
                "prediction_id": each.prediction_id,
                "experiment": each.experiment,
                "variant": each.variant,
                "unit": each.unit,
                "sticky": each.sticky,
                "at_ms": each.at_ms,
                "latency_us": each.latency_us,
                "outcome": each.outcome,
                "propensity": each.propensity,
                "label": each.label,
                "score": each.score,
                "context": context_text(each.context),
            }
            for each in batch
        ]
        units = [
            {"experiment": each.experiment, "unit": each.unit, "variant": each.variant, "first_ms": each.at_ms}
            for each in sorted(batch, key=_IN_ORDER)
            if each.outcome != "fallback"
        ]
        connection.execute(self._insert(PREDICTIONS).on_conflict_do_nothing(), rows)
        if units:
            connection.execute(self._insert(UNITS).on_conflict_do_nothing(), units)

    def add_feedback(
        self, batch: Sequence[Feedback], *, window_s: float, now_ms: int, complete: bool = True
    ) -> list[Result]:
        """Store each outcome, once for its key, unless nobody was exposed ("unknown") or that was longer than
        ``window_s`` ago ("expired"); all or, when it raises ``StoreUnavailable``, none. It raises that for an unknown
        one too unless the exposures are ``complete``, none of them on its way to the store."""
        if not batch:
            return []
        with answering(), self._engine.begin() as connection:
            found = _exposures_of(connection, batch)
            if not complete and any(_subject(each) not in found for each in batch):
                raise StoreUnavailable(
                    "the exposure that this is about may still wait to be stored; send it again later",
                    retry_after_s=RETRY_AFTER_S,
                )
            rows: dict[str, dict[str, Any]] = {}
            for each in batch:
                exposure = found.get(_subject(each))
                if exposure is not None and now_ms - exposure.at_ms <= window_s * 1000:
                    rows.setdefault(each.key, _feedback_row(each, exposure.experiment, exposure.unit))
            stored = self._insert_feedback(connection, rows)
        results: list[Result] = []
        for each in batch:
            exposure = found.get(_subject(each))
            if exposure is None:
                results.append("unknown")
            elif now_ms - exposure.at_ms > window_s * 1000:
                results.append("expired")
            else:
                results.append("stored" if each.key in stored else "duplicate")
                stored.discard(each.key)
        return results

    def _insert_feedback(self, connection: Connection, rows: dict[str, dict[str, Any]]) -> set[str]:
        """The keys that were not there yet."""
        if not rows:
            return set()
        insert = self._insert(FEEDBACK).on_conflict_do_nothing().returning(FEEDBACK.c.key)
        in_order = [rows[key] for key in sorted(rows)]  # one order: no two servers wait for each other
        return set(connection.scalars(insert, in_order))

    def columns(self, experiment: Experiment, since_ms: int = 0) -> Columns:
        """See ``read_stored_columns``."""
        return read_stored_columns(self._engine, experiment, since_ms)

    def decisions(self, experiment: Experiment, metrics: Sequence[Metric]) -> Decisions:
        """See ``read_stored_decisions``."""
        return read_stored_decisions(self._engine, experiment, metrics)

    def shadows(self, experiment: Experiment, since_ms: int = 0) -> Mapping[str, ShadowRecord]:
        """See ``read_shadows``."""
        return read_shadows(self._engine, experiment, since_ms)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


@contextmanager
def _judging() -> Iterator[None]:
    """What is due to a value, not to the database: SQLAlchemy passes on what a driver raises while it converts."""
    try:
        yield
    except (DataError, ValueError, TypeError, OverflowError) as error:
        raise UnstorableEvents(str(error).partition("\n")[0]) from error


def _subject(feedback: Feedback) -> tuple[str, str]:
    """What an outcome is about: an experiment's unit, or a prediction of whichever experiment."""
    return ("", feedback.prediction_id) if feedback.prediction_id else (feedback.experiment, feedback.unit)


def _exposures_of(connection: Connection, batch: Sequence[Feedback]) -> dict[tuple[str, str], Any]:
    """Experiment, unit and time (``at_ms``) of the exposure behind each outcome that has one, by ``_subject``."""
    subjects = sorted({_subject(each) for each in batch})
    predictions = [about for experiment, about in subjects if not experiment]
    units = [subject for subject in subjects if subject[0]]
    found: dict[tuple[str, str], Any] = {}
    if predictions:
        columns = (PREDICTIONS.c.prediction_id, PREDICTIONS.c.experiment, PREDICTIONS.c.unit, PREDICTIONS.c.at_ms)
        query = select(*columns).where(PREDICTIONS.c.prediction_id.in_(predictions))
        found.update({("", row.prediction_id): row for row in connection.execute(query)})
    if units:
        key = tuple_(UNITS.c.experiment, UNITS.c.unit)
        query = select(UNITS.c.experiment, UNITS.c.unit, UNITS.c.first_ms.label("at_ms")).where(key.in_(units))
        found.update({(row.experiment, row.unit): row for row in connection.execute(query)})
    return found


def _feedback_row(feedback: Feedback, experiment: str, unit: str) -> dict[str, Any]:
    return {
        "key": feedback.key,
        "experiment": experiment,
        "unit": unit,
        "metric": feedback.metric,
        "value": feedback.value,
        "at_ms": feedback.at_ms,
        "prediction_id": feedback.prediction_id or None,
    }
