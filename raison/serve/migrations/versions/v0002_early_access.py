"""The names that an early access serves."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"


def upgrade() -> None:
    op.create_table(
        "allowed",
        sa.Column("name", sa.String(64), primary_key=True),
        sa.Column("allowed_at", sa.Double, nullable=False),
    )
