"""What came of shadows, and some of the answers that differed."""

import sqlalchemy as sa
from alembic import op

revision = "0004"
down_revision = "0003"


def upgrade() -> None:
    """Make the tables."""
    op.create_table(
        "shadow_outcomes",
        sa.Column("prediction_id", sa.String(36), primary_key=True),
        sa.Column("variant", sa.String(128), primary_key=True),
        sa.Column("experiment", sa.String(128), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("outcome", sa.String(64), nullable=False),
        sa.Column("requests", sa.Integer, nullable=False),
        sa.Column("equal", sa.Boolean),
        sa.Column("largest", sa.Float(53)),
        sa.Column("label_agreeing", sa.BigInteger),
        sa.Column("label_rows", sa.BigInteger),
        sa.Column("top_agreeing", sa.BigInteger),
        sa.Column("top_rows", sa.BigInteger),
        sa.Column("control_us", sa.BigInteger),
        sa.Column("variant_us", sa.BigInteger),
    )
    op.create_index("shadow_outcomes_of_experiment", "shadow_outcomes", ["experiment", "at_ms"])
    op.create_table(
        "disagreements",
        sa.Column("prediction_id", sa.String(36), primary_key=True),
        sa.Column("variant", sa.String(128), primary_key=True),
        sa.Column("experiment", sa.String(128), nullable=False),
        sa.Column("at_ms", sa.BigInteger, nullable=False),
        sa.Column("details", sa.Text, nullable=False),
    )
    op.create_index("disagreements_of_experiment", "disagreements", ["experiment", "variant"])


def downgrade() -> None:
    """Drop the tables."""
    for table in ("disagreements", "shadow_outcomes"):
        op.drop_table(table)
