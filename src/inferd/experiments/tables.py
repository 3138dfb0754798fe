"""The database tables of experiments. A change here needs a revision in ``migrations/versions``."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, MetaData, String, Table

METADATA = MetaData()

PREDICTIONS = Table(
    "predictions",
    METADATA,
    Column("prediction_id", String(36), primary_key=True),
    Column("experiment", String(128), nullable=False),
    Column("variant", String(128), nullable=False),
    Column("unit", String(32), nullable=False),
    Column("sticky", Boolean, nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("latency_us", BigInteger, nullable=False),
    Column("outcome", String(64), nullable=False),
    Index("predictions_of_experiment", "experiment", "at_ms"),
)
UNITS = Table(
    "exposed_units",
    METADATA,
    Column("experiment", String(128), primary_key=True),
    Column("unit", String(32), primary_key=True),
    Column("variant", String(128), nullable=False),
    Column("first_ms", BigInteger, nullable=False),
)
FEEDBACK = Table(
    "feedback",
    METADATA,
    Column("key", String(200), primary_key=True),
    Column("experiment", String(128), nullable=False),
    Column("unit", String(32), nullable=False),
    Column("metric", String(128), nullable=False),
    Column("value", Float(53), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Index("feedback_of_experiment", "experiment"),
)
