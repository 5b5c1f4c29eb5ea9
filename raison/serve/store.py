"""The server's database: where it is, how it is opened, brought up to date, read and written.

SQLite under RAISON_HOME unless a URL says otherwise (`--database`, RAISON_DATABASE), then PostgreSQL. SQLite runs with
a write-ahead log and forces every commit to disk, so that what was committed survives a killed process and a power cut.
Not covered: databases in memory or on network drives; what the tables mean (schema.py).
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import ArgumentError, DBAPIError
from sqlalchemy.exc import TimeoutError as PoolTimeout

from raison.errors import UserError
from raison.serve.migrations import upgrade
from raison.serve.refusal import Unavailable
from raison.serve.writer import Work, Writer

T = TypeVar("T")
HOME, DATABASE = "RAISON_HOME", "RAISON_DATABASE"
FILE = "raison.db"
BUSY_SECONDS = 30
"""How long a write waits for another process's."""
MIGRATION_LOCK = 0x726169736F6E
"""A number of our own ("raison" in ASCII) for PostgreSQL's advisory locks."""
BEGIN = "raison_begin"
SQLITE_HEADER = b"SQLite format 3\0"
"""What a database begins with, once something was written (SQLite file format, section 1.3.1)."""


def home() -> Path:
    """Where Raison keeps state: RAISON_HOME, or ~/.raison."""
    return Path(os.environ.get(HOME) or Path.home() / ".raison")


@dataclass(frozen=True)
class Store:
    """An open database of the current schema. Reads may run in any thread; writes are grouped by one (writer.py)."""

    engine: Engine
    writer: Writer

    @contextmanager
    def read(self) -> Iterator[Connection]:
        """A connection that sees one state of the database. Raises Unavailable."""
        with _named_errors(), self.engine.connect() as connection:
            yield connection

    def write(self, work: Work[T], lock: str = "") -> T:
        """What `work` returns, once committed; see Writer.submit. Raises Unavailable, and what `work` raises."""
        with _named_errors():
            return self.writer.submit(work, lock)

    def close(self) -> None:
        self.writer.close()
        self.engine.dispose()


def open_store(folder: Path, url: str | None = None) -> Store:
    """The database at `url`, else RAISON_DATABASE, else `folder`/raison.db, made or upgraded where need be.

    Raises UserError for a URL that cannot be used, a file that is no database, and a database that a newer Raison made.
    """
    given = url or os.environ.get(DATABASE)
    where = _parse(given) if given else URL.create("sqlite", database=str(folder / FILE))
    engine = _sqlite(where) if where.get_backend_name() == "sqlite" else _postgresql(where)
    try:
        _prepare(engine)
    except BaseException:
        engine.dispose()
        raise
    return Store(engine, Writer(_writing(engine)))


def _parse(url: str) -> URL:
    try:
        where = make_url(url)
    except ArgumentError as error:
        raise UserError(
            "the database's URL cannot be read; write postgresql://USER@HOST/NAME or sqlite:///PATH"
        ) from error
    if where.drivername in ("postgres", "postgresql"):
        where = where.set(drivername="postgresql+psycopg")
    if where.drivername not in ("sqlite", "postgresql+psycopg"):
        raise UserError(f"{where.drivername} is not served; give a postgresql:// or sqlite:/// URL")
    if where.drivername == "sqlite" and where.database in (None, "", ":memory:"):
        raise UserError("a database in memory would lose what it is for; give sqlite:///PATH")
    return where


def _sqlite(where: URL) -> Engine:
    path = Path(where.database or "")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    with open(os.open(path, os.O_CREAT | os.O_RDWR, 0o600), "rb") as file:  # SQLite gives its other files the same mode
        header = file.read(len(SQLITE_HEADER))
    if header not in (b"", SQLITE_HEADER):
        raise UserError(f"{path} is no SQLite database; give a file that is one, or one that is not there yet")
    engine = create_engine(where, connect_args={"timeout": BUSY_SECONDS})
    event.listen(engine, "connect", _configure)
    event.listen(engine, "begin", _begin)
    return engine


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions begin where SQLAlchemy says so, not where sqlite3 guesses
    connection.execute("PRAGMA synchronous=FULL")
    connection.execute("PRAGMA foreign_keys=ON")


def _begin(connection: Connection) -> None:
    connection.exec_driver_sql(connection.get_execution_options().get(BEGIN, "BEGIN"))


def _writing(engine: Engine) -> Engine:
    """The same engine for transactions that write: in SQLite they lock at once, so that what they read stays true."""
    return engine.execution_options(**{BEGIN: "BEGIN IMMEDIATE"})


def _postgresql(where: URL) -> Engine:
    try:
        return create_engine(where, pool_pre_ping=True)
    except ModuleNotFoundError as error:
        raise UserError("PostgreSQL needs its driver: pip install 'raison[postgres]'") from error


def _prepare(engine: Engine) -> None:
    """Bring the schema up to date, one process at a time."""
    sqlite = engine.dialect.name == "sqlite"
    with _named_errors(), _file_lock(engine.url.database) if sqlite else _no_lock():
        if sqlite:
            with engine.connect() as connection:
                connection.connection.cursor().execute("PRAGMA journal_mode=WAL")
        with _writing(engine).begin() as connection:
            if not sqlite:
                connection.execute(text("SELECT pg_advisory_xact_lock(:number)"), {"number": MIGRATION_LOCK})
            upgrade(connection)


@contextmanager
def _file_lock(path: str | None) -> Iterator[None]:
    """Beside the database, because SQLite does not wait for others while it turns its write-ahead log on."""
    with open(os.open(f"{path}.lock", os.O_CREAT | os.O_WRONLY, 0o600), "w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


@contextmanager
def _no_lock() -> Iterator[None]:
    yield


@contextmanager
def _named_errors() -> Iterator[None]:
    """Errors of the driver as Unavailable, without the URL, which may hold a password."""
    try:
        yield
    except DBAPIError as error:
        if not error.connection_invalidated and type(error).__name__ not in ("OperationalError", "InterfaceError"):
            raise
        raise Unavailable(f"the database cannot be used: {error.orig}") from error
    except PoolTimeout as error:
        raise Unavailable("the database is too busy: no connection came free") from error
