"""Who may call: keys proved, kept as hashes, and nothing for those who guess, smuggle or enumerate."""

from __future__ import annotations

import hmac
import re
import sys
from collections.abc import Callable
from contextlib import suppress
from dataclasses import replace
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import event, select

from raison.errors import UserError
from raison.serve import keyring
from raison.serve.access import DatabaseAccess, sole_authorization
from raison.serve.keys import FORM, digest, mint, models_of, read_header
from raison.serve.refusal import Denied
from raison.serve.schema import KEYS, METADATA
from tests.access.conftest import House


def refusal(call: Callable[[], Any]) -> Denied:
    with pytest.raises(Denied) as caught:
        call()
    return caught.value


def test_a_key_is_long_random_and_known_by_its_form() -> None:
    minted = [mint() for _ in range(1000)]
    assert len({public for public, _ in minted}) == len({text for _, text in minted}) == 1000
    for public, text in minted:
        assert (form := FORM.fullmatch(text)) and form[1] == public
        assert len(text.rsplit("-", 1)[0]) < 70 and text.isascii()


def test_without_a_key_all_are_local_until_the_first_is_made(house: House) -> None:
    access = house.access()
    assert access.keyless()
    assert access.caller(None).key == access.caller("Bearer anything").key == "local"
    key, header = house.key(models=frozenset({"a"}), priority=3)
    assert not access.keyless()
    assert refusal(lambda: access.caller(None)).status == 401
    caller = access.caller(header)
    assert (caller.key, caller.name, caller.models, caller.priority) == (key.id, "alice", frozenset({"a"}), 3)


def test_the_last_key_revoked_does_not_open_the_server(house: House) -> None:
    access = house.access()
    key, header = house.key()
    access.store.write(lambda connection: keyring.save(connection, replace(key, revoked_at=house.clock.now)))
    assert "was revoked" in str(refusal(lambda: access.caller(header)))
    assert refusal(lambda: house.access().caller(None)).status == 401


def test_only_a_hash_is_kept(house: House, state: Path) -> None:
    access = house.access()
    _, header = house.key()
    secret = header.removeprefix("Bearer ")
    with access.store.read() as connection:
        cells = [
            str(cell) for table in METADATA.sorted_tables for row in connection.execute(select(table)) for cell in row
        ]
        assert connection.scalar(select(KEYS.c.digest)) == digest(secret).hex()
    assert not any(secret[-43:] in cell for cell in cells)
    for file in state.rglob("raison.db*"):  # SQLite only: the very bytes, log included
        assert secret[-43:].encode() not in file.read_bytes()
        assert file.stat().st_mode & 0o077 == 0, f"{file.name} can be read by others"


def test_a_key_expires(house: House) -> None:
    access = house.access()
    _, header = house.key(expires_at=house.clock.now + 60)
    access.caller(header)
    house.clock.now += 60
    assert "has expired" in str(refusal(lambda: access.caller(header)))


def test_models_are_refused_alike_whether_they_exist_or_not(sqlite_house: House) -> None:
    access = sqlite_house.access()
    _, header = sqlite_house.key(models=frozenset({"a"}))
    caller = access.caller(header)
    caller.check_model("a")
    known, unknown = (refusal(lambda m=model: caller.check_model(m)) for model in ("b", "no-such-model"))  # type: ignore[misc]
    assert known.status == 403 and known.body == unknown.body


def test_early_access_serves_names_on_its_list(house: House) -> None:
    access = house.access(early_access=True)
    assert refusal(lambda: access.caller(None)).status == 401, "also where no key was ever created"
    _, header = house.key()
    denied = refusal(lambda: access.caller(header))
    assert (denied.status, denied.code) == (403, "early_access_required")
    assert access.store.write(lambda connection: keyring.allow(connection, "alice", 0.0))
    assert access.caller(header).name == "alice"
    assert house.access().caller(header).name == "alice"
    assert access.store.write(lambda connection: keyring.disallow(connection, "alice"))
    assert refusal(lambda: access.caller(header)).status == 403


# -- guessing, enumerating, smuggling ---------------------------------------------------------------------------------


def guesses(house: House) -> dict[str, str]:
    """Headers that are well formed and prove nothing: for keys that are there, ended, or unknown."""
    access = (house.open or [house.access()])[0]
    now = house.clock.now
    good, _ = house.key("good", models=frozenset({"a", "b"}))
    ended, _ = house.key("ended", expires_at=now - 1)
    revoked, _ = house.key("revoked")
    access.store.write(lambda connection: keyring.save(connection, replace(revoked, revoked_at=now)))
    ids = {"good": good.id, "ended": ended.id, "revoked": revoked.id, "unknown": mint()[0], "unknown too": mint()[0]}
    return {name: f"Bearer sk-raison-{public}-{mint()[1][-43:]}" for name, public in ids.items()}


def test_a_guess_learns_nothing_from_the_answer(house: House) -> None:
    access = house.access()
    headers = [*guesses(house).values(), None, "", "Bearer", "Bearer nonsense"]
    answers = {repr((r.status, r.headers, r.body)) for r in (refusal(lambda h=h: access.caller(h)) for h in headers)}  # type: ignore[misc]
    assert len(answers) == 1


