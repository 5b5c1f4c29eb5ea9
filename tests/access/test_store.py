"""The database opened, and the one thread that writes to it."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest
from sqlalchemy import Connection, event, text

from raison.errors import UserError
from raison.serve.refusal import Unavailable, unknown_key
from raison.serve.store import DATABASE, open_store
from tests import postgres
from tests.access.conftest import House


@pytest.mark.parametrize(
    ("url", "says"),
    [
        ("mysql://a@b/c", "mysql is not served"),
        ("postgresql+asyncpg://a:secret@b/c", "postgresql.asyncpg is not served"),
        ("sqlite://", "in memory"),
        ("sqlite:///:memory:", "in memory"),
        ("no url", "cannot be read"),
        ("postgresql://a:secret@127.0.0.1:1/none", "database cannot be used"),
    ],
)
def test_what_is_no_database_is_one_line_without_the_password(url: str, says: str) -> None:
    with pytest.raises(UserError, match=says) as caught:
        open_store(Path(), url)
    assert "secret" not in str(caught.value)


def test_a_file_that_is_no_database_is_left_as_it_is(tmp_path: Path) -> None:
    file = tmp_path / "recipe.toml"
    file.write_text('name = "quick"')
    with pytest.raises(UserError, match="no SQLite database"):
        open_store(Path(), f"sqlite:///{file}")
    assert file.read_text() == 'name = "quick"' and list(tmp_path.iterdir()) == [file]


def test_the_url_of_the_environment_counts_unless_one_is_given(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(DATABASE, f"sqlite:///{tmp_path / 'a.db'}")
    open_store(tmp_path / "home").close()
    open_store(tmp_path / "home", f"sqlite:///{tmp_path / 'b.db'}").close()
    assert (tmp_path / "a.db").exists() and (tmp_path / "b.db").exists() and not (tmp_path / "home").exists()
    monkeypatch.delenv(DATABASE)
    odd = tmp_path / "a ?home%20#"
    open_store(odd).close()
    assert (odd / "raison.db").exists()


def test_commits_are_forced_to_disk(house: House) -> None:
    store = house.access().store
    with store.read() as connection:
        if connection.dialect.name == "sqlite":
            assert connection.execute(text("PRAGMA journal_mode")).scalar() == "wal"
            assert connection.execute(text("PRAGMA synchronous")).scalar() == 2, "FULL"
        else:
            assert connection.execute(text("SHOW synchronous_commit")).scalar() == "on"


def test_what_many_want_written_at_once_is_one_commit(house: House) -> None:
    store = house.access().store
    commits: list[object] = []
    event.listen(store.engine, "commit", commits.append)
    entered, go = threading.Event(), threading.Event()
    done: list[int] = []

    def first(connection: Connection) -> None:
        entered.set()
        go.wait()

    threads = [threading.Thread(target=lambda: store.write(first))]
    threads[0].start()
    entered.wait()
    for number in range(20):  # all of them wait while the first is being written
        threads.append(threading.Thread(target=lambda n=number: done.append(store.write(lambda _: n))))  # type: ignore[misc]
        threads[-1].start()
    while store.writer._queue.qsize() < 20:
        pass
    assert done == []
    go.set()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(20)) and len(commits) == 2


def test_a_work_that_fails_does_not_take_others_with_it(house: House) -> None:
    store = house.access().store
    hold, entered = threading.Event(), threading.Event()
    store.write(lambda connection: connection.execute(text("CREATE TABLE notes (word TEXT PRIMARY KEY)")) and None)
    outcomes: dict[str, object] = {}

    def write(word: str) -> None:
        def work(connection: Connection) -> str:
            if word == "refused":
                raise unknown_key()
            if word == "broken":
                raise ZeroDivisionError
            connection.execute(text("INSERT INTO notes VALUES (:word)"), {"word": word})
            return word

        try:
            outcomes[word] = store.write(work)
        except Exception as error:
            outcomes[word] = type(error).__name__

    def block(connection: Connection) -> None:
        entered.set()
        hold.wait()

    threads = [threading.Thread(target=store.write, args=(block,))]
    threads[0].start()
    entered.wait()
    threads += [threading.Thread(target=write, args=(word,)) for word in ("a", "refused", "b", "broken", "c")]
    for thread in threads[1:]:
        thread.start()
    while store.writer._queue.qsize() < 5:
        pass
    hold.set()
    for thread in threads:
        thread.join()
    assert outcomes == {"a": "a", "b": "b", "c": "c", "refused": "Denied", "broken": "ZeroDivisionError"}
    with store.read() as connection:
        assert list(connection.scalars(text("SELECT word FROM notes ORDER BY word"))) == ["a", "b", "c"]


def test_a_closed_store_finishes_and_takes_no_more(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.write(lambda connection: connection.execute(text("CREATE TABLE notes (n INTEGER)")) and None)
    threads = [
        threading.Thread(target=store.write, args=(lambda c: c.execute(text("INSERT INTO notes VALUES (1)")) and None,))
        for _ in range(50)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    with pytest.raises(RuntimeError, match="closed"):
        store.write(lambda _: None)
    again = open_store(tmp_path)
    with again.read() as connection:
        assert connection.execute(text("SELECT count(*) FROM notes")).scalar() == 50
    again.close()


def test_a_database_that_goes_away_is_503_and_comes_back(tmp_path: Path) -> None:
    """The connections of the pool die with the server, as after a restart of PostgreSQL."""
    if why := postgres.missing():
        pytest.skip(why)
    with postgres.server() as url:
        store = open_store(Path(), postgres.new_database(url))
        store.write(lambda connection: connection.execute(text("CREATE TABLE notes (n INTEGER)")) and None)
        with store.read() as connection:
            own = connection.execute(text("SELECT pg_backend_pid()")).scalar()
        kill = text("SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = current_database()"
                    " AND pid <> pg_backend_pid()")  # fmt: skip
        with store.read() as connection:
            connection.execute(kill)
        store.write(lambda connection: connection.execute(text("INSERT INTO notes VALUES (1)")) and None)
        with store.read() as connection:
            assert connection.execute(text("SELECT count(*) FROM notes")).scalar() == 1
            assert own is not None
    with pytest.raises(Unavailable) as caught, store.read() as connection:
        connection.execute(text("SELECT 1"))
    assert caught.value.status == 503 and caught.value.headers["Retry-After"]
    with pytest.raises(Unavailable):
        store.write(lambda connection: connection.execute(text("SELECT 1")) and None)
    store.close()
