"""The database tables of experiments. A change here needs a revision in ``migrations/versions``."""

from __future__ import annotations

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, String, Table, Text

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
    Column("propensity", Float(53)),
    Column("label", String(64)),
    Column("score", Float(53)),
    Column("context", Text),
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
SHADOW_OUTCOMES = Table(
    "shadow_outcomes",
    METADATA,
    Column("prediction_id", String(36), primary_key=True),
    Column("variant", String(128), primary_key=True),
    Column("experiment", String(128), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("outcome", String(64), nullable=False),
    Column("requests", Integer, nullable=False),
    Column("equal", Boolean),
    Column("largest", Float(53)),
    Column("label_agreeing", BigInteger),
    Column("label_rows", BigInteger),
    Column("top_agreeing", BigInteger),
    Column("top_rows", BigInteger),
    Column("control_us", BigInteger),
    Column("variant_us", BigInteger),
    Index("shadow_outcomes_of_experiment", "experiment", "at_ms"),
)
DISAGREEMENTS = Table(
    "disagreements",
    METADATA,
    Column("prediction_id", String(36), primary_key=True),
    Column("variant", String(128), primary_key=True),
    Column("experiment", String(128), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("details", Text, nullable=False),
    Index("disagreements_of_experiment", "experiment", "variant"),
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
    Column("prediction_id", String(36)),
    Index("feedback_of_experiment", "experiment"),
)
DEFINITIONS = Table(
    "experiments",
    METADATA,
    Column("id", String(128), primary_key=True),
    Column("version", Integer, nullable=False),
    Column("origin", String(255), nullable=False),
    Column("definition", Text, nullable=False),
    Column("state", String(16), nullable=False),
    Column("reason", Text, nullable=False),
    Column("step", Integer, nullable=False),
    Column("step_ms", BigInteger, nullable=False),
    Column("started_ms", BigInteger, nullable=False),
    Column("promotion", Text, nullable=False),
    Column("learned", Text, nullable=False),
)
CHANGES = Table(
    "experiment_changes",
    METADATA,
    Column("number", Integer, primary_key=True),
    Column("experiment", String(128), nullable=False),
    Column("at_ms", BigInteger, nullable=False),
    Column("who", String(255), nullable=False),
    Column("what", String(32), nullable=False),
    Column("why", Text, nullable=False),
    Column("version", Integer, nullable=False),
    Column("before", Text, nullable=False),
    Column("after", Text, nullable=False),
    Index("changes_of_experiment", "experiment", "number"),
)
