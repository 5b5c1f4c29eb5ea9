"""The keys in the database: made, found, changed, allowed, and checked without telling anything to one who guesses.

Every function runs in a transaction of the caller. Not covered: what a key looks like (keys.py), counting (ledger.py).
"""

from __future__ import annotations

import hashlib
import hmac
import json
import secrets
from collections.abc import Iterable
from typing import Any

from sqlalchemy import Connection, Row, String, bindparam, exists, func, select

from raison.errors import UserError
from raison.serve.keys import FORM, Key, check_name, digest
from raison.serve.limits import Balance, Limits, Quota
from raison.serve.refusal import unknown_key
from raison.serve.schema import ALLOWED, BALANCES, KEYS, insert_once

NOBODY = hashlib.sha256(secrets.token_bytes(32)).hexdigest()
"""What the digest of an unknown key is compared with: no key has this one."""
ON_THE_LIST = exists().where(ALLOWED.c.name == KEYS.c.name).label("allowed")


def verified(connection: Connection, claimed: bytes) -> Key:
    """The key that `claimed`, the digest of a whole key, proves. Raises Denied.

    Keys are looked up by digest, not by id: so a wrong secret is the same miss in the index for an id that exists and
    for one that does not. What the time of a search in the index could tell is a digest, which nobody can turn back
    into a key. The query always gives one row, and digests of 32 bytes are compared in constant time; only after that
    anything is made of the row.
    """
    given = select(bindparam("given", claimed.hex(), String).label("digest")).subquery()
    row = connection.execute(
        select(func.coalesce(KEYS.c.digest, NOBODY).label("expected"), KEYS, ON_THE_LIST)
        .select_from(given.outerjoin(KEYS, KEYS.c.digest == given.c.digest))
    ).one()  # fmt: skip
    if not hmac.compare_digest(bytes.fromhex(row.expected), claimed):
        raise unknown_key()
    return _key(row)


def any_key(connection: Connection) -> bool:
    """Whether a key was ever created, revoked ones included."""
    return bool(connection.scalar(select(exists().where(KEYS.c.id.is_not(None)))))


def create(connection: Connection, key: Key, text: str) -> None:
    """Keep `key`, whose whole text is `text`; of that only the digest."""
    if insert_once(connection, KEYS, {"id": key.id, "digest": digest(text).hex(), **_columns(key)}):
        empty = Balance()
        connection.execute(BALANCES.insert().values(key=key.id, **{n: getattr(empty, n) for n in empty.__slots__}))


def save(connection: Connection, key: Key) -> None:
    """Keep what changed of `key`."""
    connection.execute(KEYS.update().where(KEYS.c.id == key.id).values(_columns(key)))


def every(connection: Connection) -> list[Key]:
    """All keys ever created, the oldest first."""
    query = select(KEYS, ON_THE_LIST).order_by(KEYS.c.created_at, KEYS.c.id)
    return [_key(row) for row in connection.execute(query)]


def find(connection: Connection, which: str) -> Key:
    """The key of this id or name (of those not revoked), or whose whole text was pasted.

    Raises UserError when there is none, and for a name of several.
    """
    form = FORM.fullmatch(which)
    known = every(connection)
    found = [key for key in known if key.id == (form[1] if form else which)]
    found = found or [key for key in known if key.name == which and key.revoked_at is None]
    if len(found) == 1:
        return found[0]
    if found:
        raise UserError(f'"{which}" names {len(found)} keys; give an id: {", ".join(key.id for key in found)}')
    if any(key.name == which for key in known):
        raise UserError(f'the key "{which}" was revoked; raison keys list shows its id, by which it is still found')
    raise UserError(f"there is no such key: {'' if form else which}; raison keys list shows all".replace(": ;", ";"))


def allow(connection: Connection, name: str, now: float) -> bool:
    """Put a name on the list of the early access; returns False where it was there. Keys may follow later."""
    return insert_once(connection, ALLOWED, {"name": check_name(name), "allowed_at": now})


def disallow(connection: Connection, name: str) -> bool:
    """Take a name off the list; returns False where it was not there."""
    return connection.execute(ALLOWED.delete().where(ALLOWED.c.name == name)).rowcount == 1


def allowed(connection: Connection) -> dict[str, float]:
    """The names of the early access, and since when."""
    return {row.name: row.allowed_at for row in connection.execute(select(ALLOWED).order_by(ALLOWED.c.name))}


def limits_of(row: Row[Any]) -> Limits:
    """The limits in a row of the table of keys."""
    quota = None if row.quota_tokens is None else Quota(row.quota_tokens, row.quota_period)
    return Limits(row.requests_per_minute, row.tokens_per_minute, quota)


def _key(row: Row[Any]) -> Key:
    models = None if row.models is None else frozenset(json.loads(row.models))
    return Key(
        row.id, row.name, row.created_at, models, limits_of(row), row.priority, row.expires_at, row.revoked_at,
        row.allowed,
    )  # fmt: skip


def _columns(key: Key) -> dict[str, Any]:
    quota = key.limits.quota
    return {
        "name": key.name, "models": _json(key.models), "priority": key.priority, "created_at": key.created_at,
        "expires_at": key.expires_at, "revoked_at": key.revoked_at,
        "requests_per_minute": key.limits.requests_per_minute, "tokens_per_minute": key.limits.tokens_per_minute,
        "quota_tokens": quota and quota.tokens, "quota_period": quota and quota.period,
    }  # fmt: skip


def _json(names: Iterable[str] | None) -> str | None:
    return None if names is None else json.dumps(sorted(names))
