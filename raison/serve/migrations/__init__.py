"""The database's schema in steps, applied by Alembic when the server or a command opens the database.

`versions/` has one file a step, never changed once it was released. A step runs in the transaction of the caller, which
also holds the lock: the schema is the old one or the new one, and servers that start at once do not meet. Not covered:
going back.
"""

from __future__ import annotations

from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection

from raison.errors import UserError

FOLDER = Path(__file__).parent


def upgrade(connection: Connection, revision: str = "head") -> None:
    """Apply what is missing up to `revision`. Raises UserError for a database that a newer Raison made."""
    config = _config(connection)
    steps = ScriptDirectory.from_config(config)
    present = MigrationContext.configure(connection).get_current_revision()
    if present == steps.get_current_head():
        return
    if present is not None and present not in {step.revision for step in steps.walk_revisions()}:
        raise UserError(f"the database has the schema {present} of a newer Raison; update: pip install -U raison")
    command.upgrade(config, revision)


def _config(connection: Connection) -> Config:
    config = Config(attributes={"connection": connection})
    config.set_main_option("script_location", str(FOLDER).replace("%", "%%"))
    return config
