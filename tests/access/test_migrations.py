"""The schema: from nothing, from the first version with rows in it, by many at once; equal to what the code says."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import create_engine, inspect, select, text

from raison.errors import UserError
from raison.serve import keyring, ledger
from raison.serve.access import DatabaseAccess
from raison.serve.keys import digest, mint
from raison.serve.migrations import upgrade
from raison.serve.prices import Prices
from raison.serve.schema import METADATA, USAGE
from raison.serve.store import Store, _parse, open_store
from tests.access.conftest import NOON, child_environment, used

OPENER = (
    "import sys, pathlib; from raison.serve.store import open_store; open_store(pathlib.Path(), sys.argv[1]).close()"
)


def assert_current(store: Store) -> None:
    with store.read() as connection:
        assert compare_metadata(MigrationContext.configure(connection), METADATA) == []


def at_first_version(url: str) -> None:
    where = _parse(url)
    if where.drivername == "sqlite":
        Path(where.database or "").parent.mkdir(parents=True, exist_ok=True)
    engine = create_engine(where)
    with engine.begin() as connection:
        upgrade(connection, "0001")
    engine.dispose()


def test_from_nothing(database: str) -> None:
    for _ in range(2):  # the second time there is nothing to do
        store = open_store(Path(), database)
        assert_current(store)
        store.close()


def test_from_the_first_version_with_a_key_and_a_bill(database: str) -> None:
    at_first_version(database)
    public, key = mint()
    engine = create_engine(_parse(database))
    with engine.begin() as connection:
        assert "allowed" not in inspect(connection).get_table_names()
        connection.execute(
            text("INSERT INTO keys (id, name, digest, priority, created_at) VALUES (:id, 'alice', :digest, 2, 1.0)"),
            {"id": public, "digest": digest(key).hex()},
        )
        connection.execute(text("INSERT INTO balances VALUES (:id, '', 0, '', 0, 7, 0, 0, 0)"), {"id": public})
        connection.execute(
            text("INSERT INTO usage VALUES ('r', 1.0, '1970-01-01', :id, 'm', '/', 4, 0, 3, 0, 1, 'stop', 1, 1, 9)"),
            {"id": public},
        )
    engine.dispose()
    access = DatabaseAccess(open_store(Path(), database), Prices(), clock=lambda: NOON)
    assert_current(access.store)
    caller = access.caller(f"Bearer {key}")
    assert (caller.name, caller.priority) == ("alice", 2)
    access.settle(access.reserve(caller, 20), used("s", public))
    with access.store.read() as connection:
        assert ledger.balances(connection)[public].total_tokens == 22
        assert connection.execute(select(USAGE.c.cost).where(USAGE.c.request == "r")).scalar() == 9
        assert not keyring.find(connection, "alice").allowed
    access.close()


@pytest.mark.parametrize("first", [False, True], ids=["empty", "first version"])
def test_many_processes_open_it_at_once(database: str, first: bool) -> None:
    if first:
        at_first_version(database)
    openers = [
        subprocess.Popen([sys.executable, "-c", OPENER, database], stderr=subprocess.PIPE, env=child_environment())
        for _ in range(4)
    ]
    said = [opener.communicate(timeout=120)[1].decode() for opener in openers]
    assert [opener.returncode for opener in openers] == [0] * 4, said
    store = open_store(Path(), database)
    assert_current(store)
    store.close()


def test_a_step_that_fails_leaves_the_schema_as_it_was(database: str) -> None:
    at_first_version(database)
    engine = create_engine(_parse(database))
    with engine.begin() as connection:
        connection.execute(text("CREATE TABLE allowed (in_the_way INTEGER)"))
    with pytest.raises(Exception, match="allowed"):
        open_store(Path(), database)
    with engine.begin() as connection:
        assert connection.execute(text("SELECT version_num FROM alembic_version")).scalar() == "0001"
        connection.execute(text("DROP TABLE allowed"))
    engine.dispose()
    store = open_store(Path(), database)
    assert_current(store)
    store.close()


def test_a_newer_database_is_refused(database: str) -> None:
    store = open_store(Path(), database)
    store.write(lambda connection: connection.execute(text("UPDATE alembic_version SET version_num = '9999'")) and None)
    store.close()
    with pytest.raises(UserError, match="9999 of a newer Raison"):
        open_store(Path(), database)
