"""Exposures, exposed units and feedback."""

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "predictions",
        sa.Column("prediction_id", sa.String(36), primary_key=True),
        sa.Column("experiment", sa.String(128), nullable=False),
        sa.Column("variant", sa.String(128), nullable=False),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("sticky", sa.Boolean, nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("latency_us", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.String(64), nullable=False),
    )
    op.create_index("predictions_of_experiment", "predictions", ["experiment", "at_ms"])
    op.create_table(
        "exposed_units",
        sa.Column("experiment", sa.String(128), primary_key=True),
        sa.Column("unit", sa.String(32), primary_key=True),
        sa.Column("variant", sa.String(128), nullable=False),
        sa.Column("first_ms", sa.BigInteger, nullable=False),
    )
    op.create_table(
        "feedback",
        sa.Column("key", sa.String(200), primary_key=True),
        sa.Column("experiment", sa.String(128), nullable=False),
        sa.Column("unit", sa.String(32), nullable=False),
        sa.Column("metric", sa.String(128), nullable=False),
        sa.Column("value", sa.Float(53), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
    )
    op.create_index("feedback_of_experiment", "feedback", ["experiment"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("feedback", "exposed_units", "predictions"):
        op.drop_table(table)
