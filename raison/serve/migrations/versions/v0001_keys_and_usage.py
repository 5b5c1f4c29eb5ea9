"""Keys, what they have used and hold, and one row for each answered request."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None


def upgrade() -> None:
    _keys()
    _balances()
    _reservations()
    _usage()


def _keys() -> None:
    op.create_table(
        "keys",
        sa.Column("id", sa.String(16), primary_key=True),
        sa.Column("name", sa.String(64), nullable=False),
        sa.Column("digest", sa.String(64), nullable=False, unique=True),
        sa.Column("models", sa.Text),
        sa.Column("requests_per_minute", sa.Integer),
        sa.Column("tokens_per_minute", sa.Integer),
        sa.Column("quota_tokens", sa.BigInteger),
        sa.Column("quota_period", sa.String(8)),
        sa.Column("priority", sa.Integer, nullable=False),
        sa.Column("created_at", sa.Double, nullable=False),
        sa.Column("expires_at", sa.Double),
        sa.Column("revoked_at", sa.Double),
    )
    op.create_index("ix_keys_name", "keys", ["name"])


def _balances() -> None:
    op.create_table(
        "balances",
        sa.Column("key", sa.String(16), sa.ForeignKey("keys.id"), primary_key=True),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("day_tokens", sa.BigInteger, nullable=False),
        sa.Column("month", sa.String(7), nullable=False),
        sa.Column("month_tokens", sa.BigInteger, nullable=False),
        sa.Column("total_tokens", sa.BigInteger, nullable=False),
        sa.Column("request_debt", sa.Double, nullable=False),
        sa.Column("token_debt", sa.Double, nullable=False),
        sa.Column("filled_at", sa.Double, nullable=False),
    )


def _reservations() -> None:
    op.create_table(
        "reservations",
        sa.Column("id", sa.String(32), primary_key=True),
        sa.Column("key", sa.String(16), sa.ForeignKey("keys.id"), nullable=False),
        sa.Column("tokens", sa.BigInteger, nullable=False),
        sa.Column("owner", sa.String(32), nullable=False),
        sa.Column("lease", sa.Double, nullable=False),
    )
    op.create_index("ix_reservations_key", "reservations", ["key"])
    op.create_index("ix_reservations_owner", "reservations", ["owner"])


def _usage() -> None:
    op.create_table(
        "usage",
        sa.Column("request", sa.Text, primary_key=True),
        sa.Column("at", sa.Double, nullable=False),
        sa.Column("day", sa.String(10), nullable=False),
        sa.Column("key", sa.String(16), nullable=False),
        sa.Column("model", sa.Text, nullable=False),
        sa.Column("endpoint", sa.Text, nullable=False),
        *(
            sa.Column(f"{kind}_tokens", sa.BigInteger, nullable=False)
            for kind in ("prompt", "cached", "completion", "reasoning")
        ),
        sa.Column("branches", sa.Integer, nullable=False),
        sa.Column("finish", sa.Text, nullable=False),
        sa.Column("seconds", sa.Double),
        sa.Column("first_token_seconds", sa.Double),
        sa.Column("cost", sa.BigInteger),
    )
    op.create_index("ix_usage_at", "usage", ["at"])
    op.create_index("ix_usage_key", "usage", ["key"])
