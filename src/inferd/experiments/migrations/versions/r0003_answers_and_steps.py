"""What each prediction said and how likely its variant was; where a ramp stands, and what was promoted."""

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
    op.add_column("experiments", sa.Column("started_ms", sa.BigInteger, nullable=False, server_default="0"))
    op.add_column("experiments", sa.Column("promotion", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Drop the columns."""
    for column in ("propensity", "label", "score"):
        op.drop_column("predictions", column)
    for column in ("step", "step_ms", "started_ms", "promotion"):
        op.drop_column("experiments", column)
