"""The tables of the server's database. Times are Unix seconds in UTC, amounts whole tokens and nano-dollars.

A change here goes with a migration in migrations/versions; a test holds one to the other. Not covered: what the numbers
mean (limits.py, prices.py).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from sqlalchemy import (
    BigInteger,
    Column,
    Connection,
    Double,
    ForeignKey,
    Integer,
    MetaData,
    String,
    Table,
    Text,
)
from sqlalchemy.dialects import postgresql, sqlite

METADATA = MetaData()

KEYS = Table(
    "keys", METADATA,
    Column("id", String(16), primary_key=True),
    Column("name", String(64), nullable=False, index=True),
    Column("digest", String(64), nullable=False, unique=True),  # SHA-256 of the whole key, in hex
    Column("models", Text),  # a JSON list; NULL = every model
    Column("requests_per_minute", Integer),
    Column("tokens_per_minute", Integer),
    Column("quota_tokens", BigInteger),
    Column("quota_period", String(8)),
    Column("priority", Integer, nullable=False),
    Column("created_at", Double, nullable=False),
    Column("expires_at", Double),
    Column("revoked_at", Double),
)  # fmt: skip

ALLOWED = Table(
    "allowed", METADATA,
    Column("name", String(64), primary_key=True),  # of keys that an early access serves, made or yet to be made
    Column("allowed_at", Double, nullable=False),
)  # fmt: skip

BALANCES = Table(
    "balances", METADATA,
    Column("key", String(16), ForeignKey("keys.id"), primary_key=True),
    Column("day", String(10), nullable=False),
    Column("day_tokens", BigInteger, nullable=False),
    Column("month", String(7), nullable=False),
    Column("month_tokens", BigInteger, nullable=False),
    Column("total_tokens", BigInteger, nullable=False),
    Column("request_debt", Double, nullable=False),
    Column("token_debt", Double, nullable=False),
    Column("filled_at", Double, nullable=False),
)  # fmt: skip

RESERVATIONS = Table(
    "reservations", METADATA,
    Column("id", String(32), primary_key=True),
    Column("key", String(16), ForeignKey("keys.id"), nullable=False, index=True),
    Column("tokens", BigInteger, nullable=False),
    Column("owner", String(32), nullable=False, index=True),  # the server process that holds it
    Column("lease", Double, nullable=False),  # until when it counts unless its owner renews it
)  # fmt: skip

USAGE = Table(
    "usage", METADATA,
    Column("request", Text, primary_key=True),  # the answer's id: what makes billing twice impossible
    Column("at", Double, nullable=False, index=True),
    Column("day", String(10), nullable=False),
    Column("key", String(16), nullable=False, index=True),  # "local" where no key was ever created
    Column("model", Text, nullable=False),
    Column("endpoint", Text, nullable=False),
    Column("prompt_tokens", BigInteger, nullable=False),
    Column("cached_tokens", BigInteger, nullable=False),
    Column("completion_tokens", BigInteger, nullable=False),
    Column("reasoning_tokens", BigInteger, nullable=False),
    Column("branches", Integer, nullable=False),
    Column("finish", Text, nullable=False),
    Column("seconds", Double),
    Column("first_token_seconds", Double),
    Column("cost", BigInteger),  # nano-dollars by the prices of the moment; NULL = the model had no price
)  # fmt: skip


def insert_once(connection: Connection, table: Table, row: Mapping[str, Any]) -> bool:
    """Add `row` unless one with its primary key is there; returns whether it was added."""
    dialect = sqlite if connection.dialect.name == "sqlite" else postgresql
    added = dialect.insert(table).values(row).on_conflict_do_nothing().returning(*table.primary_key)
    return connection.execute(added).first() is not None
