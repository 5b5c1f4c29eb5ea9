"""What Alembic runs around the steps; it is loaded by Alembic alone, with the caller's connection and transaction."""

from __future__ import annotations

from alembic import context

from raison.serve.schema import METADATA

context.configure(
    connection=context.config.attributes["connection"], target_metadata=METADATA, transactional_ddl=True,
)  # fmt: skip
context.run_migrations()
