"""Exposures and feedback in a database: SQLite by default, PostgreSQL for several servers. Blocking; never called on
the event loop."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import attrgetter
from pathlib import Path
from typing import Any, Literal

import numpy as np
from alembic import command
from alembic.config import Config
from sqlalchemy import Engine, create_engine, event, select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.exc import ArgumentError, NoSuchModuleError, SQLAlchemyError

from inferd.core.errors import ConfigError
from inferd.experiments.columns import Columns, value_names
from inferd.experiments.definition import Experiment
from inferd.experiments.events import Exposure, Feedback
from inferd.experiments.tables import FEEDBACK, PREDICTIONS, UNITS

Result = Literal["stored", "duplicate", "unknown", "expired"]
_MIGRATIONS = Path(__file__).parent / "migrations"


class Store:
    """One database. Any thread may call it, several servers may share it."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self._insert: Any = postgresql.insert if engine.dialect.name == "postgresql" else sqlite.insert

    @staticmethod
    def open(url: str) -> Store:
        """Connect to ``sqlite:///path`` or ``postgresql://…`` and bring its tables up to date.

        Raises ``ConfigError`` when that cannot be done.
        """
        try:
            engine = create_engine(url.replace("postgresql://", "postgresql+psycopg://", 1), pool_pre_ping=True)
            if engine.dialect.name == "sqlite":
                event.listen(engine, "connect", _tune_sqlite)
            config = Config()
            config.set_main_option("script_location", str(_MIGRATIONS))
            with engine.begin() as connection:
                config.attributes["connection"] = connection
                command.upgrade(config, "head")
        except (SQLAlchemyError, ArgumentError, NoSuchModuleError, OSError) as error:
            reason, shown = str(error).splitlines()[0], url.partition("@")[2] or url  # no password into a log
            raise ConfigError(f"the experiments' store {shown} cannot be opened: {reason}") from None
        return Store(engine)

    def add_exposures(self, batch: Sequence[Exposure]) -> None:
        """Store each; of a unit's exposures the first decides its variant. Raises what the database raises."""
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
            }
            for each in batch
        ]
        units = [
            {"experiment": each.experiment, "unit": each.unit, "variant": each.variant, "first_ms": each.at_ms}
            for each in sorted(batch, key=attrgetter("unit"))  # one order for all servers: no two wait for each other
            if each.outcome != "fallback"
        ]
        with self._engine.begin() as connection:
            connection.execute(self._insert(PREDICTIONS).on_conflict_do_nothing(), rows)
            if units:
                connection.execute(self._insert(UNITS).on_conflict_do_nothing(), units)

    def add_feedback(self, batch: Sequence[Feedback], *, window_s: float, now_ms: int) -> list[Result]:
        """Store each outcome, once for its key, unless nobody was exposed ("unknown") or that was longer than
        ``window_s`` ago ("expired"). Raises what the database raises."""
        results: list[Result] = []
        with self._engine.begin() as connection:
            for each in batch:
                found = connection.execute(_exposure_of(each)).first()
                if found is None:
                    results.append("unknown")
                elif now_ms - found.at_ms > window_s * 1000:
                    results.append("expired")
                else:
                    row = {
                        "key": each.key,
                        "experiment": found.experiment,
                        "unit": found.unit,
                        "metric": each.metric,
                        "value": each.value,
                        "at_ms": each.at_ms,
                    }
                    insert = self._insert(FEEDBACK).on_conflict_do_nothing().returning(FEEDBACK.c.key)
                    results.append("duplicate" if connection.execute(insert, row).first() is None else "stored")
        return results

    def columns(self, experiment: Experiment) -> Columns:
        """Everything known of an experiment, for a report: a row for each exposed unit and for each outcome. Besides
        the fed-back metrics there are ``latency_us`` and ``error`` (0 or 1) of each prediction."""
        names = value_names(experiment)
        known = {variant.name: index for index, variant in enumerate(experiment.variants)}
        with self._engine.connect() as connection:
            units = connection.execute(select(UNITS).where(UNITS.c.experiment == experiment.id)).all()
            outcomes = connection.execute(select(FEEDBACK).where(FEEDBACK.c.experiment == experiment.id)).all()
            predictions = connection.execute(select(PREDICTIONS).where(PREDICTIONS.c.experiment == experiment.id)).all()
        variants = {each.unit: known[each.variant] for each in units if each.variant in known}
        rows: list[tuple[str, int, dict[str, float]]] = [(each.unit, each.first_ms, {}) for each in units]
        rows += [(each.unit, each.at_ms, {each.metric: each.value}) for each in outcomes]
        rows += [
            (each.unit, each.at_ms, {"latency_us": each.latency_us, "error": float(each.outcome != "ok")})
            for each in predictions
            if each.outcome != "fallback"
        ]
        return _columns([row for row in rows if row[0] in variants], variants, names)

    def close(self) -> None:
        """Let go of the database."""
        self._engine.dispose()


def _exposure_of(feedback: Feedback) -> Any:
    if feedback.prediction_id:
        return select(PREDICTIONS.c.experiment, PREDICTIONS.c.unit, PREDICTIONS.c.at_ms).where(
            PREDICTIONS.c.prediction_id == feedback.prediction_id
        )
    return select(UNITS.c.experiment, UNITS.c.unit, UNITS.c.first_ms.label("at_ms")).where(
        UNITS.c.experiment == feedback.experiment, UNITS.c.unit == feedback.unit
    )


def _columns(
    rows: Sequence[tuple[str, int, dict[str, float]]], variants: dict[str, int], names: Iterable[str]
) -> Columns:
    numbers = {unit: number for number, unit in enumerate(variants)}
    return Columns(
        len(numbers),
        np.array([numbers[unit] for unit, _, _ in rows], np.int64),
        np.array([variants[unit] for unit, _, _ in rows], np.int64),
        {name: np.array([values.get(name, np.nan) for _, _, values in rows], np.float64) for name in names},
        np.array([at_ms / 1000 for _, at_ms, _ in rows], np.float64),
    )


def _tune_sqlite(connection: Any, record: Any) -> None:
    """Readers and the writer do not wait for each other; a crash of the machine may lose the last transactions."""
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA busy_timeout = 5000")
