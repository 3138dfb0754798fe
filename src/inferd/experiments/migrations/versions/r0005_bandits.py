"""What a bandit chose by, which prediction an outcome is of, and what a bandit has learned."""

import sqlalchemy as sa
from alembic import op

revision = "0005"
down_revision = "0004"


def upgrade() -> None:
    """Add the columns."""
    op.add_column("predictions", sa.Column("context", sa.Text))
    op.add_column("feedback", sa.Column("prediction_id", sa.String(36)))
    op.add_column("experiments", sa.Column("learned", sa.Text, nullable=False, server_default=""))


def downgrade() -> None:
    """Drop the columns."""
    for table, column in (("predictions", "context"), ("feedback", "prediction_id"), ("experiments", "learned")):
        op.drop_column(table, column)
