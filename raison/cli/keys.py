"""`raison keys create|list|revoke|limit|allow|disallow`: who may use the server, and how much.

`create` prints the key alone on stdout, so that a script can take it; it is shown this once. A running server obeys
every change from the next request on. Not covered: what limits mean (serve/limits.py).
"""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from rich.table import Table
from rich.text import Text
from sqlalchemy import Connection

from raison.cli.output import console_for, emit_json
from raison.errors import UserError
from raison.serve import keyring, ledger
from raison.serve.keys import Key, mint, models_of
from raison.serve.limits import Balance, advance, parse_quota
from raison.serve.store import Store, home, open_store

DAY = 86400.0
NONE = "none"


def command(arguments: Namespace) -> int:
    actions: Mapping[str, Callable[[Store, Namespace], dict[str, Any]]] = {
        "create": _create, "list": _list, "revoke": _revoke, "limit": _limit, "allow": _allow, "disallow": _disallow,
    }  # fmt: skip
    store = open_store(home(), arguments.database)
    try:
        told = actions[arguments.keys](store, arguments)
    finally:
        store.close()
    if arguments.json:
        emit_json(told)
    return 0


def _create(store: Store, arguments: Namespace) -> dict[str, Any]:
    public, text = mint()
    now = time.time()
    terms = _terms(Key(public, arguments.name, now), arguments, now)

    def work(connection: Connection) -> bool:
        first = not keyring.any_key(connection)
        keyring.create(connection, terms, text)
        if arguments.allow:
            keyring.allow(connection, terms.name, now)
        return first

    first = store.write(work)
    if not arguments.json:
        print(text)
    _note(arguments, f"key {terms.id} of {terms.name}: {_limits_words(terms)}; it is shown this once, keep it safe")
    if first:
        _note(arguments, "from now on every request needs a key")
    return {"key": text} | as_json(replace(terms, allowed=arguments.allow), Balance(), now)


def _list(store: Store, arguments: Namespace) -> dict[str, Any]:
    now = time.time()
    with store.read() as connection:
        known, balances, allowed = keyring.every(connection), ledger.balances(connection), keyring.allowed(connection)
    rows = [as_json(key, advance(balances[key.id], key.limits, now), now) for key in known]
    if not arguments.json:
        console_for(arguments).print(_table(known, rows))
        waiting = sorted(set(allowed) - {key.name for key in known})
        _note(arguments, f"allowed, and without a key yet: {', '.join(waiting)}" if waiting else "")
    return {"keys": rows, "allowed": list(allowed)}


def _revoke(store: Store, arguments: Namespace) -> dict[str, Any]:
    return _change(store, arguments, lambda key, now: key if key.revoked_at else replace(key, revoked_at=now))


def _limit(store: Store, arguments: Namespace) -> dict[str, Any]:
    return _change(store, arguments, lambda key, now: _terms(key, arguments, now))


def _allow(store: Store, arguments: Namespace) -> dict[str, Any]:
    done = store.write(lambda connection: keyring.allow(connection, arguments.name, time.time()))
    _note(arguments, f"{arguments.name} {'is' if done else 'was already'} on the list of the early access")
    return {"name": arguments.name, "allowed": True}


def _disallow(store: Store, arguments: Namespace) -> dict[str, Any]:
    if not store.write(lambda connection: keyring.disallow(connection, arguments.name)):
        raise UserError(f'"{arguments.name}" is not on the list of the early access; raison keys list shows it')
    _note(arguments, f"{arguments.name} is off the list of the early access")
    return {"name": arguments.name, "allowed": False}


def _change(store: Store, arguments: Namespace, changed: Callable[[Key, float], Key]) -> dict[str, Any]:
    now = time.time()

    def work(connection: Connection) -> tuple[Key, Balance]:
        key = changed(keyring.find(connection, arguments.key), now)
        keyring.save(connection, key)
        return key, ledger.balances(connection)[key.id]

    key, balance = store.write(work)
    _note(arguments, f"key {key.id} of {key.name}: {key.ended(now) or _limits_words(key)}")
    return as_json(key, advance(balance, key.limits, now), now)


def _terms(key: Key, arguments: Namespace, now: float) -> Key:
    """The key with those of its terms that were given; `none` lifts one."""
    given = vars(arguments)
    limits = {name: read(given[name]) for name, read in LIMITS.items() if given.get(name) is not None}
    terms: dict[str, Any] = {"limits": replace(key.limits, **limits)}
    if given.get("models") is not None:
        terms["models"] = models_of(given["models"])
    if given.get("priority") is not None:
        terms["priority"] = given["priority"]
    if given.get("expires") is not None:
        terms["expires_at"] = _end(given["expires"], now)
    return replace(key, **terms)


def _rate(text: str) -> int | None:
    if text == NONE:
        return None
    if not text.isdecimal():
        raise UserError(f'"{text}" is no rate; give a whole number a minute, or none')
    return int(text)


LIMITS: Mapping[str, Callable[[str], Any]] = {
    "requests_per_minute": _rate,
    "tokens_per_minute": _rate,
    "quota": lambda text: None if text == NONE else parse_quota(text),
}


def _end(days: str, now: float) -> float | None:
    if days == NONE:
        return None
    try:
        seconds = float(days) * DAY
    except ValueError:
        seconds = 0.0
    if not 0 < seconds < 1e6 * DAY:
        raise UserError(f'"{days}" is no number of days; give days from now, such as 30 or 0.5, or none')
    return now + seconds


def as_json(key: Key, balance: Balance, now: float) -> dict[str, Any]:
    quota = key.limits.quota
    return {
        "id": key.id, "name": key.name, "state": {"was revoked": "revoked", "has expired": "expired"}.get(
            key.ended(now), "active"), "models": None if key.models is None else sorted(key.models),
        "requests_per_minute": key.limits.requests_per_minute, "tokens_per_minute": key.limits.tokens_per_minute,
        "quota": quota and {"tokens": quota.tokens, "period": quota.period}, "priority": key.priority,
        "used": {"day": balance.day_tokens, "month": balance.month_tokens, "total": balance.total_tokens},
        "created": _iso(key.created_at), "expires": _iso(key.expires_at), "revoked": _iso(key.revoked_at),
        "early_access": key.allowed,
    }  # fmt: skip


def _iso(seconds: float | None) -> str | None:
    return None if seconds is None else datetime.fromtimestamp(seconds, UTC).isoformat(timespec="seconds")


def _table(known: list[Key], rows: list[dict[str, Any]]) -> Table:
    table = Table(box=None, pad_edge=False, padding=(0, 2))
    for heading in ("id", "name", "state", "models", "limits", "priority", "expires", "list"):
        table.add_column(heading)
    table.add_column("tokens used", justify="right")
    for key, row in zip(known, rows, strict=True):
        used = row["used"][key.limits.quota.period if key.limits.quota else "total"]
        cells = (
            key.id, key.name, row["state"], ", ".join(row["models"] or ["all"]), _limits_words(key), str(key.priority),
            (row["expires"] or "never")[:10], "allowed" if key.allowed else "", f"{used:,}",
        )  # fmt: skip
        table.add_row(*map(Text, cells))
    return table


def _limits_words(key: Key) -> str:
    limits = key.limits
    rates = ((limits.requests_per_minute, "requests"), (limits.tokens_per_minute, "tokens"))
    words = [f"{rate:,} {what} a minute" for rate, what in rates if rate is not None]
    return ", ".join(words + ([str(limits.quota)] if limits.quota else [])) or "no limits"


def _note(arguments: Namespace, text: str) -> None:
    if text and not arguments.json:
        print(text, file=sys.stderr)