def test_a_guess_learns_nothing_from_the_time(sqlite_house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    """By construction instead of by a clock: for a known and an unknown id the same lines of ours run, the same
    statement reads the same row of NULLs, and digests of equal length are compared once, in constant time."""
    access = sqlite_house.access()
    headers = guesses(sqlite_house)
    refusal(lambda: access.caller(headers["good"]))  # from now on it knows that there are keys
    seen = {name: work_of(access, header, monkeypatch) for name, header in headers.items()}
    assert len(set(map(repr, seen.values()))) == 1, seen
    lines, statements, compared = seen["unknown"]
    assert len(lines) > 10 and [s[:6] for s in statements] == ["BEGIN", "SELECT"] and compared == [(32, 32)]


def work_of(access: DatabaseAccess, header: str, patch: pytest.MonkeyPatch) -> tuple[list[str], list[str], list[Any]]:
    """Lines of raison.serve that ran, statements that were sent, lengths of what was compared."""
    lines: list[str] = []
    statements: list[str] = []
    compared: list[tuple[int, int]] = []

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        if not re.search(r"raison/serve/\w+\.py$", frame.f_code.co_filename):
            return None
        lines.append(f"{Path(frame.f_code.co_filename).name}:{frame.f_lineno} {event}")
        return trace

    def compare(left: bytes, right: bytes) -> bool:
        compared.append((len(left), len(right)))
        return hmac.compare_digest(left, right)

    patch.setattr(keyring, "hmac", type("hmac", (), {"compare_digest": staticmethod(compare)}))

    def heard(_connection: Any, _cursor: Any, statement: str, parameters: Any, *_: Any) -> None:
        assert header.split("-")[2] not in repr(parameters), "whether the id exists is not asked"
        statements.append(statement)

    event.listen(access.store.engine, "before_cursor_execute", heard)
    before = sys.gettrace()
    sys.settrace(trace)
    try:
        refusal(lambda: access.caller(header))
    finally:
        sys.settrace(before)
        event.remove(access.store.engine, "before_cursor_execute", heard)
    return lines, statements, compared


SMUGGLED = (
    "{key}", "bearer{key}", "Bearer  {key}", "Bearer\t{key}", " Bearer {key}", "Bearer {key} ", "Bearer {key}\n",
    "Bearer {key}\r\nX-Admin: 1", "Bearer {key}\0", "Bearer {key},", "Bearer {other}, Bearer {key}",
    "Bearer {key}, Bearer {key}", "Bearer {other} {key}", "Basic {key}", "Basic Bearer {key}", "Token {key}",
    "Bearer 'x' OR '1'='1", "Bearer {key}' --", "Bearer \ufeff{key}", "Bearer {key}\u200b", "Βearer {key}",
    "Bearer {upper}", "Bearer {key}{key}", "Bearer sk-raison-%-%", "Bearer " + "a" * 10_000_000,
)  # fmt: skip


@pytest.mark.parametrize("form", SMUGGLED, ids=range(len(SMUGGLED)))
def test_a_header_with_more_than_a_key_is_no_key(form: str, sqlite_house: House) -> None:
    access = sqlite_house.access()
    key = sqlite_house.key()[1].removeprefix("Bearer ")
    header = form.replace("{key}", key).replace("{other}", mint()[1]).replace("{upper}", key.upper())
    assert refusal(lambda: access.caller(header)).status == 401
    assert access.caller(f"bEaReR {key}").name == "alice", "only the scheme's letters may vary (RFC 9110, 11.1)"


@given(st.text(max_size=200))
def test_no_text_breaks_the_reading_of_a_header(text: str) -> None:
    for header in (text, f"Bearer {text}", f"Bearer sk-raison-{text}"):
        assert refusal(lambda h=header: read_header(h)).code == "invalid_api_key"  # type: ignore[misc]


@given(st.integers(0, 69), st.characters(max_codepoint=0x2FF))
def test_a_key_with_one_letter_changed_is_another(place: int, letter: str) -> None:
    text = mint()[1]
    place %= len(text)
    changed = text[:place] + letter + text[place + 1 :]
    if changed == text:
        return
    with suppress(Denied):
        assert not hmac.compare_digest(read_header(f"Bearer {changed}"), digest(text))


def test_two_headers_are_refused_whatever_they_say() -> None:
    one = (b"authorization", b"Bearer a")
    assert sole_authorization([(b"host", b"x"), one]) == "Bearer a"
    assert sole_authorization([(b"host", b"x")]) is None
    for second in (one, (b"Authorization", b"Bearer b"), (b"AUTHORIZATION", b"")):
        assert refusal(lambda s=second: sole_authorization([one, s])).status == 401  # type: ignore[misc]


# -- found and changed ------------------------------------------------------------------------------------------------


def test_keys_are_found_by_id_name_and_text(house: House) -> None:
    access = house.access()
    alice, header = house.key("alice")
    bob, _ = house.key("bob")
    house.key("bob")

    def find(which: str) -> str:
        with access.store.read() as connection:
            return keyring.find(connection, which).id

    assert find(alice.id) == find("alice") == find(header.removeprefix("Bearer ")) == alice.id
    with pytest.raises(UserError, match="names 2 keys"):
        find("bob")
    with pytest.raises(UserError, match="no such key: carol"):
        find("carol")
    access.store.write(lambda connection: keyring.save(connection, replace(bob, revoked_at=1.0)))
    assert find("bob") != bob.id, "a revoked key does not stand in the way of its successor"
    access.store.write(lambda connection: keyring.save(connection, replace(alice, revoked_at=1.0)))
    assert find(alice.id) == alice.id
    with pytest.raises(UserError, match='the key "alice" was revoked'):
        find("alice")
    with pytest.raises(UserError) as caught:
        find(mint()[1])
    assert "sk-raison" not in str(caught.value), "a secret is not repeated"


@pytest.mark.parametrize("name", ["", " a", "a ", "a\nb", "a\x1b[31m", "a" * 65])
def test_names_that_a_list_cannot_show_are_refused(name: str, sqlite_house: House) -> None:
    with pytest.raises(UserError, match="a name has"):
        sqlite_house.key(name)


def test_models_are_read() -> None:
    assert models_of(None) is models_of("all") is None
    assert models_of("a, b") == frozenset({"a", "b"})
