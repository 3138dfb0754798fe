"""What each prediction said and how likely its variant was; the step of a ramp."""

import sqlalchemy as sa
from alembic import op

revision = "0003"
down_revision = "0002"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("predictions", sa.Column("propensity", sa.Float(53)))
    op.add_column("predictions", sa.Column("label", sa.String(64)))
    op.add_column("predictions", sa.Column("score", sa.Float(53)))
    op.add_column("experiments", sa.Column("step", sa.Integer, nullable=False, server_default="0"))
    op.add_column("experiments", sa.Column("step_ms", sa.BigInteger, nullable=False, server_default="0"))


def downgrade() -> None:
    """Drop the columns."""
    for table, columns in {"predictions": ("propensity", "label", "score"), "experiments": ("step", "step_ms")}.items():
        for column in columns:
            op.drop_column(table, column)
