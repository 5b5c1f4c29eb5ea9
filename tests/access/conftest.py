"""Each test of a database runs on SQLite and on a real PostgreSQL, where one can be started."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from raison.serve import keyring
from raison.serve.access import DatabaseAccess
from raison.serve.keys import Key, mint
from raison.serve.limits import Limits
from raison.serve.prices import Prices
from raison.serve.store import DATABASE, HOME, open_store
from raison.serve.usage import Used
from tests import postgres

NOON = 1_795_348_800.0
"""2026-11-22 12:00 UTC."""


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    if why := postgres.missing():
        pytest.skip(why)
    with postgres.server() as url:
        yield url


@pytest.fixture(params=["sqlite", "postgresql"])
def database(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The URL of an empty database."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / 'state' / 'raison.db'}"
    return postgres.new_database(request.getfixturevalue("postgres_server"))


@pytest.fixture(autouse=True)
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """RAISON_HOME for the test."""
    monkeypatch.delenv(DATABASE, raising=False)
    monkeypatch.setenv(HOME, str(tmp_path / "state"))
    return tmp_path / "state"


@dataclass
class Clock:
    """Time that stands until it is moved."""

    now: float = NOON

    def __call__(self) -> float:
        return self.now


@dataclass
class House:
    """Accesses to one database, as of several servers, and its keys."""

    url: str
    clock: Clock = field(default_factory=Clock)
    open: list[DatabaseAccess] = field(default_factory=list)

    def access(self, **options: Any) -> DatabaseAccess:
        one = DatabaseAccess(open_store(Path(), self.url), options.pop("prices", Prices()), clock=self.clock, **options)
        self.open.append(one)
        return one

    def key(self, name: str = "alice", limits: Limits | None = None, **terms: Any) -> tuple[Key, str]:
        """A new key, and the header that a client of it sends."""
        public, text = mint()
        key = Key(public, name, self.clock.now, limits=limits or Limits(), **terms)
        (self.open or [self.access()])[0].store.write(lambda connection: keyring.create(connection, key, text))
        return key, f"Bearer {text}"


@pytest.fixture
def house(database: str) -> Iterator[House]:
    one = House(database)
    yield one
    for access in one.open:
        access.close()


@pytest.fixture
def sqlite_house(tmp_path: Path) -> Iterator[House]:
    """For what does not depend on the database."""
    one = House(f"sqlite:///{tmp_path / 'raison.db'}")
    yield one
    for access in one.open:
        access.close()


def used(request: str, key: str, prompt: int = 10, completion: int = 5, **more: Any) -> Used:
    """A plain answer."""
    fields = {"cached_tokens": 0, "reasoning_tokens": 0, "branches": 1, "finish": "stop", "seconds": 0.5,
              "first_token_seconds": 0.1, "model": "tiny", "endpoint": "/v1/chat/completions"}  # fmt: skip
    return Used(request=request, key=key, prompt_tokens=prompt, completion_tokens=completion, **(fields | more))


def eventually(true: Callable[[], bool], seconds: float = 30) -> None:
    """Wait until it is true; fail after `seconds`."""
    until = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < until, "it did not come true"
        time.sleep(0.02)


def child_environment() -> dict[str, str]:
    return os.environ | {"PYTHONPATH": str(Path(__file__).resolve().parents[2])}
